"""What gates look at, as values. The gatherer in `runtime` reads them beforehand.

A fact that could not be read is `Unreadable`, with the reason in words: a gate that needs it
says Error, which is tried again and is never a verdict about the version.
"""

from dataclasses import dataclass
from datetime import datetime

from podium.engine.observation import VersionState
from podium.registry.model import LoggedModel, Run


@dataclass(frozen=True)
class Unreadable:
    """Why a fact is not known at the moment: what happened and what to do next."""

    message: str


@dataclass(frozen=True)
class VersionFacts:
    """One version. `run` and `logged_model` None: MLflow records none for it."""

    version: VersionState
    run: Run | Unreadable | None = None
    logged_model: LoggedModel | Unreadable | None = None


@dataclass(frozen=True)
class GateFacts:
    """Everything that a gate may depend on, besides the time.

    `champion` is the version to compare with: None when there is none yet.
    """

    candidate: VersionFacts
    champion: VersionFacts | Unreadable | None = None
    candidate_since: datetime | None = None
