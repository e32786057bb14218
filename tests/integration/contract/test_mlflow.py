"""MLflow as it is: what it checks, what it does not, what moves which timestamp, how it pages."""

from __future__ import annotations

import json

import pytest

from tests.integration.contract.transport import Json, Registry
from tests.models.http import MANY, Asked

PARAMETER = "INVALID_PARAMETER_VALUE"
MISSING = "RESOURCE_DOES_NOT_EXIST"
SEE = " See the API docs for more information about request parameters."


def stages(registry: Registry) -> dict[str, str]:
    sent = {"filter": f'name = "{registry.model}"', "order_by": "version_number ASC"}
    found = registry.done("GET", "model-versions/search", sent)["model_versions"]
    return {each["version"]: each["current_stage"] for each in found}


def transition(registry: Registry, version: str, stage: str, archive: bool = False) -> Json:
    sent = {"name": registry.model, "version": version, "stage": stage}
    return {**sent, "archive_existing_versions": archive}


def times(registry: Registry, version: str) -> tuple[int, int]:
    """When the model and the version were last updated, by their own word."""
    return (
        registry.read()["last_updated_timestamp"],
        registry.read_version(version)["last_updated_timestamp"],
    )


def tags(found: Json) -> dict[str, str]:
    return {each["key"]: each["value"] for each in found.get("tags", [])}


def test_it_says_what_it_is(registry: Registry) -> None:
    assert registry.ask("GET", "/health").body == {"text": "OK"}
    assert registry.ask("GET", "/version").body == {"text": "3.17.2"}
    assert registry.ask("GET", "/api/3.0/mlflow/server-info").body["workspaces_enabled"] is False
    assert registry.ask("GET", "webhooks", {"max_results": "1"}).body == {}
    missing = registry.ask("GET", "nothing/here")
    assert missing.status == 404
    assert missing.body["text"].startswith("<!doctype html>")
    assert registry.ask("POST", "registered-models/get", {"name": "x"}).status == 405


def test_a_model_is_made_once(registry: Registry) -> None:
    sent = {"name": registry.model, "description": "d", "tags": [{"key": "a", "value": "b"}]}
    made = registry.done("POST", "registered-models/create", sent)["registered_model"]
    assert made == registry.read()
    assert (made["description"], tags(made)) == ("d", {"a": "b"})
    assert made["creation_timestamp"] == made["last_updated_timestamp"]
    assert not {"latest_versions", "aliases"} & made.keys()
    assert registry.refused("POST", "registered-models/create", sent) == (
        400,
        "RESOURCE_ALREADY_EXISTS",
        f"Registered Model (name={registry.model}) already exists.",
    )


def test_a_version_is_ready_at_once_and_numbers_are_not_given_again(registry: Registry) -> None:
    registry.create(versions=2)
    made = registry.read_version("2")
    assert {key: made[key] for key in made if not key.endswith("timestamp")} == {
        "name": registry.model,
        "version": "2",
        "current_stage": "None",
        "description": "",
        "source": "s3://bucket/model",
        "run_id": "",
        "status": "READY",
        "run_link": "",
    }
    sent = {"name": registry.model, "version": "2"}
    assert registry.done("DELETE", "model-versions/delete", sent) == {}
    assert registry.refused("GET", "model-versions/get", sent) == (
        404,
        MISSING,
        f"Model Version (name={registry.model}, version=2) not found",
    )
    assert registry.refused("DELETE", "model-versions/delete", sent)[0] == 404
    assert registry.version() == "3"


def test_a_new_model_of_an_old_name_starts_anew(registry: Registry) -> None:
    registry.create(versions=2)
    registry.set_alias("champion", "1")
    registry.done("DELETE", "registered-models/delete", {"name": registry.model})
    for method, path in (("GET", "get"), ("DELETE", "delete")):
        assert registry.refused(method, f"registered-models/{path}", {"name": registry.model}) == (
            404,
            MISSING,
            f"Registered Model with name={registry.model} not found",
        )
    registry.create(versions=1)
    assert registry.aliases() == {}
    assert list(stages(registry)) == ["1"]


