"""Field managers: who applied or updated which fields, and the conflicts between them.

merge/update.go of structured-merge-diff with the managers of apimachinery's managedfields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.models import fields
from tests.models.fields import Path, Paths
from tests.models.shapes import Json, Shape

APPLY, UPDATE = "Apply", "Update"


@dataclass(frozen=True)
class Manager:
    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        """As conflicts name it (printManager)."""
        text = json.dumps(self.name)
        if self.subresource:
            text += f" with subresource {json.dumps(self.subresource)}"
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


@dataclass(frozen=True)
class Owned:
    paths: Paths
    since: str  # RFC 3339


Owners = Mapping[Manager, Owned]


class FieldConflictError(Exception):
    """What others own and an apply without force would change."""

    def __init__(self, conflicts: Sequence[tuple[Manager, Path]]) -> None:
        super().__init__(conflicts)
        self.conflicts = conflicts

    @property
    def message(self) -> str:
        if len(self.conflicts) == 1:
            manager, path = self.conflicts[0]
            return f"Apply failed with 1 conflict: conflict with {manager}: {fields.written(path)}"
        lines = []
        for manager in dict.fromkeys(manager for manager, _ in self.conflicts):
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {fields.written(path)}" for one, path in self.conflicts if one == manager]
        return f"Apply failed with {len(self.conflicts)} conflicts: " + "\n".join(lines)

    @property
    def causes(self) -> list[Json]:
        return [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {manager}",
                "field": fields.written(path),
            }
            for manager, path in self.conflicts
        ]


def applied(
    live: Json, config: Json, owners: Owners, manager: Manager, shape: Shape, *, force: bool
) -> tuple[Json, dict[Manager, Paths]]:
    """The object after an apply, and who owns what then. Raises FieldConflictError."""
    before = owners[manager].paths if manager in owners else frozenset()
    sets = {one: owned.paths for one, owned in owners.items()}
    if not sets:
        first = Manager("before-first-apply", UPDATE, manager.api_version)
        sets = updated({}, live, {}, first, shape, [("status",)])
    sets[manager] = fields.owned_by_config(config, shape)
    new = _pruned(fields.merged(live, config, (), shape), before, sets, shape)
    return new, _settled(live, new, sets, manager, shape, force=force)


def updated(
    live: Json, new: Json, owners: Owners, manager: Manager, shape: Shape, ignored: Sequence[Path]
) -> dict[Manager, Paths]:
    """Who owns what after `new` was written over `live` by other means than apply."""
    if not owners and live.get("metadata"):
        return {}  # what begins with no owner is not tracked before its first apply
    sets = {one: owned.paths for one, owned in owners.items()}
    difference = fields.compare(live, new, shape)
    gone, touched = difference.removed, difference.added | difference.modified
    touched = frozenset(path for path in touched if not fields.below(path, ignored))
    found = {one: paths - gone - touched for one, paths in sets.items()}
    if touched:
        found[manager] = (sets.get(manager, frozenset()) - gone) | touched
    return {one: paths for one, paths in found.items() if paths}


def _pruned(new: Json, before: Paths, sets: Mapping[Manager, Paths], shape: Shape) -> Json:
    """Without what the manager applied before, does not apply now, and nobody else owns."""
    if not before:
        return new
    still = fields.with_named(frozenset().union(*sets.values()), shape) | {("metadata",)}
    gone = fields.with_named(before, shape) - still
    return fields.without(new, gone, shape) or {} if gone else new


def _settled(
    live: Json,
    new: Json,
    sets: dict[Manager, Paths],
    manager: Manager,
    shape: Shape,
    *,
    force: bool,
) -> dict[Manager, Paths]:
    difference = fields.compare(live, new, shape)
    touched = difference.added | difference.modified
    others = sorted((one for one in sets if one != manager), key=lambda one: (str(one), one.name))
    conflicts = [
        (one, path) for one in others for path in sorted(sets[one] & touched, key=fields.written)
    ]
    if conflicts and not force:
        raise FieldConflictError(conflicts)
    for one in others:
        sets[one] = sets[one] - touched - difference.removed
    return {one: paths for one, paths in sets.items() if paths}


def timed(
    owners: Owners, sets: Mapping[Manager, Paths], by: Manager, now: str
) -> dict[Manager, Owned]:
    """Each manager's fields with the time at which it last changed something.

    `now` is "" when the object did not change: an apply that only comes to own what is there
    already leaves no time.
    """
    found = {}
    for manager, paths in sets.items():
        since = owners[manager].since if manager in owners else ""
        found[manager] = Owned(paths, (now or since) if manager == by else since)
    return found


def managed_fields(owners: Owners) -> list[Json]:
    """metadata.managedFields"""
    order = sorted(
        owners.items(), key=lambda each: (each[0].operation, each[1].since, each[0].name)
    )
    return [_entry(manager, owned) for manager, owned in order]


def _entry(manager: Manager, owned: Owned) -> Json:
    entry: Json = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields.fields_v1(owned.paths),
    }
    if owned.since:
        entry["time"] = owned.since
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry
