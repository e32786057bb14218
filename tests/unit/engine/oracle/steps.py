"""What must be so before a step is taken: an attempt begins, a version is promoted, people agree,
a version is blamed, the alias goes back, an outcome is written down."""

from podium.api.decision import DecisionAction
from podium.api.ledger_entry import LedgerEntry
from podium.api.promotion import AliasDriftPolicy, ModelSourceType, Stage, WhenUnknown
from podium.api.promotion_status import Origin
from podium.api.reasons import Reason
from podium.engine.digests import digest
from podium.engine.observation import Observation, PodState, ProblemKind
from tests.unit.engine.oracle.case import (
    BACK,
    GOOD,
    A,
    Case,
    P,
    Rule,
    carries,
    claimed_by_older,
    finished,
    given_up,
    goes_on,
    known,
    last_archived,
    last_good,
    late,
    pinned,
    pinned_rollback,
    quarantined,
    ready,
    refused,
    states,
    taken_up,
    unmet_gates,
)


def begins_an_attempt_that_may_begin(c: Case) -> None:
    old, new = c.before.attempt, c.after.attempt
    if c.restored or new is None or (old is not None and old.id == new.id) or goes_on(c):
        return
    if new.origin not in (Origin.CANDIDATE, Origin.ADOPT):
        return
    assert not c.seen.spec.suspend, "begins while suspended"
    assert ready(c.seen, new.version), "tries what is not READY"
    assert new.version != c.before.champion_version, "tries the champion"
    assert new.version not in quarantined(c.seen) or pinned(c.seen, new.version), "I3"
    if new.origin is Origin.CANDIDATE:
        lifted = c.before.hold is None or pinned(c.seen, c.before.hold.version or "")
        assert lifted, "begins while held"
        selector = c.seen.spec.candidate
        assert selector is not None, "a candidate without a selector"
        if selector.latest is not None and c.before.highest_promoted:
            assert int(new.version) >= int(c.before.highest_promoted), "below the highest"
    else:
        assert c.before.hold is None and new.version == c.seen.alias


def does_not_try_again_what_failed(c: Case) -> None:
    """A failure sticks until a Release or a change of spec.candidate that names the version."""
    old, new = c.before.attempt, c.after.attempt
    if c.restored or new is None or (old is not None and old.id == new.id) or goes_on(c):
        return
    if new.origin not in (Origin.CANDIDATE, Origin.ADOPT):
        return
    for entry in reversed(known(c.seen)):
        if entry.action is A.RELEASED and entry.to in (None, new.version):
            return
        if entry.action is A.PROMOTED and entry.to == new.version:
            return
        if entry.action is A.ROLLBACK_INTENT and entry.from_version == new.version:
            changed = entry.candidate != digest(c.seen.spec.candidate)
            assert changed and pinned(c.seen, new.version), "tries again what was rolled back"
            return


def takes_up_only_what_came_good(c: Case) -> None:
    """A move that was given up goes on when nothing has happened since but that its rollout is
    good after all; it earned its place when it began."""
    outcome = late(c)
    again = c.added(A.PROMOTE_INTENT) if taken_up(c) else ()
    for entry in (*again, *([outcome] if outcome else [])):
        version, spec = entry.to or "", c.seen.spec
        assert c.before.champion_version in (None, version)
        assert ready(c.seen, version) and version not in quarantined(c.seen), "I3"
        for name, state in states(c.seen).items():
            assert carries(c.seen, name, version, entry.move_id) and state.settled
        assert not c.seen.targets or any(t.available for t in c.seen.targets), "it has no pod"
        over = given_up(c.seen)[entry.move_id]
        own = [e for e in known(c.seen) if e.attempt == over.attempt]
        assert not any(e.action in BACK and e.decision for e in own), "a person went back from it"
        since = [e for e in known(c.seen) if e.seq > over.seq]
        assert not any(e.action in GOOD | BACK for e in since), "something has moved since"
        refusals = [e for e in since if e.action in (A.REJECTED, A.EXPIRED) and e.inputs]
        assert version not in {e.to for e in refusals}, "it was refused since"
        if entry is outcome:
            assert c.seen.alias == version == c.before.champion_version
            if c.attempt is None and spec.rollback.bake_duration.delta:
                bake = c.after.active
                assert bake and (bake.version, bake.phase) == (version, P.BAKING), (
                    "it does not bake"
                )
            _stages_agree(c, version)
            continue
        assert not spec.suspend and c.before.hold is None, "a step forward though told to stop"
        assert own[0].spec == digest(spec), "it was judged by another spec"
        assert all(t.model_source.type is ModelSourceType.VERSION for t in spec.targets)


