"""A real node: containerd, kubelet, kube-proxy and DNS as processes of this machine.

Renders their configuration and describes them; what they change on the machine is in
`machine`, what starts them in `cluster`.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from testbed import machine, packages
from testbed.control_plane import answers
from testbed.errors import TestbedError
from testbed.images import store as images
from testbed.layout import ClusterDir, cache_root
from testbed.plan import BRIDGE_IP, DNS_IP, LOOPBACK, POD_RANGE, Plan, Ports
from testbed.processes import Component, run

if TYPE_CHECKING:
    from testbed.cluster import Cluster

NODE_NAME = "testbed-node"
DOMAIN = "cluster.local"


def require_root() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise TestbedError(
            "a real node needs root on Linux. Without it: --size control (simulated nodes), "
            "--kind (Docker), or KUBECONFIG of a cluster that you have"
        )


def install_packages() -> None:
    packages.require(packages.NODE, "a real node")


def prepare(where: ClusterDir, plan: Plan, binaries: Mapping[str, Path]) -> None:
    """Everything that must be there before the first component starts."""
    machine.claim(where)
    machine.connect(where)
    machine.make_cgroup(where)
    cni = where.config / "cni"
    for folder in (cni, where.node, where.run):
        folder.mkdir(parents=True, exist_ok=True)
    _write(cni / "10-testbed.conflist", json.dumps(cni_config(where), indent=1))
    _write(where.config / "containerd.toml", containerd_config(where, binaries))
    _write(where.config / "kubelet.yaml", yaml.safe_dump(kubelet_config(where, plan)))
    _write(where.config / "kube-proxy.yaml", yaml.safe_dump(proxy_config(where, plan)))
    _write(where.config / "Corefile", corefile(where, plan))
    # Pods take nothing from the machine's own resolver.
    (where.config / "resolv.conf").write_text("")


def _write(path: Path, text: str) -> None:
    """Leaves a file alone that is right already: kube-proxy ends itself when its own changes."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def finish(cluster: "Cluster") -> None:
    """What needs a running cluster: the sandbox image, and the Service of the DNS server."""
    images.provide_pause(cluster)
    cluster.apply(*dns_objects(cluster.plan))


