"""What a rule of the oracle is given: what was seen, what was decided, and what follows from
both. Written from DESIGN, not from the engine: of the engine only plumbing is used (digests, and
the check of the ledger's chain)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion import ModelSourceType, Stage
from podium.api.promotion_status import AttemptStatus, Phase, PromotionStatus, Verdict
from podium.engine import ledger
from podium.engine.decision import Decision
from podium.engine.observation import Claim, Observation, TargetState

A = EntryAction
P = Phase
MOVES = frozenset({A.PROMOTE_INTENT, A.ROLLBACK_INTENT, A.REVERT_INTENT})
GOOD = frozenset({A.ADOPTED, A.PROMOTED, A.ROLLED_BACK, A.REVERTED})
BACK = frozenset({A.ROLLBACK_INTENT, A.REVERT_INTENT})


@dataclass(frozen=True)
class Case:
    """One decision with what it was made of. `new`: the ledger entries that it adds."""

    seen: Observation
    now: datetime
    made: Decision
    new: tuple[LedgerEntry, ...]
    restored: bool

    @property
    def before(self) -> PromotionStatus:
        return self.seen.status

    @property
    def after(self) -> PromotionStatus:
        return self.made.status

    @property
    def attempt(self) -> AttemptStatus | None:
        return self.seen.status.active

    @property
    def waits(self) -> bool:
        """Neither acts nor remembers anything."""
        return not self.made.actions and essence(self.before) == essence(self.after)

    @property
    def anew(self) -> bool:
        """The model is another one of the same name."""
        return bool(self.added(A.RECREATED))

    def added(self, *actions: EntryAction) -> tuple[LedgerEntry, ...]:
        return tuple(entry for entry in self.new if entry.action in actions)


Rule = Callable[[Case], None]


def essence(status: PromotionStatus) -> PromotionStatus:
    """What the next pass builds on: without the texts, conditions and what is merely shown, and
    without which model it is about: see `knows_which_model_it_is_about`."""
    champion, attempt = status.champion, status.attempt
    return replace(
        status,
        conditions=(),
        observed_generation=0,
        history=(),
        model_created_at=None,
        champion=replace(champion, targets=()) if champion else None,
        attempt=replace(attempt, reason=None, message="") if attempt else None,
    )


def behind(seen: Observation) -> bool:
    """Whether MLflow's ledger knows more than the status, or something else."""
    head = (seen.ledger.head_seq, seen.ledger.head_hash)
    own = (seen.status.ledger_seq, seen.status.ledger_head)
    beyond = any(entry.seq > max(head[0], own[0]) for entry in seen.ledger.entries)
    ids = (seen.status.ledger_id, seen.ledger.ledger_id)
    known, created = seen.status.model_created_at, seen.model and seen.model.created_at
    other_time = bool(head[1] and known and created and known != created)
    another = ids[0] != ids[1] if all(ids) else other_time
    return another or beyond or head[0] > own[0] or (head[0] == own[0] and head[1] != own[1])


def appended(seen: Observation, after: PromotionStatus) -> tuple[LedgerEntry, ...]:
    return tuple(entry for entry in after.history if entry.seq > seen.status.ledger_seq)


def recorded(seen: Observation) -> tuple[LedgerEntry, ...]:
    """Every entry at hand, ascending."""
    entries = {e.seq: e for e in ledger.check(seen.ledger).entries}
    entries.update({entry.seq: entry for entry in seen.status.history})
    return tuple(entries[seq] for seq in sorted(entries) if seq <= seen.status.ledger_seq)


def known(seen: Observation) -> tuple[LedgerEntry, ...]:
    """Those of them that are about the model that is there."""
    entries = recorded(seen)
    begun = max((e.seq for e in entries if e.action is A.RECREATED), default=0)
    return tuple(entry for entry in entries if entry.seq >= begun)


def given_up(seen: Observation) -> dict[str | None, LedgerEntry]:
    """The entries by which moves were given up, by move id."""
    over = (e for e in known(seen) if e.action is A.REJECTED and not e.inputs and e.move_id)
    return {entry.move_id: entry for entry in over}


def taken_up(c: Case) -> bool:
    """Whether a move that was given up goes on: its intent is said once more."""
    return any(entry.move_id in given_up(c.seen) for entry in c.added(A.PROMOTE_INTENT))


def late(c: Case) -> LedgerEntry | None:
    """The outcome of a move that was given up, while no attempt makes it."""
    own = c.attempt.move_id if c.attempt else None
    over = given_up(c.seen)
    return next((e for e in c.added(A.PROMOTED) if e.move_id in over and e.move_id != own), None)


def goes_on(c: Case) -> bool:
    """Whether the attempt that is new in status is none that begins: it was given up before."""
    outcome, new = late(c), c.after.attempt
    return taken_up(c) or bool(outcome and new and new.move_id == outcome.move_id)


def quarantined(seen: Observation) -> frozenset[str]:
    found: set[str] = set()
    for entry in known(seen):
        if entry.action is A.QUARANTINED and entry.to:
            found.add(entry.to)
        elif entry.action is A.PROMOTED and entry.to:
            found.discard(entry.to)
        elif entry.action is A.RELEASED and entry.to and (entry.decision or entry.attempt):
            found.discard(entry.to)  # a pin that lifts the hold over it says neither
    return frozenset(found | {q.version for q in seen.status.quarantined})


