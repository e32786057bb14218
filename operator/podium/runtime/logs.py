"""JSON logs: one object per line, each with the promotion, model, version and attempt it is about.

What a line is about is set once per pass in a context variable; nothing passes loggers around.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from pythonjsonlogger.json import JsonFormatter

_SUBJECT: ContextVar[dict[str, str]] = ContextVar("podium_log_subject")
FIELDS = ("registry", "promotion", "model", "version", "attempt", "phase")


@contextmanager
def about(**fields: str | None) -> Iterator[None]:
    """Everything logged inside carries these fields (of FIELDS); None leaves one out."""
    known = {**_SUBJECT.get({}), **{k: v for k, v in fields.items() if v is not None}}
    token = _SUBJECT.set(known)
    try:
        yield
    finally:
        _SUBJECT.reset(token)


class SubjectFilter(logging.Filter):
    """Adds the context's fields to each record; never drops one."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _SUBJECT.get({}).items():
            setattr(record, name, value)
        return True


class _Formatter(JsonFormatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def configure(level: str) -> None:
    """Sends all logs of the process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(SubjectFilter())
    handler.setFormatter(
        _Formatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Below warning these two tell of each request and each watch event.
    for chatty in ("kopf", "asyncio", "aiohttp", "kubernetes"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
