"""What Podium's client never does and a test needs: making models, versions, runs in MLflow."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import cast

Json = dict[str, object]


class RefusedError(Exception):
    """MLflow said no."""


class MlflowApi:
    """MLflow's REST API, plainly, with blocking calls."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def post(self, path: str, method: str = "POST", **fields: object) -> Json:
        return self._send(path, method, fields)

    def _send(self, path: str, method: str, fields: Json) -> Json:
        request = urllib.request.Request(  # noqa: S310
            f"{self._uri}/api/2.0/mlflow/{path}",
            method=method,
            data=json.dumps(fields).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return cast(Json, json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            raise RefusedError(f"{path}: {error.code} {error.read()[:300]!r}") from None

    def model(self, name: str, versions: int = 0, **tags: str) -> None:
        self.post("registered-models/create", name=name, tags=_listed(tags))
        for _ in range(versions):
            self.version(name)

    def version(
        self,
        name: str,
        source: str = "s3://bucket/model",
        run_id: str | None = None,
        model_id: str | None = None,
        **tags: str,
    ) -> str:
        fields: Json = {"name": name, "source": source, "tags": _listed(tags)}
        if run_id is not None:
            fields["run_id"] = run_id
        if model_id is not None:
            fields["model_id"] = model_id
        made = cast(Json, self._send("model-versions/create", "POST", fields)["model_version"])
        return str(made["version"])

    def delete_version(self, name: str, version: str) -> None:
        self.post("model-versions/delete", "DELETE", name=name, version=version)

    def run(self, metrics: list[tuple[str, object, int]], **params: str) -> str:
        """A finished run; each metric is key, value (NaN as text), step."""
        made = cast(Json, self.post("runs/create", experiment_id="0", start_time=1)["run"])
        run_id = str(cast(Json, made["info"])["run_id"])
        for key, value, step in metrics:
            self.post(
                "runs/log-metric", run_id=run_id, key=key, value=value, timestamp=step, step=step
            )
        for key, value in params.items():
            self.post("runs/log-parameter", run_id=run_id, key=key, value=value)
        self.post("runs/update", run_id=run_id, status="FINISHED", end_time=2)
        return run_id


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]
