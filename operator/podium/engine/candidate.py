"""Which version the selector points at, and whether it may be tried.

Does not look at gates: a version that may be tried still has to pass them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion import Stage
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.digests import candidate_digest, digest
from podium.engine.observation import Observation, VersionState


def select(seen: Observation) -> VersionState | None:
    """The READY version that spec.candidate points at; None when there is none, or no selector."""
    found = max(_selected(seen), key=lambda version: version.number, default=None)
    if found is None or not found.ready:
        return None
    return None if _by_latest(seen) and _below_highest(seen, found) else found


def still_selected(seen: Observation, version: str | None) -> bool:
    """Whether it is the candidate, or fits the selector while the candidate stands refused."""
    found, own = select(seen), seen.version(version)
    if found is None or own is None:
        return False
    return own == found or (own in _selected(seen) and block(seen, found) is not None)


def _selected(seen: Observation) -> list[VersionState]:
    """What the selector fits, of which the newest is the candidate."""
    selector = seen.spec.candidate
    if selector is None or seen.model is None:
        return []
    if selector.version is not None:
        found = seen.version(selector.version)
        return [found] if found else []
    if selector.alias is not None:
        found = seen.version(seen.model.aliases.get(selector.alias))
        return [found] if found else []
    versions = seen.model.versions.values()
    if selector.stage is not None:
        return [v for v in versions if v.stage == selector.stage]
    if selector.latest is None:
        return []
    wanted = selector.latest.match_tags.items()
    return [v for v in versions if v.ready and _has(v, wanted)]


def _by_latest(seen: Observation) -> bool:
    return seen.spec.candidate is not None and seen.spec.candidate.latest is not None


def _has(version: VersionState, wanted: Iterable[tuple[str, str]]) -> bool:
    return all(version.tags.get(key) == value for key, value in wanted)


def _below_highest(seen: Observation, found: VersionState) -> bool:
    highest = seen.status.highest_promoted
    return highest is not None and found.number < int(highest)


def candidate_since(seen: Observation, version: str) -> datetime | None:
    """Since when this version is the candidate: for `candidate.alias` since it came to that alias,
    while it is there; else since it was first seen."""
    selector, aliases = seen.spec.candidate, seen.model.aliases if seen.model else {}
    at_alias = selector is not None and aliases.get(selector.alias or "") == version
    if at_alias and seen.candidate_since is not None:
        return seen.candidate_since
    noted = seen.status.candidate
    return noted.since if noted is not None and noted.version == version else None


@dataclass(frozen=True)
class Block:
    """Why a version is not tried (again)."""

    reason: Reason
    message: str


_VERDICTS = frozenset({EntryAction.REJECTED, EntryAction.EXPIRED})


def quarantined(seen: Observation) -> frozenset[str]:
    """Every version in quarantine. Status shows the last ones only, the ledger has all."""
    found: set[str] = set()
    for entry in ledger.known(seen):
        if entry.to is not None and entry.action is EntryAction.QUARANTINED:
            found.add(entry.to)
        elif entry.to is not None and lifts_quarantine(entry):
            found.discard(entry.to)
    return frozenset(found | {q.version for q in seen.status.quarantined})


def lifts_quarantine(entry: LedgerEntry) -> bool:
    """Of `to`: it was promoted, or a person said so. What spec.candidate lifts by naming a version
    is the hold over it: it is tried, and stays in quarantine until it is promoted."""
    by_pin = entry.decision is None and entry.attempt is None
    released = entry.action is EntryAction.RELEASED and not by_pin
    return entry.action is EntryAction.PROMOTED or released


def block(seen: Observation, version: VersionState) -> Block | None:
    """Whether what became of this version stands. Rejected and Expired stand until the inputs
    change or somebody says Retry; what was rolled back, until a Release, or until spec.candidate
    is changed to name it, and then what becomes of that stands."""
    banned = version.version in quarantined(seen)
    entry = failure(seen, version.version)
    if entry is None and banned:
        return Block(Reason.QUARANTINED, _quarantine_words(seen, version.version))
    if entry and (refused := _failure_block(seen, entry, version, banned)):
        return refused
    refusal = verdict(seen, version.version)
    return _verdict_block(seen, refusal, version) if refusal else None


def tried_first(seen: Observation) -> str | None:
    """What is to be tried before its stage is taken from it: it may have come by its stage."""
    found = select(seen)
    if found is None or found.version in (seen.status.champion_version, seen.alias):
        return None
    return None if block(seen, found) else found.version


def failure(seen: Observation, version: str) -> LedgerEntry | None:
    """The entry of the last time that it failed after it had moved, unless it was promoted since,
    or a person released it (without a version: not from a quarantine)."""
    banned = version in quarantined(seen)
    for entry in reversed(ledger.known(seen)):
        released = entry.action is EntryAction.RELEASED and entry.decision is not None
        if released and entry.to in (None, version) and not banned:
            return None
        if entry.action is EntryAction.PROMOTED and entry.to == version:
            return None
        if _is_failure(entry, version):
            return entry
    return None


def verdict(seen: Observation, version: str) -> LedgerEntry | None:
    """The entry that refused it before it moved, unless a person said Retry since, or it was tried
    again and went further."""
    for entry in reversed(ledger.known(seen)):
        named = entry.to == version
        if named and entry.action in (EntryAction.RETRIED, EntryAction.PROMOTED):
            return None
        if _is_failure(entry, version):
            return None
        if named and is_verdict(entry):
            return entry
    return None


def is_verdict(entry: LedgerEntry) -> bool:
    """Whether it refused a version before anything moved: then it says what it depended on."""
    return entry.action in _VERDICTS and entry.inputs is not None


def _is_failure(entry: LedgerEntry, version: str) -> bool:
    """Whether the version failed, or was given up, after it had moved."""
    if entry.action is EntryAction.ROLLBACK_INTENT:
        return entry.from_version == version
    given_up = entry.action is EntryAction.REJECTED and entry.inputs is None
    return (given_up or entry.action is EntryAction.QUARANTINED) and entry.to == version


def _verdict_block(seen: Observation, entry: LedgerEntry, version: VersionState) -> Block | None:
    if entry.inputs != verdict_inputs(seen, version):
        return None
    return Block(
        Reason.CANDIDATE_BLOCKED,
        f"version {version.version} was {entry.action.value.lower()} ({entry.reason}); it is "
        f"tried again when its tags, the gates or the champion change, or after a "
        f"PromotionDecision Retry",
    )


def _failure_block(
    seen: Observation, entry: LedgerEntry, version: VersionState, quarantined: bool
) -> Block | None:
    selector = seen.spec.candidate
    names_it = selector is not None and selector.version == version.version
    if names_it and entry.candidate != candidate_digest(seen.spec):
        return None
    if quarantined:
        return Block(Reason.QUARANTINED, _quarantine_words(seen, version.version))
    return Block(
        Reason.CANDIDATE_BLOCKED,
        f"version {version.version} was rolled back ({entry.reason}); a PromotionDecision "
        f"Release lets it be tried again",
    )


def _quarantine_words(seen: Observation, version: str) -> str:
    why = next((q.reason for q in seen.status.quarantined if q.version == version), "")
    return (
        f"version {version} is in quarantine ({why}); a PromotionDecision Release with "
        f"version {version} lifts it"
    )


def verdict_inputs(seen: Observation, version: VersionState) -> str:
    """The digest of what a refusal depends on, as far as it is seen without asking runs: a
    change of it is reason enough to try the version again."""
    spec = seen.spec
    compares = any(gate.metric and gate.metric.compare for gate in spec.gates)
    return digest(
        {
            "gates": [gate for gate in spec.gates if not gate.dry_run],
            "approval": spec.approval,
            "tags": {k: v for k, v in version.tags.items() if not k.startswith(ledger.PREFIX)},
            "champion": seen.status.champion_version if compares else None,
        }
    )


def once_promoted(seen: Observation, version: str) -> bool:
    """Whether the ledger says that this version was promoted here (or found here at adoption)."""
    good = (EntryAction.PROMOTED, EntryAction.ADOPTED)
    return any(e.action in good and e.to == version for e in ledger.known(seen))


def is_pinned_rollback(seen: Observation, version: str) -> bool:
    """A pin to a version once Promoted and not quarantined is a rollback by Git: gates that
    compare with the champion and approval are skipped."""
    selector = seen.spec.candidate
    return (
        selector is not None
        and selector.version == version
        and version != seen.status.champion_version
        and once_promoted(seen, version)
        and version not in quarantined(seen)
    )


def usable(seen: Observation, version: str | None) -> bool:
    """Whether the alias may go back to it: it exists, is READY and is not in quarantine."""
    found = seen.version(version)
    return found is not None and found.ready and found.version not in quarantined(seen)


BECAME_CHAMPION = frozenset(
    {EntryAction.ADOPTED, EntryAction.PROMOTED, EntryAction.ROLLED_BACK, EntryAction.REVERTED}
)


_GOING_BACK = frozenset({EntryAction.ROLLBACK_INTENT, EntryAction.REVERT_INTENT})
_BACK = _GOING_BACK | {EntryAction.ROLLED_BACK, EntryAction.REVERTED}
_LEAVING = frozenset({EntryAction.ROLLBACK_INTENT, EntryAction.ROLLED_BACK})


def champions(seen: Observation) -> list[str]:
    """Where a rollback may go, the last resort first: each was promoted after those before it.
    Who goes back leaves all that came after it, and none of those is gone back to, until it is
    promoted again."""
    found: list[str] = []
    base: list[str] = []  # before the rollback began
    tried: list[str] = []  # where it was going before it was sent elsewhere
    going: LedgerEntry | None = None
    for entry in ledger.known(seen):
        version = entry.to
        if version is None:
            continue
        if entry.action in _GOING_BACK:
            if going is None or going.attempt != entry.attempt:
                base, tried = found, []
            found, going = _gone_back(base, entry, tried), entry
            tried = [*tried, version]
        elif entry.action in _BACK:
            found = _gone_back(found, entry, ())
        elif entry.action in (EntryAction.PROMOTED, EntryAction.ADOPTED):
            found = [*(other for other in found if other != version), version]
    return found


def _gone_back(found: list[str], entry: LedgerEntry, tried: Collection[str]) -> list[str]:
    """What was tried before becomes the last resort, if it was promoted before this one."""
    version = entry.to or ""
    if version in found:
        before = found[: found.index(version)]
    else:  # a person chose it, or its own entry is gone
        left = entry.action in _LEAVING and entry.from_version
        before = [other for other in found if other != left]
    last = [other for other in before if other in tried]
    return [*last, *(other for other in before if other not in tried), version]


def last_good(seen: Observation, *, leaving: str | None) -> str | None:
    """Where a rollback from `leaving` goes: the last champion by the ledger that is still usable
    and that was not left since. None: no entry says."""
    choices = (v for v in reversed(champions(seen)) if v != leaving and usable(seen, v))
    return next(choices, None)


def way_back(seen: Observation) -> str | None:
    """Where the champion is being left for: a rollback from it began, and had no outcome."""
    champion = seen.status.champion_version
    for entry in reversed(ledger.known(seen)):
        if entry.action is EntryAction.ROLLBACK_INTENT and entry.from_version == champion:
            return entry.to
        stays = entry.action is EntryAction.REJECTED and entry.to == champion
        if entry.action in BECAME_CHAMPION or stays:
            return None
    return None


def last_archived(seen: Observation, *, leaving: str | None) -> str | None:
    """whenUnknown UseArchived: the Archived version that changed last. Inferred: a description
    edit also counts as a change, so MLflow cannot really say which one served last."""
    versions = seen.model.versions.values() if seen.model else ()
    given_up = {leaving, *_given_up(seen)}
    archived = (v for v in versions if v.stage is Stage.ARCHIVED and v.version not in given_up)
    choices = [v for v in archived if usable(seen, v.version)]
    found = max(choices, key=lambda v: (v.updated_at, v.number), default=None)
    return found.version if found else None


def _given_up(seen: Observation) -> set[str | None]:
    """What a rollback has left, and what was not promoted since."""
    found: set[str | None] = set()
    for entry in ledger.known(seen):
        if entry.action is EntryAction.ROLLBACK_INTENT:
            found.add(entry.from_version)
        elif entry.action in BECAME_CHAMPION:
            found.discard(entry.to)
    return found
