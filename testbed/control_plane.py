"""etcd, API server, controller manager and scheduler: their keys, flags and health.

Renders and describes; `cluster` starts what is described here.
"""

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import yaml

from testbed.layout import ClusterDir
from testbed.plan import LOOPBACK, SERVICE_RANGE, Plan, Ports, Size
from testbed.processes import Component, find, run


def write_secrets(where: ClusterDir, plan: Plan) -> None:
    """Tokens, the service-account key pair, and the API server's client certificate."""
    folder = where.secrets
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.csv").write_text(f'{plan.token},admin,admin,"system:masters"\n')
    if not (folder / "sa.pub").exists():
        run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"])
        run(["openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"])
    if plan.size is Size.NODE and not (folder / "kubelet-client.crt").exists():
        _write_kubelet_client_certificate(folder)


def _write_kubelet_client_certificate(folder: Path) -> None:
    """The kubelet asks its clients for a certificate of this CA; only the API server has one."""
    ca_key, ca = folder / "ca.key", folder / "ca.crt"
    key, request, crt = (folder / f"kubelet-client.{ext}" for ext in ("key", "csr", "crt"))
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
         "-subj", "/CN=testbed-ca", "-keyout", ca_key, "-out", ca])  # fmt: skip
    subject = "/O=system:masters/CN=kube-apiserver"
    run(["openssl", "req", "-newkey", "rsa:2048", "-nodes",
         "-subj", subject, "-keyout", key, "-out", request])  # fmt: skip
    run(["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key,
         "-CAcreateserial", "-days", "3650", "-out", crt])  # fmt: skip


def write_kubeconfig(where: ClusterDir, plan: Plan) -> None:
    """The administrator's kubeconfig; the API server must have made its certificate before."""
    certificate = where.apiserver_certs / "apiserver.crt"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": f"testbed-{where.name}",
        "clusters": [
            {
                "name": "testbed",
                "cluster": {"server": plan.server, "certificate-authority": str(certificate)},
            }
        ],
        "users": [{"name": "admin", "user": {"token": plan.token}}],
        "contexts": [
            {
                "name": f"testbed-{where.name}",
                "context": {"cluster": "testbed", "user": "admin", "namespace": "default"},
            }
        ],
    }
    fresh = where.kubeconfig.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(yaml.safe_dump(config))
    fresh.replace(where.kubeconfig)


def etcd(where: ClusterDir, plan: Plan, binaries: Mapping[str, Path]) -> Component:
    peer = f"http://{LOOPBACK}:{plan.port(Ports.ETCD_PEER)}"
    return Component(
        name="etcd",
        argv=(
            str(binaries["etcd"]),
            f"--data-dir={where.root / 'etcd'}",
            f"--listen-client-urls={plan.etcd}",
            f"--advertise-client-urls={plan.etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ),
        address=plan.etcd,
        healthy=lambda: answers(f"{plan.etcd}/health"),
        env={},
    )


def apiserver(where: ClusterDir, plan: Plan, binaries: Mapping[str, Path]) -> Component:
    keys = where.secrets
    argv = [
        str(binaries["kube-apiserver"]),
        f"--etcd-servers={plan.etcd}",
        f"--cert-dir={where.apiserver_certs}",
        f"--secure-port={plan.port(Ports.API)}",
        f"--bind-address={plan.host}",
        f"--advertise-address={plan.host}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        f"--token-auth-file={keys / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged=true",
    ]
    if plan.size is Size.NODE:
        argv += [
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            f"--kubelet-client-certificate={keys / 'kubelet-client.crt'}",
            f"--kubelet-client-key={keys / 'kubelet-client.key'}",
        ]
    else:
        argv += ["--endpoint-reconciler-type=none"]
    return Component(
        name="kube-apiserver",
        argv=tuple(argv),
        address=plan.server,
        healthy=lambda: answers(
            f"{plan.server}/readyz", plan.token, where.apiserver_certs / "apiserver.crt"
        ),
        env={},
    )


def controller_manager(where: ClusterDir, plan: Plan, binaries: Mapping[str, Path]) -> Component:
    argv = [
        str(binaries["kube-controller-manager"]),
        f"--kubeconfig={where.kubeconfig}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={where.secrets / 'sa.key'}",
        # Without it kube-root-ca.crt is empty and pods cannot verify the API server.
        f"--root-ca-file={where.apiserver_certs / 'apiserver.crt'}",
        "--secure-port=0",
        "--controllers=*,-node-ipam-controller,-service-lb-controller",
    ]
    if plan.simulated_nodes:
        # The pods of a node that counts as lost (an API server that was away, a machine that was
        # slow) are made not ready, and kwok, other than a kubelet, never makes them ready again.
        argv.append("--node-monitor-grace-period=10m")
    return Component(
        name="kube-controller-manager",
        argv=tuple(argv),
        address="",
        healthy=lambda: find(where, "kube-controller-manager") is not None,
        env={},
    )


def scheduler(where: ClusterDir, plan: Plan, binaries: Mapping[str, Path]) -> Component:
    return Component(
        name="kube-scheduler",
        argv=(
            str(binaries["kube-scheduler"]),
            f"--kubeconfig={where.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
        ),
        address="",
        healthy=lambda: find(where, "kube-scheduler") is not None,
        env={},
    )


def answers(url: str, token: str = "", ca: Path | None = None) -> bool:
    """Does this address of our own answer 200 within two seconds?"""
    request = urllib.request.Request(url)  # noqa: S310 (only our own addresses)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        context = ssl.create_default_context(cafile=str(ca)) if ca else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
