"""What Podium asks of Kubernetes, call by call: reads, status, server-side apply, Events.

Objects come and go as the API server's JSON; `podium.api` and `podium.targets` give them a
form. Each call has a deadline and raises only the errors of `podium.cluster.errors`; each write
asks the fence first.
"""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec

from podium.clock import SYSTEM, Clock
from podium.cluster import resources
from podium.cluster.answers import parse_item
from podium.cluster.connection import ApiConnection, Fence
from podium.cluster.errors import ClusterError, NotFound
from podium.cluster.events import EventSeries, Note, Step, event_body, log_lost
from podium.cluster.request import Request, Verb
from podium.cluster.resources import PODIUM, PodiumKind, Raw, Resource
from podium.engine.decision import EventType

FIELD_MANAGER = "podium-operator"  # of status, Secrets and Events; Deployments have their own
PAGE = 500


class KubernetesClient:
    """The API of one cluster, as Podium uses it."""

    def __init__(
        self,
        connection: ApiConnection,
        *,
        fence: Fence,
        reporting_instance: str = "podium",
        clock: Clock = SYSTEM,
    ) -> None:
        """`fence` is called before each write with the seconds that it may take, and raises
        NotLeader. `reporting_instance` (the pod's name) is what Events say wrote them."""
        self._connection = connection
        self._fence = fence
        self._reporting_instance = reporting_instance
        self._clock = clock
        self._series = EventSeries()

    async def cluster_id(self) -> str:
        """The UID of the namespace kube-system, which no two clusters share."""
        namespace = await self._read(Request(Verb.GET, resources.NAMESPACES, None, "kube-system"))
        metadata = cast(Raw, namespace["metadata"])
        return str(metadata["uid"])

    async def get_promotion(self, namespace: str, name: str) -> Raw | None:
        """The ModelPromotion as etcd has it now; no cache answers."""
        return await self._get(PODIUM[PodiumKind.PROMOTIONS], namespace, name)

    async def get_decision(self, namespace: str, name: str) -> Raw | None:
        return await self._get(PODIUM[PodiumKind.DECISIONS], namespace, name)

    async def get_deployment(self, namespace: str, name: str) -> Raw | None:
        return await self._get(resources.DEPLOYMENTS, namespace, name)

    def list_promotions(self, namespace: str | None) -> AsyncIterator[Raw]:
        """Page by page; of all namespaces when None."""
        return self._list(PODIUM[PodiumKind.PROMOTIONS], namespace)

    def list_registries(self, namespace: str | None) -> AsyncIterator[Raw]:
        return self._list(PODIUM[PodiumKind.REGISTRIES], namespace)

    def list_decisions(self, namespace: str | None) -> AsyncIterator[Raw]:
        return self._list(PODIUM[PodiumKind.DECISIONS], namespace)

    def list_deployments(self, namespace: str | None) -> AsyncIterator[Raw]:
        return self._list(resources.DEPLOYMENTS, namespace)

    async def probe(self, namespace: str | None) -> None:
        """Asks for one object of each kind that is watched. Raises what a LIST raises: NotFound
        while a CRD is not there."""
        for resource in (*PODIUM.values(), resources.DEPLOYMENTS):
            await self._read(Request(Verb.LIST, resource, namespace, query={"limit": "1"}))

    async def list_pods(self, namespace: str, selector: Raw) -> list[Raw]:
        """The pods that a LabelSelector (a Deployment's spec.selector) chooses."""
        query = {"labelSelector": label_selector(selector)}
        return [pod async for pod in self._list(resources.PODS, namespace, query)]

    async def list_autoscalers(self, namespace: str) -> list[Raw]:
        return [one async for one in self._list(resources.AUTOSCALERS, namespace)]

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        secret = await self._get(resources.SECRETS, namespace, name)
        if secret is None:
            return None
        values = cast(Mapping[str, str], secret.get("data") or {})
        return {key: base64.b64decode(value) for key, value in values.items()}

    async def create_secret(self, namespace: str, name: str, values: Mapping[str, bytes]) -> None:
        """Raises AlreadyExists when somebody was faster."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": name, "namespace": namespace},
            "data": {key: base64.b64encode(value).decode() for key, value in values.items()},
        }
        query = {"fieldManager": FIELD_MANAGER}
        await self._write(
            Request(Verb.CREATE, resources.SECRETS, namespace, query=query, body=body)
        )

    async def write_status(
        self,
        kind: PodiumKind,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str,
        status: Mapping[str, object],
    ) -> Raw:
        """Replaces the whole status, and nothing else, of the object that was read.

        Raises Conflict when its resourceVersion or uid is another by now, and NotFound.
        """
        resource = PODIUM[kind]
        # A PUT of the status subresource ignores all but status and, as preconditions, uid and
        # resourceVersion; so what is no longer set goes away, which a merge patch would keep.
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": resource_version,
        }
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "status": status,
        }
        query = {"fieldManager": FIELD_MANAGER}
        return await self._write(
            Request(Verb.UPDATE, resource, namespace, name, "status", query, body)
        )

    async def apply_deployment(
        self, namespace: str, name: str, body: Raw, *, field_manager: str, force: bool = False
    ) -> Raw:
        """Server-side applies `body`: every field that `field_manager` owns there, as one.

        `body` carries the metadata.uid of the Deployment that was read, so that none is ever
        created: NotFound if it is absent, Conflict if it was re-created. Raises FieldConflict.
        """
        metadata = cast(Raw, body.get("metadata") or {})
        if not metadata.get("uid"):
            raise ValueError(f"the apply body of Deployment {namespace}/{name} has no metadata.uid")
        query = {"fieldManager": field_manager, "force": "true" if force else "false"}
        return await self._write(
            Request(
                Verb.PATCH,
                resources.DEPLOYMENTS,
                namespace,
                name,
                query=query,
                body=body,
                content_type="application/apply-patch+yaml",
            )
        )

    async def emit_event(
        self,
        regarding: Raw,
        *,
        type: EventType,  # noqa: A002 - the field's name
        reason: str,
        message: str,
        action: str = "Reconcile",
    ) -> None:
        """Tells people what happened to `regarding`, an object as it was read.

        The same event within an hour becomes one series with a count. Never raises for what the
        API server says: an Event that is lost is logged.
        """
        note = Note(regarding, type, reason, message, action)
        now = self._clock.now()
        step = self._series.next(note, now)
        if step is None:
            return
        try:
            await self._write_event(note, step, now)
        except ClusterError as error:
            self._series.forget(note)
            log_lost(note, error)

    async def _write_event(self, note: Note, step: Step, now: datetime) -> None:
        if step.series is not None:
            request = Request(
                Verb.PATCH,
                resources.EVENTS,
                note.namespace,
                step.name,
                body={"series": step.series},
                content_type="application/merge-patch+json",
            )
            try:
                await self._write(request)
                return
            except NotFound:  # the API server forgets Events, by default after an hour
                step = self._series.restart(note, now)
        body = event_body(note, step.name, self._reporting_instance, now)
        await self._write(Request(Verb.CREATE, resources.EVENTS, note.namespace, body=body))

    async def _get(self, resource: Resource, namespace: str, name: str) -> Raw | None:
        try:
            return await self._read(Request(Verb.GET, resource, namespace, name))
        except NotFound:
            return None

    async def _list(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[Raw]:
        going_on = ""
        while True:
            page_query = {**(query or {}), "limit": str(PAGE)}
            if going_on:
                page_query["continue"] = going_on
            request = Request(Verb.LIST, resource, namespace, query=page_query)
            page = await self._read(request)
            for item in cast(Sequence[msgspec.Raw], page["items"]):
                yield parse_item(request, item)
            metadata = cast(Raw, page["metadata"])
            going_on = str(metadata.get("continue") or "")
            if not going_on:
                return

    async def _read(self, request: Request) -> Raw:
        return await self._connection.read(request)

    async def _write(self, request: Request) -> Raw:
        return await self._connection.write(request, fence=self._fence)


def label_selector(selector: Raw) -> str:
    """A metav1.LabelSelector in the notation of a query. Raises ValueError for an empty one,
    which would choose every pod."""
    parts = [f"{key}={value}" for key, value in _items(selector.get("matchLabels"))]
    for rule in cast(Sequence[Raw], selector.get("matchExpressions") or ()):
        key, values = rule["key"], ",".join(cast(Sequence[str], rule.get("values") or ()))
        match rule["operator"]:
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(f"{key}")
            case "DoesNotExist":
                parts.append(f"!{key}")
            case other:
                raise ValueError(f"unknown label selector operator {other!r}")
    if not parts:
        raise ValueError("an empty label selector would choose every pod of the namespace")
    return ",".join(parts)


def _items(labels: object) -> list[tuple[str, str]]:
    return sorted(cast(Mapping[str, str], labels or {}).items())
