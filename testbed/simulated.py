"""Simulated nodes: kwok, its Stages, and pod faults on demand.

A pod shows the fault that its annotation `podium.dev/kwok-fault` names; patch the pod to
switch it while it runs. See FAULTS for the values. `FAULT@7` applies only to pods whose
annotation `podium.dev/model-version` is 7, so a Deployment's template can say beforehand
which model version will misbehave. No containers run: these pods are entries in the API.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml

from testbed.control_plane import answers
from testbed.layout import ClusterDir
from testbed.plan import LOOPBACK, Plan, Ports
from testbed.processes import Component

FAULT_ANNOTATION = "podium.dev/kwok-fault"
VERSION_ANNOTATION = "podium.dev/model-version"

FAULTS = {
    "not-ready": "starts and never becomes ready; on a ready pod: readiness is lost",
    "crash": "the container starts, fails after 1 s, and restarts after 2 s more, for ever",
    "slow-Ns": "becomes ready N seconds after the pod was created",
    "restart-N": "restarts in place until restartCount is N, then stays ready",
    "image-pull": "ImagePullBackOff: the container never starts",
    "evicted": "the pod fails with reason Evicted",
}

# The fault that is meant for this pod, "" for none. jq, as kwok's selectors are.
_FAULT = f"""
(.metadata.annotations // {{}}) as $a
| (($a["{FAULT_ANNOTATION}"] // "") | split("@")) as $f
| if ($f[1] // "") == "" or $f[1] == ($a["{VERSION_ANNOTATION}"] // "")
  then ($f[0] // "") else "" end
"""
_KIND = (
    f'({_FAULT}) | split("-") | if .[0] == "slow" or .[0] == "restart" then .[0] else join("-") end'
)
_RESTARTS = "([.status.containerStatuses[]?.restartCount] | max // 0)"
# What the containers do now: "", "running/true", "running/false" or "waiting/false".
_NOW = """
[.status.containerStatuses[]? | (.state | keys[0]) + "/" + (.ready | tostring)]
| unique | join(",")
"""
_RESTART_DUE = f'(({_FAULT}) | ltrimstr("restart-") | tonumber) as $n | {_RESTARTS} < $n'

_POD_STATUS = """
{{ $now := Now }}
{{ $root := . }}
{{ $start := or .status.startTime $now }}
conditions:
{{ range list "Initialized" "PodReadyToStartContainers" }}
- {type: {{ . }}, status: "True", lastTransitionTime: {{ $start | Quote }}}
{{ end }}
{{ range list "ContainersReady" "Ready" }}
- type: {{ . }}
  status: "@READY@"
  reason: "@REASON@"
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
{{ range .spec.readinessGates }}
- {type: {{ .conditionType | Quote }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- image: {{ .image | Quote }}
  imageID: ""
  name: {{ .name | Quote }}
  ready: true
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{ $start | Quote }}
      finishedAt: {{ $start | Quote }}
{{ end }}
containerStatuses:
{{ range $index, $item := .spec.containers }}
{{ $old := dict }}
{{ $seen := $root.status.containerStatuses }}
{{ if $seen }}{{ $old = index $seen $index }}{{ end }}
{{ $count := int (or $old.restartCount 0) }}
{{ $since := $now }}
{{ $was := or $old.state dict }}
{{ if $was.running }}{{ $since = $was.running.startedAt }}{{ end }}
- image: {{ $item.image | Quote }}
  imageID: ""
  name: {{ $item.name | Quote }}
@CONTAINER@
{{ end }}
{{ if not .status.podIP }}
{{ $hostIP := NodeIPWith .spec.nodeName }}
hostIP: {{ $hostIP | Quote }}
hostIPs: [{ip: {{ $hostIP | Quote }}}]
{{ $hostNetwork := or .spec.hostNetwork false }}
{{ $meta := .metadata }}
{{ $podIP := PodIPWith .spec.nodeName $hostNetwork $meta.uid $meta.name $meta.namespace }}
podIP: {{ $podIP | Quote }}
podIPs: [{ip: {{ $podIP | Quote }}}]
{{ end }}
phase: @PHASE@
startTime: {{ $start | Quote }}
"""

_NODE_STATUS = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
allocatable: {cpu: 1k, memory: 1Ti, pods: 1M}
capacity: {cpu: 1k, memory: 1Ti, pods: 1M}
nodeInfo:
  architecture: amd64
  bootID: ""
  containerRuntimeVersion: kwok
  kernelVersion: kwok
  kubeProxyVersion: kwok
  kubeletVersion: kwok
  machineID: ""
  operatingSystem: linux
  osImage: ""
  systemUUID: ""
phase: Running
"""

_RUNNING = """
  ready: @READY_LOWER@
  started: @READY_LOWER@
  restartCount: {{ $count }}
  {{ if $old.lastState }}lastState: {{ $old.lastState | toJson }}{{ end }}
  state: {running: {startedAt: {{ $since | Quote }}}}
"""
_FAILED = """
  lastState:
    terminated:
      exitCode: 1
      reason: Error
      startedAt: {{ $since | Quote }}
      finishedAt: {{ $now | Quote }}
  ready: false
  started: false
"""
_CRASHED = (
    _FAILED
    + """
  restartCount: {{ $count }}
  state: {waiting: {reason: CrashLoopBackOff, message: back-off restarting failed container}}
"""
)
_AGAIN = """
  ready: false
  started: false
  restartCount: {{ add $count 1 }}
  {{ if $old.lastState }}lastState: {{ $old.lastState | toJson }}{{ end }}
  state: {running: {startedAt: {{ $now | Quote }}}}
"""
_RESTARTED = (
    _FAILED
    + """
  restartCount: {{ add $count 1 }}
  state: {running: {startedAt: {{ $now | Quote }}}}
"""
)
_NO_IMAGE = """
  ready: false
  started: false
  restartCount: {{ $count }}
  state: {waiting: {reason: ImagePullBackOff, message: back-off pulling the image}}
"""


def stages() -> str:
    """kwok's configuration: the Stages of nodes and pods, as YAML documents."""
    return yaml.safe_dump_all([node_stage(), *pod_stages()], sort_keys=False)


def node_stage() -> dict[str, object]:
    """A simulated node is Ready at once and big; kwok itself renews its lease."""
    not_ready: dict[str, object] = {
        "key": '.status.conditions.[] | select( .type == "Ready" ) | .status',
        "operator": "NotIn",
        "values": ["True"],
    }
    return _stage("node-initialize", [not_ready], {"statusTemplate": _NODE_STATUS}, kind="Node")


def pod_stages() -> list[dict[str, object]]:
    """At most one Stage matches a pod at any time, so that nothing is left to chance."""
    ready = _status("True", _RUNNING)
    waiting = _status("False", _RUNNING, reason="ContainersNotReady")
    return [
        _stage("pod-delete", [_exists(".metadata.deletionTimestamp")], {"delete": True}),
        _stage(
            "pod-complete",
            [*_LIVE, _is(_KIND, ""), _is(_NOW, "running/true"), _JOB],
            {"statusTemplate": _COMPLETE},
        ),
        _stage("pod-ready", [*_LIVE, _is(_KIND, "", "restart"), _not(_NOW, "running/true")], ready),
        _stage(
            "pod-start-unready",
            [*_LIVE, _is(_KIND, "not-ready"), _not(_NOW, "running/false")],
            waiting,
        ),
        _stage("pod-start-slow", [*_LIVE, _is(_KIND, "slow"), _is(_NOW, "")], waiting),
        _stage(
            "pod-ready-late",
            [*_LIVE, _is(_KIND, "slow"), _not(_NOW, "", "running/true")],
            ready,
            delay=f'(({_FAULT}) | ltrimstr("slow-") | rtrimstr("s") | tonumber) as $n'
            " | .metadata.creationTimestamp | fromdate + $n | todate",
        ),
        _stage("pod-start-crashing", [*_LIVE, _is(_KIND, "crash"), _is(_NOW, "")], waiting),
        _stage(
            "pod-crash",
            [*_LIVE, _is(_KIND, "crash"), _is(_NOW, "running/true", "running/false")],
            _status("False", _CRASHED, reason="ContainersNotReady"),
            delay='"1s"',
        ),
        _stage(
            "pod-crash-restart",
            [*_LIVE, _is(_KIND, "crash"), _is(_NOW, "waiting/false")],
            _status("False", _AGAIN, reason="ContainersNotReady"),
            delay='"2s"',
        ),
        _stage(
            "pod-restart",
            [*_LIVE, _is(_KIND, "restart"), _is(_NOW, "running/true"), _is(_RESTART_DUE, "true")],
            _status("False", _RESTARTED, reason="ContainersNotReady"),
        ),
        _stage(
            "pod-image-pull",
            [*_LIVE, _is(_KIND, "image-pull"), _is(_NOW, "")],
            _status("False", _NO_IMAGE, reason="ContainersNotReady", phase="Pending"),
        ),
        _stage(
            "pod-evict",
            [*_LIVE, _is(_KIND, "evicted")],
            {"statusTemplate": "phase: Failed\nreason: Evicted\nmessage: evicted by the test\n"},
        ),
    ]


def nodes(plan: Plan) -> list[dict[str, object]]:
    """The simulated Node objects."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"simulated-{number}",
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    "kubernetes.io/hostname": f"simulated-{number}",
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "type": "kwok",
                },
            },
        }
        for number in range(1, plan.simulated_nodes + 1)
    ]


def kwok(where: ClusterDir, plan: Plan, binaries: Mapping[str, Path]) -> Component:
    address = f"{LOOPBACK}:{plan.port(Ports.KWOK)}"
    return Component(
        name="kwok",
        argv=(
            str(binaries["kwok"]),
            f"--kubeconfig={where.kubeconfig}",
            f"--config={where.config / 'kwok.yaml'}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--cidr=10.200.0.0/16",
            "--node-ip=192.0.2.1",  # documentation range: nobody is meant to reach it
            "--node-lease-duration-seconds=40",
            f"--server-address={address}",
        ),
        address=address,
        healthy=lambda: answers(f"http://{address}/healthz"),
        env={"HOME": str(where.root)},
    )


def _stage(
    name: str,
    when: list[dict[str, object]],
    then: dict[str, object],
    delay: str | None = None,
    kind: str = "Pod",
) -> dict[str, object]:
    spec: dict[str, object] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": when},
    }
    if delay:
        spec["delay"] = {"durationFrom": {"expressionFrom": delay}}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {**spec, "next": then},
    }


def _status(
    ready: str, container: str, reason: str = "", phase: str = "Running"
) -> dict[str, object]:
    template = _POD_STATUS.replace("@CONTAINER@", container.strip("\n"))
    for place, value in {
        "@READY@": ready,
        "@READY_LOWER@": ready.lower(),
        "@REASON@": reason,
        "@PHASE@": phase,
    }.items():
        template = template.replace(place, value)
    return {"statusTemplate": template}


def _is(key: str, *values: str) -> dict[str, object]:
    return {"key": f"({key}) | tostring", "operator": "In", "values": list(values)}


def _not(key: str, *values: str) -> dict[str, object]:
    return {"key": f"({key}) | tostring", "operator": "NotIn", "values": list(values)}


def _exists(key: str) -> dict[str, object]:
    return {"key": key, "operator": "Exists"}


_LIVE: list[dict[str, object]] = [
    {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
    _is(".status.phase", "Pending", "Running"),
]
_JOB = _is(".metadata.ownerReferences[]?.kind", "Job")
_COMPLETE = """
{{ $now := Now }}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  imageID: ""
  name: {{ .name | Quote }}
  ready: false
  started: false
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{ $now | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
conditions:
- {type: Ready, status: "False", reason: PodCompleted, lastTransitionTime: {{ $now | Quote }}}
- type: ContainersReady
  status: "False"
  reason: PodCompleted
  lastTransitionTime: {{ $now | Quote }}
phase: Succeeded
"""
