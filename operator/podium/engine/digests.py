"""Digests: sha256 over canonical JSON (sorted keys, no spaces, UTF-8), as `sha256:<hex>`."""

import hashlib
import json

from podium.api.promotion import ModelPromotionSpec
from podium.api.values import write


def digest(value: object) -> str:
    """The digest of a resource, or of anything JSON can hold."""
    text = json.dumps(write(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def short_id(*parts: object) -> str:
    """Ten hex digits that differ when any part does: names of attempts and moves."""
    return digest([str(part) for part in parts]).removeprefix("sha256:")[:10]


def candidate_digest(spec: ModelPromotionSpec) -> str:
    return digest(spec.candidate)