def test_an_alias_moves_without_any_condition(registry: Registry) -> None:
    registry.create(versions=3)
    for version in ("1", "3", "2", "2"):
        assert registry.set_alias("champion", version).body == {}
        assert registry.aliases() == {"champion": version}
    registry.set_alias("challenger", "2")
    found = registry.read_version("2")
    assert sorted(found["aliases"]) == ["challenger", "champion"]
    sent = {"name": registry.model, "alias": "champion"}
    by_alias = registry.done("GET", "registered-models/alias", sent)["model_version"]
    assert by_alias["version"] == "2"
    for _ in range(2):  # deleting what is not there is no error
        assert registry.done("DELETE", "registered-models/alias", sent) == {}
    assert registry.aliases() == {"challenger": "2"}


def test_aliases_are_told_by_a_search_of_models_alone(registry: Registry) -> None:
    registry.create(versions=2)
    registry.set_alias("champion", "1")
    sent = {"filter": f'name IN ("{registry.model}", "no such model")', "max_results": "2"}
    (found,) = registry.done("GET", "registered-models/search", sent)["registered_models"]
    assert found["aliases"] == [{"alias": "champion", "version": "1"}]
    assert all("aliases" not in each for each in found["latest_versions"])
    versions = registry.done("GET", "model-versions/search", sent)["model_versions"]
    assert all("aliases" not in each for each in versions)


def test_a_deleted_version_takes_its_aliases(registry: Registry) -> None:
    registry.create(versions=2)
    registry.set_alias("champion", "2")
    registry.set_alias("challenger", "1")
    sent = {"name": registry.model, "version": "2"}
    registry.done("DELETE", "model-versions/delete", sent)
    assert registry.aliases() == {"challenger": "1"}


@pytest.mark.parametrize(
    ("alias", "words"),
    [
        ("v1", "Version alias name 'v1' is reserved."),
        ("Latest", "'latest' alias name (case insensitive) is reserved."),
        (
            "a b",
            "Invalid alias name: 'a b'. Names may only contain alphanumerics, underscores (_), and "
            "dashes (-).",
        ),
        ("x" * 256, "'Registered model alias name' exceeds the maximum length of 255 characters"),
        ("", f"Missing value for required parameter 'alias'.{SEE}"),
    ],
)
def test_an_alias_that_cannot_be(registry: Registry, alias: str, words: str) -> None:
    registry.create(versions=1)
    sent = {"name": registry.model, "alias": alias, "version": "1"}
    assert registry.refused("POST", "registered-models/alias", sent) == (400, PARAMETER, words)


def test_what_does_not_exist_is_named(registry: Registry) -> None:
    registry.create(versions=1)
    model, other = registry.model, f"{registry.model} x"
    no_version = (404, MISSING, f"Model Version (name={model}, version=9) not found")
    no_model = (404, MISSING, f"Registered Model with name={other} not found")
    for method, path, sent, expected in (
        ("POST", "registered-models/alias", {"alias": "a", "version": "9"}, no_version),
        ("POST", "model-versions/set-tag", {"version": "9", "key": "k", "value": "v"}, no_version),
        ("DELETE", "model-versions/delete-tag", {"version": "9", "key": "k"}, no_version),
        ("POST", "model-versions/transition-stage", {"version": "9", "stage": "None"}, no_version),
    ):
        assert registry.refused(method, path, {"name": model, **sent}) == expected
    for method, path, sent in (
        ("DELETE", "registered-models/alias", {"alias": "a"}),
        ("GET", "registered-models/alias", {"alias": "a"}),
        ("POST", "registered-models/set-tag", {"key": "k", "value": "v"}),
        ("DELETE", "registered-models/delete-tag", {"key": "k"}),
        ("POST", "model-versions/create", {"source": "s3://b/m"}),
        ("GET", "registered-models/get-latest-versions", {}),
    ):
        assert registry.refused(method, path, {"name": other, **sent}) == no_model
    assert registry.refused(
        "POST", "registered-models/alias", {"name": other, "alias": "a", "version": "1"}
    ) == (404, MISSING, f"Model Version (name={other}, version=1) not found")
    assert registry.refused("GET", "registered-models/alias", {"name": model, "alias": "a"}) == (
        400,
        PARAMETER,
        "Registered model alias a not found.",
    )
    assert registry.refused("GET", "runs/get", {"run_id": "f" * 32}) == (
        404,
        MISSING,
        f"Run with id={'f' * 32} not found",
    )
    logged = "m-" + "0" * 32
    assert registry.refused("GET", f"logged-models/{logged}", {}) == (
        404,
        MISSING,
        f"Logged model with ID '{logged}' not found.",
    )


