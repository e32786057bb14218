"""Asks the API server for each change, and keeps those that it refuses.

A refused change leaves nothing behind, so no operator and no scene are needed: one valid object
of each kind is there to be changed, and is the same at the end.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from tests.faults.mutated import oracle
from tests.faults.mutated.api import Answer, Api
from tests.faults.mutated.changes import PLURALS, Change, Moment
from tests.faults.mutated.trial import Case, Result

_ROOT = "/apis/podium.dev/v1alpha1"


def refuse(api: Api, cases: Sequence[Case]) -> Iterator[tuple[Case, Result | None]]:
    """Each case with its result if it is refused, with None if a scene must show what becomes
    of it."""
    with _Objects(api) as objects:
        for case in cases:
            answer = objects.ask(case.change, case.moment) if case.change else None
            yield case, None if answer is None or answer.ok else _result(case, answer)
        objects.check()


class _Objects:
    """Valid objects in a namespace of their own, one for each spec that is to be changed."""

    def __init__(self, api: Api) -> None:
        self._api, self._namespace = api, f"refusals-{secrets.token_hex(4)}"
        self._made: dict[str, tuple[str, str]] = {}  # spec: path, resourceVersion

    def __enter__(self) -> "_Objects":
        metadata = {"name": self._namespace}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self._api.call("POST", "/api/v1/namespaces", body)
        return self

    def __exit__(self, *_: object) -> None:
        self._api.call("DELETE", f"/api/v1/namespaces/{self._namespace}")

    def ask(self, change: Change, moment: Moment) -> Answer:
        """A dry run for what is accepted; what it refuses is then asked for in earnest."""
        folder = f"{_ROOT}/namespaces/{self._namespace}/{PLURALS[change.kind]}"
        if moment is Moment.CREATED or change.kind == "PromotionDecision":
            tried = _create(self._api, folder, change.kind, change.spec, dry=True)
            return tried if tried.ok else _create(self._api, folder, change.kind, change.spec)
        path = self._object(folder, change)
        tried = _change(self._api, path, change.spec, dry=True)
        return tried if tried.ok else _change(self._api, path, change.spec)

    def check(self) -> None:
        """Raises AssertionError when something refused has left a trace."""
        for path, version in self._made.values():
            found = self._api.call("GET", path)["metadata"]["resourceVersion"]
            assert found == version, f"{path} was changed by what was refused"

    def _object(self, folder: str, change: Change) -> str:
        key = json.dumps([change.kind, change.before])
        if key not in self._made:
            made = _create(self._api, folder, change.kind, change.before)
            assert made.ok, f"a valid {change.kind} is refused: {made.message}"
            metadata = made.body["metadata"]
            self._made[key] = (f"{folder}/{metadata['name']}", metadata["resourceVersion"])
        return self._made[key][0]


def _create(api: Api, folder: str, kind: str, spec: Any, *, dry: bool = False) -> Answer:
    query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
    metadata = {"generateName": "it-"}
    head = {"apiVersion": "podium.dev/v1alpha1", "kind": kind, "metadata": metadata}
    return api.send("POST", folder + query, {**head, "spec": spec})


def _change(api: Api, path: str, spec: Any, *, dry: bool = False) -> Answer:
    """As `kubectl replace` does."""
    query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
    return api.send("PUT", path + query, {**api.call("GET", path), "spec": spec})


def _result(case: Case, answer: Answer) -> Result:
    unclear = oracle.unclear_refusal(answer, case.field)
    violations = [unclear] if unclear else []
    word = "violated" if unclear else "refused"
    return Result(case, word, violations, told=answer.message)
