"""What the engine said and did in a story, as text for people: a line for each change of status,
ledger entry, event and action, pass after pass."""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from podium.api.promotion_status import PromotionStatus
from podium.api.values import write
from podium.engine.decision import Action, Decision, MirrorEntry

_DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{8,}\b")
_ENTRIES = frozenset({"history", "ledgerHead", "ledgerID", "ledgerSeq"})
_SAME = frozenset({"alias", "hash", "model", "operator", "previous", "spec", "time"})  # of entries


def compare(told: str, path: Path) -> None:
    """That it is told as the file has it. PODIUM_RETELL writes the file anew, but never in CI."""
    if os.environ.get("PODIUM_RETELL") and not os.environ.get("CI"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(told)
    assert told == path.read_text()


def lines(before: PromotionStatus, decision: Decision, now: datetime) -> list[str]:
    """One pass; nothing when it neither said nor did anything."""
    old, new = _status(before), _status(decision.status)
    said = [
        *(f"event {e.type} {e.reason}: {e.message}" for e in decision.events),
        *_entries(before, decision.status),
        *(f"status {key}: {new[key]}" for key in new if old.get(key) != new[key]),
        *(f"status {key} is gone" for key in old if key not in new),
        *(f"do {_action(each)}" for each in decision.actions),
    ]
    if decision.problem is not None:
        said.append(f"problem {decision.problem}")
    if not said:
        return []
    wait = decision.requeue_after
    if wait is None:
        said.append("rests until something happens")
    elif wait:
        said.append(f"rests for {wait.total_seconds():g} s")
    told = [f"{now:%H:%M:%S.%f}"[:-4], *(f"  {line}" for line in said)]
    return [_DIGEST.sub(r"\1", line) for line in told]


def _entries(before: PromotionStatus, after: PromotionStatus) -> Iterator[str]:
    known = {entry.seq for entry in before.history}
    for entry in after.history:
        if entry.seq not in known:
            fields: dict[str, Any] = dict(write(entry))  # type: ignore[call-overload]
            number, action = fields.pop("seq"), fields.pop("action")
            rest = ", ".join(
                f"{key} {value}" for key, value in sorted(fields.items()) if key not in _SAME
            )
            yield f"ledger {number} {action}: {rest}"


def _status(status: PromotionStatus) -> dict[str, object]:
    whole: dict[str, Any] = dict(write(status))  # type: ignore[call-overload]
    conditions = whole.pop("conditions", ())
    flat = dict(_flat({k: v for k, v in whole.items() if k not in _ENTRIES}))
    for condition in conditions:
        words = f"{condition['status']} {condition['reason']} - {condition.get('message', '')}"
        flat[condition["type"]] = words.removesuffix(" - ")
    return flat


def _flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _action(action: Action) -> str:
    if isinstance(action, MirrorEntry):
        return f"MirrorEntry {action.entry.seq}"
    return repr(action)