def promotes_what_earned_it(c: Case) -> None:
    """I1 at the intent: READY, gates, approvals, nobody says stop, and everything can follow."""
    for intent in () if c.restored or taken_up(c) else c.added(A.PROMOTE_INTENT):
        version, attempt, spec = intent.to or "", c.attempt, c.seen.spec
        assert attempt is not None and attempt.version == version
        assert attempt.phase is P.PROMOTING and attempt.move_id is None
        assert ready(c.seen, version), "I1: not READY"
        assert version not in quarantined(c.seen) or pinned(c.seen, version), "I3"
        assert not unmet_gates(c.seen, version), "I1: gates"
        people = {approval.by for approval in attempt.approvals}
        asked = spec.approval.required if spec.approval else 0
        if spec.approval and spec.approval.exclude_authors:
            people -= _authors(c.seen, version)
        assert len(people) >= asked or pinned_rollback(c.seen, version), "I1: approval"
        assert not spec.suspend and c.before.hold is None, "a step forward though told to stop"
        assert all(state.problem is None for state in c.seen.targets), "a target cannot follow"
        assert c.seen.rollout_slot or not spec.targets, "more rollouts than allowed"
        if attempt.origin is Origin.ADOPT:
            assert c.seen.alias == version
        else:
            gone = c.seen.alias is None and c.seen.version(attempt.previous) is None
            assert c.seen.alias == attempt.previous or gone, "the alias was taken"
            assert attempt.candidate_digest == digest(spec.candidate), "the selector changed"


def counts_people_who_may_agree(c: Case) -> None:
    """Approvals are of this attempt and this evidence, by different people who did not make it."""
    old, new = c.before.attempt, c.after.attempt
    if c.restored or old is None or new is None or old.id != new.id:
        return
    if len(new.approvals) <= len(old.approvals):
        return
    said, approval = c.seen.decisions[0], new.approvals[-1]
    assert said.spec.action is DecisionAction.APPROVE
    assert said.spec.promotion_ref.uid in (None, c.seen.promotion.metadata.uid)
    assert said.spec.attempt_id == old.id and old.phase is P.AWAITING_APPROVAL
    assert said.spec.evidence_digest == old.evidence_digest, "approves something else"
    assert approval.by not in {one.by for one in old.approvals}, "one person counts once"
    spec = c.seen.spec
    if spec.approval and spec.approval.exclude_authors:
        assert approval.by not in _authors(c.seen, old.version), "an author approves"
    (entry,) = c.added(A.APPROVED)
    assert entry.decision == f"{said.metadata.name}/{said.metadata.uid}"


def _authors(seen: Observation, version: str) -> set[str]:
    """Of the version and of the spec; of a version whose run is gone it may be anybody."""
    found = seen.version(version)
    known = found.authors if found else frozenset()
    people = {approval.by for approval in seen.status.attempt.approvals if known is None}
    annotations = seen.promotion.metadata.annotations
    return people | {*(known or ()), annotations.get("podium.dev/spec-author", "")}


def voids_approvals_with_the_evidence(c: Case) -> None:
    old, new = c.before.attempt, c.after.attempt
    if c.restored or old is None or new is None or old.id != new.id or not new.approvals:
        return
    assert new.evidence_digest == old.evidence_digest, "approvals outlive their evidence"


