"""Experiments, runs and their metrics, as the model of MLflow keeps them.

What a story needs to give a version its metrics, and what Podium reads of them. Datasets of runs
are put there by `add_inputs`: no request makes them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.models import mlflow_errors as errors
from tests.models.mlflow_errors import Json


@dataclass
class Run:
    run_id: str
    experiment_id: str
    start_time: int
    name: str
    status: str = "RUNNING"
    end_time: int | None = None
    metrics: list[Json] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: Json = field(default_factory=dict)

    def info(self) -> Json:
        found: Json = {
            "run_uuid": self.run_id,
            "experiment_id": self.experiment_id,
            "run_name": self.name,
            "user_id": "",
            "status": self.status,
            "start_time": self.start_time,
            "artifact_uri": f"mlflow-artifacts:/{self.experiment_id}/{self.run_id}/artifacts",
            "lifecycle_stage": "active",
            "run_id": self.run_id,
        }
        return found | ({"end_time": self.end_time} if self.end_time is not None else {})

    def data(self) -> Json:
        last: dict[str, Json] = {}
        for metric in self.metrics:
            known = last.get(metric["key"])
            if known is None or _order(metric) >= _order(known):
                last[metric["key"]] = metric
        listed = {
            "metrics": list(last.values()),
            "params": [{"key": key, "value": value} for key, value in self.params.items()],
            "tags": [{"key": key, "value": value} for key, value in self.tags.items()],
        }
        return {key: value for key, value in listed.items() if value}


def _order(metric: Json) -> tuple[int, int, float]:
    value = metric["value"]
    return metric["step"], metric["timestamp"], 0.0 if value == "NaN" else float(value)


class Runs:
    """The tracking half."""

    def __init__(self, milliseconds: Callable[[], int]) -> None:
        self._milliseconds = milliseconds
        self._experiments: dict[str, str] = {"Default": "0"}
        self._runs: dict[str, Run] = {}
        self._logged_models: dict[str, Json] = {}
        self.routes: dict[tuple[str, str], Callable[[Json], Json]] = {
            ("POST", "experiments/create"): self._create_experiment,
            ("GET", "experiments/get-by-name"): self._experiment_by_name,
            ("POST", "runs/create"): self._create,
            ("GET", "runs/get"): self._get,
            ("POST", "runs/update"): self._update,
            ("POST", "runs/log-metric"): self._log_metric,
            ("POST", "runs/log-parameter"): self._log_parameter,
            ("POST", "runs/set-tag"): self._set_tag,
            ("GET", "metrics/get-history"): self._history,
            ("POST", "logged-models"): self._create_logged_model,
        }

    def add_inputs(self, run_id: str, inputs: Json) -> None:
        """`RunInputs` of a run: the datasets that it used."""
        self._runs[run_id].inputs = inputs

    def logged_model(self, model_id: str) -> Json:
        """`logged-models/{id}`"""
        if model_id not in self._logged_models:
            raise errors.missing(f"Logged model with ID '{model_id}' not found.")
        return {"model": self._logged_models[model_id]}

    def source_run_of(self, model_id: str) -> str | None:
        """The run that logged the model; None when there is no such model."""
        found = self._logged_models.get(model_id)
        return str(found["info"]["source_run_id"]) if found else None

    def _create_logged_model(self, sent: Json) -> Json:
        (experiment,) = errors.required(sent, "experiment_id")
        model_id, now = f"m-{len(self._logged_models) + 1:032x}", self._milliseconds()
        info: Json = {
            "model_id": model_id,
            "experiment_id": experiment,
            "name": sent.get("name", ""),
            "creation_timestamp_ms": now,
            "last_updated_timestamp_ms": now,
            "artifact_uri": f"mlflow-artifacts:/{experiment}/models/{model_id}/artifacts",
            "status": "LOGGED_MODEL_PENDING",
            "model_type": sent.get("model_type", ""),
            "source_run_id": sent.get("source_run_id", ""),
        }
        if sent.get("tags"):
            info["tags"] = sent["tags"]
        self._logged_models[model_id] = {
            "info": info,
            "data": {"params": sent["params"]} if sent.get("params") else {},
        }
        return {"model": self._logged_models[model_id]}

    def _create_experiment(self, sent: Json) -> Json:
        (name,) = errors.required(sent, "name")
        if name in self._experiments:
            message = f"Experiment(name={name}) already exists."
            raise errors.RefusedError("RESOURCE_ALREADY_EXISTS", message)
        self._experiments[name] = str(len(self._experiments))
        return {"experiment_id": self._experiments[name]}

    def _experiment_by_name(self, sent: Json) -> Json:
        (name,) = errors.required(sent, "experiment_name")
        if name not in self._experiments:
            raise errors.missing(f"Could not find experiment with name '{name}'")
        found = {"experiment_id": self._experiments[name], "name": name}
        return {"experiment": {**found, "lifecycle_stage": "active", "workspace": "default"}}

    def _create(self, sent: Json) -> Json:
        experiment = str(sent.get("experiment_id", "0"))
        if experiment not in self._experiments.values():
            raise errors.missing(f"No Experiment with id={experiment} exists")
        run_id = f"{len(self._runs) + 1:032x}"
        run = Run(run_id, experiment, sent.get("start_time", 0), f"run-{len(self._runs) + 1}")
        run.tags = {each["key"]: each["value"] for each in sent.get("tags", [])}
        run.tags.setdefault("mlflow.runName", run.name)
        self._runs[run_id] = run
        return {"run": {"info": run.info(), "data": run.data(), "inputs": {}}}

    def _run(self, sent: Json) -> Run:
        (run_id,) = errors.required(sent, "run_id")
        if run_id not in self._runs:
            raise errors.missing(f"Run with id={run_id} not found")
        return self._runs[run_id]

    def _get(self, sent: Json) -> Json:
        run = self._run(sent)
        return {
            "run": {"info": run.info(), "data": run.data(), "inputs": run.inputs, "outputs": {}}
        }

    def _update(self, sent: Json) -> Json:
        run = self._run(sent)
        run.status = sent.get("status", run.status)
        run.end_time = sent.get("end_time", run.end_time)
        return {"run_info": run.info()}

    def _log_metric(self, sent: Json) -> Json:
        run = self._run(sent)
        metric = {
            "key": sent["key"],
            "value": _kept(sent["value"]),
            "timestamp": int(sent.get("timestamp", 0)),
            "step": int(sent.get("step", 0)),
        }
        run.metrics.append(metric)
        model = self._logged_models.get(sent.get("model_id", ""))
        if model is not None:
            # Of a logged model MLflow 3.17 tells a NaN as 0.0.
            value = 0.0 if metric["value"] == "NaN" else metric["value"]
            about = ("dataset_name", "dataset_digest", "model_id", "run_id")
            named = {key: sent[key] for key in about if key in sent}
            model["data"].setdefault("metrics", []).append({**metric, "value": value, **named})
        return {}

    def _log_parameter(self, sent: Json) -> Json:
        self._run(sent).params[sent["key"]] = str(sent["value"])
        return {}

    def _set_tag(self, sent: Json) -> Json:
        self._run(sent).tags[sent["key"]] = str(sent["value"])
        return {}

    def _history(self, sent: Json) -> Json:
        run = self._run(sent)
        (key,) = errors.required(sent, "metric_key")
        found = [metric for metric in run.metrics if metric["key"] == key]
        return {"metrics": found} if found else {}


def _kept(value: Any) -> float | str:
    """As the SQL stores keep it: NaN, and an infinity as the largest finite double."""
    number = float(value)
    if number != number:
        return "NaN"
    return max(-sys.float_info.max, min(sys.float_info.max, number))
