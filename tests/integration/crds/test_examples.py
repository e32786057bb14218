"""Every file under examples/ is taken by a real API server and makes sense as a whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from podium.api.decision import PromotionDecision
from podium.api.model_registry import ModelRegistry
from podium.api.promotion import ModelPromotion, ModelSourceType
from podium.api.values import read
from tests.kubectl import Kubectl

EXAMPLES = Path(__file__).parents[3] / "examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
MODELS = {
    "ModelPromotion": ModelPromotion,
    "ModelRegistry": ModelRegistry,
    "PromotionDecision": PromotionDecision,
}

each_example = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def objects(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.rglob("*.yaml"))
    return [o for path in files for o in yaml.safe_load_all(path.read_text()) if o]


def of_kind(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o for o in objects(folder) if o["kind"] == kind}


def containers(deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.cluster
@each_example
def test_the_api_server_takes_it(kubectl: Kubectl, folder: Path) -> None:
    for example in objects(folder):
        if example["kind"] == "Namespace":
            continue
        del example["metadata"]["namespace"]  # the test's own instead
        kubectl("create", "-f", "-", stdin=json.dumps(example))
    for kind, model in MODELS.items():
        for stored in json.loads(kubectl("get", kind, "-o", "json"))["items"]:
            read(model, stored, kind)


@each_example
def test_its_parts_fit_together(folder: Path) -> None:
    namespaces = {o["metadata"].get("namespace") for o in objects(folder)} - {None}
    assert namespaces == set(of_kind(folder, "Namespace"))
    deployments = of_kind(folder, "Deployment")
    promotions = of_kind(folder, "ModelPromotion")
    assert promotions
    for name, promotion in promotions.items():
        spec = read(ModelPromotion, promotion, name).spec
        assert spec.registry_ref.name in of_kind(folder, "ModelRegistry")
        for target in spec.targets:
            (server,) = containers(deployments[target.deployment.name])
            assert target.deployment.container in (None, server["name"])
            by_alias = f"models:/{spec.model}@{spec.alias}" in server["command"]
            assert by_alias == (target.model_source.type is ModelSourceType.ALIAS)
            owned = [v for v in server["env"] if v["name"] == target.model_source.env_var]
            assert not owned, "Podium sets this variable"


@each_example
def test_each_file_begins_with_words_for_a_first_time_reader(folder: Path) -> None:
    for path in folder.rglob("*.yaml"):
        assert path.read_text().startswith("# "), path
