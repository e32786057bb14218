"""What can happen to one call of the operator, and to which calls it makes a difference."""

from dataclasses import dataclass
from enum import StrEnum

from tests.faults.calls import Call, System


class Fault(StrEnum):
    """What happens to one call."""

    KILL_BEFORE = "killed before it is sent"
    KILL_AFTER = "killed after it took effect"
    LOST = "took effect, the answer is lost"
    HANG = "took effect, no answer in time"
    CONFLICT = "409"
    THROTTLED = "429"
    ERROR = "500"
    BROKEN = "took effect, a broken body comes back"
    STALE = "an older answer"
    DELAYED = "killed; takes effect after the next operator acted"
    LATE = "killed; takes effect when all is at rest again"
    PAUSED = "paused beyond its Lease; takes effect when it goes on, beside the next leader"
    LAGGING = "at the end killed; the next one's LIST and watch show the time after this call"
    DELETED = "took effect; before its answer a user deletes the promotion, which watches tell late"
    AWAY = "took effect, then MLflow is away"
    KILL_AWAY = "took effect, killed, and MLflow is away when the next one starts"


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


_KUBERNETES_CONFLICT = (
    b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409,'
    b'"message":"the object has been modified"}'
)
ANSWERS = {
    Fault.CONFLICT: Answer(409, "application/json", _KUBERNETES_CONFLICT),
    Fault.THROTTLED: Answer(429, "application/json", b"{}", (("Retry-After", "1"),)),
    Fault.ERROR: Answer(500, "application/json", b'{"error_code":"INTERNAL_ERROR","message":"x"}'),
    Fault.BROKEN: Answer(200, "application/json", b'{"model_versions": [{"na'),
}

# Killing around a read is left out: the servers are then as they are when the operator is killed
# before its next write, which is a case of its own, and nothing else of it is left.
READ_FAULTS = (Fault.LOST, Fault.THROTTLED, Fault.ERROR, Fault.BROKEN, Fault.STALE)
# Calls of one telling: PAUSED takes a second operator's Lease, with DELETED the story is over, and
# what is LATE comes one after the other in the end, where it is to be soon. All others pass.
AT_MOST = {Fault.PAUSED: 1, Fault.DELETED: 1, Fault.LATE: 4}
ONE_CALL_FAULTS = (
    Fault.KILL_BEFORE,
    Fault.KILL_AFTER,
    Fault.LOST,
    Fault.HANG,
    Fault.CONFLICT,
    Fault.THROTTLED,
    Fault.ERROR,
    Fault.BROKEN,
    Fault.DELAYED,
)
MORE_FAULTS = (
    Fault.LATE,
    Fault.PAUSED,
    Fault.LAGGING,
    Fault.DELETED,
    Fault.AWAY,
    Fault.KILL_AWAY,
)


def faults_of(call: Call) -> tuple[Fault, ...]:
    """The faults that make sense for a call."""
    if not call.writes:
        return READ_FAULTS
    if call.is_event:  # nothing reads them: when one comes changes nothing
        return ONE_CALL_FAULTS
    left_out = set()
    if call.system is System.MLFLOW:  # which knows no optimistic locking
        left_out.add(Fault.CONFLICT)
    if not call.is_status:  # the promotion, which the LIST shows, is the same before and after
        left_out.add(Fault.LAGGING)
    return tuple(each for each in ONE_CALL_FAULTS + MORE_FAULTS if each not in left_out)
