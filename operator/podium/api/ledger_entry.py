"""One entry of the ledger: a link in the hash chain of everything done to an alias.

The form is fixed: changing a name or dropping a field changes hashes. Making, checking
and replaying entries is `podium.engine.ledger`.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from podium.api.values import Resource


class EntryAction(StrEnum):
    """What happened. `...Intent` is written before its effect, its outcome after it."""

    ADOPTED = "Adopted"  # the alias already pointed at `to` when Podium took it over
    PROMOTE_INTENT = "PromoteIntent"  # the alias (or the targets) will move `from` -> `to`
    PROMOTED = "Promoted"  # they have moved, and every target serves `to`
    ROLLBACK_INTENT = "RollbackIntent"  # `from` failed or was given up: going back to `to`
    ROLLED_BACK = "RolledBack"
    REVERT_INTENT = "RevertIntent"  # somebody moved the alias to `from`: going back to `to`
    REVERTED = "Reverted"
    ABANDONED = "Abandoned"  # the intent before this entry was never carried out
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    SUPERSEDED = "Superseded"
    APPROVED = "Approved"
    QUARANTINED = "Quarantined"
    HELD = "Held"
    RELEASED = "Released"  # the quarantine of `to` (by a pin: the hold over it), else the hold
    RETRIED = "Retried"
    RECREATED = "Recreated"  # the registered model is another one: no entry before this counts


class LedgerEntry(Resource, frozen=True, kw_only=True):
    seq: int
    time: datetime
    action: EntryAction
    model: str
    alias: str
    from_version: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    attempt: str | None = None
    move_id: str | None = msgspec.field(default=None, name="moveID")
    reason: str = ""
    decision: str | None = None  # <name>/<uid> of the PromotionDecision
    by: str | None = None  # its spec.decidedBy
    verified: bool = False  # whether admission vouches for `by`
    evidence: str | None = None  # digest of the frozen evidence
    inputs: str | None = None  # digest of what the verdict depended on
    spec: str | None = None  # digest of ModelPromotion.spec
    candidate: str | None = None  # digest of spec.candidate
    operator: str = ""  # Podium's version
    previous: str | None = None  # hash of entry seq-1
    hash: str = ""
    signature: str | None = None  # base64 of Ed25519 over `hash`