def blames_with_care(c: Case) -> None:
    """Quarantine only when a container of this move started and failed or is not ready; whatever
    else goes wrong with a rollout ends in a hold."""
    attempt = c.attempt
    for entry in () if c.restored else c.added(A.QUARANTINED):
        assert attempt is not None and attempt.move_id and entry.to == attempt.version
        assert attempt.phase in (P.VERIFYING, P.BAKING)
        assert c.seen.spec.rollback.automatic
        pods = [p for t in c.seen.targets for p in t.pods or () if p.move_id == attempt.move_id]
        assert any(_at_fault(pod) for pod in pods), "blames a version without a bad container"
        if attempt.phase is P.VERIFYING and attempt.templates is not None:
            mine = digest([[t.name, t.template] for t in c.seen.targets])
            assert mine == attempt.templates, "blames it for a template that somebody changed"


def takes_a_move_back_only_for_what_cannot_follow(c: Case) -> None:
    """In Promoting, at the deadline, and for a target that does not carry the move. An API server
    that gave no answer may have been away: it is asked after the deadline, too."""
    attempt = c.attempt
    if c.restored or attempt is None or attempt.phase is not P.PROMOTING or not attempt.deadline:
        return
    for entry in c.added(A.ROLLBACK_INTENT):
        if not entry.reason.startswith(Reason.PROGRESS_DEADLINE):
            continue
        assert c.seen.spec.rollback.automatic and c.now >= attempt.deadline, "not yet"
        missing = {
            name
            for name, state in states(c.seen).items()
            if state.problem or not carries(c.seen, name, attempt.version, attempt.move_id)
        }
        tried = c.seen.failed_try
        if tried and tried.target in missing and tried.began >= attempt.phase_started_at:
            clear = tried.problem.kind is not ProblemKind.TRANSIENT
            if clear or tried.began >= attempt.deadline:
                continue
        unread = [state.problem for state in c.seen.targets if state.problem]
        assert any(p.kind is not ProblemKind.TRANSIENT or _asked_enough(c) for p in unread), (
            "takes a move back that every target can follow"
        )


def _asked_enough(c: Case) -> bool:
    """By a process that was there for all of the time."""
    since = c.seen.unread_since
    return since is not None and c.now - since >= c.seen.spec.rollout.progress_deadline.delta


def asks_once_more_before_it_gives_a_rollout_up(c: Case) -> None:
    """In Verifying: what cannot be read may have rolled out, and is no changed template."""
    attempt = c.attempt
    if c.restored or attempt is None or attempt.phase is not P.VERIFYING:
        return
    unread = [state.problem for state in c.seen.targets if state.problem]
    for entry in c.added(A.ROLLBACK_INTENT, A.REJECTED) if unread else ():
        why = entry.reason.partition(":")[0]
        assert why != Reason.TEMPLATE_CHANGED, "nobody knows what its template is"
        if why not in (Reason.PROGRESS_DEADLINE, Reason.CONTAINER_FAILED, Reason.NOT_READY_IN_TIME):
            continue
        assert not c.added(A.QUARANTINED), "blames a version, and another target is not known"
        if all(problem.kind is ProblemKind.TRANSIENT for problem in unread):
            assert attempt.deadline is not None and c.now >= attempt.deadline
            assert _asked_enough(c), "gives up what may be well"


def _at_fault(pod: PodState) -> bool:
    bad = pod.failed or pod.restarts > 0 or (pod.started and not pod.ready)
    return bad and not pod.disrupted and not pod.terminating


