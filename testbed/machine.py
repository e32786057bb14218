"""What a real node changes on the machine, and how each change is taken back.

Bridge, routes, forwarding rules, kernel settings, cgroups, mounts and folders. What was
there before is written down first, so that `restore` gives back what it found.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from testbed import processes
from testbed.errors import TestbedError
from testbed.layout import ClusterDir
from testbed.plan import BRIDGE_IP, POD_RANGE, SERVICE_RANGE
from testbed.processes import run

BRIDGE = "podium0"
_MAC = "0a:58:0a:58:00:01"  # fixed: a bridge otherwise takes its lowest port's and changes it
_RULE_MARK = "podium-testbed"
_OWN_CHAIN = re.compile(rf"\b(KUBE-[A-Z0-9-]+|CNI-[A-Za-z0-9-]+)|{_RULE_MARK}")
_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/bridge/bridge-nf-call-iptables",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
# Folders with fixed names that containerd, runc, CNI and the kubelet make for themselves.
_FOLDERS = (
    "/run/containerd",
    "/run/runc",
    "/run/xtables.lock",
    "/opt/cni",
    "/opt/containerd",
    "/etc/cni",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/usr/libexec/kubernetes",
)
_CGROUPS = Path("/sys/fs/cgroup")
_OWNER = Path("/run/podium-testbed/node-owner")


def cgroup_v1() -> bool:
    return not (_CGROUPS / "cgroup.controllers").exists()


def cgroup_name(where: ClusterDir) -> str:
    return f"podium-testbed-{where.name}"


def refuse_second(where: ClusterDir) -> str:
    """One real node per machine. Gives the folder of the cluster that has it, "" for none."""
    owner = _OWNER.read_text() if _OWNER.exists() else ""
    if owner not in {"", str(where.root)} and Path(owner).exists():
        raise TestbedError(
            f"the real node of this machine belongs to cluster {Path(owner).name} ({owner}); "
            f"run first: python -m testbed down --name {Path(owner).name}"
        )
    return owner


def claim(where: ClusterDir) -> None:
    """Remember the machine as it was, and whose node it has."""
    _OWNER.parent.mkdir(parents=True, exist_ok=True)
    owner = refuse_second(where)
    before = where.root / "machine.json"
    if not before.exists():
        foreign = [line for line in _rules() if line.startswith(":KUBE-")]
        if foreign and owner != str(where.root):
            raise TestbedError(
                "another Kubernetes has forwarding rules on this machine (chains KUBE-*); "
                "use it through KUBECONFIG, or stop it first"
            )
        kept = {
            "settings": {s: _read_setting(s) for s in _SETTINGS},
            "absent": [f for f in _FOLDERS if not Path(f).exists()],
        }
        fresh = before.with_suffix(".new")
        fresh.write_text(json.dumps(kept))
        fresh.replace(before)
    _OWNER.write_text(str(where.root))


def connect(where: ClusterDir) -> None:
    """The bridge, the Service route, and the rule that keeps pod traffic on the machine."""
    if not Path("/sys/class/net", BRIDGE).exists():
        run(["ip", "link", "add", BRIDGE, "address", _MAC, "type", "bridge"])
    prefix = POD_RANGE.split("/")[1]
    run(["ip", "addr", "replace", f"{BRIDGE_IP}/{prefix}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    # A packet to a Service that kube-proxy does not rewrite must die here, not on the network.
    run(["ip", "route", "replace", SERVICE_RANGE, "dev", BRIDGE])
    _write_setting("net/ipv4/ip_forward", "1")
    with contextlib.suppress(FileNotFoundError):
        _write_setting("net/bridge/bridge-nf-call-iptables", "1")
    mark = ["-m", "comment", "--comment", _RULE_MARK]
    within = ["FORWARD", "-i", BRIDGE, "-o", BRIDGE, *mark, "-j", "ACCEPT"]
    leaving = ["FORWARD", "-i", BRIDGE, "!", "-o", BRIDGE, *mark, "-j", "REJECT"]
    for rule in (within, leaving):
        try:
            run(["iptables", "-w", "5", "-C", *rule])
        except TestbedError:
            run(["iptables", "-w", "5", "-I", *rule])


def make_cgroup(where: ClusterDir) -> None:
    """The parent of all pods' cgroups, under every controller (v1) or once (v2)."""
    if not cgroup_v1():
        wanted = "+cpu +cpuset +memory +pids"
        with contextlib.suppress(OSError):
            (_CGROUPS / "cgroup.subtree_control").write_text(wanted)
        (_CGROUPS / cgroup_name(where)).mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            (_CGROUPS / cgroup_name(where) / "cgroup.subtree_control").write_text(wanted)
        return
    for controller in _CGROUPS.iterdir():
        if controller.is_dir() and not controller.is_symlink() and controller.name != "unified":
            own = controller / cgroup_name(where)
            own.mkdir(exist_ok=True)
            if controller.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (own / file).write_text((controller / file).read_text())