def test_a_parameter_that_is_missing_or_of_another_kind(registry: Registry) -> None:
    registry.create(versions=1)
    missing = f"Missing value for required parameter 'name'.{SEE}"
    for method, path, sent in (
        ("POST", "registered-models/create", {}),
        ("POST", "registered-models/create", {"name": ""}),
        ("GET", "registered-models/get", {"nam": "x"}),
    ):
        assert registry.refused(method, path, sent) == (400, PARAMETER, missing)
    numbered: Json = {"name": registry.model, "alias": "a", "version": 1}
    assert registry.refused("POST", "registered-models/alias", numbered) == (
        400,
        PARAMETER,
        f"Invalid value 1 for parameter 'version' supplied:  Hint: Value was of type 'int'.{SEE}",
    )
    assert registry.refused(
        "GET", "model-versions/get", {"name": registry.model, "version": "x"}
    ) == (400, PARAMETER, "Parameter 'version' must be an integer, got 'x'.")
    assert registry.refused("GET", "registered-models/get", {"name": "a/b"}) == (
        400,
        PARAMETER,
        "Invalid model name 'a/b'. Names cannot contain '/' or ':'.",
    )
    for many in ("1001", "x"):
        assert registry.refused("GET", "registered-models/search", {"max_results": many}) == (
            400,
            PARAMETER,
            f"Invalid value \"{many}\" for parameter 'max_results' supplied:  Hint: Value was of "
            f"type 'str'.{SEE}",
        )


def test_a_body_that_is_no_json_is_an_empty_one(registry: Registry) -> None:
    headers = {"Content-Type": "application/json"}
    path = "/api/2.0/mlflow/registered-models/create"
    answer = registry.server.ask(Asked("POST", path, {}, headers, b"{broken"))
    assert answer.status == 400
    assert "Missing value for required parameter 'name'" in json.loads(answer.body)["message"]


def test_tags_are_set_changed_and_deleted(registry: Registry) -> None:
    registry.create(versions=1)
    key = "podium.dev/ledger/0123456789abcdef/12"
    of_model, of_version = {"name": registry.model}, {"name": registry.model, "version": "1"}
    for value in ("one", 'two "quoted" ü\n漢', ""):
        for path, at in (("registered-models", of_model), ("model-versions", of_version)):
            sent = {**at, "key": key, "value": value}
            assert registry.done("POST", f"{path}/set-tag", sent) == {}
        assert tags(registry.read()) == {key: value}
        assert tags(registry.read_version("1")) == {key: value}
    for _ in range(2):
        registry.done("DELETE", "registered-models/delete-tag", {**of_model, "key": key})
        registry.done("DELETE", "model-versions/delete-tag", {**of_version, "key": key})
    assert tags(registry.read()) == tags(registry.read_version("1")) == {}


@pytest.mark.parametrize(
    ("path", "at"),
    [("registered-models", {}), ("model-versions", {"version": "1"})],
    ids=["model", "version"],
)
def test_tags_have_limits(registry: Registry, path: str, at: dict[str, str]) -> None:
    registry.create(versions=1)
    sent = {"name": registry.model, **at, "value": "v"}
    path = f"{path}/set-tag"
    assert registry.ask("POST", path, {**sent, "key": "k" * 250}).status == 200
    assert registry.refused("POST", path, {**sent, "key": "k" * 251}) == (
        400,
        PARAMETER,
        "'key' exceeds the maximum length of 250 characters",
    )
    assert registry.ask("POST", path, {**sent, "key": "k", "value": "v" * 100_000}).status == 200
    assert registry.refused("POST", path, {**sent, "key": "k", "value": "v" * 100_001}) == (
        400,
        PARAMETER,
        "'value' exceeds the maximum length of 100000 characters",
    )
    assert registry.refused("POST", path, {**sent, "key": "k?"}) == (
        400,
        PARAMETER,
        "Invalid value \"k?\" for parameter 'key' supplied: Names may only contain alphanumerics, "
        "underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).",
    )
    assert registry.refused("POST", path, {**sent, "key": "a//b"})[:2] == (400, PARAMETER)


