"""A private PostgreSQL for tests: own folder, own free port on loopback, own password.

Uses the programs of Debian's `postgresql` package. Never touches a PostgreSQL of the machine.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from testbed.errors import TestbedError
from testbed.processes import wait_until

USER = "podium"
READY_WITHIN_SECONDS = 30.0
END_WITHIN_SECONDS = 15.0


def free_port() -> int:
    """A TCP port of loopback that nothing listens on just now. Below those that the kernel gives
    to connections: one of these may be in use when a server has started at last."""
    while True:
        port = secrets.randbelow(18_000) + 12_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class PostgresServer:
    """A running server between `with` and its end; nothing of it is left afterwards."""

    def __init__(self) -> None:
        self.port = free_port()
        self._password = secrets.token_urlsafe(16)
        self._programs = _programs()
        self._owner = _unprivileged_user()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgresServer:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="podium-postgres-"))
            if self._owner:
                shutil.chown(self._folder, self._owner)
            self._initialise(self._folder)
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def uri(self, database: str) -> str:
        """SQLAlchemy's address of a database, with the password: for environments, not argv."""
        # MLflow's own images bring psycopg2; the plain scheme would ask for psycopg 3.
        return f"postgresql+psycopg2://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        """Make an empty database."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)

    def start(self) -> None:
        """Start (again) on the same port with the same databases."""
        folder = self._folder
        if folder is None:
            raise TestbedError("PostgresServer.start() works only within its `with` block.")
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", folder / "db"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._owner,
                cwd=folder,
            )
        wait_until(self._answers, "PostgreSQL is ready", READY_WITHIN_SECONDS, self._log_tail)

    def stop(self) -> None:
        """End the server and keep its databases: connections are cut at once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(END_WITHIN_SECONDS)

    def close(self) -> None:
        """End the server and delete its folder."""
        self.stop()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _initialise(self, folder: Path) -> None:
        pwfile = folder / "password"
        pwfile.touch(mode=0o600)
        pwfile.write_text(self._password)
        if self._owner:
            shutil.chown(pwfile, self._owner)
        self._run(
            "initdb",
            *("-D", str(folder / "db"), "-U", USER, "--pwfile", str(pwfile)),
            *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
        )
        pwfile.unlink()
        with (folder / "db" / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n"
                "unix_socket_directories = ''\nfsync = off\nfull_page_writes = off\n"
                "synchronous_commit = off\nshared_buffers = 32MB\nmax_connections = 60\n"
            )

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise TestbedError(f"PostgreSQL ended while it started. {self._log_tail()}")
        with contextlib.suppress(TestbedError):
            self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q")
            return True
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            user=self._owner,
            cwd="/",
            env={**os.environ, "PGPASSWORD": self._password},
        )
        if done.returncode != 0:
            raise TestbedError(f"{program} ended with {done.returncode}: {done.stderr.strip()}")

    def _log_tail(self) -> str:
        log = self._folder / "log" if self._folder else None
        if log is None or not log.exists():
            return "It has no log."
        return "Its log ends:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:])


def _programs() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0,
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path and shutil.which("initdb", path=str(Path(on_path).resolve().parent)):
        return Path(on_path).resolve().parent
    raise TestbedError("PostgreSQL is not installed on this machine: apt-get install postgresql")


def _unprivileged_user() -> str | None:
    """Whom to run as: PostgreSQL refuses root. None where we are somebody else already."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise TestbedError("PostgreSQL cannot run as root, and there is no user postgres or nobody.")
