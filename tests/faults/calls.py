"""What a request of the operator is: a short name that is the same in each run of a story.

Calls are found by recording, not listed by hand. A write is named by what it does and how
often it was done before; a read by what it reads, since which write. So that a call of the
recording is found again in the next run, names hold no time, uid or resourceVersion.
"""

import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_KUBERNETES = re.compile(
    r"/apis?(?:/(?P<group>[a-z.0-9]+\.[a-z.0-9]+|apps|autoscaling))?/v[0-9a-z]+"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
_MLFLOW = re.compile(r".*/mlflow/(?P<what>.+)")
_WHOSE = ("modelpromotions", "deployments")  # what is only written for one promotion
_CHAIN_TAGS = ("ledger", "head", "owner")
USUAL = "p"  # the promotion of most stories; names of calls leave it out


class System(StrEnum):
    KUBERNETES = "kubernetes"
    MLFLOW = "mlflow"


@dataclass(frozen=True, order=True)
class Call:
    """`name` is what is asked, `after` the write before a read, `nth` counts from 1."""

    system: System
    name: str
    writes: bool
    after: str
    nth: int

    @property
    def is_event(self) -> bool:
        return self.writes and self.name.split()[1] == "events"

    @property
    def is_status(self) -> bool:
        """A write of a promotion's status."""
        return self.name.startswith("update modelpromotions/status")

    def __str__(self) -> str:
        since = f" after {self.after}" if self.after else ""
        return f"{self.name} #{self.nth}{since}" if self.writes else f"{self.name}{since}"


@dataclass(frozen=True)
class Asked:
    """A request as it came: before it is known how often it came before."""

    system: System
    name: str
    writes: bool
    what: str = ""  # of a write: the kind of thing it changes
    value: str = ""  # of a write: what it changes that to
    of: str = ""  # the promotion, Deployment or alias (in some tags its hash) that it is about


@dataclass
class Counting:
    """Gives requests their names as calls; one per run of a story."""

    last_write: str = ""
    writes: Counter[str] = field(default_factory=Counter)
    reads: Counter[tuple[str, str]] = field(default_factory=Counter)

    def name(self, asked: Asked) -> Call:
        if asked.writes:
            self.writes[asked.name] += 1
            nth = self.writes[asked.name]
            self.last_write = f"{asked.name} #{nth}"
            return Call(asked.system, asked.name, True, "", nth)
        key = (asked.name, self.last_write)
        self.reads[key] += 1
        return Call(asked.system, asked.name, False, self.last_write, self.reads[key])


def kubernetes(method: str, path: str, query: Mapping[str, str], body: bytes) -> Asked | None:
    """None for what is no call of a story: watches and the Lease."""
    found = _KUBERNETES.fullmatch(path)
    if found is None or query.get("watch") or found["plural"] == "leases":
        return None
    plural = found["plural"] + (f"/{found['sub']}" if found["sub"] else "")
    of = found["name"] or "" if found["plural"] in _WHOSE else ""
    if method == "GET":
        verb = "get" if found["name"] else "list"
        return Asked(System.KUBERNETES, f"{verb} {plural}", False, of=of)
    sent = _parse(body)
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method, method.lower())
    value = _kubernetes_value(plural, found["name"], sent)
    return Asked(System.KUBERNETES, f"{verb} {plural} {value}".strip(), True, plural, value, of)


def mlflow(method: str, path: str, query: Mapping[str, str], body: bytes) -> Asked | None:
    """None for /health and /version."""
    found = _MLFLOW.fullmatch(path)
    if found is None:
        return None
    what = found["what"]
    if method == "GET" or what.endswith("/search"):
        return Asked(System.MLFLOW, f"get {what}", False)
    sent = _parse(body)
    value, of = str(sent.get("version", "")), str(sent.get("alias", ""))
    if "stage" in sent:
        value += f" {sent['stage']}"
    if "key" in sent:
        value = f"{value} {_tag(str(sent['key']))}".strip()
        of = _alias_of_tag(str(sent["key"]))
    return Asked(System.MLFLOW, f"{method.lower()} {what} {value}".strip(), True, what, value, of)


def _kubernetes_value(plural: str, name: str | None, sent: Mapping[str, Any]) -> str:
    if plural == "modelpromotions/status":
        status = sent.get("status") or {}
        attempt = status.get("attempt") or {}
        history = status.get("history") or [{}]
        action = history[-1].get("action", "")
        whose = name if name != USUAL else ""
        parts = (whose, attempt.get("version"), attempt.get("phase"), action)
        return "/".join(filter(None, parts))
    if plural == "deployments":
        template = (sent.get("spec") or {}).get("template") or {}
        annotations = (template.get("metadata") or {}).get("annotations") or {}
        return str(annotations.get("podium.dev/model-version", ""))
    if plural == "events":
        return str(sent.get("reason", ""))
    if plural.endswith("/status"):
        return str((sent.get("status") or {}).get("outcome", ""))
    return ""


def _tag(key: str) -> str:
    return re.sub(r"/[0-9a-f]{16}(?=/|$)", "", key)


def _alias_of_tag(key: str) -> str:
    """Of `podium.dev/head/HASH` the hash, of `podium.dev/champion/phase` the alias."""
    parts = key.split("/")
    return next((part for part in parts[1:] if part not in _CHAIN_TAGS), "")


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def query_of(raw: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(raw, keep_blank_values=True))
