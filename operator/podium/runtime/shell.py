"""kopf as the watch: the only file that imports it.

No finalizers, annotations, timers, daemons or retries of kopf's own: handlers hand the event on
and return. What an event means is `hints`.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import kopf

from podium.runtime.hints import Hints

GROUP, VERSION = "podium.dev", "v1alpha1"


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    # An idle worker per object is what costs memory: 193 -> 59 MB at 10,000 objects (measured).
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 2.0
    settings.watching.chunk_size = 500
    # A watch whose connection died silently is replaced by its deadline, or by silence.
    settings.watching.server_timeout = 300  # Kubernetes takes whole seconds only
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10.0
    settings.networking.request_timeout = 30.0
    return settings


def _registry(hints: Hints) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator]
    async def login(**about: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**about) or kopf.login_with_kubeconfig(**about)

    @kopf.on.event(GROUP, VERSION, "modelpromotions", registry=registry)  # type: ignore[untyped-decorator]
    async def promotion(event: Mapping[str, Any], **_: Any) -> None:
        hints.promotion(event["type"], event["object"])

    @kopf.on.event(GROUP, VERSION, "promotiondecisions", registry=registry)  # type: ignore[untyped-decorator]
    async def decision(event: Mapping[str, Any], **_: Any) -> None:
        hints.decision(event["type"], event["object"])

    @kopf.on.event(GROUP, VERSION, "modelregistries", registry=registry)  # type: ignore[untyped-decorator]
    async def model_registry(event: Mapping[str, Any], **_: Any) -> None:
        hints.registry(event["type"], event["object"])

    @kopf.on.event("apps", "v1", "deployments", registry=registry)  # type: ignore[untyped-decorator]
    async def deployment(event: Mapping[str, Any], **_: Any) -> None:
        hints.deployment(event["type"], event["object"])

    return registry


async def watch(
    hints: Hints, namespaces: tuple[str, ...], stop: asyncio.Event, ready: asyncio.Event
) -> None:
    """Watches until `stop`. Ends with an error when kopf gives up: the process then restarts."""
    await kopf.operator(
        registry=_registry(hints),
        settings=_settings(),
        # Else kopf asks for the name of the user, and a container's user may have none.
        identity="podium-operator",
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        ready_flag=ready,
    )
