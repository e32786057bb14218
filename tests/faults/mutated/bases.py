"""The valid resources that are changed, and what each moment needs besides.

Some words stand for what only a trial knows: MODEL, MLFLOW and the ids of a running attempt.
"""

from collections.abc import Mapping
from typing import Any

from tests.faults.mutated.changes import Moment

Spec = Mapping[str, Any]
MODEL, MLFLOW = "the-model", "http://mlflow.test"
ATTEMPT, EVIDENCE, UID = "the-attempt", "the-evidence", "the-uid"

API = {"name": "api", "deployment": {"name": "api", "container": "server"}}
BATCH = {
    "name": "batch",
    "deployment": {"name": "batch"},
    "modelSource": {"type": "Version", "envVar": "MODEL_URI"},
}
ACCURACY = {"name": "accuracy", "metric": {"key": "accuracy", "bound": {"min": "0.9"}}}
SOAK = {"name": "soak", "metric": {"key": "soak", "bound": {"min": "1"}}}

FULL: Spec = {
    "registryRef": {"name": "mlflow"},
    "model": MODEL,
    "alias": "champion",
    "candidate": {"latest": {"matchTags": {"reviewed": "true"}}},
    "supersede": "BeforeApproval",
    "gates": [
        ACCURACY,
        {
            "name": "no-worse",
            "metric": {"key": "accuracy", "compare": {"goal": "Maximize", "tolerance": "0.1"}},
        },
        {"name": "reviewed", "tag": {"key": "reviewed", "values": ["true"]}, "deadline": "10m"},
        {"name": "aged", "minAge": {"duration": "1s"}},
    ],
    "targets": [API, BATCH],
    "rollout": {"progressDeadline": "2m"},
    "rollback": {"automatic": True, "bakeDuration": "0s", "whenUnknown": "Hold"},
    "stage": "Production",
    "aliasDriftPolicy": "Revert",
    "suspend": False,
    "historyLimit": 10,
}
PINNED: Spec = {
    "registryRef": {"name": "mlflow"},
    "model": MODEL,
    "candidate": {"version": "3"},
    "targets": [{"name": "api", "deployment": {"name": "api"}}],
}
FOLLOWING: Spec = {
    "registryRef": {"name": "mlflow"},
    "model": MODEL,
    "candidate": {"alias": "challenger"},
    "gates": [ACCURACY],
    "targets": [BATCH],
}
REGISTRY: Spec = {
    "trackingURI": MLFLOW,
    "credentialsSecretRef": {"name": "login"},
    "pollInterval": "1s",
    "modelPatterns": ["*"],
}
DECISIONS: Mapping[str, Spec] = {
    "Approve": {"attemptID": ATTEMPT, "evidenceDigest": EVIDENCE, "version": "2"},
    "Reject": {"attemptID": ATTEMPT, "version": "2"},
    "Rollback": {"version": "1"},
    "Hold": {},
    "Release": {"version": "2"},
    "Retry": {"version": "2"},
}
PROMOTIONS = {"full": FULL, "pinned": PINNED, "following": FOLLOWING}


def decision(action: str) -> Spec:
    said = {"promotionRef": {"name": "p", "uid": UID}, "action": action, "decidedBy": "ann"}
    return {**said, **DECISIONS[action], "reason": "after a look at the answers"}


def moment_of(action: str) -> Moment:
    about_an_attempt = action in ("Approve", "Reject")
    return Moment.AWAITING_APPROVAL if about_an_attempt else Moment.AT_REST


def promotion_at(moment: Moment, base: Spec = FULL) -> Spec:
    """The valid promotion with which an attempt stays in that phase until it is let go on."""
    match moment:
        case Moment.VALIDATING | Moment.PROMOTING:
            return {**FULL, "gates": [*FULL["gates"], SOAK]}
        case Moment.AWAITING_APPROVAL:
            asked = {"required": 1, "excludeAuthors": False, "expireAfter": "72h"}
            return {**FULL, "approval": asked}
        case Moment.BAKING:
            return {**FULL, "rollback": {**FULL["rollback"], "bakeDuration": "12s"}}
        case Moment.ROLLING_BACK:
            bake = {**FULL["rollback"], "bakeDuration": "1m"}
            return {**FULL, "rollback": bake, "targets": [API]}
    return base


def filled(value: Any, words: Mapping[str, str]) -> Any:
    """`value` with the words that stand for something else replaced in all its texts."""
    match value:
        case str():
            for word, meant in words.items():
                value = value.replace(word, meant)
            return value
        case dict():
            return {filled(key, words): filled(each, words) for key, each in value.items()}
        case list() | tuple():
            return [filled(each, words) for each in value]
    return value