def test_aliases_and_tags_move_no_timestamp(registry: Registry) -> None:
    registry.create(versions=1)
    before = times(registry, "1")
    registry.server.sleep(0.01)
    registry.set_alias("champion", "1")
    for path, at in (("registered-models", {}), ("model-versions", {"version": "1"})):
        sent = {"name": registry.model, **at, "key": "k", "value": "v"}
        registry.done("POST", f"{path}/set-tag", sent)
    registry.done(
        "DELETE", "registered-models/alias", {"name": registry.model, "alias": "champion"}
    )
    assert times(registry, "1") == before


def test_stages_and_versions_move_timestamps(registry: Registry) -> None:
    registry.create(versions=1)
    seen = [times(registry, "1")]
    registry.server.sleep(0.01)
    registry.done("POST", "model-versions/transition-stage", transition(registry, "1", "Staging"))
    seen.append(times(registry, "1"))
    assert seen[1][0] == seen[1][1] > seen[0][0]
    registry.server.sleep(0.01)
    made = registry.version()
    seen.append(times(registry, "1"))
    assert seen[2][0] > seen[1][0]
    assert seen[2][1] == seen[1][1]
    registry.server.sleep(0.01)
    sent = {"name": registry.model, "version": made}
    registry.done("DELETE", "model-versions/delete", sent)
    seen.append(times(registry, "1"))
    assert seen[3][0] > seen[2][0]


def test_two_versions_may_be_in_production(registry: Registry) -> None:
    registry.create(versions=3)
    for version in ("1", "2"):
        got = registry.done(
            "POST", "model-versions/transition-stage", transition(registry, version, "production")
        )
        assert got["model_version"]["current_stage"] == "Production"
    assert stages(registry) == {"1": "Production", "2": "Production", "3": "None"}
    sent = transition(registry, "3", "Production", archive=True)
    registry.done("POST", "model-versions/transition-stage", sent)
    assert stages(registry) == {"1": "Archived", "2": "Archived", "3": "Production"}


def test_the_latest_version_of_a_stage_is_the_highest_number(registry: Registry) -> None:
    registry.create(versions=3)
    for version, stage in (("2", "Archived"), ("1", "Archived"), ("3", "Production")):
        sent = transition(registry, version, stage)
        registry.done("POST", "model-versions/transition-stage", sent)
    found = {each["version"] for each in registry.read()["latest_versions"]}
    assert found == {"2", "3"}
    for stage, version in (("Archived", "2"), ("Production", "3")):
        sent = {"name": registry.model, "stages": stage}
        (latest,) = registry.done("GET", "registered-models/get-latest-versions", sent)[
            "model_versions"
        ]
        assert latest["version"] == version


def test_a_stage_that_cannot_be(registry: Registry) -> None:
    registry.create(versions=1)
    path = "model-versions/transition-stage"
    assert registry.refused("POST", path, transition(registry, "1", "Best")) == (
        400,
        PARAMETER,
        "Invalid Model Version stage: Best. Value must be one of None, Staging, Production, "
        "Archived.",
    )
    for stage in ("None", "Archived"):
        assert registry.refused("POST", path, transition(registry, "1", stage, archive=True)) == (
            500,
            "INTERNAL_ERROR",
            "Model version transition cannot archive existing model versions because "
            f"'{stage}' is not an Active stage. Valid stages are ['Staging', 'Production']",
        )