def restore(where: ClusterDir) -> None:
    """Take everything back. Each step may be repeated and does not need the one before."""
    _end_everything(where)
    before = where.root / "machine.json"
    kept = json.loads(before.read_text()) if before.exists() else {"settings": {}, "absent": []}
    _unmount([where.root, where.run, *(Path(f) for f in kept["absent"])])
    _remove_cgroups(where)
    _remove_links()
    _remove_rules()
    for setting, value in kept["settings"].items():
        if value is not None and _read_setting(setting) != value:
            _write_setting(setting, value)
    for folder in kept["absent"]:
        _remove(Path(folder))
    _remove_log_links(where)
    _remove(where.run)
    if _OWNER.exists() and _OWNER.read_text() == str(where.root):
        _OWNER.unlink()
    with contextlib.suppress(OSError):
        _OWNER.parent.rmdir()


def owned(where: ClusterDir) -> bool:
    """Has this cluster claimed the machine's real node?"""
    return _OWNER.exists() and _OWNER.read_text() == str(where.root)


def _end_everything(where: ClusterDir) -> None:
    """Programs first, since they start others; then whatever is left in the pods' cgroups."""
    for _ in range(20):
        pods = [psutil.Process(p) for p in _cgroup_pids(where) if psutil.pid_exists(p)]
        left = [*processes.marked(where), *pods]
        if not left:
            return
        processes.end(left, grace=0)
    raise TestbedError(f"processes of cluster {where.name} keep coming back; run `down` again")


def _cgroup_folders(where: ClusterDir) -> list[Path]:
    """Deepest first."""
    roots = [*_CGROUPS.glob(f"*/{cgroup_name(where)}"), _CGROUPS / cgroup_name(where)]
    found = [Path(d) for root in roots for d, _, _ in os.walk(root)]
    return sorted(found, key=lambda d: len(d.parts), reverse=True)


def _cgroup_pids(where: ClusterDir) -> set[int]:
    pids: set[int] = set()
    for folder in _cgroup_folders(where):
        with contextlib.suppress(OSError):
            pids |= {int(p) for p in (folder / "cgroup.procs").read_text().split()}
    return pids - {0}


def _remove_cgroups(where: ClusterDir) -> None:
    for _ in range(50):
        for folder in _cgroup_folders(where):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if not _cgroup_folders(where):
            return
        time.sleep(0.1)
    raise TestbedError(f"cgroups {cgroup_name(where)} cannot be removed; run `down` again")


def _mounts_below(folders: Iterable[Path]) -> list[str]:
    """Mount points at or below these folders, innermost first."""
    prefixes = tuple(f"{folder.resolve()}/" for folder in folders)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), x.split()[4]) for x in lines]
    return [p for p in reversed(points) if f"{p}/".startswith(prefixes)]


def _unmount(folders: list[Path]) -> None:
    for _ in range(3):
        for point in _mounts_below(folders):
            with contextlib.suppress(TestbedError):
                run(["umount", "--lazy", point])
        if not _mounts_below(folders):
            return
    raise TestbedError(f"cannot unmount {_mounts_below(folders)}; run `down` again")


def _remove(path: Path) -> None:
    if _mounts_below([path]):
        raise TestbedError(f"{path} still has mounts below it; run `down` again")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_links() -> None:
    if not Path("/sys/class/net", BRIDGE).exists():
        return
    for port in Path("/sys/class/net", BRIDGE, "brif").iterdir():
        with contextlib.suppress(TestbedError):
            run(["ip", "link", "del", port.name])
    run(["ip", "link", "del", BRIDGE])


def _rules(family: str = "iptables") -> list[str]:
    with contextlib.suppress(TestbedError):
        return run([f"{family}-save"]).splitlines()
    return []


def _remove_rules() -> None:
    """Drop our rules and the chains of kube-proxy, kubelet and CNI, keep everybody else's."""
    for family in ("iptables", "ip6tables"):
        rules = _rules(family)
        kept = [line for line in rules if not _OWN_CHAIN.search(line)]
        if kept != rules:
            run([f"{family}-restore", "-w", "5"], stdin="\n".join(kept) + "\n")


def _remove_log_links(where: ClusterDir) -> None:
    """The kubelet links its pods' logs from /var/log/containers, a name it does not let change."""
    folder = Path("/var/log/containers")
    if folder.is_dir():
        for link in folder.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(str(where.root)):
                link.unlink()


def _read_setting(name: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path("/proc/sys", name).read_text().strip()
    return None


def _write_setting(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)
