"""Stories are told the same as before: every word, ledger field, event and action.

A test that takes `retold` compares what its worlds said with transcripts/NAME.txt. After a change
that is meant, `PODIUM_RETELL=1 make test-unit` writes them anew; read the difference.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.engine.transcript import compare
from tests.unit.engine.world import World

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@pytest.fixture
def retold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "wipe_at" in request.fixturenames:  # what a lost status costs is another story each time
        yield
        return
    worlds: list[World] = []
    monkeypatch.setattr(World, "made", worlds)
    yield
    text = "\n\n".join("\n".join(world.told) for world in worlds) + "\n"
    name = re.sub(r"[^\w.-]+", "-", request.node.name.removeprefix("test_")).strip("-")
    compare(text, TRANSCRIPTS / f"{name}.txt")
