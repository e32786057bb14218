"""Signatures of ledger entries, and the key that is made once."""

import asyncio
import base64
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.cluster.errors import AlreadyExists
from podium.engine.ledger import entry_hash
from podium.runtime.signing import KeyUnusableError, Verifier, load_or_create


class Secrets:
    """The API server's part: create fails when somebody was faster."""

    def __init__(self, stored: dict[str, bytes] | None = None) -> None:
        self.stored = stored

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        await asyncio.sleep(0)
        return self.stored

    async def create_secret(self, namespace: str, name: str, values: Mapping[str, bytes]) -> None:
        await asyncio.sleep(0)
        if self.stored is not None:
            raise AlreadyExists("somebody was faster")
        self.stored = dict(values)


def entry(seq: int = 1) -> LedgerEntry:
    made = LedgerEntry(
        seq=seq,
        time=datetime(2026, 11, 21, tzinfo=UTC),
        action=EntryAction.PROMOTED,
        model="churn",
        alias="champion",
        to="7",
    )
    return replace(made, hash=entry_hash(made))


async def test_two_operators_that_start_together_have_one_key() -> None:
    secrets = Secrets()
    one, two = await asyncio.gather(load_or_create(secrets, "n"), load_or_create(secrets, "n"))
    assert one.public == two.public
    assert (await load_or_create(secrets, "n")).public == one.public


async def test_a_secret_without_a_key_is_not_replaced() -> None:
    with pytest.raises(KeyUnusableError, match="podium-ledger-key"):
        await load_or_create(Secrets({"other": b"x"}), "n")


async def test_what_verifies() -> None:
    signer, stranger = [await load_or_create(Secrets(), "n") for _ in range(2)]
    good, foreign, unsigned = signer.sign(entry(1)), stranger.sign(entry(2)), entry(3)
    changed = replace(signer.sign(entry(4)), hash="sha256:0")
    garbled = replace(entry(5), signature="no base64!")
    swapped = replace(entry(6), signature=good.signature)
    verifier = Verifier()
    everything = (good, foreign, unsigned, changed, garbled, swapped)
    for _ in range(2):  # the second time from memory
        assert verifier.bad(everything, [signer.public]) == set(everything[1:])
    assert verifier.bad([good, foreign], [signer.public, stranger.public]) == frozenset()
    assert verifier.bad([good], [""]) == {good}
    assert verifier.bad([good], [base64.b64encode(b"short").decode()]) == {good}


async def test_a_signature_is_never_replaced() -> None:
    one, two = [await load_or_create(Secrets(), "n") for _ in range(2)]
    signed = one.sign(entry())
    assert two.sign(signed) is signed
