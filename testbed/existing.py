"""A cluster that somebody else made and KUBECONFIG names: looked at, never changed."""

import contextlib
import json
from pathlib import Path

from testbed.binaries import KUBECTL, provide
from testbed.errors import TestbedError
from testbed.processes import run

_WANTED = {
    "admissionregistration.k8s.io/v1/validatingadmissionpolicies": "ValidatingAdmissionPolicy "
    "(who may decide is then checked by RBAC on PromotionDecision only)",
    "admissionregistration.k8s.io/v1/mutatingadmissionpolicies": "MutatingAdmissionPolicy v1 "
    "(people then type decidedBy themselves)",
}


def look(kubeconfig: Path) -> list[str]:
    """What the cluster lacks of what the tests can use; raises when it does not answer."""
    kubectl = provide([KUBECTL])["kubectl"]
    asking: list[str | Path] = [kubectl, f"--kubeconfig={kubeconfig}", "--request-timeout=10s"]
    try:
        run([*asking, "version", "-o", "json"], timeout=30)
    except TestbedError as failure:
        raise TestbedError(
            f"the cluster of KUBECONFIG={kubeconfig} does not answer: {failure}"
        ) from None
    lacks = [text for path, text in _WANTED.items() if not _serves(asking, path)]
    nodes = json.loads(run([*asking, "get", "nodes", "-o", "json"]))["items"]
    real = [n for n in nodes if "kwok.x-k8s.io/node" not in n["metadata"].get("annotations", {})]
    if not real:
        lacks.append("a real node (pods will not run; e2e tests are left out)")
    if len(real) == len(nodes):
        lacks.append("simulated nodes (pod faults on demand are left out)")
    return lacks


def _serves(asking: list[str | Path], path: str) -> bool:
    group, resource = path.rsplit("/", 1)
    with contextlib.suppress(TestbedError):
        served = json.loads(run([*asking, "get", "--raw", f"/apis/{group}"]))["resources"]
        return any(each["name"] == resource for each in served)
    return False
