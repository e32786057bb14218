"""Performs what was decided: one function per kind of action.

Before each side effect the promotion is read again (`Guard`), then what the action expects, and
the Lease must outlast the request. An expectation that does not hold ends the pass, not the
attempt: the next pass sees the world as it is.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from podium.api.ledger_entry import LedgerEntry
from podium.api.promotion import Target
from podium.api.values import write
from podium.clock import SYSTEM, Clock
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import FieldConflict, NotFound
from podium.cluster.resources import PodiumKind
from podium.engine import ledger as ledgers
from podium.engine import tags
from podium.engine.decision import (
    Action,
    AnswerDecision,
    ApplyTarget,
    MirrorEntry,
    SetAlias,
    TagVersion,
    TransitionStage,
    WriteClaim,
)
from podium.engine.observation import Observation, Problem
from podium.registry.errors import StagesUnsupported, VersionNotFound
from podium.registry.model import RegisteredModel
from podium.runtime.cache import Cache
from podium.runtime.connected import REQUEST_SECONDS, Amendment, Connected
from podium.targets import deployment as deployments

Guard = Callable[[], Awaitable[None]]
Raw = Mapping[str, object]


class PassEndedError(Exception):
    """The world is not as the pass saw it: nothing was done, the next pass looks again."""


class ActionRefusedError(Exception):
    """The action met with something that a person, or time, must change."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True)