def last_good(seen: Observation, leaving: str | None) -> str | None:
    """The last champion that may serve, of those that nobody has gone back from, or past, since
    they were promoted. Who goes to what was not promoted here leaves only what he comes from. Of a
    rollback that was sent elsewhere on its way only the end counts; where it was going before
    comes last, or not at all if that was promoted after the end."""
    standing = dict[str, int]()  # each with when it was promoted
    began = dict[str, int]()
    tried = list[str]()
    attempt: str | None = None
    for entry in known(seen):
        if entry.to is None:
            continue
        if entry.action in (A.PROMOTED, A.ADOPTED):
            standing[entry.to] = entry.seq
        if entry.action not in BACK | {A.ROLLED_BACK, A.REVERTED}:
            continue
        if entry.action in BACK:
            if not tried or attempt != entry.attempt:
                began, tried, attempt = dict(standing), [], entry.attempt
            standing = dict(began)
        if entry.to in standing:
            standing = {v: seq for v, seq in standing.items() if seq <= standing[entry.to]}
        else:
            if entry.action in (A.ROLLBACK_INTENT, A.ROLLED_BACK):
                standing.pop(entry.from_version or "", None)
            standing[entry.to] = entry.seq
        if entry.action in BACK:
            for version in tried:
                if version in standing and version != entry.to:
                    standing[version] -= 10**6
            tried.append(entry.to)
    choices = standing.keys() - quarantined(seen) - {leaving}
    return max((v for v in choices if ready(seen, v)), key=lambda v: standing[v], default=None)


def refused(seen: Observation, version: str | None) -> bool:
    """Whether gates or a person refused it, and nobody has promoted it or said Retry since."""
    for entry in reversed(known(seen)):
        if entry.to == version and entry.action in (A.PROMOTED, A.RETRIED):
            return False
        if entry.to == version and entry.action in (A.REJECTED, A.EXPIRED) and entry.inputs:
            return version != seen.status.champion_version
    return False


def last_archived(seen: Observation, leaving: str | None) -> str | None:
    """The Archived version that changed last, of those that no rollback gave up."""
    given_up = {leaving}
    for entry in known(seen):
        if entry.action is A.ROLLBACK_INTENT:
            given_up.add(entry.from_version)
        elif entry.action in GOOD:
            given_up.discard(entry.to)
    versions = seen.model.versions.values() if seen.model else ()
    choices = [
        v
        for v in versions
        if v.stage is Stage.ARCHIVED and v.ready and v.version not in given_up | quarantined(seen)
    ]
    newest = max(choices, key=lambda v: (v.updated_at, v.number), default=None)
    return newest.version if newest else None


def ready(seen: Observation, version: str | None) -> bool:
    found = seen.version(version)
    return found is not None and found.ready


def pinned(seen: Observation, version: str) -> bool:
    return seen.spec.candidate is not None and seen.spec.candidate.version == version


def pinned_rollback(seen: Observation, version: str) -> bool:
    once = any(e.action in (A.PROMOTED, A.ADOPTED) and e.to == version for e in known(seen))
    left = version != seen.status.champion_version
    return pinned(seen, version) and once and left and version not in quarantined(seen)


def states(seen: Observation) -> dict[str, TargetState]:
    return {state.name: state for state in seen.targets}


def carries(seen: Observation, name: str, version: str, move_id: str | None) -> bool:
    target = next(t for t in seen.spec.targets if t.name == name)
    state = states(seen)[name]
    if (state.model_version, state.move_id) != (version, move_id):
        return False
    by_version = target.model_source.type is ModelSourceType.VERSION
    return not by_version or state.env_value == f"models:/{seen.spec.model}/{version}"


def finished(state: TargetState, move_id: str | None) -> bool:
    """The rollout is over: pods that are still there and not new are at most going away."""
    leaving = all(p.terminating for p in state.pods or () if p.move_id != move_id)
    return state.settled and leaving


def unmet_gates(seen: Observation, version: str) -> list[str]:
    """Gates that bind and have not passed. Unknown is never Pass."""
    excused = {g.name for g in seen.spec.gates if g.dry_run}
    if pinned_rollback(seen, version):
        excused |= {g.name for g in seen.spec.gates if g.metric and g.metric.compare}
    good = (Verdict.PASS, Verdict.NOT_APPLICABLE)
    passed = {gate.name for gate in seen.gates if gate.verdict in good}
    return [g.name for g in seen.spec.gates if g.name not in passed | excused]


def standing_still(seen: Observation) -> str | None:
    if seen.promotion.metadata.deletion_timestamp:
        return "deleting"
    if seen.rival:
        return "rival"
    if seen.registry_problem:
        return "registry away"
    if seen.model is None:
        return "no model"
    alias_mode = any(t.model_source.type is ModelSourceType.ALIAS for t in seen.spec.targets)
    if alias_mode and not seen.model.aliases_supported:
        return "no aliases"
    if claimed_by_older(seen):
        return "claimed"
    if behind(seen):
        return None
    own = seen.claim is not None and is_own(seen, seen.claim) and not seen.claim.released
    confirmed = seen.status.claim is not None and seen.status.claim.confirmed
    return "unsettled" if seen.unsettled and own and confirmed else None


def is_own(seen: Observation, claim: Claim) -> bool:
    meta = seen.promotion.metadata
    return (claim.cluster, claim.namespace, claim.name) == (
        seen.cluster_id,
        meta.namespace,
        meta.name,
    )


def claimed_by_older(seen: Observation) -> bool:
    claim, mine = seen.claim, seen.status.claim
    if claim is None or is_own(seen, claim) or claim.released or seen.claim_owner_gone:
        return False
    return (mine is None or claim.since < mine.since) and not seen.released
