"""What the test bed writes for Kubernetes: addresses, doors that stay shut, plans that last."""

import tomllib
from pathlib import Path

import pytest
import yaml

from testbed import control_plane, machine, node, plan, simulated
from testbed.errors import TestbedError
from testbed.layout import ClusterDir
from testbed.plan import BRIDGE_IP, Size

PROGRAMS = {
    name: Path("/programs") / name
    for name in (
        *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"),
        *("containerd", "kubelet", "kube-proxy", "coredns", "kubectl", "bridge", "ctr"),
    )
}


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterDir:
    monkeypatch.setenv("PODIUM_TESTBED_CACHE", str(tmp_path))
    return ClusterDir.of("unit")


@pytest.mark.parametrize(
    ("size", "host"), [(Size.CONTROL, "127.0.0.1"), (Size.NODE, BRIDGE_IP)], ids=["control", "node"]
)
def test_the_api_server_listens_on_one_address_of_this_machine(
    where: ClusterDir, size: Size, host: str
) -> None:
    argv = control_plane.apiserver(where, plan.make(size, 2), PROGRAMS).argv
    assert f"--bind-address={host}" in argv
    assert f"--advertise-address={host}" in argv
    assert "--authorization-mode=RBAC" in argv


def test_only_a_real_node_gets_the_kubelet_client_certificate(where: ClusterDir) -> None:
    def has_it(size: Size) -> bool:
        argv = control_plane.apiserver(where, plan.make(size, 2), PROGRAMS).argv
        return any(word.startswith("--kubelet-client-certificate=") for word in argv)

    assert has_it(Size.NODE)
    assert not has_it(Size.CONTROL)


@pytest.mark.parametrize("v1", [True, False], ids=["cgroup v1", "cgroup v2"])
def test_the_kubelet_is_closed_to_strangers_and_knows_the_cgroup_version(
    where: ClusterDir, monkeypatch: pytest.MonkeyPatch, v1: bool
) -> None:
    monkeypatch.setattr(machine, "cgroup_v1", lambda: v1)
    config = node.kubelet_config(where, plan.make(Size.NODE, 0))
    assert config["authentication"]["anonymous"] == {"enabled": False}  # type: ignore[index]
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["readOnlyPort"] == 0
    assert config["cgroupRoot"] == "/podium-testbed-unit"
    assert ("failCgroupV1" in config) == v1


def test_containerd_configuration_is_toml_and_keeps_images_in_the_cache(
    where: ClusterDir, tmp_path: Path
) -> None:
    config = tomllib.loads(node.containerd_config(where, PROGRAMS))
    assert config["root"] == str(tmp_path / "containerd")
    assert config["state"] == "/run/podium-testbed/unit/containerd"
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["cni"]["conf_dir"] == str(where.config / "cni")


def test_dns_answers_for_the_cluster_only_and_on_the_bridge_only(where: ClusterDir) -> None:
    text = node.corefile(where, plan.make(Size.NODE, 0))
    assert f"bind {BRIDGE_IP}" in text
    assert "forward" not in text


def test_node_ports_open_on_the_bridge_only(where: ClusterDir) -> None:
    assert node.proxy_config(where, plan.make(Size.NODE, 0))["nodePortAddresses"] == [
        plan.POD_RANGE
    ]


def test_a_plan_comes_back_from_disk_as_it_was(where: ClusterDir) -> None:
    made = plan.make(Size.CONTROL, 3)
    plan.save(where, made)
    assert plan.load(where) == made
    assert len(set(made.ports)) == len(plan.Ports)


def test_a_plan_of_another_version_is_refused_with_the_way_out(where: ClusterDir) -> None:
    plan.save(where, plan.make(Size.CONTROL, 1))
    where.plan.write_text(where.plan.read_text().replace('"ports": [', '"ports": [1, '))
    with pytest.raises(TestbedError, match="python -m testbed down --name unit"):
        plan.load(where)


@pytest.mark.parametrize("name", ["", "Up", "a/b", "-a", "a" * 40, "../x"])
def test_cluster_names_that_would_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(TestbedError, match="use 1 to 32"):
        ClusterDir.of(name)


def test_every_pod_stage_but_deletion_leaves_pods_being_deleted_alone() -> None:
    deleting = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    documents = list(yaml.safe_load_all(simulated.stages()))
    pods = [d for d in documents if d["spec"]["resourceRef"]["kind"] == "Pod"]
    names = [d["metadata"]["name"] for d in pods]
    assert len(names) == len(set(names)) == 12
    for stage in pods:
        guarded = deleting in stage["spec"]["selector"]["matchExpressions"]
        assert guarded == (stage["metadata"]["name"] != "pod-delete")


@pytest.mark.parametrize(
    "place", ["@READY@", "@READY_LOWER@", "@REASON@", "@PHASE@", "@CONTAINER@"]
)
def test_no_placeholder_is_left_in_a_stage(place: str) -> None:
    assert place not in simulated.stages()
