"""Brings a cluster up, looks at it, takes it down; the Python API of the tests.

Every step may be repeated: `up` starts what is not running and leaves the rest alone.
"""

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import binaries, control_plane, kind, machine, node, plan, processes, simulated
from testbed.errors import TestbedError
from testbed.layout import ClusterDir
from testbed.plan import Plan, Size
from testbed.processes import Component
from testbed.progress import Update, phase, say

_MODULES = {
    Size.CONTROL: (binaries.CONTROL,),
    Size.NODE: (binaries.CONTROL, *binaries.NODE),
    Size.KIND: (binaries.KUBECTL,),
}


@dataclass(frozen=True)
class Health:
    """What `status` says about one component."""

    component: str
    pid: int | None
    healthy: bool
    address: str


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up."""

    where: ClusterDir
    plan: Plan
    programs: Mapping[str, Path]

    @property
    def name(self) -> str:
        return self.where.name

    @property
    def kubeconfig(self) -> Path:
        return self.where.kubeconfig

    @property
    def server(self) -> str:
        return self.plan.server

    @property
    def bridge_ip(self) -> str:
        """The host's address that pods can reach (size node), loopback otherwise."""
        return self.plan.host

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Output of kubectl as the administrator; raises TestbedError with what it said."""
        argv: list[str | Path] = [
            self.programs["kubectl"],
            f"--kubeconfig={self.kubeconfig}",
            *args,
        ]
        return processes.run(argv, stdin=stdin, timeout=timeout)

    def kubectl_json(self, *args: str) -> Any:
        """Parsed output of `kubectl ... -o json`."""
        return json.loads(self.kubectl(*args, "-o", "json"))

    def apply(self, *objects: Mapping[str, object]) -> None:
        """Server-side apply of objects as manager `testbed`."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        flags = ("--server-side", "--force-conflicts", "--field-manager=testbed")
        self.kubectl("apply", *flags, "-f", "-", stdin=items)

    def components(self) -> tuple[Component, ...]:
        """Every component, in the order in which they start."""
        if self.plan.size is Size.KIND:
            return ()
        args = (self.where, self.plan, self.programs)
        control = (
            control_plane.etcd(*args),
            control_plane.apiserver(*args),
            control_plane.controller_manager(*args),
            control_plane.scheduler(*args),
        )
        if self.plan.size is Size.NODE:
            return (*control, *node.components(*args))
        return (*control, simulated.kwok(*args)) if self.plan.simulated_nodes else control

    def component(self, name: str) -> Component:
        for each in self.components():
            if each.name == name:
                return each
        known = ", ".join(c.name for c in self.components())
        raise TestbedError(f"no component {name!r} in cluster {self.name}; there are: {known}")

    def pid(self, name: str) -> int | None:
        """Process id of a component, None when it does not run."""
        found = processes.find(self.where, self.component(name).name)
        return found.pid if found else None

    def stop(self, name: str, grace: float = 10.0) -> None:
        """End one component; grace 0 is `kill -9`."""
        found = processes.find(self.where, self.component(name).name)
        if found is None:
            return
        processes.end([found], grace)

    def start(self, name: str) -> None:
        """Start one component if it is not well, and wait until it is."""
        ensure(self.where, self.component(name))

    def restart(self, name: str, grace: float = 10.0) -> None:
        self.stop(name, grace)
        self.start(name)

    def health(self) -> tuple[Health, ...]:
        """One line per component, asked now."""
        seen = [self._kind_health()] if self.plan.size is Size.KIND else []
        for each in self.components():
            process = processes.find(self.where, each.name)
            alive = process is not None and each.healthy()
            seen.append(Health(each.name, process.pid if process else None, alive, each.address))
        return tuple(seen)

    def _kind_health(self) -> Health:
        ready = ""
        with contextlib.suppress(TestbedError):
            ready = self.kubectl("get", "--raw", "/readyz", timeout=10)
        return Health("kind", None, ready.strip() == "ok", str(self.kubeconfig))

    def down(self) -> None:
        down(self.name)


def provide_programs(size: Size | str) -> dict[str, Path]:
    """What a cluster of that size runs, by name; built where the cache lacks it (minutes)."""
    return binaries.provide(_MODULES[Size(size)])


