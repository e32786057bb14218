"""What README and docs tell people to apply or to run is taken by a real API server."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = "podium.dev/"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


RESOURCES = [
    pytest.param(o, id=f"{page.name} {o['kind']}")
    for page in PAGES
    for block in blocks(page, "yaml")
    for o in yaml.safe_load_all(block)
    if str(o.get("apiVersion", "")).startswith(OURS)
]


def test_there_is_something_to_look_at() -> None:
    assert len(RESOURCES) >= 6


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_of_the_documents_is_accepted(
    kubectl: Kubectl, resource: dict[str, dict[str, str]]
) -> None:
    del resource["metadata"]["namespace"]  # the test's own instead
    kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(resource))


def test_the_install_of_the_readme_is_taken_line_by_line(control_cluster: Kubectl) -> None:
    (install,) = [b for b in blocks(ROOT / "README.md", "sh") if "docker build" in b]
    build, apply, example = install.splitlines()
    image = re.findall(r"docker push (\S+)", build)[0]
    rendered = run(control_cluster, apply.rpartition("|")[0])
    (deployment,) = [o for o in yaml.safe_load_all(rendered) if o["kind"] == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image
    said = run(control_cluster, f"{apply} --dry-run=server --force-conflicts", rehearsed=True)
    assert "deployment.apps/podium-operator" in said
    assert (ROOT / example.split(" -f ")[1]).is_dir()


def run(kubectl: Kubectl, command: str, *, rehearsed: bool = False) -> str:
    """The command as a reader types it; `rehearsed`: the namespace is made for it, and removed."""
    path = f"{kubectl.program.parent}{os.pathsep}{os.environ['PATH']}"
    if rehearsed:  # a dry run makes no namespace for what comes after it
        kubectl("create", "namespace", "podium-system")
    try:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=ROOT,
            env={**os.environ, "PATH": path, "KUBECONFIG": str(kubectl.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        if rehearsed:
            kubectl("delete", "namespace", "podium-system")
    assert done.returncode == 0, done.stderr
    return done.stdout
