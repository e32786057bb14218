"""What each simulated container serves: the version that it loaded when it started.

No containers run on simulated nodes. A pod whose template pins a version serves that; any other
asks MLflow for the alias at the moment that its container starts, as `models:/churn@champion`
does, and serves what it got until it starts again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.world import State


@dataclass
class Containers:
    """`alias` asks MLflow where an alias points; `of` says which one a Deployment's pods load."""

    alias: Callable[[str], str | None]
    of: Callable[[str], str]
    loaded: dict[tuple[str, int], str | None] = field(default_factory=dict)

    async def saw(self, pod: dict[str, Any]) -> None:
        """Notes what the pod's container loaded, if it has started since it was seen last."""
        if self._is_new(pod):
            await asyncio.to_thread(self.see, pod)

    def see(self, pod: dict[str, Any]) -> None:
        """The same, at once: `alias` may block."""
        start = _start(pod)
        if start is not None and self._is_new(pod):
            self.loaded[start] = _pinned(pod) or self.alias(self.of(_app(pod)))

    def _is_new(self, pod: dict[str, Any]) -> bool:
        start = _start(pod)
        return start is not None and start not in self.loaded

    def strangers(self, state: State) -> list[str]:
        """Pods that run and serve another version than the one that their alias is at."""
        aliases = {each["alias"]: each["version"] for each in state.model.get("aliases", [])}
        found = []
        for pod in state.pods:
            start = _start(pod)
            if start is None or pod["metadata"].get("deletionTimestamp"):
                continue
            serves, champion = self.loaded.get(start), aliases.get(self.of(_app(pod)))
            if serves != champion:
                name = pod["metadata"]["name"]
                found.append(f"pod {name} serves {serves}, the champion is {champion}")
        return found


def _start(pod: dict[str, Any]) -> tuple[str, int] | None:
    """Which start of the container this is; None while it does not run."""
    for container in (pod.get("status") or {}).get("containerStatuses", []):
        if container["name"] == "server" and "running" in (container.get("state") or {}):
            return pod["metadata"]["uid"], int(container.get("restartCount", 0))
    return None


def _app(pod: dict[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get("app", ""))


def _pinned(pod: dict[str, Any]) -> str | None:
    for container in pod["spec"]["containers"]:
        for variable in container.get("env", []):
            if variable["name"] == "MODEL_URI" and variable.get("value"):
                return str(variable["value"]).rpartition("/")[2]
    return None
