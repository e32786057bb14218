"""What the watches last said, small enough for 10,000 promotions, with the indexes that hints
and rivals need.

Objects are kept as compressed JSON of the parts that decisions look at and parsed when asked
for. May lag behind the API server: whoever acts reads again first.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, TypeVar, cast

import msgspec

from podium.api.decision import PromotionDecision
from podium.api.model_registry import ModelRegistry
from podium.api.promotion import ModelPromotion, Stage
from podium.api.promotion_status import Phase
from podium.api.values import ParseError, read
from podium.cluster.lease import older
from podium.runtime import packing
from podium.runtime.keys import Name

K = TypeVar("K")
Raw = Mapping[str, object]
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ROLLING = frozenset({Phase.PROMOTING, Phase.VERIFYING, Phase.ROLLING_BACK})
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def name_of(raw: Raw) -> Name:
    metadata = cast(Raw, raw["metadata"])
    return Name(str(metadata["namespace"]), str(metadata["name"]))


def _decisive(raw: Raw) -> Raw:
    """The object without what no decision looks at."""
    metadata = dict(cast(Raw, raw["metadata"]))
    metadata.pop("managedFields", None)
    annotations = dict(cast(Raw, metadata.get("annotations") or {}))
    annotations.pop(_LAST_APPLIED, None)
    metadata["annotations"] = annotations
    return {**raw, "metadata": metadata}


def pack(raw: Raw) -> bytes:
    """The decisive part of the object, compressed."""
    return packing.pack(msgspec.json.encode(_decisive(raw)))


def unpack(packed: bytes) -> dict[str, object]:
    return cast(dict[str, object], msgspec.json.decode(packing.unpack(packed)))


@dataclass(frozen=True, slots=True)
class CachedPromotion:
    """One promotion: packed, and what the indexes and metrics need of it."""

    packed: bytes
    uid: str
    resource_version: str
    age: tuple[datetime, str, str]  # older ones come first
    registry: Name | None = None
    model: str = ""
    alias: str = ""
    stage: Stage = Stage.NONE
    targets: frozenset[str] = frozenset()  # Deployments, in its own namespace
    all_versions: bool = False  # its selector needs each version's tags
    phase: Phase | None = None
    rolling: bool = False
    champion: str | None = None
    problem: ParseError | None = None

    def parse(self) -> ModelPromotion:
        """Raises ParseError."""
        return read(ModelPromotion, unpack(self.packed), "ModelPromotion")


class _Deployment(NamedTuple):
    version: str
    packed: bytes


class Watched(StrEnum):
    REGISTRY = "ModelRegistry"
    PROMOTION = "ModelPromotion"
    DECISION = "PromotionDecision"
    DEPLOYMENT = "Deployment"


class Cache:
    """Everything watched. `put_*` and `remove_*` say whether something changed.

    What is put as `listed` counts also when it is older than what is known, since etcd was
    restored then; but not against what was told while that LIST was under way (`listing`).
    """

    def __init__(self) -> None:
        self.promotions: dict[Name, CachedPromotion] = {}
        self.registries: dict[Name, Raw] = {}
        self._decisions: dict[Name, PromotionDecision] = {}
        self._deployments: dict[Name, _Deployment] = {}
        # Names in the order in which they came, so that a run of the same events is the same run.
        self._by_registry: defaultdict[Name, dict[Name, None]] = defaultdict(dict)
        self._by_model: defaultdict[str, dict[Name, None]] = defaultdict(dict)
        self._by_target: defaultdict[Name, dict[Name, None]] = defaultdict(dict)
        self._decisions_of: defaultdict[Name, dict[Name, None]] = defaultdict(dict)
        self._rolling: set[Name] = set()
        self.phases: Counter[str] = Counter()
        self._strangers_welcome = True  # Deployments of promotions that are not known yet
        self._told: set[tuple[Watched, Name]] | None = None  # while there is a LIST

    def known(self, kind: Watched) -> Set[Name]:
        """The names of all that is there."""
        match kind:
            case Watched.REGISTRY:
                return self.registries.keys()
            case Watched.PROMOTION:
                return self.promotions.keys()
            case Watched.DECISION:
                return self._decisions.keys()
            case Watched.DEPLOYMENT:
                return self._deployments.keys()

    @contextlib.contextmanager
    def listing(self) -> Iterator[None]:
        """For as long as pages are read that may be older than what is told meanwhile."""
        self._told = set()
        try:
            yield
        finally:
            self._told = None

    def is_told(self, kind: Watched, name: Name) -> bool:
        """Whether anything but a page was put or removed by that name, since `listing` began."""
        return self._told is not None and (kind, name) in self._told

    def _stands(self, kind: Watched, name: Name, listed: bool = False) -> bool:
        """Whether this may be put; what is told is noted."""
        if listed:
            return not self.is_told(kind, name)
        if self._told is not None:
            self._told.add((kind, name))
        return True

    # Promotions

    def put_promotion(self, raw: Raw, *, listed: bool = False) -> bool:
        """False when this state, or a later one, is known already."""
        name = name_of(raw)
        if not self._stands(Watched.PROMOTION, name, listed):
            return False
        known = self.promotions.get(name)
        same = known is not None and known.uid == _uid(raw)
        if known and same and not _is_news(_version(raw), known.resource_version, listed):
            return False
        entry = _cached(raw)
        self._forget(name, still=entry.targets)
        self.promotions[name] = entry
        if entry.registry is not None:
            self._by_registry[entry.registry][name] = None
            self._by_model[entry.model][name] = None
        for target in entry.targets:
            self._by_target[Name(name.namespace, target)][name] = None
        if entry.rolling:
            self._rolling.add(name)
        self.phases[entry.phase or "None"] += 1
        return True

    def is_news(self, raw: Raw) -> bool:
        """Whether the promotion is not known as it is in `raw`."""
        known = self.promotions.get(name_of(raw))
        return known is None or (known.uid, known.resource_version) != (_uid(raw), _version(raw))

    def remove_promotion(self, name: Name, uid: str | None = None) -> CachedPromotion | None:
        """The entry that was there, unless another object has the name by now."""
        self._stands(Watched.PROMOTION, name)
        known = self.promotions.get(name)
        if known is None or (uid is not None and known.uid != uid):
            return None
        self._forget(name)
        del self.promotions[name]
        return known

    def _forget(self, name: Name, still: frozenset[str] = frozenset()) -> None:
        """Takes the promotion out of the indexes, and its Deployments but for those that are
        `still` its targets."""
        known = self.promotions.get(name)
        if known is None:
            return
        if known.registry is not None:
            _discard(self._by_registry, known.registry, name)
            _discard(self._by_model, known.model, name)
        for target in known.targets:
            deployment = Name(name.namespace, target)
            _discard(self._by_target, deployment, name)
            if target not in still and deployment not in self._by_target:
                self._deployments.pop(deployment, None)
        self._rolling.discard(name)
        self.phases[known.phase or "None"] -= 1

    def of_registry(self, registry: Name) -> Iterable[Name]:
        return tuple(self._by_registry.get(registry, ()))

    def of_model(self, model: str) -> Iterable[Name]:
        return tuple(self._by_model.get(model, ()))

    def of_target(self, deployment: Name) -> Iterable[Name]:
        return tuple(self._by_target.get(deployment, ()))

    def rolling_besides(self, name: Name) -> int:
        """How many other promotions are changing targets."""
        return len(self._rolling) - (name in self._rolling)

    # Deployments that are some promotion's target

    def put_deployment(self, raw: Raw, *, listed: bool = False) -> bool:
        """As `put_promotion`, of those only that are some promotion's target, or may turn out to
        be until all promotions are known."""
        name = name_of(raw)
        if not self._stands(Watched.DEPLOYMENT, name, listed):
            return False
        if name not in self._by_target and not self._strangers_welcome:
            return False
        version, known = _version(raw), self._deployments.get(name)
        if known is not None and version and not _is_news(version, known.version, listed):
            return False
        self._deployments[name] = _Deployment(version, pack(raw))
        return known is None or known.packed != self._deployments[name].packed

    def forget_strangers(self) -> None:
        """All promotions are known: a Deployment that is no target of theirs is none of ours."""
        self._strangers_welcome = False
        for name in self._deployments.keys() - self._by_target.keys():
            del self._deployments[name]

    def remove_deployment(self, name: Name) -> bool:
        self._stands(Watched.DEPLOYMENT, name)
        self._deployments.pop(name, None)
        return name in self._by_target

    def deployment(self, name: Name) -> Raw | None:
        known = self._deployments.get(name)
        return unpack(known.packed) if known else None

    # Decisions without an outcome

    def put_decision(self, raw: Raw, *, listed: bool = False) -> Name | None:
        """The promotion that it speaks to. Raises ParseError."""
        name = name_of(raw)
        if not self._stands(Watched.DECISION, name, listed):
            return None
        decision = read(PromotionDecision, raw, f"PromotionDecision {name}")
        promotion = Name(name.namespace, decision.spec.promotion_ref.name)
        if decision.status.outcome is not None:
            self.remove_decision(name)
            return None
        self._decisions[name] = decision
        self._decisions_of[promotion][name] = None
        return promotion

    def remove_decision(self, name: Name) -> None:
        self._stands(Watched.DECISION, name)
        known = self._decisions.pop(name, None)
        if known is not None:
            promotion = Name(name.namespace, known.spec.promotion_ref.name)
            _discard(self._decisions_of, promotion, name)

    def decisions(self, promotion: Name) -> tuple[PromotionDecision, ...]:
        """Oldest first."""
        found = [self._decisions[n] for n in self._decisions_of.get(promotion, ())]
        found.sort(key=lambda d: (d.metadata.creation_timestamp or _LONG_AGO, d.metadata.name))
        return tuple(found)

    # Registries

    def put_registry(self, raw: Raw, *, listed: bool = False) -> bool:
        """As `put_promotion`."""
        name = name_of(raw)
        if not self._stands(Watched.REGISTRY, name, listed):
            return False
        known = self.registries.get(name)
        same = known is not None and _uid(known) == _uid(raw)
        if known and same and not _is_news(_version(raw), _version(known), listed):
            return False
        self.registries[name] = _decisive(raw)
        return True

    def remove_registry(self, name: Name) -> None:
        self._stands(Watched.REGISTRY, name)
        self.registries.pop(name, None)

    def registry(self, name: Name) -> ModelRegistry | None:
        """Raises ParseError."""
        raw = self.registries.get(name)
        return read(ModelRegistry, raw, f"ModelRegistry {name}") if raw is not None else None


def _cached(raw: Raw) -> CachedPromotion:
    metadata = cast(Raw, raw["metadata"])
    name = name_of(raw)
    packed = pack(raw)
    uid, version = str(metadata.get("uid", "")), str(metadata.get("resourceVersion", ""))
    try:
        promotion = read(ModelPromotion, raw, f"ModelPromotion {name}")
    except ParseError as problem:
        age = (_LONG_AGO, *name)
        return CachedPromotion(packed, uid, version, age, problem=problem)
    spec, active = promotion.spec, promotion.status.active
    attempt = promotion.status.attempt
    return CachedPromotion(
        packed,
        uid,
        version,
        age=(promotion.metadata.creation_timestamp or _LONG_AGO, *name),
        registry=Name(name.namespace, spec.registry_ref.name),
        model=spec.model,
        alias=spec.alias,
        stage=spec.stage,
        targets=frozenset(target.deployment.name for target in spec.targets),
        all_versions=bool(
            spec.candidate and spec.candidate.latest and spec.candidate.latest.match_tags
        ),
        phase=attempt.phase if attempt else None,
        rolling=bool(active and active.phase in _ROLLING and spec.targets),
        champion=promotion.status.champion_version,
    )


def _uid(raw: Raw) -> str:
    return str(cast(Raw, raw["metadata"]).get("uid", ""))


def _version(raw: Raw) -> str:
    return str(cast(Raw, raw["metadata"]).get("resourceVersion", ""))


def _is_news(version: str, known: str, listed: bool) -> bool:
    """Whether that resourceVersion of an object says something that the known one does not."""
    return version != known and (listed or not older(version, known))


def _discard(index: defaultdict[K, dict[Name, None]], key: K, name: Name) -> None:
    names = index.get(key)
    if names is not None:
        names.pop(name, None)
        if not names:
            del index[key]
