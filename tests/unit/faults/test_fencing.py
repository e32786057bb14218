"""The judge of two operators: what it lets pass, and each thing that it must find."""

import json
from dataclasses import replace

import pytest

from tests.faults.calls import System
from tests.faults.fencing import judge
from tests.faults.line import Sent

NOON = 1_795_262_400.0  # 2026-11-21T12:00:00Z


def lease(line: str, at: float, version: int, *, holder: str | None = None, epoch: int = 1) -> Sent:
    """A write of the Lease that took effect; the API server answered after 10 ms."""
    record = {
        "metadata": {"resourceVersion": str(version)},
        "spec": {
            "holderIdentity": f"{line}_{epoch}" if holder is None else holder,
            "renewTime": f"2026-11-21T12:00:{at:09.6f}Z",
            "leaseDurationSeconds": 12,
        },
    }
    sent = write(line, at, epoch=epoch)
    answer = json.dumps(record).encode()
    path = "/apis/coordination.k8s.io/v1/namespaces/n/leases/podium-operator"
    return replace(sent, path=path, answer=answer, status=200, forwarded=sent.at,
                   answered=sent.at + 0.01)  # fmt: skip


def write(line: str, at: float, *, epoch: int = 1) -> Sent:
    return Sent(
        line=line,
        epoch=epoch,
        system=System.MLFLOW,
        method="POST",
        path="/alias",
        query={},
        authorization="",
        body=b"",
        at=NOON + at,
        name="set alias",
        writes=True,
    )


TERMS = [lease("a", 1, 1), lease("a", 3, 2), lease("b", 16, 3), lease("b", 18, 4)]


def test_writes_of_each_holder_in_its_time_pass() -> None:
    sent = [*TERMS, write("a", 2), write("a", 14.9), write("b", 16.02), write("b", 29)]
    assert judge(sent) == (4, [])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (write("a", 0.5), "before anybody held"),
        (write("a", 15.5), "0.500 s after its Lease ran out"),
        (write("a", 16.5), "after b_1 took the Lease"),
        (write("b", 14), "b sent set alias"),
        (write("b", 16.005), "b sent set alias"),  # before it was told that it leads
        (write("b", 30.5), "0.500 s after its Lease ran out"),
        (write("b", 20, epoch=2), "b sent set alias"),  # another process of the same name
    ],
)
def test_a_write_of_anybody_else_is_found(wrong: Sent, said: str) -> None:
    writes, found = judge([*TERMS, wrong])
    assert writes == 1
    assert len(found) == 1 and said in found[0], found


def test_a_lease_taken_before_it_ran_out_is_found() -> None:
    _, found = judge([lease("a", 1, 1), lease("b", 12.5, 2)])
    assert found == ["b_1 took a_1's Lease 0.500 s too early"]
    assert judge([lease("a", 1, 1), lease("a", 2, 2, holder=""), lease("b", 2.5, 3)]) == (0, [])


def test_after_a_release_nobody_may_write() -> None:
    _, found = judge([lease("a", 1, 1), lease("a", 2, 2, holder=""), write("a", 3)])
    assert len(found) == 1


def test_a_lease_write_that_was_refused_gives_nothing() -> None:
    refused = replace(lease("b", 16, 3), status=409)
    _, found = judge([lease("a", 1, 1), refused, write("b", 17)])
    assert len(found) == 1
