"""Lists of the API server: selectors, and pages that all show one revision."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from tests.models import statuses
from tests.models.http import Answered
from tests.models.kinds import Kind
from tests.models.selectors import chooses
from tests.models.shapes import Json
from tests.models.storage import GoneError, Storage, Stored, Where


def listed(storage: Storage, kind: Kind, namespace: str, query: Mapping[str, str]) -> Answered:
    """The answer to a GET of the list."""
    revision, after = storage.revision, ("", "")
    if query.get("continue"):
        revision, after = _read_token(query["continue"])
    # A token that was given with an answer of 410 goes on in what there is now.
    consistent = revision >= 0
    try:
        every = (
            storage.at(kind, revision, namespace) if consistent else storage.all(kind, namespace)
        )
    except GoneError as error:
        raise statuses.expired(statuses.COMPACTED, _token(-1, after)) from error
    chosen = chooses(query)
    rest = [each for each in every if each[0] > after and chosen(each[1].content)]
    limit = int(query.get("limit") or 0) or len(rest)
    metadata: Json = {"resourceVersion": str(revision if consistent else storage.revision)}
    if kind.custom:
        metadata["continue"] = ""
    if len(rest) > limit:
        metadata["continue"] = _token(
            revision if consistent else storage.revision, rest[limit - 1][0]
        )
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(rest) - limit
    return statuses.answered(
        {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": metadata,
            "items": [_item(kind, stored) for _, stored in rest[:limit]],
        }
    )


def _item(kind: Kind, stored: Stored) -> Json:
    if kind.custom:
        return stored.content
    # Items of built-in lists do not repeat what the list says.
    return {
        key: value for key, value in stored.content.items() if key not in ("apiVersion", "kind")
    }


def _token(revision: int, after: Where) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, *after]).encode()).decode()


def _read_token(text: str) -> tuple[int, Where]:
    try:
        revision, namespace, name = json.loads(base64.urlsafe_b64decode(text))
    except ValueError as error:
        raise statuses.bad_request(f"continue key is not valid: {error}") from error
    return revision, (namespace, name)
