"""kubectl against the API server of the tests: what it prints, and what it says when refused.

Does not start a cluster: that is `control_cluster` in conftest.py.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class KubectlError(AssertionError):
    """A kubectl command that should have worked did not; the message is what it said."""


@dataclass(frozen=True)
class Kubectl:
    program: Path
    kubeconfig: Path
    namespace: str | None = None

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Output of a command that must work."""
        done = self._run(args, stdin, timeout)
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def refused(self, *args: str, stdin: str | None = None, timeout: float = 60) -> str:
        """What a command says that must not work."""
        done = self._run(args, stdin, timeout)
        if done.returncode == 0:
            raise KubectlError(f"kubectl {' '.join(args)} should be refused: {done.stdout.strip()}")
        return done.stderr

    def answer(self, *args: str, timeout: float = 60) -> str:
        """Output of a question that kubectl answers with its exit code too."""
        done = self._run(args, None, timeout)
        return done.stdout or done.stderr

    def get(self, kind: str, name: str) -> Any:
        """An object as JSON gives it."""
        return json.loads(self("get", kind, name, "-o", "json"))

    def _run(
        self, args: tuple[str, ...], stdin: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        argv = [str(self.program), f"--kubeconfig={self.kubeconfig}"]
        argv += [f"--namespace={self.namespace}"] if self.namespace else []
        return subprocess.run(
            [*argv, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
