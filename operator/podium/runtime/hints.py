"""What a watch event means: feeds the cache and says which keys to look at again.

The shell calls it for each event, the repairing LIST for each object (None: it is so even if what
is known is later). It reads and writes nothing but the cache and the queue.
"""

import logging
from collections.abc import Mapping
from typing import cast

from podium.api.values import ParseError
from podium.runtime.cache import Cache, name_of
from podium.runtime.keys import Key, Kind, Name
from podium.runtime.queue import KeyedQueue
from podium.runtime.reconciler import Reconciler

Raw = Mapping[str, object]
DELETED = "DELETED"
_log = logging.getLogger(__name__)


class Hints:
    def __init__(self, cache: Cache, queue: KeyedQueue[Key], reconciler: Reconciler) -> None:
        self._cache = cache
        self._queue = queue
        self._reconciler = reconciler

    def look(self, promotion: Name) -> None:
        self._reconciler.hinted(promotion)
        self._queue.add(Key(Kind.PROMOTION, promotion))

    def registry_changed(self, registry: Name, model: str | None) -> None:
        """The model changed there; None: something about the registry itself did."""
        if model is None:
            for promotion in self._cache.of_registry(registry):
                self.look(promotion)
            return
        # Through the model, not the registry: the first poll of 10,000 models tells of each.
        for promotion in self._cache.of_model(model):
            if self._cache.promotions[promotion].registry == registry:
                self.look(promotion)

    def promotion(self, event: str | None, raw: Raw) -> bool:
        """Whether it was news."""
        name = name_of(raw)
        if event == DELETED:
            uid = cast(Raw, raw["metadata"]).get("uid")
            gone = self._cache.remove_promotion(name, None if uid is None else str(uid))
            if gone is None:
                return False
            self._reconciler.deleted(name, gone)
            self._wake_neighbours(name, gone.model, gone.targets)
            self._queue.add(Key(Kind.PROMOTION, name))
            return True
        before = self._cache.promotions.get(name)
        if not self._cache.put_promotion(raw, listed=event is None):
            return False
        self.look(name)
        after = self._cache.promotions[name]
        if before is not None and (before.model, before.targets) != (after.model, after.targets):
            self._wake_neighbours(name, before.model, before.targets)
        return True

    def _wake_neighbours(self, name: Name, model: str, targets: frozenset[str]) -> None:
        """Those that stood back for this one may go on."""
        for other in self._cache.of_model(model):
            self.look(other)
        for target in targets:
            for other in self._cache.of_target(Name(name.namespace, target)):
                self.look(other)

    def decision(self, event: str | None, raw: Raw) -> None:
        if event == DELETED:
            self._cache.remove_decision(name_of(raw))
            return
        try:
            promotion = self._cache.put_decision(raw, listed=event is None)
        except ParseError as error:
            _log.warning("a PromotionDecision cannot be read: %s", error)
            return
        if promotion is not None:
            self.look(promotion)

    def registry(self, event: str | None, raw: Raw) -> None:
        name = name_of(raw)
        before = self._cache.registries.get(name)
        if event == DELETED:
            self._cache.remove_registry(name)
        elif not self._cache.put_registry(raw, listed=event is None) or (
            before is not None and before.get("spec") == raw.get("spec")
        ):
            return
        self._queue.add(Key(Kind.REGISTRY, name))

    def deployment(self, event: str | None, raw: Raw) -> None:
        name = name_of(raw)
        if event == DELETED:
            known = self._cache.remove_deployment(name)
        else:
            known = self._cache.put_deployment(raw, listed=event is None)
        if known:
            for promotion in self._cache.of_target(name):
                self.look(promotion)
