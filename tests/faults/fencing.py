"""I7: who held the Lease when a write was sent. Judges what two `Line`s have written down.

The Lease's own record in the API server decides: holderIdentity, renewTime and
leaseDurationSeconds of the record that stood there at that moment. Both operators and the lines
run on one machine, so their clocks are one clock.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.faults.line import Sent


@dataclass(frozen=True)
class Term:
    """One record of the Lease. It came to stand between `forwarded` and `answered`."""

    version: int
    holder: str
    line: str
    epoch: int
    renewed: float
    seconds: float
    forwarded: float
    answered: float

    @property
    def ends(self) -> float:
        return self.renewed + self.seconds

    def of(self, sent: Sent) -> bool:
        """Whether the process that sent this wrote the record."""
        return (self.line, self.epoch) == (sent.line, sent.epoch)


def terms(sent: Iterable[Sent]) -> list[Term]:
    """The records that the API server accepted, in its order."""
    found = [
        _term(each, json.loads(each.answer))
        for each in sent
        if each.lease and each.writes and each.took_effect
    ]
    return sorted(found, key=lambda term: term.version)


def record(lease: dict[str, Any]) -> tuple[int, str, float]:
    """What identifies a record: resourceVersion, holder and renewTime."""
    spec = lease["spec"]
    version = int(lease["metadata"]["resourceVersion"])
    return version, spec.get("holderIdentity") or "", _seconds(spec["renewTime"])


def judge(sent: Iterable[Sent]) -> tuple[int, list[str]]:
    """How many writes were looked at, and what was wrong: a write by a replica that did not hold
    the Lease, and a Lease taken that was not over."""
    all_sent = list(sent)
    known = terms(all_sent)
    writes = [each for each in all_sent if each.writes and not each.lease]
    found = [wrong for each in writes if (wrong := _wrong(each, known))]
    return len(writes), found + _taken_early(known)


def _wrong(sent: Sent, known: Sequence[Term]) -> str | None:
    """The holder has the answer about its own term before it sends anything; another's term counts
    from the moment at which it went on to the API server."""
    standing = [
        term for term in known if (term.answered if term.of(sent) else term.forwarded) <= sent.at
    ]
    if not standing:
        return f"{sent.line} sent {sent.name} before anybody held the Lease"
    term = standing[-1]
    if not term.of(sent) or not term.holder:
        late = sent.at - term.forwarded
        return f"{sent.line} sent {sent.name} {late:.3f} s after {term.holder} took the Lease"
    if sent.at > term.ends:
        return f"{sent.line} sent {sent.name} {sent.at - term.ends:.3f} s after its Lease ran out"
    return None


def _taken_early(known: Sequence[Term]) -> list[str]:
    found = []
    for before, after in itertools.pairwise(known):
        if before.holder in ("", after.holder) or not after.holder:
            continue
        if after.forwarded < before.ends:
            early = before.ends - after.forwarded
            found.append(f"{after.holder} took {before.holder}'s Lease {early:.3f} s too early")
    return found


def _term(sent: Sent, lease: dict[str, Any]) -> Term:
    version, holder, renewed = record(lease)
    assert sent.forwarded is not None and sent.answered is not None
    seconds = float(lease["spec"].get("leaseDurationSeconds") or 0)
    times = (renewed, seconds, sent.forwarded, sent.answered)
    return Term(version, holder, sent.line, sent.epoch, *times)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).timestamp()