def goes_back_to_what_may_serve(c: Case) -> None:
    """The destination exists, is READY, not in quarantine, and not what is left; a person's
    Rollback ends in a hold; no rollback is rolled back by itself."""
    for entry in () if c.restored else c.added(*BACK):
        if entry.to != c.seen.alias:  # whoever moved it there answers for that
            assert ready(c.seen, entry.to), "goes back to what is not READY"
            assert entry.to not in quarantined(c.seen), "I3: goes back to a quarantined version"
        attempt = c.attempt
        if entry.action is A.ROLLBACK_INTENT:
            assert entry.to != entry.from_version or entry.decision
        carried_on = _carries_on(c, entry)
        if entry.action is A.ROLLBACK_INTENT and (entry.decision is None or carried_on):
            _goes_to_where_the_alias_was(c, entry)
        if entry.decision is not None:
            assert c.added(A.HELD), "a Rollback ends in a hold"
            said = c.seen.decisions[0].spec.action if c.seen.decisions else None
            assert carried_on or said is DecisionAction.ROLLBACK
        elif attempt and attempt.rollback:
            assert not ready(c.seen, attempt.rollback.to), "rolls back a rollback"
            assert attempt.rollback.decision is None, "forgets who decided"
        elif (
            attempt and attempt.phase in (P.VERIFYING, P.BAKING) and ready(c.seen, attempt.version)
        ):
            followed = c.seen.alias == attempt.previous
            judged = c.added(A.QUARANTINED, A.HELD)
            assert len(judged) == 1 or followed, "neither quarantine nor hold"


def _carries_on(c: Case, entry: LedgerEntry) -> bool:
    """Whether it is the rollback that runs, sent elsewhere because its destination is gone."""
    back = c.attempt.rollback if c.attempt else None
    if back is None or ready(c.seen, back.to):
        return False
    return (entry.decision, entry.by) == (back.decision, back.by)


def _goes_to_where_the_alias_was(c: Case, entry: LedgerEntry) -> None:
    """At the intent of the attempt, until its outcome; if that may still serve."""
    attempt = c.attempt
    if attempt is None or attempt.id != entry.attempt:
        return
    before_outcome = attempt.version not in (c.before.champion_version, attempt.previous)
    may_serve = ready(c.seen, attempt.previous) and attempt.previous not in quarantined(c.seen)
    may_serve = may_serve and not refused(c.seen, attempt.previous)
    if before_outcome and may_serve and not _was_being_left(c, attempt.previous):
        assert entry.to == attempt.previous, "goes elsewhere than where the alias was"


def _was_being_left(c: Case, version: str | None) -> bool:
    """Whether a rollback from it was cut short when this attempt began."""
    for entry in reversed(known(c.seen)):
        if entry.action is A.ROLLBACK_INTENT and entry.from_version == version:
            return True
        if entry.action in (A.PROMOTED, A.ADOPTED, A.ROLLED_BACK, A.REVERTED):
            return False
    return False


def goes_to_the_last_good_one(c: Case) -> None:
    """After the outcome, and at rest, where no person names the version."""
    attempt, champion = c.attempt, c.before.champion_version
    for entry in () if c.restored else c.added(A.ROLLBACK_INTENT):
        if attempt and attempt.version != champion:
            continue
        named = c.seen.decisions[0].spec.version if entry.decision and c.seen.decisions else None
        found = last_good(c.seen, entry.from_version)
        if found and (named is None or _carries_on(c, entry)):
            assert entry.to == found, "goes elsewhere than to the last good one"
    for entry in () if c.restored or attempt else c.added(A.REVERT_INTENT):
        assert not c.seen.spec.suspend, "takes the alias back while suspended"
        assert entry.to == _at_rest(c), "takes the alias to what it never was to be at"


def _at_rest(c: Case) -> str | None:
    """Where the alias is to be. Whoever gives it back to the champion may leave it there, but for
    Revert, which goes on with a rollback that was cut short."""
    champion, going = c.before.champion_version, _left_for(c)
    given_back = c.seen.alias == champion and _may_serve(c, champion)
    if given_back and not (going and c.seen.spec.alias_drift_policy is AliasDriftPolicy.REVERT):
        return champion
    for version in (going or champion, last_good(c.seen, champion), champion):
        if _may_serve(c, version):
            return version
    guesses = c.seen.spec.rollback.when_unknown is WhenUnknown.USE_ARCHIVED
    return last_archived(c.seen, champion) if guesses else None


