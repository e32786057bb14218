"""Real MLflow tracking servers for tests: any version, on SQLite or PostgreSQL, on loopback.

Each is a `mlflow server` process of its own with its own folder. Versions other than the
installed one get a virtual environment in the test bed's cache, made once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import psutil

from testbed.errors import TestbedError
from testbed.layout import cache_root
from testbed.postgres import PostgresServer, free_port
from testbed.processes import end, locked, run, wait_until
from testbed.progress import phase

READY_WITHIN_SECONDS = 180.0
# Releases of their time; newer ones no longer have what an MLflow 2 imports.
OLD_DEPENDENCIES = ("sqlalchemy<2.1", "setuptools<81")


class Backend(StrEnum):
    """Where the server keeps what it knows."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


def mlflow_environment(version: str, *, extras: Sequence[str] = ()) -> Path:
    """The Python of an environment with that MLflow; made in the cache the first time.

    A version of two numbers with `.x` (2.22.x) means the newest of that series.
    """
    wanted = f"=={version[:-1]}*" if version.endswith(".x") else f"=={version}"
    brackets = f"[{','.join(extras)}]" if extras else ""
    requirements = [f"mlflow{brackets}{wanted}"]
    if version.startswith(("1.", "2.")):
        requirements += OLD_DEPENDENCIES
    key = hashlib.sha256(" ".join([*requirements, sys.version]).encode()).hexdigest()[:8]
    folder = cache_root() / "mlflow" / f"{version}-{key}"
    python = folder / "bin" / "python"
    with locked(folder.with_suffix(".lock")):
        if not (folder / "complete").exists():
            with phase(f"Installing MLflow {version} into its own environment"):
                _install(folder, requirements)
    return python


def _install(folder: Path, requirements: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin" / "python")
    uv = shutil.which("uv")
    if uv:
        run([uv, "venv", "-q", "--python", sys.executable, folder], timeout=120)
        run([uv, "pip", "install", "-q", "--python", python, *requirements], timeout=900)
    else:
        run([sys.executable, "-m", "venv", folder], timeout=120)
        run([python, "-m", "pip", "install", "-q", *requirements], timeout=900)
    (folder / "complete").touch()


class MlflowServer:
    """A running `mlflow server` between `with` and its end; nothing of it is left afterwards.

    `arguments` are added to the command line, `extra_env` to the environment. With `admin`
    (user name, password) it asks for HTTP Basic authentication: `python` needs mlflow[auth].
    """

    def __init__(
        self,
        *,
        backend: Backend | str = Backend.SQLITE,
        python: str | Path = sys.executable,
        port: int | None = None,
        extra_env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        admin: tuple[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._backend = Backend(backend)
        self._python = Path(python)
        self._extra_env = dict(extra_env or {})
        self._arguments = tuple(arguments)
        self._admin = admin
        self._postgres: PostgresServer | None = None
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MlflowServer:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="podium-mlflow-"))
            if self._backend is Backend.POSTGRESQL:
                self._postgres = PostgresServer()
                self._postgres.__enter__()
                self._postgres.create_database("mlflow")
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

    @property
    def artifacts(self) -> Path:
        """The folder that holds the artifacts."""
        return self._root() / "artifacts"

    def start(self) -> None:
        """Start (again) on the same port with the same content, and wait until it answers."""
        folder = self._root()
        command = [str(self._python), "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1", *self._arguments]
        if self._admin:
            command += ["--app-name", "basic-auth"]
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
                env=self._environment(folder),
            )
        wait_until(self._answers, "MLflow is ready", READY_WITHIN_SECONDS, self._log_tail)

    def stop(self) -> None:
        """End the server with all it started, and keep its content."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(process.pid)
            end([*main.children(recursive=True), main], grace=5.0)
        process.wait(10)

    def close(self) -> None:
        """End the server, its database too, and delete its folder."""
        self.stop()
        if self._postgres is not None:
            self._postgres.close()
            self._postgres = None
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _root(self) -> Path:
        if self._folder is None:
            raise TestbedError("An MlflowServer can be used only within its `with` block.")
        return self._folder

    def _environment(self, folder: Path) -> dict[str, str]:
        """Addresses with a password go by the environment: a command line is for all to see."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        store = (
            self._postgres.uri("mlflow") if self._postgres else f"sqlite:///{folder}/registry.db"
        )
        env = {
            **inherited,
            # MLflow finds its own web server program on PATH.
            "PATH": f"{self._python.parent}{os.pathsep}{inherited.get('PATH', '')}",
            "MLFLOW_BACKEND_STORE_URI": store,
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        if self._admin:
            env |= self._auth_environment(folder, *self._admin)
        return env | self._extra_env

    def _auth_environment(self, folder: Path, user: str, password: str) -> dict[str, str]:
        settings = folder / "basic_auth.ini"
        settings.touch(mode=0o600)
        settings.write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = sqlite:///{folder}/auth.db\n"
            f"admin_username = {user}\nadmin_password = {password}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        return {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "test"}

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise TestbedError(f"MLflow ended while it started. {self._log_tail()}")
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _log_tail(self) -> str:
        log = self._folder / "log" if self._folder else None
        if log is None or not log.exists():
            return "It has no log."
        return "Its log ends:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
