"""Events of events.k8s.io/v1: what they carry, and which of them are the same one again.

Keeps the API server's Event store small: the second occurrence within an hour makes a series,
and further ones are counted here and written at most every five minutes. Sends nothing.
"""

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from podium.cluster.errors import ClusterError
from podium.cluster.resources import Raw
from podium.engine.decision import EventType

REPORTING_CONTROLLER = "podium.dev/operator"
SAME_WITHIN = timedelta(hours=1)
REWRITE_AFTER = timedelta(minutes=5)
REMEMBERED = 4096
MAX_NOTE_BYTES = 1024  # the API server's limit

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """One thing that happened to one object."""

    regarding: Raw
    type: EventType
    reason: str
    message: str
    action: str

    @property
    def _metadata(self) -> Raw:
        return cast(Raw, self.regarding.get("metadata") or {})

    @property
    def namespace(self) -> str:
        return str(self._metadata.get("namespace") or "default")

    @property
    def name(self) -> str:
        return str(self._metadata.get("name") or "")

    @property
    def key(self) -> bytes:
        """A digest, because thousands are remembered and messages are long."""
        said = (str(self._metadata.get("uid") or ""), self.reason, self.message)
        return hashlib.blake2b("\0".join(said).encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Step:
    """What to write: a new Event of that name, or the series of the one that there is."""

    name: str
    series: Raw | None = None


@dataclass(slots=True)
class _Seen:
    name: str
    first: datetime
    count: int
    written: datetime


class EventSeries:
    """Remembers the Events of the last hour, the newest few thousand."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._remembered = remembered

    def next(self, note: Note, now: datetime) -> Step | None:
        """What this occurrence asks to write; None: it is only counted."""
        seen = self._seen.get(note.key)
        if seen is None or now - seen.first >= SAME_WITHIN:
            return self.restart(note, now)
        seen.count += 1
        if seen.count > 2 and now - seen.written < REWRITE_AFTER:
            return None
        seen.written = now
        return Step(seen.name, {"count": seen.count, "lastObservedTime": micro_time(now)})

    def restart(self, note: Note, now: datetime) -> Step:
        """Begins with a new Event, whatever was there before."""
        key = note.key
        unique = f"{int(now.timestamp() * 1e6):x}.{key[:3].hex()}"
        name = f"{note.name[:220]}.{unique}"
        self._seen[key] = _Seen(name, first=now, count=1, written=now)
        self._seen.move_to_end(key)
        while len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return Step(name)

    def forget(self, note: Note) -> None:
        """The write failed: the next occurrence is a first one."""
        self._seen.pop(note.key, None)


def event_body(note: Note, name: str, instance: str, now: datetime) -> Raw:
    """The events.k8s.io/v1 Event."""
    metadata = note._metadata
    regarding = {
        "apiVersion": note.regarding.get("apiVersion"),
        "kind": note.regarding.get("kind"),
        "namespace": note.namespace,
        "name": note.name,
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": note.namespace},
        "eventTime": micro_time(now),
        "type": note.type.value,
        "reason": note.reason[:128],
        "action": note.action[:128],
        "note": _cut(note.message, MAX_NOTE_BYTES),
        "regarding": {key: value for key, value in regarding.items() if value},
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance[:128],
    }


def log_lost(note: Note, error: ClusterError) -> None:
    _log.warning("Event %s of %s/%s is lost: %s", note.reason, note.namespace, note.name, error)


def micro_time(when: datetime) -> str:
    """metav1.MicroTime."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _cut(text: str, size: int) -> str:
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    return encoded[: size - 3].decode(errors="ignore") + "…"
