"""The model that the stories are about, and worlds in which it was promoted before."""

from tests.unit.engine.world import World

GATE = {"name": "accuracy", "metric": {"key": "accuracy", "bound": {"min": "0.9"}}}
COMPARE = {"name": "better", "metric": {"key": "accuracy", "compare": {"goal": "Maximize"}}}
TARGET = {"name": "api", "deployment": {"name": "api", "container": "server"}}
PINNED = {**TARGET, "modelSource": {"type": "Version", "envVar": "MODEL_URI"}}


def another(target: dict[str, object], name: str) -> dict[str, object]:
    return {**target, "name": name, "deployment": {"name": name, "container": "server"}}


def world(**spec: object) -> World:
    """A promotion of iris; `candidate=None` leaves the selector out."""
    base: dict[str, object] = {
        "model": "iris",
        "candidate": {"latest": {}},
        "gates": [GATE],
        "targets": [TARGET],
    }
    return World({key: value for key, value in {**base, **spec}.items() if value is not None})


def grown(**spec: object) -> World:
    """1 and then 2 were promoted; what is told begins after it."""
    w = world(**spec)
    w.register("1")
    w.run()
    w.register("2")
    w.run()
    w.told.clear()
    return w


def moves(w: World) -> list[str]:
    """What was sent to the alias and to targets, in order."""
    return [line.split("(")[0] for line in w.log if line.startswith(("SetAlias", "ApplyTarget"))]
