"""What happens in one run, drawn from a seed before it begins: a story and a list of injections.

Each injection says itself in plain words, so that a short list is a short story.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.faults.calls import System
from tests.faults.schedules.network import FREEZES, KILLS, Break, Outage, Sort
from tests.faults.schedules.users import DEEDS, EDITS
from tests.faults.schedules.watching import KINDS
from tests.faults.stories import STORIES

WINDOW = 45.0  # seconds from the drive of the story in which things go wrong
REPLICAS = ("a", "b")
EACH = "each"


@dataclass(frozen=True)
class OnCall:
    """The n-th request of its sort, by whichever replica."""

    sort: Sort
    nth: int
    how: Break
    seconds: float

    def __str__(self) -> str:
        lasts = f" ({self.seconds:.0f} s)" if self.how in (*FREEZES, Break.LATE) else ""
        return f"{self.sort} number {self.nth}: {self.how}{lasts}"


@dataclass(frozen=True)
class Killed:
    at: float
    replica: str
    back_after: float
    politely: bool

    def __str__(self) -> str:
        how = "is told to stop" if self.politely else "is killed"
        return (
            f"at {self.at:.1f} s replica {self.replica} {how}, back {self.back_after:.1f} s later"
        )


@dataclass(frozen=True)
class Frozen:
    at: float
    replica: str
    seconds: float

    def __str__(self) -> str:
        return f"at {self.at:.1f} s replica {self.replica} is stopped for {self.seconds:.1f} s"


@dataclass(frozen=True)
class CutOff:
    at: float
    replica: str
    systems: tuple[System, ...]
    seconds: float

    def __str__(self) -> str:
        what = " and ".join(self.systems)
        return f"at {self.at:.1f} s {self.replica} is cut off from {what} for {self.seconds:.1f} s"


@dataclass(frozen=True)
class Away:
    at: float
    system: System
    how: Outage
    seconds: float

    def __str__(self) -> str:
        return f"at {self.at:.1f} s {self.system} {self.how} for {self.seconds:.1f} s"


@dataclass(frozen=True)
class ClockSet:
    at: float
    replica: str
    by: float

    def __str__(self) -> str:
        return f"at {self.at:.1f} s the time of day of {self.replica} is set by {self.by:+.1f} s"


@dataclass(frozen=True)
class Drifts:
    replica: str
    ratio: float

    def __str__(self) -> str:
        return f"the clock of {self.replica} is {self.ratio:+.1%} off"


@dataclass(frozen=True)
class Lags:
    at: float
    replica: str
    kind: str
    by: float
    seconds: float

    def __str__(self) -> str:
        when = f"from {self.at:.1f} s for {self.seconds:.1f} s"
        return f"{when} {self.replica} hears of {self.kind} {self.by:.1f} s late"


@dataclass(frozen=True)
class Event:
    """The n-th watch event of a kind at one replica."""

    replica: str
    kind: str
    nth: int
    lost: bool

    def __str__(self) -> str:
        how = "is lost" if self.lost else "comes twice"
        return f"event {self.nth} of {self.kind} {how} on its way to {self.replica}"


@dataclass(frozen=True)
class Compacted:
    at: float

    def __str__(self) -> str:
        return f"at {self.at:.1f} s etcd is compacted, and watches must list anew"


@dataclass(frozen=True)
class PodsRestart:
    """In place, as when their containers run out of memory."""

    at: float

    def __str__(self) -> str:
        return f"at {self.at:.1f} s the containers of each pod that runs restart in place"


@dataclass(frozen=True)
class UserDoes:
    at: float
    deed: str

    def __str__(self) -> str:
        return f"at {self.at:.1f} s somebody {self.deed}"


Injection = (
    OnCall
    | Killed
    | Frozen
    | CutOff
    | Away
    | ClockSet
    | Drifts
    | Lags
    | Event
    | Compacted
    | PodsRestart
    | UserDoes
)
FAR = 60.0  # seconds by which a clock is set so that a deadline may be over


@dataclass(frozen=True)
class Schedule:
    """`seed` also draws what is no injection: latencies, uids, jitter."""

    seed: str
    story: str
    replicas: int
    injections: tuple[Injection, ...]

    @property
    def meddled(self) -> bool:
        """Whether the story may end otherwise than it says, if only in a state worth being in."""
        return any(
            isinstance(one, UserDoes | PodsRestart)
            or (isinstance(one, ClockSet) and abs(one.by) >= FAR)
            for one in self.injections
        )

    def without(self, index: int) -> "Schedule":
        kept = self.injections[:index] + self.injections[index + 1 :]
        return replace(self, injections=kept)

    def words(self) -> list[str]:
        told = f"{self.story}, with {self.replicas} replica{'s' if self.replicas > 1 else ''}"
        return [f"seed {self.seed}: {told}", *(f"  - {one}" for one in self.injections)]


# A story more would change what each seed of docs/testing.md draws: this one is asked for by name.
DRAWN = tuple(name for name in STORIES if name != "approved")


def draw(seed: str, stories: tuple[str, ...] = DRAWN) -> Schedule:
    """The schedule of that seed; always the same."""
    rng = random.Random(f"{seed} schedule")
    replicas = rng.choice((1, 2, 2))
    story = rng.choice(stories)
    kinds = _KINDS if rng.random() < 0.45 else _KINDS[:-3]
    weights = [weight for weight, _ in kinds]
    makers = rng.choices([make for _, make in kinds], weights, k=rng.randint(1, 7))
    injections = [one for make in makers for one in make(rng, replicas)]
    return Schedule(seed, story, replicas, tuple(injections))


Some = tuple[Injection, ...]
Maker = Callable[[random.Random, int], Some]


def _at(rng: random.Random) -> float:
    return round(rng.uniform(0.0, WINDOW) * rng.random(), 3)  # more happens in the beginning


def _nth(rng: random.Random, most: int) -> int:
    return min(rng.randint(1, most), rng.randint(1, most))


def _whose(rng: random.Random, replicas: int) -> str:
    return rng.choice(REPLICAS[:replicas])


def _on_write(rng: random.Random, _: int) -> Some:
    hows = [how for how in Break if how is not Break.STALE]
    hows += [Break.KILLED_AFTER, Break.DELAYED, Break.LATE, Break.FROZEN, Break.HANGS]
    how = rng.choice(hows)
    return (OnCall(Sort.WRITE, _nth(rng, 30), how, round(rng.uniform(3.0, 30.0), 1)),)


def _on_read(rng: random.Random, _: int) -> Some:
    hows = [Break.LOST, Break.THROTTLED, Break.ERROR, Break.UNAVAILABLE, Break.BROKEN, Break.STALE]
    hows += [Break.STALE, Break.HANGS, Break.KILLED_BEFORE, Break.FROZEN]
    return (OnCall(Sort.READ, _nth(rng, 120), rng.choice(hows), round(rng.uniform(3.0, 30.0), 1)),)


def _on_lease(rng: random.Random, _: int) -> Some:
    hows = [*KILLS, *FREEZES, Break.LOST, Break.HANGS, Break.LATE, Break.CONFLICT, Break.ERROR]
    how = rng.choice(sorted(hows))
    return (OnCall(Sort.LEASE, rng.randint(1, 20), how, round(rng.uniform(3.0, 30.0), 1)),)


def _killed(rng: random.Random, replicas: int) -> Some:
    back = round(rng.choice((0.5, 3.0, 20.0)) * rng.random(), 3)
    return (Killed(_at(rng), _whose(rng, replicas), back, rng.random() < 0.3),)


def _frozen(rng: random.Random, replicas: int) -> Some:
    return (Frozen(_at(rng), _whose(rng, replicas), round(rng.uniform(1.0, 30.0), 1)),)


def _cut_off(rng: random.Random, replicas: int) -> Some:
    systems = rng.choice(
        ((System.KUBERNETES,), (System.MLFLOW,), (System.KUBERNETES, System.MLFLOW))
    )
    return (CutOff(_at(rng), _whose(rng, replicas), systems, round(rng.uniform(1.0, 40.0), 1)),)


def _away(rng: random.Random, _: int) -> Some:
    system = rng.choice((System.MLFLOW, System.MLFLOW, System.KUBERNETES))
    return (Away(_at(rng), system, rng.choice(list(Outage)), round(rng.uniform(1.0, 40.0), 1)),)


def _clock_set(rng: random.Random, replicas: int) -> Some:
    by = rng.choice((1.0, 5.0, 5.0, 3600.0)) * rng.uniform(-1.0, 1.0)
    return (ClockSet(_at(rng), _whose(rng, replicas), round(by, 1)),)


def _drifts(rng: random.Random, replicas: int) -> Some:
    return (Drifts(_whose(rng, replicas), round(rng.uniform(-0.02, 0.02), 4)),)


def _lags(rng: random.Random, replicas: int) -> Some:
    kind = rng.choice(list(KINDS))
    by, seconds = round(rng.uniform(0.2, 15.0), 2), round(rng.uniform(1.0, 40.0), 1)
    at, whose = rng.choice((0.0, _at(rng))), rng.choice((*REPLICAS[:replicas], EACH))
    names = REPLICAS[:replicas] if whose == EACH else (whose,)
    return tuple(Lags(at, name, kind, by, seconds) for name in names)


def _event(rng: random.Random, replicas: int) -> Some:
    kind = rng.choice(list(KINDS))
    return (Event(_whose(rng, replicas), kind, rng.randint(1, 25), rng.random() < 0.8),)


def _compacted(rng: random.Random, _: int) -> Some:
    return (Compacted(_at(rng)),)


def _pods_restart(rng: random.Random, _: int) -> Some:
    return (PodsRestart(_at(rng)),)


def _user_does(rng: random.Random, _: int) -> Some:
    return (UserDoes(_at(rng), rng.choice(list(DEEDS))),)


def _relay(rng: random.Random, replicas: int) -> Some:
    """Both lead in turn, and the first comes back with what it knew when it went."""
    if replicas == 1:
        return _killed(rng, replicas) + _lags(rng, replicas)
    at, asleep = _at(rng), round(rng.uniform(13.0, 40.0), 1)
    lag = round(rng.uniform(1.0, 15.0), 1)
    first, second = rng.sample(REPLICAS, 2)
    return (
        Frozen(at, first, asleep),
        Lags(at, first, "modelpromotions", lag, asleep + 30.0),
        Killed(round(at + asleep - 1.0, 3), second, 20.0, rng.random() < 0.7),
    )


def _unheard(rng: random.Random, replicas: int) -> Some:
    """Somebody changes the promotion, and the watch tells late."""
    at, lag = round(rng.uniform(0.0, 3.0), 3), round(rng.uniform(1.0, 15.0), 1)
    lags = (Lags(0.0, each, "modelpromotions", lag, 30.0) for each in REPLICAS[:replicas])
    return (*lags, UserDoes(at, rng.choice(EDITS)))


# The last three change how a story may end.
_KINDS: tuple[tuple[float, Maker], ...] = (
    (5.0, _on_write),
    (2.0, _on_read),
    (1.0, _on_lease),
    (1.5, _killed),
    (1.0, _frozen),
    (1.0, _cut_off),
    (1.5, _away),
    (0.7, _clock_set),
    (0.3, _drifts),
    (1.0, _lags),
    (1.0, _event),
    (0.4, _compacted),
    (1.0, _relay),
    (1.0, _pods_restart),
    (1.0, _unheard),
    (5.0, _user_does),
)