def components(
    where: ClusterDir, plan: Plan, binaries: Mapping[str, Path]
) -> tuple[Component, ...]:
    path = os.pathsep.join(
        [str(binaries["containerd"].parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    )
    env = {"PATH": path}

    def component(name: str, argv: list[str], address: str, url: str) -> Component:
        argv = [str(binaries[name]), *argv]
        return Component(name, tuple(argv), address, lambda: answers(url), env)

    kubelet_health = f"http://{LOOPBACK}:{plan.port(Ports.KUBELET_HEALTH)}/healthz"
    proxy_health = f"http://{LOOPBACK}:{plan.port(Ports.PROXY_HEALTH)}/livez"
    dns_health = f"http://{LOOPBACK}:{plan.port(Ports.DNS_HEALTH)}/health"
    socket = images.containerd_socket(where)
    return (
        Component(
            name="containerd",
            argv=(str(binaries["containerd"]), f"--config={where.config / 'containerd.toml'}"),
            address=str(socket),
            healthy=lambda: _containerd_answers(binaries["ctr"], socket),
            env=env,
        ),
        component(
            "kubelet",
            [
                f"--config={where.config / 'kubelet.yaml'}",
                f"--kubeconfig={where.kubeconfig}",
                f"--root-dir={where.node / 'kubelet'}",
                f"--cert-dir={where.node / 'pki'}",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={BRIDGE_IP}",
            ],
            f"{BRIDGE_IP}:{plan.port(Ports.KUBELET)}",
            kubelet_health,
        ),
        component(
            "kube-proxy",
            [f"--config={where.config / 'kube-proxy.yaml'}"],
            f"{LOOPBACK}:{plan.port(Ports.PROXY_HEALTH)}",
            proxy_health,
        ),
        component(
            "coredns",
            [f"-conf={where.config / 'Corefile'}"],
            f"{BRIDGE_IP}:{plan.port(Ports.DNS)}",
            dns_health,
        ),
    )


def cni_config(where: ClusterDir) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": machine.BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(where.node / "cni"),
            "ranges": [[{"subnet": POD_RANGE, "gateway": BRIDGE_IP}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": "testbed", "plugins": [bridge]}


def containerd_config(where: ClusterDir, binaries: Mapping[str, Path]) -> str:
    """Images are kept in the cache, so that the next cluster need not import them again."""
    store = cache_root() / "containerd"
    runc = shutil.which("runc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "runc"
    runtime = "io.containerd.cri.v1.runtime"
    sandbox = images.PAUSE
    return f"""\
version = 3
root = '{store}'
state = '{where.run / "containerd"}'
disabled_plugins = ['io.containerd.internal.v1.opt', 'io.containerd.nri.v1.nri']
[grpc]
address = '{images.containerd_socket(where)}'
[plugins.'{runtime}']
# A container's score may not go below containerd's own where the machine forbids it.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'{runtime}'.cni]
bin_dirs = ['{binaries["bridge"].parent}']
conf_dir = '{where.config / "cni"}'
[plugins.'{runtime}'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'{runtime}'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
Root = '{where.run / "runc"}'
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.images']
snapshotter = '{_snapshotter(store)}'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{sandbox}'
"""


def kubelet_config(where: ClusterDir, plan: Plan) -> dict[str, object]:
    config: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": BRIDGE_IP,
        "port": plan.port(Ports.KUBELET),
        "readOnlyPort": 0,
        "healthzBindAddress": LOOPBACK,
        "healthzPort": plan.port(Ports.KUBELET_HEALTH),
        # Pods can reach the kubelet, so nobody may use it without a certificate or a token.
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(where.secrets / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{images.containerd_socket(where)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.cgroup_name(where)}",
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "clusterDNS": [DNS_IP],
        "clusterDomain": DOMAIN,
        "resolvConf": str(where.config / "resolv.conf"),
        "podLogsDir": str(where.node / "pod-logs"),
        "volumePluginDir": str(where.node / "volume-plugins"),
    }
    if machine.cgroup_v1():
        config["failCgroupV1"] = False
    return config


def proxy_config(where: ClusterDir, plan: Plan) -> dict[str, object]:
    untouched = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(where.kubeconfig)},
        "hostnameOverride": NODE_NAME,
        "bindAddress": LOOPBACK,
        "healthzBindAddress": f"{LOOPBACK}:{plan.port(Ports.PROXY_HEALTH)}",
        "metricsBindAddress": f"{LOOPBACK}:{plan.port(Ports.PROXY_METRICS)}",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "nodePortAddresses": [POD_RANGE],
        "iptables": {"localhostNodePorts": False, "minSyncPeriod": "0s"},
        "conntrack": {**untouched, "tcpCloseWaitTimeout": "0s"},
    }


def corefile(where: ClusterDir, plan: Plan) -> str:
    """Answers for the cluster's own names only; nothing is forwarded off the machine."""
    return f"""\
.:{plan.port(Ports.DNS)} {{
    bind {BRIDGE_IP}
    errors
    health {LOOPBACK}:{plan.port(Ports.DNS_HEALTH)}
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {where.kubeconfig}
    }}
}}
"""


def dns_objects(plan: Plan) -> list[dict[str, object]]:
    """The Service `kube-dns`, which leads to the DNS server on the bridge."""
    protocols = ("UDP", "TCP")
    service: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {
            "clusterIP": DNS_IP,
            "ports": [{"name": f"dns-{p.lower()}", "port": 53, "protocol": p} for p in protocols],
        },
    }
    endpoints: dict[str, object] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [BRIDGE_IP], "conditions": {"ready": True}}],
        "ports": [
            {"name": f"dns-{p.lower()}", "port": plan.port(Ports.DNS), "protocol": p}
            for p in protocols
        ],
    }
    return [service, endpoints]


def _containerd_answers(ctr: Path, socket: Path) -> bool:
    with contextlib.suppress(TestbedError):
        run([ctr, f"--address={socket}", "version"], timeout=5)
        return True
    return False


def _snapshotter(store: Path) -> str:
    """overlayfs, unless the store itself is on an overlay: the kernel refuses to stack them."""
    store.mkdir(parents=True, exist_ok=True)
    kind = run(["stat", "--file-system", "--format=%T", store]).strip()
    return "native" if kind == "overlayfs" else "overlayfs"
