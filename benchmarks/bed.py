"""The servers of a benchmark: Kubernetes' control plane with simulated nodes and an audit log,
MLflow on PostgreSQL, and the operator as a process with the permissions of `manifests/`.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from benchmarks import audit
from benchmarks.audit import AuditLog
from benchmarks.kube import Kube
from benchmarks.usage import Usage
from testbed import cluster as clusters
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.mlflow import MlflowServer
from testbed.postgres import PostgresServer, free_port
from testbed.processes import Component

ROOT = Path(__file__).parent.parent
OWN = "podium-system"
ACCOUNT = "podium-operator"
USER = f"system:serviceaccount:{OWN}:{ACCOUNT}"
CONTROL_PLANE = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kwok")
# The controllers ask at most 20 times a second by default: then they, not Podium, are measured.
FAST_CONTROLLERS = (
    "--kube-api-qps=1000",
    "--kube-api-burst=1000",
    "--concurrent-deployment-syncs=20",
    "--concurrent-replicaset-syncs=20",
)


class OperatorProcess:
    """One `podium-operator`; everything asked of it is asked from outside."""

    def __init__(self, server: str, account: Path, log: Path, arguments: tuple[str, ...]) -> None:
        """`account` is a folder as the kubelet mounts it: token and ca.crt."""
        self.log = log
        self._server, self._account, self._arguments = URL(server), account, arguments
        self._health, self._metrics = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the operator was not started"
        return self._process.pid

    def start(self) -> float:
        """Starts it, and gives the seconds until /readyz says that it is ready."""
        program = [sys.executable, "-m", "benchmarks.in_pod"]
        command = [*program, "--all-namespaces"]
        command += [f"--lease-namespace={OWN}", "--bind=127.0.0.1", *self._arguments]
        command += [f"--metrics-port={self._metrics}", f"--health-port={self._health}"]
        others = ("MLFLOW_", "PODIUM_", "PYTHON")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
        env = {
            **kept,
            "PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}",
            "KUBERNETES_SERVICE_HOST": str(self._server.host),
            "KUBERNETES_SERVICE_PORT": str(self._server.port),
            "SERVICE_ACCOUNT": str(self._account),
            "PYTHONPYCACHEPREFIX": str(self.log.parent / "bytecode"),
        }
        # The image has its modules compiled; here that is done before the time is taken.
        subprocess.run([*program, "--help"], stdout=subprocess.DEVNULL, env=env, check=True)
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
            )
        while not self._ready():
            if self._process.poll() is not None:
                raise TestbedError(f"the operator ended while it started; see {self.log}")
            if time.monotonic() - began > 300:
                raise TestbedError(f"the operator is not ready after 300 s; see {self.log}")
            time.sleep(0.02)
        return time.monotonic() - began

    def stop(self) -> None:
        """Ends it as the kubelet does."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Its own metrics: (name, sorted labels) to value."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self._metrics}/metrics", timeout=30
        ) as answer:
            text = answer.read().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._health}/readyz", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@dataclass(frozen=True)
class Bed:
    """All that runs while something is measured."""

    cluster: Cluster
    mlflow: MlflowServer
    database: PostgresServer
    audit: AuditLog
    operator: OperatorProcess
    operator_token: str

    def admin(self) -> Kube:
        """The API server as its administrator."""
        return self._kube(self.cluster.plan.token)

    def as_operator(self) -> Kube:
        """The API server as the operator's account: the same queues and permissions."""
        return self._kube(self.operator_token)

    def _kube(self, token: str) -> Kube:
        ca = self.cluster.where.apiserver_certs / "apiserver.crt"
        return Kube(self.cluster.server, token, ca)

    @property
    def mlflow_log(self) -> Path:
        """Where MLflow's web server writes a line for each request."""
        return self.mlflow.artifacts.parent / "log"

    def usage(self) -> Usage:
        """CPU seconds so far, by program."""
        programs: dict[str, list[psutil.Process]] = {"operator": [], "mlflow": [], "postgres": []}
        own = psutil.Process()
        programs["benchmark"] = [own]
        for child in own.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(child.cmdline())
                if "benchmarks.in_pod" in line:
                    programs["operator"].append(child)
                elif "postgres" in line.split(" ")[0]:
                    programs["postgres"].append(child)
                elif "mlflow" in line:
                    programs["mlflow"].append(child)
        for name in CONTROL_PLANE:
            pid = self.cluster.pid(name)
            with contextlib.suppress(psutil.Error):
                programs[name] = [psutil.Process(pid)] if pid else []
        return Usage.now(programs)


@contextlib.contextmanager
def bed(name: str, folder: Path, arguments: tuple[str, ...]) -> Iterator[Bed]:
    """Everything up but the operator, which is not started yet; all of it gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        cluster = _cluster(name)
        token = _install(cluster)
        account = folder / "service-account"
        _mount(cluster, account, token)
        log = AuditLog(cluster.where.logs / "audit.log", USER)
        with PostgresServer() as database:
            database.create_database("mlflow")
            store = {"MLFLOW_BACKEND_STORE_URI": database.uri("mlflow")}
            with MlflowServer(extra_env=store) as mlflow:
                operator = OperatorProcess(
                    cluster.server, account, folder / "operator.log", arguments
                )
                try:
                    yield Bed(cluster, mlflow, database, log, operator, token)
                finally:
                    operator.stop()
    finally:
        clusters.down(name)


def _cluster(name: str) -> Cluster:
    """A fresh cluster whose API server writes an audit log and whose controllers are not slowed."""
    clusters.down(name)
    made = clusters.up(name=name, size="control")
    rules = made.where.config / "audit.yaml"
    rules.write_text(audit.policy(USER))
    _restart(
        made,
        "kube-apiserver",
        f"--audit-policy-file={rules}",
        f"--audit-log-path={made.where.logs / 'audit.log'}",
        "--audit-log-maxsize=100000",  # MB: never begun anew
    )
    _restart(made, "kube-controller-manager", *FAST_CONTROLLERS)
    for component in ("kube-scheduler", "kwok"):  # after an outage they wait long
        made.restart(component)
    made.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
    return made


def _restart(made: Cluster, name: str, *more: str) -> None:
    component: Component = made.component(name)
    made.stop(name)
    clusters.ensure(made.where, dataclasses.replace(component, argv=(*component.argv, *more)))


def _install(made: Cluster) -> str:
    """The manifests but for the Deployment; gives a token of its account."""
    made.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    overlay = made.kubectl("kustomize", str(ROOT / "manifests/overlays/all-namespaces"))
    objects = [o for o in yaml.safe_load_all(overlay) if o and o["kind"] != "Deployment"]
    made.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
    return made.kubectl("create", "token", ACCOUNT, "-n", OWN, "--duration=24h").strip()


def _mount(made: Cluster, account: Path, token: str) -> None:
    """What the kubelet would put into the operator's pod."""
    account.mkdir(mode=0o700, exist_ok=True)
    (account / "token").write_text(token)
    shutil.copy(made.where.apiserver_certs / "apiserver.crt", account / "ca.crt")