def _may_serve(c: Case, version: str | None) -> bool:
    return ready(c.seen, version) and version not in quarantined(c.seen)


def _left_for(c: Case) -> str | None:
    """Where the rollback of the champion, which has no outcome yet, was going."""
    champion = c.before.champion_version
    became = [
        e.seq
        for e in known(c.seen)
        if e.action in GOOD or (e.action is A.REJECTED and e.to == champion)
    ]
    left = [
        e for e in known(c.seen) if e.action is A.ROLLBACK_INTENT and e.from_version == champion
    ]
    return left[-1].to if left and left[-1].seq > max(became, default=0) else None


def believes_outcomes_only_when_seen(c: Case) -> None:
    """Rule 2: no outcome before alias, targets and stages show it."""
    for entry in () if c.restored or late(c) else c.added(A.PROMOTED, A.ROLLED_BACK, A.REVERTED):
        attempt = c.attempt
        assert attempt is not None and c.seen.alias == entry.to, "the alias is elsewhere"
        assert ready(c.seen, entry.to)
        move = attempt.rollback.move_id if attempt.rollback else attempt.move_id
        for target in c.seen.spec.targets:
            if carries(c.seen, target.name, entry.to or "", move):
                assert finished(states(c.seen)[target.name], move), f"{target.name} rolls out"
            else:
                assert entry.action is A.REVERTED, f"{target.name} does not carry the move"
        _stages_agree(c, entry.to or "")


def _stages_agree(c: Case, champion: str) -> None:
    model, wanted = c.seen.model, c.seen.spec.stage
    if model is None or not model.stages_supported or wanted is Stage.NONE:
        return
    production = [v.version for v in model.versions.values() if v.stage is Stage.PRODUCTION]
    if wanted is Stage.PRODUCTION:
        assert production == [champion], "stages disagree"
    else:
        assert model.versions[champion].stage in (Stage.STAGING, Stage.PRODUCTION)


def verifies_what_has_moved(c: Case) -> None:
    old, new = c.before.attempt, c.after.attempt
    if c.restored or old is None or new is None or new.phase is not P.VERIFYING:
        return
    if old.phase is P.VERIFYING:
        return
    for target in c.seen.spec.targets:
        assert carries(c.seen, target.name, new.version, new.move_id), "nothing to verify yet"
    by_alias = any(t.model_source.type is ModelSourceType.ALIAS for t in c.seen.spec.targets)
    if by_alias or not c.seen.spec.targets:
        assert c.seen.alias == new.version, "the alias has not moved"


def claims_before_anything(c: Case) -> None:
    """No attempt, intent or action on an alias that is not confirmed to be ours."""
    old, new = c.before.attempt, c.after.attempt
    claim = c.before.claim
    if c.restored or (claim is not None and claim.confirmed):
        return
    assert not c.added(*BACK, A.PROMOTE_INTENT), "moves before the claim is confirmed"
    assert (new and new.id) == (old and old.id), "begins before the claim is confirmed"
    if c.after.claim and c.after.claim.confirmed and claim and not claim.confirmed:
        assert not claimed_by_older(c.seen)


STEPS: tuple[Rule, ...] = (
    begins_an_attempt_that_may_begin,
    does_not_try_again_what_failed,
    takes_up_only_what_came_good,
    promotes_what_earned_it,
    counts_people_who_may_agree,
    voids_approvals_with_the_evidence,
    blames_with_care,
    takes_a_move_back_only_for_what_cannot_follow,
    asks_once_more_before_it_gives_a_rollout_up,
    goes_back_to_what_may_serve,
    goes_to_the_last_good_one,
    believes_outcomes_only_when_seen,
    verifies_what_has_moved,
    claims_before_anything,
)