def up(name: str = "default", size: str | Size = Size.CONTROL, simulated_nodes: int = 2) -> Cluster:
    """Make the cluster, or repair it, or find that all is well; return when it is Ready."""
    size = Size(size)
    where = ClusterDir.of(name)
    if size is Size.NODE:
        node.require_root()
        node.install_packages()
    elif size is Size.KIND:
        kind.require()
    programs = provide_programs(size)
    with processes.locked(where.lock, lambda: say(f"Cluster {name} is being changed; waiting ...")):
        kept = plan.load(where)
        if kept is not None and kept.size is not size:
            raise TestbedError(
                f"cluster {name} has size {kept.size.value}; to change it run first: "
                f"python -m testbed down --name {name}"
            )
        if size is Size.NODE:
            machine.refuse_second(where)
        if kept is None:
            kept = plan.make(size, simulated_nodes)
            plan.save(where, kept)
        cluster = Cluster(where, kept, programs)
        with phase(f"Cluster {name} ({size.value})") as update:
            _bring_up(cluster, update)
    return cluster


def _bring_up(cluster: Cluster, update: Update) -> None:
    where = cluster.where
    if cluster.plan.size is Size.KIND:
        kind.create(where.name, where.kubeconfig)
        return
    control_plane.write_secrets(where, cluster.plan)
    if cluster.plan.size is Size.NODE:
        update("network")
        node.prepare(where, cluster.plan, cluster.programs)
    elif cluster.plan.simulated_nodes:
        where.config.mkdir(parents=True, exist_ok=True)
        (where.config / "kwok.yaml").write_text(simulated.stages())
    for each in cluster.components():
        update(each.name)
        ensure(where, each)
        if each.name == "kube-apiserver":
            control_plane.write_kubeconfig(where, cluster.plan)
    update("waiting for nodes")
    if cluster.plan.size is Size.NODE:
        node.finish(cluster)
    else:
        cluster.apply(*simulated.nodes(cluster.plan))
    _wait_for_nodes(cluster)
    _wait_for(cluster, "get", "serviceaccount", "default", "--namespace=default")


def ensure(where: ClusterDir, component: Component) -> None:
    """Start a component unless it runs and is well; wait until it is well."""
    running = processes.find(where, component.name)
    if running is not None:
        with contextlib.suppress(TestbedError):
            processes.wait_until(component.healthy, component.name, within=5)
            return
        processes.end([running])
    _end_unrecorded(where, component)
    processes.start(where, component)

    def well_or_dead() -> bool:
        if processes.find(where, component.name) is None:
            raise TestbedError(
                f"{component.name} of cluster {where.name} ended at once. "
                + processes.log_tail(where, component.name)
            )
        return component.healthy()

    processes.wait_until(
        well_or_dead,
        f"{component.name} of cluster {where.name} healthy",
        component.ready_within,
        lambda: processes.log_tail(where, component.name),
    )


def _end_unrecorded(where: ClusterDir, component: Component) -> None:
    """End copies of a component whose record a `kill -9` of the starter has lost."""
    lost = []
    for process in processes.marked(where):
        with contextlib.suppress(Exception):
            if process.cmdline()[:1] == [component.argv[0]]:
                lost.append(process)
    processes.end(lost)


def _wait_for_nodes(cluster: Cluster) -> None:
    def ready() -> bool:
        items = cluster.kubectl_json("get", "nodes")["items"]
        states = [
            condition["status"]
            for item in items
            for condition in item.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready"
        ]
        wanted = cluster.plan.simulated_nodes or (cluster.plan.size is Size.NODE)
        return len(states) >= int(wanted) and all(s == "True" for s in states)

    processes.wait_until(ready, f"nodes of cluster {cluster.name} Ready", within=90)


def _wait_for(cluster: Cluster, *args: str) -> None:
    def there() -> bool:
        with contextlib.suppress(TestbedError):
            cluster.kubectl(*args)
            return True
        return False

    processes.wait_until(there, "kubectl " + " ".join(args), within=60)


def find(name: str = "default") -> Cluster:
    """The cluster of this name, whatever its health; raises when there is none."""
    where = ClusterDir.of(name)
    kept = plan.load(where)
    if kept is None:
        raise TestbedError(f"no cluster {name!r}; make it with: python -m testbed up --name {name}")
    return Cluster(where, kept, provide_programs(kept.size))


def down(name: str = "default") -> bool:
    """Remove the cluster and every trace of it; False when there was none."""
    where = ClusterDir.of(name)
    with processes.locked(where.lock, lambda: say(f"Cluster {name} is being changed; waiting ...")):
        there = where.root.exists() or machine.owned(where) or bool(processes.marked(where))
        if there:
            with phase(f"Removing cluster {name}"):
                _remove(where)
    where.lock.unlink(missing_ok=True)
    return there


def _remove(where: ClusterDir) -> None:
    kept = None
    with contextlib.suppress(TestbedError, ValueError):
        kept = plan.load(where)
    if kept is not None and kept.size is Size.KIND:
        kind.delete(where.name)
    elif machine.owned(where) or where.run.exists():
        machine.restore(where)
    else:
        processes.end(processes.marked(where), grace=0)
    if where.root.exists():
        shutil.rmtree(where.root)
