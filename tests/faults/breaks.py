"""Deliberate breaks of the operator, by name. That each is caught shows that the tests look.

Each takes away one thing that DESIGN says makes the operator safe, in the process (or the
simulated process) that enters it, until its block ends. Nothing of it is in the operator.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from unittest.mock import patch

from msgspec.structs import replace as with_status

from podium.api.promotion import ModelPromotion
from podium.api.promotion_status import PromotionStatus
from podium.engine import attempts, promoting, resting
from podium.engine.decide import decide
from podium.engine.decision import Action, Decision
from podium.engine.observation import Observation
from podium.runtime import reconciler
from podium.runtime.keys import Name
from podium.runtime.perform import Performer
from podium.runtime.reconciler import Memory, Reconciler


@contextlib.contextmanager
def act_before_persisting() -> Iterator[None]:
    """Rule 1: what status and the ledger are about to say is done before it is written."""
    write_status = Reconciler._write_status
    last: dict[str, tuple[Observation, datetime]] = {}

    def remember(seen: Observation, now: datetime) -> Decision:
        last[seen.promotion.metadata.uid] = (seen, now)
        return decide(seen, now)

    async def act_first(
        self: Reconciler, promotion: ModelPromotion, status: PromotionStatus
    ) -> ModelPromotion:
        seen, now = last[promotion.metadata.uid]
        ledger = replace(seen.ledger, head_seq=status.ledger_seq, head_hash=status.ledger_head)
        ahead = replace(seen, promotion=with_status(promotion, status=status), ledger=ledger)
        decision = decide(ahead, now)
        name = Name(promotion.metadata.namespace, promotion.metadata.name)
        if decision.actions:
            await self._act(name, promotion, ahead, decision, Memory(), now)
        return await write_status(self, promotion, status)

    with (
        patch.object(reconciler, "decide", remember),
        patch.object(Reconciler, "_write_status", act_first),
    ):
        yield


@contextlib.contextmanager
def skip_uncached_read() -> Iterator[None]:
    """Rule 3: side effects go ahead though the promotion may have changed since the pass began."""

    async def trust_the_cache(self: Reconciler, promotion: ModelPromotion) -> None:
        return None

    with patch.object(Reconciler, "_guard", trust_the_cache):
        yield


@contextlib.contextmanager
def skip_read_before_moves() -> Iterator[None]:
    """Rule 3 in part: the alias and Deployments change without that read; all else has it."""

    async def trust_the_cache() -> None:
        return None

    def unguarded(
        act: Callable[[Performer, Action], Awaitable[None]],
    ) -> Callable[[Performer, Action], Awaitable[None]]:
        return lambda self, action: act(replace(self, guard=trust_the_cache), action)

    with contextlib.ExitStack() as stack:
        for name in ("_set_alias", "_apply_target"):
            act = unguarded(getattr(Performer, name))
            stack.enter_context(patch.object(Performer, name, act))
        yield


@contextlib.contextmanager
def constant_move_id() -> Iterator[None]:
    """A rollback finds the ReplicaSet of an earlier move again, with the pods that it has."""

    def always_the_same(seen: Observation, now: datetime, purpose: str) -> str:
        return "0" * 10

    with contextlib.ExitStack() as stack:
        for module in (attempts, promoting, resting):
            stack.enter_context(patch.object(module, "move_id", always_the_same))
        yield


BREAKS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "act-before-persisting": act_before_persisting,
    "skip-uncached-read": skip_uncached_read,
    "skip-read-before-moves": skip_read_before_moves,
    "constant-move-id": constant_move_id,
}


def caught(name: str, found: int) -> tuple[int, str]:
    """The exit code of a run with that break, in which so much was violated, and what to say."""
    if found:
        return 0, f"{name} was caught: {found} violated"
    return 1, f"{name} was not caught: nothing was found, so the tests do not look"


def broken(name: str | None) -> AbstractContextManager[None]:
    """The break of that name; None: nothing is broken."""
    return BREAKS[name]() if name else contextlib.nullcontext()
