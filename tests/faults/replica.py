"""One operator process behind a `Line`: started, killed, paused; restarted as a kubelet would.

Does not know what the operator should do.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from testbed.postgres import free_port
from tests.environment import of_operator
from tests.faults.line import Line

ROOT = Path(__file__).parents[2]
PROBE_SECONDS = 1.0
FAILED_PROBES = 60  # a minute, as in manifests/base/deployment.yaml


class Replica:
    """A `podium-operator` for one namespace; its name in the Lease begins with the line's."""

    def __init__(self, line: Line, namespace: str, folder: Path, *flags: str) -> None:
        self.line, self.name = line, line.name
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{line.name}.log"
        self.kubeconfig = folder / f"{line.name}.kubeconfig"
        self.token_file = folder / f"{line.name}.token"
        self.starts = 0
        self._flags = ("--namespace", namespace, *flags)
        self._health = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not self.token_file.exists():
            self.token_file.write_text("first")
        self.kubeconfig.write_text(json.dumps(_kubeconfig(self.line.kubernetes, self.token_file)))
        self.line.epoch += 1
        command = [sys.executable, "-m", "podium.runtime.main", *self._flags]
        command += ["--bind", "127.0.0.1", "--health-port", str(self._health)]
        command += ["--metrics-port", "0", "--workers", "4"]
        env = of_operator(KUBECONFIG=str(self.kubeconfig), POD_NAME=self.name)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Linux shares out the processors by session: one that starts takes no other's.
                start_new_session=True,
                env=env,
            )
        self.starts += 1

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    async def ready(self) -> bool:
        return await asyncio.to_thread(self._page, "readyz") == "ok\n"

    async def not_alive(self) -> str:
        """What /healthz complains of; empty: nothing."""
        said = await asyncio.to_thread(self._page, "healthz")
        return "" if said == "ok\n" else said or "no answer"

    def _page(self, path: str) -> str:
        try:
            address = f"http://127.0.0.1:{self._health}/{path}"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """As a kubelet keeps it: started again when it ends or its liveness probe fails."""
        self.start()
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.kill()

    async def _keep(self) -> None:
        failed = 0
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if not self.alive:
                self.start()
                failed = 0
                await asyncio.sleep(5)  # until it listens
                continue
            failed = failed + 1 if await self.not_alive() else 0
            if failed >= FAILED_PROBES:
                self.kill()

    def said(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _kubeconfig(server: str, token_file: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "line", "cluster": {"server": server}}],
        "users": [{"name": "tester", "user": {"tokenFile": str(token_file)}}],
        "contexts": [{"name": "it", "context": {"cluster": "line", "user": "tester"}}],
        "current-context": "it",
    }
