"""What is kept of objects is small, and is what it was."""

import msgspec
import pytest

from podium.runtime import packing
from tests.unit.runtime.test_cache import promotion


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 500])
def test_anything_comes_back_as_it_was(content: bytes) -> None:
    assert packing.unpack(packing.pack(content)) == content


def test_an_object_of_the_usual_kind_becomes_a_fraction() -> None:
    content = msgspec.json.encode(promotion("p", 4))
    assert len(packing.pack(content)) < len(content) / 2
