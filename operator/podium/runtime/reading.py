"""Fresh reads of models: those that are asked for while others are on their way go together.

One promotion alone reads its model at once, by itself. Of a thousand at once each would ask MLflow
for its own model, which costs the server ten times what a share in a request for many does.
"""

import asyncio
from collections.abc import Mapping

from podium.clock import Clock
from podium.registry.client import RegistryClient
from podium.registry.errors import (
    ModelNotFound,
    RegistryError,
    RegistryThrottled,
    RegistryUnavailable,
)
from podium.runtime.snapshots import Snapshot, whole

AT_ONCE = 2  # requests on their way: one that takes long does not hold up all others
MOST = 100  # models that go together

Answer = asyncio.Future[Snapshot]


class Reading:
    """The reads of one server. Its owner closes it."""

    def __init__(self, client: RegistryClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._waiting: dict[str, Answer] = {}
        self._on_their_way: set[asyncio.Task[None]] = set()

    async def read(self, model: str) -> Snapshot:
        """The model and all its versions, asked for after this was called. Raises RegistryError."""
        able = await self._client.capabilities()
        if not (able.name_in and able.versions_name_in and able.aliases):
            return await self._one(model)
        if model not in self._waiting:
            self._waiting[model] = asyncio.get_running_loop().create_future()
        answer = self._waiting[model]
        self._send()
        # Others may wait for the same answer: one that is cancelled leaves it to them.
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Ends what is on its way; who waits is told that the registry is not there."""
        for task in self._on_their_way:
            task.cancel()
        await asyncio.gather(*self._on_their_way, return_exceptions=True)
        _fail(self._take(len(self._waiting)), _replaced())

    def _send(self) -> None:
        while self._waiting and len(self._on_their_way) < AT_ONCE:
            task = asyncio.create_task(self._answer(self._take(MOST)))
            self._on_their_way.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._on_their_way.discard(task)
        if not task.cancelled():
            self._send()

    def _take(self, most: int) -> dict[str, Answer]:
        return {name: self._waiting.pop(name) for name in list(self._waiting)[:most]}

    async def _answer(self, asked: Mapping[str, Answer]) -> None:
        """Sets all that were asked for, to what was found or to why it could not be."""
        try:
            found = await self._many(list(asked)) if len(asked) > 1 else {}
            for name, snapshot in found.items():
                if not asked[name].done():
                    asked[name].set_result(snapshot)
            for name in asked.keys() - found.keys():
                await self._answer_one(name, asked[name])
        except asyncio.CancelledError:
            _fail(asked, _replaced())
            raise
        except Exception as error:
            _fail(asked, error)

    async def _answer_one(self, model: str, answer: Answer) -> None:
        try:
            snapshot = await self._one(model)
        except RegistryError as error:
            _fail({model: answer}, error)
        else:
            if not answer.done():
                answer.set_result(snapshot)

    async def _one(self, model: str) -> Snapshot:
        began = self._clock.monotonic()
        try:
            found = await self._client.get_model(model)
            return whole(began, found, await self._client.search_versions(model))
        except ModelNotFound:
            return whole(began, None, ())

    async def _many(self, models: list[str]) -> Mapping[str, Snapshot]:
        """Nothing when one of them is refused or too large: then each is asked for by itself, so
        that none has to suffer for another."""
        began = self._clock.monotonic()
        try:
            found = await self._client.search_models(models)
            versions = await self._client.search_versions_of(list(found))
        except (RegistryUnavailable, RegistryThrottled):
            raise
        except RegistryError:
            return {}
        return {m: whole(began, found.get(m), versions.get(m, ())) for m in models}


def _fail(asked: Mapping[str, Answer], error: Exception) -> None:
    for answer in asked.values():
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # nobody may wait any more: then it is no line in the log


def _replaced() -> RegistryUnavailable:
    return RegistryUnavailable(
        "The connection to the registry was replaced, because the ModelRegistry changed; Podium "
        "goes on with the new one."
    )
