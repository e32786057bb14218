"""What the operator is told when it starts: flags, and PODIUM_* variables for each of them."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podium import __version__
from podium.registry.model import Credentials

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class DefaultRegistry:
    """MLFLOW_TRACKING_URI and its credentials: stands in for a ModelRegistry named `default`."""

    tracking_uri: str
    workspace: str | None
    credentials: Credentials | None = field(repr=False, default=None)


@dataclass(frozen=True)
class Settings:
    """`namespaces` empty: all of them. Intervals are in seconds."""

    namespaces: tuple[str, ...]
    lease_namespace: str
    lease_name: str
    pod_name: str
    bind: str
    metrics_port: int
    health_port: int
    workers: int
    max_rollouts: int
    repair_interval: float
    log_level: str
    default_registry: DefaultRegistry | None = None


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="podium-operator",
        description="Keeps Kubernetes serving the right MLflow model.",
        epilog="Each flag can be given as a variable too: --max-rollouts as PODIUM_MAX_ROLLOUTS; "
        "PODIUM_NAMESPACE takes several names with commas.",
    )

    def default(flag: str, otherwise: str) -> str:
        return environment.get("PODIUM_" + flag.upper().replace("-", "_"), otherwise)

    where = parser.add_argument_group("which namespaces (one of the two is needed)")
    where.add_argument(
        "--all-namespaces",
        action="store_true",
        default=default("all-namespaces", "").lower() in ("1", "true", "yes"),
    )
    where.add_argument("--namespace", action="append", metavar="NAME", help="may be repeated")
    lease = parser.add_argument_group("leader election")
    lease.add_argument(
        "--lease-namespace",
        default=default("lease-namespace", environment.get("POD_NAMESPACE", "")),
        help="where the Lease and the ledger's key live (default: $POD_NAMESPACE)",
    )
    lease.add_argument("--lease-name", default=default("lease-name", "podium-operator"))
    serving = parser.add_argument_group("what it serves")
    serving.add_argument("--bind", default=default("bind", "0.0.0.0"))  # noqa: S104 - a pod's own
    serving.add_argument(
        "--metrics-port", type=_port, default=default("metrics-port", "8080"), help="0: none"
    )
    serving.add_argument(
        "--health-port", type=_port, default=default("health-port", "8081"), help="0: none"
    )
    work = parser.add_argument_group("how much at once")
    work.add_argument("--workers", type=_positive, default=default("workers", "16"))
    work.add_argument(
        "--max-rollouts",
        type=_natural,
        default=default("max-rollouts", "10"),
        help="promotions that may change targets at the same time (0: no limit)",
    )
    work.add_argument(
        "--repair-interval",
        type=_positive,
        default=default("repair-interval", "600"),
        help="seconds between LISTs that repair what the watches missed",
    )
    parser.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        default=default("log-level", "info"),
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def parse(
    arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings. Ends the process with a sentence when they make no sense (argparse's way)."""
    environment = os.environ if environ is None else environ
    parser = _parser(environment)
    given = parser.parse_args(arguments)
    names = given.namespace or [n for n in environment.get("PODIUM_NAMESPACE", "").split(",") if n]
    if bool(names) == given.all_namespaces:
        parser.error("give either --all-namespaces or --namespace NAME (or PODIUM_NAMESPACE)")
    for name in names:
        if not _DNS_LABEL.fullmatch(name):
            parser.error(f"--namespace {name}: this is not the name of a namespace")
    namespaces = tuple(dict.fromkeys(names))
    lease_namespace = given.lease_namespace or (namespaces[0] if len(namespaces) == 1 else "")
    if not lease_namespace:
        parser.error("--lease-namespace is needed outside a pod that sets POD_NAMESPACE")
    return Settings(
        namespaces=namespaces,
        lease_namespace=lease_namespace,
        lease_name=given.lease_name,
        pod_name=environment.get("POD_NAME") or environment.get("HOSTNAME") or "podium-operator",
        bind=given.bind,
        metrics_port=given.metrics_port,
        health_port=given.health_port,
        workers=given.workers,
        max_rollouts=given.max_rollouts,
        repair_interval=float(given.repair_interval),
        log_level=given.log_level,
        # With more namespaces, each of them would borrow the operator's own credentials.
        default_registry=_default_registry(environment) if len(namespaces) == 1 else None,
    )


def _default_registry(environment: Mapping[str, str]) -> DefaultRegistry | None:
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return None
    user, password = (environment.get(f"MLFLOW_TRACKING_{k}") for k in ("USERNAME", "PASSWORD"))
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    credentials = None
    if token or user:
        credentials = Credentials(
            username=None if token else user,
            password=None if token else password or "",
            token=token or None,
        )
    return DefaultRegistry(uri, environment.get("MLFLOW_WORKSPACE") or None, credentials)


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _positive(text: str) -> int:
    number = _natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def _port(text: str) -> int:
    number = _natural(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return number