@pytest.mark.parametrize(
    "odd", ["it's", 'say "hi"', "a b ü 漢字", "100% _done_", "back\\slash", "(a, b)"]
)
def test_odd_names_are_found(registry: Registry, odd: str) -> None:
    registry.model = f"{registry.model} {odd}"
    registry.create(versions=1)
    registry.create(model=f"{registry.model} not")
    escaped = registry.model.replace("\\", "\\\\").replace('"', '\\"')
    sent = {"filter": f'name IN ("{escaped}", "nobody")'}
    (found,) = registry.done("GET", "registered-models/search", sent)["registered_models"]
    assert found["name"] == registry.model
    quote = "'" if '"' in odd else '"'
    sent = {"filter": f"name = {quote}{registry.model}{quote}"}
    (version,) = registry.done("GET", "model-versions/search", sent)["model_versions"]
    assert version["name"] == registry.model


def test_tags_and_numbers_choose_versions(registry: Registry) -> None:
    registry.create()
    for number in range(4):
        registry.version(tags=[{"key": "reviewed", "value": "true" if number % 2 else "no"}])
    name = f"name = '{registry.model}'"
    for text, expected in (
        (f"{name} AND tags.reviewed = 'true'", ["2", "4"]),
        (f"{name} AND tags.`reviewed` != 'true'", ["1", "3"]),
        (f"{name} AND tags.other = 'x'", []),
        (f"name LIKE '{registry.model[:-1]}%' AND {name}", ["1", "2", "3", "4"]),
    ):
        sent = {"filter": text, "order_by": "version_number ASC"}
        found = registry.done("GET", "model-versions/search", sent).get("model_versions", [])
        assert [each["version"] for each in found] == expected, text
    for path in ("registered-models", "model-versions"):
        got = registry.refused("GET", f"{path}/search", {"filter": "name IN ('a'"})
        assert got[:2] == (400, PARAMETER)
        got = registry.refused("GET", f"{path}/search", {"filter": "nam = 'a'"})
        assert got[:2] == (400, PARAMETER)


def test_pages_are_offsets(registry: Registry) -> None:
    registry.create(versions=5)
    sent = {
        "filter": f'name = "{registry.model}"',
        "max_results": "2",
        "order_by": "version_number ASC",
    }
    first = registry.done("GET", "model-versions/search", sent)
    assert [each["version"] for each in first["model_versions"]] == ["1", "2"]
    at = {"name": registry.model, "version": "1"}
    registry.done("DELETE", "model-versions/delete", at)
    token = first["next_page_token"]
    second = registry.done("GET", "model-versions/search", {**sent, "page_token": token})
    assert [each["version"] for each in second["model_versions"]] == ["4", "5"]  # 3 is missed
    assert not second.get("next_page_token")
    got = registry.refused("GET", "model-versions/search", {**sent, "page_token": "zzz"})
    assert got == (400, PARAMETER, "Invalid page token, could not base64-decode")


def test_several_orders_count_in_turn(registry: Registry) -> None:
    other = f"{registry.model} b"
    registry.create(versions=2)
    registry.create(versions=2, model=other)
    sent = {"filter": f'name IN ("{other}", "{registry.model}")'}
    sent["order_by"] = f"name ASC{MANY}version_number ASC"
    found = registry.done("GET", "model-versions/search", sent)["model_versions"]
    assert [(each["name"], each["version"]) for each in found] == [
        (registry.model, "1"),
        (registry.model, "2"),
        (other, "1"),
        (other, "2"),
    ]
    # By itself the newest change comes first.
    registry.server.sleep(0.01)
    registry.done("POST", "model-versions/transition-stage", transition(registry, "1", "Staging"))
    del sent["order_by"]
    found = registry.done("GET", "model-versions/search", sent)["model_versions"]
    assert (found[0]["name"], found[0]["version"]) == (registry.model, "1")
    models = registry.done("GET", "registered-models/search", sent)["registered_models"]
    assert [each["name"] for each in models] == [registry.model, other]


