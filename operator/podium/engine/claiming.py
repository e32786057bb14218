"""Claiming: one promotion moves an alias, across namespaces and clusters.

MLflow has no compare-and-set: the older claim wins. Whoever claims looks again within half a poll
and writes his claim again over a younger one; whoever has seen his own stand for longer than a
poll may believe it, for every older writer has looked meanwhile. Taking over an alias that already
stands at a version happens here too, together with the first claim: it moves nothing and restarts
nothing.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion_status import ChampionStatus, ClaimStatus, PromotionStatus
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.decision import Decision, WriteClaim
from podium.engine.observation import Claim, Observation
from podium.engine.steps import NOW, Chain, act, first_decision, normal, persist, stall, wait

SHORTEST = timedelta(seconds=1)
POLL_AND_JITTER = 1.25  # polls: a poll comes up to a tenth late
ANSWERS = timedelta(seconds=1)  # what a poll, and writing the claim again, take


def claim(seen: Observation, now: datetime) -> Decision | None:
    return first_decision(CLAIMING, seen, now)


def take_over(seen: Observation, now: datetime) -> Decision | None:
    """The first pass: remember since when we claim, and what the alias is."""
    if seen.status.claim is not None:
        return None
    own = seen.claim is not None and _ours(seen, seen.claim) and not seen.claim.released
    since = seen.claim.since if own and seen.claim else now.replace(microsecond=0)
    status = replace(seen.status, claim=ClaimStatus(since=since, confirmed=own))
    version = seen.version(seen.alias)
    if status.ledger_seq or version is None or not version.ready:
        return persist(status)
    text = f"version {version.version} already is {seen.spec.alias}: taken over as it is"
    return persist(adopted(seen, status, now, version.version), normal(Reason.ADOPTED, text))


def adopted(
    seen: Observation, status: PromotionStatus, now: datetime, version: str
) -> PromotionStatus:
    status = ledger.append(seen, status, now, EntryAction.ADOPTED, to=version)
    return replace(
        status,
        champion=ChampionStatus(version=version, since=now),
        highest_promoted=version,
    )


def yield_to_older(seen: Observation, now: datetime) -> Decision | None:
    """Somebody else's valid claim that is older than ours, or was there before we had one: a
    person must choose. Comes before the ledger is read back: theirs is signed with their key."""
    theirs = seen.claim
    if theirs is None or _ours(seen, theirs) or theirs.released or seen.claim_owner_gone:
        return None
    if seen.released or (seen.status.claim is not None and _older(_mine(seen), theirs)):
        return None
    text = (
        f"alias {seen.spec.alias} of {seen.spec.model} is moved by ModelPromotion "
        f"{theirs.namespace}/{theirs.name} of cluster {theirs.cluster} since "
        f"{theirs.since.isoformat()}; delete it there, or create a PromotionDecision Release here"
    )
    return stall(seen, Reason.ALIAS_CLAIMED, text)


def write_claim(seen: Observation, now: datetime) -> Decision | None:
    if seen.claim is not None and _ours(seen, seen.claim) and not seen.claim.released:
        return None
    mine = seen.status.claim
    if mine and (mine.confirmed or mine.seen_at):
        again = replace(mine, confirmed=False, seen_at=None)
        return persist(replace(seen.status, claim=again))
    return act(seen, WriteClaim(ledger.encode_claim(_mine(seen))))


def confirm(seen: Observation, now: datetime) -> Decision | None:
    """Counts from when our claim was seen, not from when it was sent: the network may delay it
    until an older writer has looked for the last time and believes his own. Anew, when the clock
    was set back."""
    mine = seen.status.claim
    if mine is None or mine.confirmed:
        return None
    if mine.seen_at is None or mine.seen_at > now:
        return persist(replace(seen.status, claim=replace(mine, seen_at=now)))
    poll = max(seen.poll_interval, SHORTEST)
    due = mine.seen_at + poll * POLL_AND_JITTER + ANSWERS
    if now < due:
        text = "the alias is claimed; an older claim would show within a poll"
        return wait(seen, Reason.CLAIMING, text, max(min(due - now, poll / 2), NOW))
    return persist(replace(seen.status, claim=replace(mine, seen_at=None, confirmed=True)))


def _mine(seen: Observation) -> Claim:
    assert seen.status.claim is not None
    meta = seen.promotion.metadata
    return Claim(seen.cluster_id, meta.namespace, meta.name, seen.status.claim.since)


def _ours(seen: Observation, claim: Claim) -> bool:
    """By name, not by uid: a promotion that was deleted and re-created inherits."""
    meta = seen.promotion.metadata
    return (claim.cluster, claim.namespace, claim.name) == (
        seen.cluster_id,
        meta.namespace,
        meta.name,
    )


def _older(one: Claim, other: Claim) -> bool:
    return (one.since, one.cluster, one.namespace, one.name) < (
        other.since,
        other.cluster,
        other.namespace,
        other.name,
    )


CLAIMING: Chain = (take_over, write_claim, confirm)
