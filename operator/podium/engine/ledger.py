"""The ledger: the hash chain of everything Podium did to an alias.

Entries are made here, and the chain that the registry holds is checked here. Signing and
the tags' transport are the runtime's; what an entry means for the status is `restoring`'s.

Tags in MLflow (DESIGN section 9): `podium.dev/ledger/<alias hash>/<seq>` on the version that
the entry is about (on the registered model when it is about none, or that version is gone),
and `podium.dev/head/<alias hash>` on the registered model.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion_status import PromotionStatus
from podium.api.values import ParseError, read, write
from podium.engine.digests import candidate_digest, digest
from podium.engine.observation import Claim, LedgerState, Observation
from podium.engine.steps import clip

PREFIX = "podium.dev/"
FORMER_SIGNERS = 10  # in status
LONGEST_KEY = 256  # there; what stands in the head may be anybody's
LONGEST_ID = 128
LAST_SEQ = 2**53  # status takes 64 bits, JSON is exact up to here, and nobody gets so far


def alias_hash(alias: str) -> str:
    """Sixteen hex digits: aliases may have 255 characters, tag keys only 250."""
    return hashlib.sha256(alias.encode()).hexdigest()[:16]


def entry_tag_key(alias: str, seq: int) -> str:
    return f"{PREFIX}ledger/{alias_hash(alias)}/{seq}"


def head_tag_key(alias: str) -> str:
    return f"{PREFIX}head/{alias_hash(alias)}"


def owner_tag_key(alias: str) -> str:
    return f"{PREFIX}owner/{alias_hash(alias)}"


def entry_hash(entry: LedgerEntry) -> str:
    """The hash of everything in the entry but the hash and the signature."""
    return digest(replace(entry, hash="", signature=None))


def encode_entry(entry: LedgerEntry) -> str:
    return _compact(write(entry))


def encode_head(entry: LedgerEntry, state: LedgerState, ledger_id: str | None) -> str:
    """With every name that the model has had, and the last entry under each."""
    names = {**state.former_names, entry.model: entry.seq}
    head = {"seq": entry.seq, "hash": entry.hash, "key": state.signer, "names": names}
    return _compact({**head, "id": ledger_id} if ledger_id else head)


def encode_claim(claim: Claim) -> str:
    return _compact(
        {
            "cluster": claim.cluster,
            "namespace": claim.namespace,
            "name": claim.name,
            "since": claim.since.isoformat(),
            **({"released": True} if claim.released else {}),
        }
    )


def parse_claim(value: str | None) -> Claim | None:
    """None for no tag and for one that is not Podium's (it claims nothing)."""
    try:
        raw = _decode(value or "null")
        since = datetime.fromisoformat(raw["since"])
        return Claim(
            cluster=str(raw["cluster"]),
            namespace=str(raw["namespace"]),
            name=str(raw["name"]),
            since=since if since.tzinfo else since.replace(tzinfo=UTC),
            released=bool(raw.get("released", False)),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def parse_ledger(
    model: str,
    alias: str,
    model_tags: Mapping[str, str],
    version_tags: Mapping[str, Mapping[str, str]] | None,
    signer: str = "",
) -> LedgerState:
    """What the tags say, unchecked. `version_tags` None: only the head is known. Tags that do
    not parse are passed over here: `check` then finds them missing. So are entries of another
    model: whoever copies a version of it with MLflow copies its tags too. What the head leads to
    is this model's, also under an earlier name, which the head remembers from then on."""
    known = _parse_head(model_tags.get(head_tag_key(alias)))
    prefix = f"{PREFIX}ledger/{alias_hash(alias)}/"
    texts = [
        text
        for tags in (model_tags, *(version_tags or {}).values())
        for tag, text in tags.items()
        if tag.startswith(prefix)
    ]
    entries = [entry for entry in _parse_entries(texts) if entry.alias == alias]
    names = {**_names(entries, known.head_hash), **known.former_names}
    names.pop(model, None)
    own = [e for e in entries if e.model == model or e.seq <= names.get(e.model, 0)]
    return replaced(
        known,
        entries=tuple(sorted(own, key=lambda entry: entry.seq)),
        complete=version_tags is not None,
        signer=signer,
        former_names=names,
    )


@dataclass(frozen=True)
class Chain:
    """The linked part of a ledger, ascending, without what is not to be believed. `trouble` says
    what that is."""

    entries: tuple[LedgerEntry, ...]
    seq: int
    head: str | None
    trouble: str | None = None


def check(ledger: LedgerState) -> Chain:
    """Follows the chain back from the head, then forward over entries whose head tag was not
    written any more. An entry whose version was deleted is missing, not broken. Of entries that
    claim one place a well signed one has it."""
    whole = [entry for entry in ledger.entries if entry_hash(entry) == entry.hash]
    whole.sort(key=lambda entry: entry in ledger.bad_signatures)  # stable: good ones first
    linked: dict[int, LedgerEntry] = {}
    troubles = {
        entry.seq: f"entry {entry.seq} was changed after it was written"
        for entry in set(ledger.entries).difference(whole)
    }
    due, wanted = ledger.head_seq, ledger.head_hash
    for seq in sorted({e.seq for e in whole if e.seq <= ledger.head_seq}, reverse=True):
        if seq < due:
            wanted = None  # what lies between is missing
        fitting = [e for e in whole if e.seq == seq and wanted in (None, e.hash)]
        if wanted is None and fitting and fitting[0] in ledger.bad_signatures:
            troubles[seq] = f"the signature of entry {seq} does not verify"
            continue
        if not fitting:
            troubles.setdefault(seq, f"entry {seq} does not fit the chain")
            continue
        linked[seq] = fitting[0]
        due, wanted = seq - 1, fitting[0].previous
    seq, head = ledger.head_seq, ledger.head_hash
    while following := [e for e in whole if e.seq == seq + 1 and e.previous == head]:
        linked[seq + 1] = following[0]
        seq, head = following[0].seq, following[0].hash
    for entry in linked.values():
        if entry in ledger.bad_signatures:
            troubles[entry.seq] = f"the signature of entry {entry.seq} does not verify"
    believed = [e for _, e in sorted(linked.items()) if e not in ledger.bad_signatures]
    missing = sorted(troubles.keys() - {entry.seq for entry in believed})
    return Chain(tuple(believed), seq, head, troubles[missing[0]] if missing else None)


def recorded(seen: Observation) -> tuple[LedgerEntry, ...]:
    """Every entry at hand, ascending: the status' own ones and, where read, those of the registry
    that are to be believed."""
    entries = {e.seq: e for e in check(seen.ledger).entries}
    entries.update({entry.seq: entry for entry in seen.status.history})
    return tuple(entries[seq] for seq in sorted(entries) if seq <= seen.status.ledger_seq)


def known(seen: Observation) -> tuple[LedgerEntry, ...]:
    """Those of them that are about the model that is there."""
    return of_this_model(recorded(seen))


def of_this_model(entries: tuple[LedgerEntry, ...]) -> tuple[LedgerEntry, ...]:
    begun = (n for n, entry in enumerate(entries) if entry.action is EntryAction.RECREATED)
    return entries[max(begun, default=0) :]


def mirrored(seen: Observation, history: tuple[LedgerEntry, ...]) -> int:
    """Up to which entry MLflow has the ledger, or had it when it deleted it with its model."""
    begun = (entry.seq - 1 for entry in history if entry.action is EntryAction.RECREATED)
    return max([seen.ledger.head_seq, *begun])


def append(
    seen: Observation,
    status: PromotionStatus,
    now: datetime,
    action: EntryAction,
    *,
    to: str | None = None,
    from_version: str | None = None,
    attempt: str | None = None,
    move_id: str | None = None,
    reason: str = "",
    decision: str | None = None,
    by: str | None = None,
    evidence: str | None = None,
    inputs: str | None = None,
) -> PromotionStatus:
    """The status with one more entry. Entries that MLflow does not have yet are never cut."""
    spec = seen.spec
    entry = LedgerEntry(
        seq=status.ledger_seq + 1,
        time=now.replace(microsecond=0),
        action=action,
        model=spec.model,
        alias=spec.alias,
        from_version=from_version,
        to=to,
        attempt=attempt,
        move_id=move_id,
        reason=clip(reason, 512),
        decision=decision,
        by=by,
        evidence=evidence,
        inputs=inputs,
        spec=digest(spec),
        candidate=candidate_digest(spec),
        operator=seen.operator_version,
        previous=status.ledger_head,
    )
    entry = replace(entry, hash=entry_hash(entry))
    history = (*status.history, entry)
    keep = max(spec.history_limit, entry.seq - mirrored(seen, history))
    return replace(
        status,
        history=history[-keep:],
        ledger_seq=entry.seq,
        ledger_head=entry.hash,
        ledger_id=status.ledger_id or seen.ledger.ledger_id or entry.hash,
        signer=seen.ledger.signer or status.signer,
        former_signers=former_signers(status, seen.ledger.signer, status.signer),
    )


def former_signers(status: PromotionStatus, own: str, *signed: str | None) -> tuple[str, ...]:
    """Keys whose entries still count, newest last, with those that have signed until now."""
    keys = dict.fromkeys((*status.former_signers, *signed))
    former = (key for key in keys if key and key != own and len(key) <= LONGEST_KEY)
    return tuple(former)[-FORMER_SIGNERS:]


def unmirrored(seen: Observation) -> tuple[LedgerEntry, ...]:
    """Entries of the status that MLflow does not have yet, oldest first."""
    history = seen.status.history
    there = mirrored(seen, history)
    return tuple(entry for entry in history if entry.seq > there)


def _parse_head(text: str | None) -> LedgerState:
    try:
        raw = _decode(text or "null")
        return LedgerState(
            head_seq=int(raw["seq"]),
            head_hash=str(raw["hash"]),
            head_signer=str(raw["key"]),
            former_names={str(name): int(seq) for name, seq in raw.get("names", {}).items()},
            ledger_id=_id(raw.get("id")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return LedgerState()


def _id(raw: object) -> str | None:
    """None for what no Podium wrote: status takes 128 characters."""
    return raw if isinstance(raw, str) and 0 < len(raw) <= LONGEST_ID else None


def _parse_entries(texts: Iterable[str]) -> Iterable[LedgerEntry]:
    for text in texts:
        try:
            yield read(LedgerEntry, _decode(text), "ledger entry")
        except (ValueError, ParseError):
            continue


def _names(entries: Iterable[LedgerEntry], head: str | None) -> dict[str, int]:
    """The names that the chain from the head leads to, each with its last entry."""
    by_hash = {entry.hash: entry for entry in entries if entry_hash(entry) == entry.hash}
    names: dict[str, int] = {}
    while found := by_hash.pop(head or "", None):
        names.setdefault(found.model, found.seq)
        head = found.previous
    return names


def _decode(text: str) -> Any:
    """Anybody may write a tag: what nests too deep, or has half a surrogate pair, which could not
    be written again, is no JSON either. Raises ValueError."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
