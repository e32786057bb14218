"""What people and their pipelines do all day: one deed at a time, drawn by a seed.

A deed that meets a server in mid-restart is skipped and counted.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.faults.soak.town import AWAY, Quarter, Town

MOST_SUSPENDED = 3
Deed = Callable[["Churn", Quarter], None]


class Churn:
    def __init__(self, town: Town, seed: int) -> None:
        self._town = town
        self._draw = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._approved: set[tuple[str, str, str]] = set()

    def step(self) -> None:
        """One deed at one promotion; and what a careful person does for all: approvals."""
        quarter = self._draw.choice(self._town.quarters)
        name = self._draw.choices(list(_DEEDS), [weight for _, weight in _DEEDS.values()])[0]
        try:
            _DEEDS[name][0](self, quarter)
            self.done[name] += 1
        except AWAY:
            self.skipped[name] += 1

    def crash(self) -> None:
        """Pods of versions that are meant to crash do so, whenever they come."""
        by_name = {each.name: each for each in self._town.quarters}
        try:
            for pod in self._town.pods():
                metadata = pod["metadata"]
                quarter = by_name.get(str((metadata.get("labels") or {}).get("app")))
                annotations = metadata.get("annotations") or {}
                version = annotations.get("podium.dev/model-version", "")
                if quarter is None or "podium.dev/kwok-fault" in annotations:
                    continue
                if quarter.versions.get(version) == "crashing":
                    self._town.spoil(pod, "crash")
        except AWAY:
            self.skipped["crash"] += 1

    def approve(self, promotions: dict[str, dict[str, Any]]) -> None:
        for quarter in self._town.quarters:
            attempt = promotions.get(quarter.name, {}).get("status", {}).get("attempt", {})
            asked = (quarter.name, str(attempt.get("id")), str(attempt.get("evidenceDigest")))
            if attempt.get("phase") != "AwaitingApproval" or asked in self._approved:
                continue
            try:
                self._town.decide(
                    quarter,
                    "Approve",
                    attemptID=attempt["id"],
                    evidenceDigest=attempt["evidenceDigest"],
                )
                self._approved.add(asked)
                self.done["approve"] += 1
            except AWAY:
                self.skipped["approve"] += 1

    # Deeds

    def register_good(self, quarter: Quarter) -> None:
        self._follow(quarter, self._town.register(quarter, "good"))

    def register_bad(self, quarter: Quarter) -> None:
        self._follow(quarter, self._town.register(quarter, "bad"))

    def register_crashing(self, quarter: Quarter) -> None:
        self._follow(quarter, self._town.register(quarter, "crashing"))

    def _follow(self, quarter: Quarter, version: str) -> None:
        """Without a selector, a new version is tried when somebody moves the alias."""
        if quarter.follows:
            self._town.move(quarter, version)

    def drift(self, quarter: Quarter) -> None:
        self._town.move(quarter, self._draw.choice(list(quarter.versions)))

    def roll_back(self, quarter: Quarter) -> None:
        self._town.decide(quarter, "Rollback", reason="answers look wrong")

    def hold(self, quarter: Quarter) -> None:
        self._town.decide(quarter, "Hold", reason="a holiday")

    def release(self, quarter: Quarter) -> None:
        self._town.decide(quarter, "Release")

    def release_version(self, quarter: Quarter) -> None:
        self._town.decide(quarter, "Release", version=self._draw.choice(list(quarter.versions)))

    def retry(self, quarter: Quarter) -> None:
        self._town.decide(quarter, "Retry", version=self._draw.choice(list(quarter.versions)))

    def reject(self, quarter: Quarter) -> None:
        newest = max(quarter.versions, key=int)
        self._town.decide(quarter, "Reject", version=newest, reason="not this one")

    def suspend(self, quarter: Quarter) -> None:
        """Few at a time: what is suspended takes no part."""
        suspended = [each for each in self._town.quarters if each.suspended]
        if len(suspended) > MOST_SUSPENDED:
            quarter = self._draw.choice(suspended)
        self._town.suspend(quarter, not quarter.suspended)

    def make_anew(self, quarter: Quarter) -> None:
        """Deleted and created again, as a Git tool does that prunes and syncs."""
        path = quarter.world.path("modelpromotions", quarter.name)
        self._town.api.call("DELETE", path)
        self._town.promote(quarter)

    def renew(self, quarter: Quarter) -> None:
        self._town.renew(quarter)

    def forget(self, quarter: Quarter) -> None:
        """Status is lost, as after a restore from a backup."""
        path = quarter.world.path("modelpromotions", quarter.name) + "/status"
        patch = [{"op": "replace", "path": "/status", "value": {}}]
        self._town.api.call("PATCH", path, patch, "application/json-patch+json")


_DEEDS: dict[str, tuple[Deed, int]] = {
    "a good version": (Churn.register_good, 30),
    "a bad version": (Churn.register_bad, 10),
    "a crashing version": (Churn.register_crashing, 10),
    "the alias is moved": (Churn.drift, 10),
    "Rollback": (Churn.roll_back, 5),
    "Hold": (Churn.hold, 3),
    "Release": (Churn.release, 12),
    "Release of a version": (Churn.release_version, 5),
    "Retry": (Churn.retry, 3),
    "Reject": (Churn.reject, 3),
    "suspend, or no longer": (Churn.suspend, 6),
    "deleted and made again": (Churn.make_anew, 2),
    "status lost": (Churn.forget, 1),
    "a model given up for another": (Churn.renew, 10),
}
