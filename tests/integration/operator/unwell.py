"""MLflow behind something that misbehaves on demand: a proxy, a login page, an outage.

Forwards to the real server unless told otherwise; invents no answer of MLflow's own.
"""

import http.server
import threading
import urllib.error
import urllib.request
from enum import StrEnum
from types import TracebackType


class Mood(StrEnum):
    WELL = "well"
    ERROR_500 = "500"
    HTML = "html"
    WRONG_HOST = "403"
    UNAUTHENTICATED = "401"
    THROTTLED = "429"


_ANSWERS = {
    Mood.ERROR_500: (500, "application/json", b'{"error_code": "INTERNAL_ERROR", "message": "x"}'),
    Mood.HTML: (200, "text/html", b"<html><body>Please log in</body></html>"),
    Mood.WRONG_HOST: (403, "text/plain", b"Invalid Host header - possible DNS rebinding"),
    Mood.UNAUTHENTICATED: (401, "text/plain", b"You are not authenticated."),
    Mood.THROTTLED: (429, "application/json", b"{}"),
}  # fmt: skip


class Unwell:
    """`with Unwell(uri) as proxy: proxy.mood = Mood.HTML`."""

    def __init__(self, upstream: str) -> None:
        self.mood = Mood.WELL
        self.requests = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                outer.requests += 1
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                code, kind, text = _ANSWERS.get(outer.mood) or self._forward(body)
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _forward(self, body: bytes | None) -> tuple[int, str, bytes]:
                request = urllib.request.Request(  # noqa: S310 - loopback
                    upstream + self.path,
                    method=self.command,
                    data=body,
                    headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
                )
                try:
                    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                        return answer.status, answer.headers.get_content_type(), answer.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.headers.get_content_type(), error.read()

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Unwell":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
