"""Both overlays on a real API server: they render, are taken, and grant what is needed only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

MANIFESTS = Path(__file__).parents[3] / "manifests"
OPERATOR = "--as=system:serviceaccount:podium-system:podium-operator"
OVERLAYS = ("all-namespaces", "single-namespace")

# verb, resource, namespace ("" is no namespace, * is every one)
IN_WATCHED = [
    *((verb, f"{plural}.podium.dev")
      for plural in ("modelpromotions", "promotiondecisions")
      for verb in ("get", "list", "watch")),
    *((verb, "modelregistries.podium.dev") for verb in ("list", "watch")),
    *(("update", f"{plural}.podium.dev --subresource=status")
      for plural in ("modelpromotions", "modelregistries", "promotiondecisions")),
    *((verb, "deployments.apps") for verb in ("get", "list", "watch", "patch")),
    ("list", "pods"),
    ("list", "horizontalpodautoscalers.autoscaling"),
    *((verb, "events.events.k8s.io") for verb in ("create", "patch")),
    ("get", "secrets"),
]  # fmt: skip
IN_OWN = [
    ("create", "leases.coordination.k8s.io"),
    *((verb, "leases.coordination.k8s.io/podium-operator") for verb in ("get", "patch")),
    ("create", "secrets"),
    ("get", "secrets/podium-ledger-key"),
]
NEVER = [
    *((verb, "secrets") for verb in ("list", "watch", "update", "patch", "delete")),
    *((verb, f"{plural}.podium.dev")
      for plural in ("modelpromotions", "modelregistries", "promotiondecisions")
      for verb in ("create", "update", "patch", "delete", "deletecollection")),
    *((verb, "deployments.apps") for verb in ("create", "update", "delete", "deletecollection")),
    *(("patch", f"{plural}.podium.dev --subresource=status")
      for plural in ("modelpromotions", "modelregistries", "promotiondecisions")),
    *((verb, "pods") for verb in ("get", "watch", "create", "update", "patch", "delete")),
    *((verb, "replicasets.apps") for verb in ("get", "list")),
    *((verb, "leases.coordination.k8s.io") for verb in ("get", "list", "update", "patch")),
    *((verb, "pods --subresource=exec") for verb in ("create", "get")),
    ("get", "pods --subresource=log"),
    ("create", "pods --subresource=eviction"),
    ("patch", "deployments.apps --subresource=scale"),
    ("patch", "horizontalpodautoscalers.autoscaling"),
    ("create", "roles.rbac.authorization.k8s.io"),
    ("create", "serviceaccounts --subresource=token"),
    ("get", "configmaps"),
    ("impersonate", "users"),
]  # fmt: skip
NEVER_IN_CLUSTER = [
    ("list", "namespaces"),
    ("watch", "namespaces"),
    ("get", "namespaces/default"),
    ("list", "customresourcedefinitions.apiextensions.k8s.io"),
    ("get", "nodes"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
]


@pytest.fixture(scope="module", params=OVERLAYS)
def installed(control_cluster: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """The overlay's namespace, account and RBAC for real, without its Deployment and CRDs."""
    kept = [
        each
        for each in rendered(control_cluster, request.param)
        if each["kind"] not in ("CustomResourceDefinition", "Deployment")
    ]
    objects = yaml.safe_dump_all(kept)
    control_cluster("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=objects)
    yield request.param
    control_cluster("delete", "--ignore-not-found", "-f", "-", stdin=objects)


def rendered(kubectl: Kubectl, overlay: str) -> list[Any]:
    return list(yaml.safe_load_all(kubectl("kustomize", str(MANIFESTS / "overlays" / overlay))))


def can_i(kubectl: Kubectl, verb: str, resource: str, namespace: str) -> bool:
    scope = [f"--namespace={namespace}"] if namespace else []
    asked = ("auth", "can-i", verb, *resource.split(" "), OPERATOR, *scope)
    answer = kubectl.answer(*asked).strip()
    assert answer in ("yes", "no"), f"{asked}: {answer}"
    return answer == "yes"


def test_the_api_server_takes_every_object(control_cluster: Kubectl, installed: str) -> None:
    overlay = str(MANIFESTS / "overlays" / installed)
    flags = ("--server-side", "--force-conflicts", "--dry-run=server")
    said = control_cluster("apply", *flags, "-k", overlay)
    assert "deployment.apps/podium-operator" in said
    assert said.count("customresourcedefinition.apiextensions.k8s.io/") == 3


def test_the_operator_may_do_what_it_needs(control_cluster: Kubectl, installed: str) -> None:
    wanted = [(*each, "default") for each in IN_WATCHED]
    wanted += [(*each, "podium-system") for each in IN_OWN]
    wanted += [("get", "namespaces/kube-system", "")]
    assert [each for each in wanted if not can_i(control_cluster, *each)] == []


def test_the_operator_may_do_nothing_more(control_cluster: Kubectl, installed: str) -> None:
    refused = [(*each, ns) for each in NEVER for ns in ("default", "podium-system")]
    refused += [(*each, "") for each in NEVER_IN_CLUSTER]
    refused += [("create", "secrets", "default")]
    refused += [(verb, "leases.coordination.k8s.io", "kube-system") for verb in ("get", "update")]
    if installed == "single-namespace":
        refused += [(*each, "kube-system") for each in IN_WATCHED]
        refused += [("get", "secrets/another", "podium-system")]
    assert [each for each in refused if can_i(control_cluster, *each)] == []


def test_approving_is_not_part_of_editing(control_cluster: Kubectl, installed: str) -> None:
    editor = roles(control_cluster, "podium-editor")
    assert "promotiondecisions" not in str(editor["rules"])
    assert editor["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    approver = roles(control_cluster, "podium-approver")
    labels = approver["metadata"]["labels"]
    assert not [label for label in labels if "aggregate-to" in label]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_is_as_closed_as_promised(control_cluster: Kubectl, overlay: str) -> None:
    (deployment,) = [o for o in rendered(control_cluster, overlay) if o["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "podium-operator:0.1.0"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    flags = [arg.split("=")[0] for arg in container["args"]]
    assert ("--all-namespaces" in flags) != ("--namespace" in flags)


def roles(kubectl: Kubectl, name: str) -> Any:
    return kubectl.get("clusterrole", name)