def test_a_run_gives_the_last_value_of_each_metric(registry: Registry) -> None:
    experiment = registry.ask("POST", "experiments/create", {"name": registry.model}).body
    by_name = registry.done("GET", "experiments/get-by-name", {"experiment_name": registry.model})
    assert by_name["experiment"]["experiment_id"] == experiment["experiment_id"]
    sent = {
        **experiment,
        "start_time": 1,
        "tags": [{"key": "mlflow.user", "value": "ann"}],
    }
    made = registry.done("POST", "runs/create", sent)["run"]
    run_id = made["info"]["run_id"]
    for key, value, step in (("acc", 0.5, 1), ("nan", "NaN", 1), ("acc", 0.75, 2), ("low", 1, 0)):
        metric = {"run_id": run_id, "key": key, "value": value, "timestamp": step, "step": step}
        assert registry.done("POST", "runs/log-metric", metric) == {}
    infinite = {"run_id": run_id, "key": "inf", "value": "Infinity", "timestamp": 1, "step": 1}
    registry.done("POST", "runs/log-metric", infinite)
    registry.done("POST", "runs/log-parameter", {"run_id": run_id, "key": "depth", "value": "3"})
    sent = {"run_id": run_id, "status": "FINISHED", "end_time": 2}
    assert registry.done("POST", "runs/update", sent)["run_info"]["status"] == "FINISHED"
    run = registry.done("GET", "runs/get", {"run_id": run_id})["run"]
    assert (run["info"]["status"], run["info"]["end_time"]) == ("FINISHED", 2)
    values = {each["key"]: each["value"] for each in run["data"]["metrics"]}
    assert values == {"acc": 0.75, "nan": "NaN", "low": 1.0, "inf": 1.7976931348623157e308}
    assert tags({"tags": run["data"]["params"]}) == {"depth": "3"}
    assert tags(run["data"])["mlflow.user"] == "ann"
    sent = {"run_id": run_id, "metric_key": "acc", "max_results": "1000"}
    history = registry.done("GET", "metrics/get-history", sent)["metrics"]
    assert [(each["value"], each["step"]) for each in history] == [(0.5, 1), (0.75, 2)]
    nothing = registry.done("GET", "metrics/get-history", {**sent, "metric_key": "none"})
    assert nothing == {}


def test_a_logged_model_has_metrics_with_their_datasets(registry: Registry) -> None:
    experiment = registry.done("POST", "experiments/create", {"name": registry.model})
    run = registry.done("POST", "runs/create", {**experiment, "start_time": 1})["run"]["info"]
    sent = {**experiment, "name": "m", "source_run_id": run["run_id"]}
    sent["params"] = [{"key": "depth", "value": "3"}]
    made = registry.done("POST", "logged-models", sent)["model"]["info"]
    about = {"model_id": made["model_id"], "run_id": run["run_id"]}
    dataset = {"dataset_name": "held out", "dataset_digest": "d1"}
    for key, value, step in (("acc", 0.5, 1), ("acc", 0.75, 2), ("nan", "NaN", 1), ("zero", 0, 1)):
        metric = {"key": key, "value": value, "timestamp": step, "step": step}
        registry.done("POST", "runs/log-metric", {**about, **dataset, **metric})
    found = registry.done("GET", f"logged-models/{made['model_id']}", {})["model"]
    assert found["info"] == made
    assert found["data"]["params"] == sent["params"]
    metrics = found["data"]["metrics"]
    assert all({**each, **about, **dataset} == each for each in metrics)
    # A NaN is told as zero here, and as NaN by the run.
    assert sorted((each["key"], each["value"], each["step"]) for each in metrics) == [
        ("acc", 0.5, 1),
        ("acc", 0.75, 2),
        ("nan", 0.0, 1),
        ("zero", 0.0, 1),
    ]


def test_a_version_knows_the_run_behind_its_source(registry: Registry) -> None:
    registry.create()
    experiment = registry.done("POST", "experiments/create", {"name": registry.model})
    run = registry.done("POST", "runs/create", {**experiment, "start_time": 1})["run"]["info"]
    sent = {**experiment, "name": "m", "source_run_id": run["run_id"]}
    logged = registry.done("POST", "logged-models", sent)["model"]["info"]["model_id"]
    registry.version(source=f"models:/{logged}", model_id=logged)
    registry.version(source=f"models:/{registry.model}/1")
    for number, source in (("1", f"models:/{logged}"), ("2", f"models:/{registry.model}/1")):
        found = registry.read_version(number)
        assert (found["source"], found["run_id"]) == (source, run["run_id"])
    sent = {"name": registry.model, "source": "models:/m-" + "0" * 32}
    assert registry.refused("POST", "model-versions/create", sent)[:2] == (400, PARAMETER)