class Performer:
    """The actions of one pass. Raises PassEndedError, ActionRefusedError, RegistryError and
    ClusterError."""

    kube: KubernetesClient
    cache: Cache
    fence: Callable[[float], None]
    guard: Guard
    seen: Observation
    connected: Connected | None
    clock: Clock = SYSTEM

    async def perform(self, action: Action) -> None:
        match action:
            case SetAlias():
                await self._set_alias(action)
            case ApplyTarget():
                await self._apply_target(action)
            case TransitionStage():
                await self._transition_stage(action)
            case MirrorEntry(entry):
                await self._mirror(entry)
            case TagVersion():
                for key, value in action.tags:
                    await self._tag_version(action.version, key, value)
            case WriteClaim():
                await self._write_claim(action)
            case AnswerDecision():
                await self._answer(action)

    @property
    def _mlflow(self) -> Connected:
        if self.connected is None:
            raise PassEndedError("the registry is not connected any more")
        return self.connected

    @property
    def _model(self) -> str:
        return self.seen.spec.model

    async def _fenced(self, write_it: Callable[[], Awaitable[Amendment | None]]) -> None:
        """One write to MLflow. What was read before it is old, also when it fails; but for what
        the write says that it made of the model."""
        self.fence(REQUEST_SECONDS)
        amendment = None
        try:
            amendment = await write_it()
        finally:
            if amendment is None:
                self._outdated()
            else:
                self._mlflow.amend(self._model, amendment)

    def _outdated(self) -> None:
        """What is known of the model is old: the next pass reads it."""
        self._mlflow.outdated(self._model)

    def _check_owner(self, found: RegisteredModel) -> None:
        """Who claims the alias is as this pass saw it. Raises PassEndedError."""
        key = ledgers.owner_tag_key(self.seen.spec.alias)
        if self.seen.model is None or found.tags.get(key) != self.seen.model.tags.get(key):
            self._outdated()
            raise PassEndedError("the claim on the alias changed meanwhile")

    async def _tag_model(self, key: str, value: str) -> Amendment:
        await self._mlflow.client.set_model_tag(self._model, key, value)
        return lambda known: known.with_model_tag(key, value)

    async def _tag(self, version: str, key: str, value: str) -> Amendment:
        await self._mlflow.client.set_version_tag(self._model, version, key, value)
        return lambda known: known.with_version_tag(version, key, value)

    async def _move(self, version: str, stage: str) -> Amendment:
        moved = await self._mlflow.client.transition_stage(self._model, version, stage)
        return lambda known: known.with_stage(moved)

    async def _point(self, alias: str, version: str) -> None:
        """The alias is what everything else hangs on: it is read before anything builds on it."""
        await self._mlflow.client.set_alias(self._model, alias, version)

    async def _set_alias(self, action: SetAlias) -> None:
        client, alias = self._mlflow.client, self.seen.spec.alias
        await self.guard()
        found = await client.get_model(self._model)
        self._check_owner(found)
        current = found.aliases.get(alias)
        if current == action.to:
            self._outdated()
            return
        if current != action.expect:
            raise PassEndedError(
                f"alias {alias} is at {current or 'no version'}, not at {action.expect}"
            )
        version = await client.get_version(self._model, action.to)
        if version.status != "READY":
            raise PassEndedError(f"version {action.to} is {version.status}, not READY")
        await self._fenced(lambda: self._point(alias, action.to))

    async def _transition_stage(self, action: TransitionStage) -> None:
        client = self._mlflow.client
        await self.guard()
        version = await client.get_version(self._model, action.version)
        if version.stage != action.to.value:
            try:
                await self._fenced(lambda: self._move(action.version, action.to.value))
            except StagesUnsupported:
                # The client has learned it: the next observation says stages_supported False.
                self._mlflow.learned(await client.capabilities())
                return
        else:
            self._outdated()
        tag = tags.stage_tag(self.seen.spec.alias, action.to, self.clock.now())
        moved = version.stage != action.to.value
        if tag is not None and (moved or tag[0] not in version.tags):
            await self._tag_version(action.version, *tag)

    async def _tag_version(self, version: str, key: str, value: str) -> None:
        await self.guard()
        await self._fenced(lambda: self._tag(version, key, value))

    async def _mirror(self, entry: LedgerEntry) -> None:
        """The entry first: a head without its entry would look like a lost tail."""
        client, model = self._mlflow.client, self._model
        key = ledgers.entry_tag_key(entry.alias, entry.seq)
        text = ledgers.encode_entry(entry)
        await self.guard()
        found = await client.get_model(model)
        self._check_owner(found)
        if found.aliases.get(entry.alias) != self.seen.alias:
            self._outdated()  # the entry holds all the same; what follows it must be decided anew
        head = ledgers.parse_ledger(entry.model, entry.alias, found.tags, None)
        if head.head_seq >= entry.seq:
            self._outdated()
            return
        try:
            if entry.to is None:
                await self._fenced(lambda: self._tag_model(key, text))
            else:
                version = entry.to
                await self._fenced(lambda: self._tag(version, key, text))
        except VersionNotFound:
            await self._fenced(lambda: self._tag_model(key, text))
        await self.guard()
        seen = self.seen
        head_text = ledgers.encode_head(entry, seen.ledger, seen.status.ledger_id)
        head_key = ledgers.head_tag_key(entry.alias)
        await self._fenced(lambda: self._tag_model(head_key, head_text))

    async def _write_claim(self, action: WriteClaim) -> None:
        client, key = self._mlflow.client, ledgers.owner_tag_key(self.seen.spec.alias)
        await self.guard()
        found = await client.get_model(self._model)
        if found.tags.get(key) == action.value:
            self._outdated()
            return
        self._check_owner(found)
        await self._fenced(lambda: self._tag_model(key, action.value))

    async def _apply_target(self, action: ApplyTarget) -> None:
        promotion = self.seen.promotion
        target = _target(self.seen, action.target)
        namespace, name = promotion.metadata.namespace, target.deployment.name
        await self.guard()
        raw = await self.kube.get_deployment(namespace, name)
        if raw is None:
            raise NotFound(
                f"Deployment {namespace}/{name} does not exist; create it", resource="deployments"
            )
        body = deployments.apply_body(
            target,
            raw,
            model=promotion.spec.model,
            version=action.version,
            move_id=action.move_id,
        )
        if isinstance(body, Problem):
            raise ActionRefusedError(body)
        manager = deployments.field_manager(promotion.metadata.name)
        try:
            await self.kube.apply_deployment(namespace, name, body, field_manager=manager)
        except FieldConflict as conflict:
            problem = deployments.conflict_policy(target, conflict.conflicts)
            if problem is not None:
                raise ActionRefusedError(problem) from conflict
            await self.guard()
            await self.kube.apply_deployment(
                namespace, name, body, field_manager=manager, force=True
            )

    async def _answer(self, action: AnswerDecision) -> None:
        namespace = self.seen.promotion.metadata.namespace
        await self.guard()
        raw = await self.kube.get_decision(namespace, action.name)
        metadata = cast(Raw, raw["metadata"]) if raw is not None else {}
        if raw is None or metadata.get("uid") != action.uid:
            return
        if cast(Raw, raw.get("status") or {}).get("outcome"):
            self.cache.put_decision(raw)
            return
        answered = await self.kube.write_status(
            PodiumKind.DECISIONS,
            namespace,
            action.name,
            uid=action.uid,
            resource_version=str(metadata["resourceVersion"]),
            status=write({"outcome": action.outcome.value, "message": action.message}),
        )
        # The watch may be late: a decision that still looks unanswered would be told twice.
        self.cache.put_decision(answered)


def _target(seen: Observation, name: str) -> Target:
    for target in seen.spec.targets:
        if target.name == name:
            return target
    raise PassEndedError(f"spec.targets has no {name} any more")
