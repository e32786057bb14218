"""A registered model that was deleted and created again under its name counts its versions from 1
anew: what the ledger says of version 1 is about another one.

MLflow's own creation time tells them apart, and it deletes the ledger with the model. Where a
ledger is there, that one tells (`restoring.behind`): the registry was moved to another server and
the model is the same, or it is a model that had another name before.
"""

from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion_status import PromotionStatus
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.attempts import held_by_person
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from podium.engine.restoring import behind
from podium.engine.steps import persist, warning


def begin_anew(seen: Observation, now: datetime) -> Decision | None:
    """Nothing of before counts but the claim and a person's hold; the ledger goes on, so that an
    auditor can read why. What the alias is at passes the gates like any other candidate."""
    if not _recreated(seen):
        return None
    before = seen.status
    text = (
        f"model {seen.spec.model} was deleted and created again: what was known of its versions "
        f"does not count any more, and each is tried before it is served"
    )
    status = PromotionStatus(
        model_created_at=_created(seen),
        claim=before.claim,
        hold=held_by_person(before),
        conditions=before.conditions,
        history=before.history,
        ledger_seq=before.ledger_seq,
        ledger_head=before.ledger_head,
        signer=before.signer,
        former_signers=before.former_signers,
    )
    status = ledger.append(
        seen,
        status,
        now,
        EntryAction.RECREATED,
        from_version=before.champion_version,
        attempt=before.active.id if before.active else None,
        reason=text,
    )
    if status.hold:
        status = ledger.append(seen, status, now, EntryAction.HELD, reason=status.hold.reason)
    return persist(status, warning(Reason.MODEL_RECREATED, text))


def with_creation_time(seen: Observation, status: PromotionStatus) -> PromotionStatus:
    """Remembers which model the status is about, but for `begin_anew` to find. While a ledger is
    to be read back status is about the one of before: `replay` says it then."""
    created = _created(seen)
    if created is None or _recreated(seen) or behind(seen):
        return status
    return replace(status, model_created_at=created)


def _recreated(seen: Observation) -> bool:
    known, created = seen.status.model_created_at, _created(seen)
    another = None not in (known, created) and known != created
    return another and seen.ledger.head_hash is None


def _created(seen: Observation) -> datetime | None:
    return seen.model.created_at if seen.model else None
