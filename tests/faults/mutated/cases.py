"""Which changes are played: as many from the schemas as are wanted, drawn by a seed so that every
field has its turn before one has a second; and half as many that somebody thought of."""

import random
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from tests.faults.mutated import bases, semantic
from tests.faults.mutated.changes import MID_ATTEMPT, Change, Moment, changes_of
from tests.faults.mutated.trial import Case, of_change

IMMUTABLE = ("spec.model", "spec.alias", "spec.registryRef")


def chosen(count: int, seed: int) -> list[Case]:
    """`count` cases from the schemas and half as many others; the same for the same arguments. Of
    those that somebody thought of, each has its turn at one moment before any has a second."""
    draw = random.Random(seed)
    thought_of = _thought_of(draw)[: max(count // 2, 1)]
    found = {case.name: case for case in thought_of}
    for case in _from_schemas(draw):
        if len(found) >= count + len(thought_of):
            break
        if case.change is None or not case.change.changes_nothing:
            found.setdefault(case.name, case)
    return list(found.values())


def every(seed: int) -> list[Case]:
    """All there are: what somebody thought of at every moment, the schema's at a drawn one."""
    return [*all_thought_of(), *_from_schemas(random.Random(seed))]


def all_thought_of() -> list[Case]:
    """At every moment."""
    found: list[Case] = []
    for moment in Moment:
        found += semantic.of_specs(moment)
        if moment is not Moment.CREATED:
            found += [*semantic.of_world(moment), *semantic.of_registry(moment)]
        found += semantic.of_decisions(moment)
    return found


def _thought_of(draw: random.Random) -> list[Case]:
    """Each once at a drawn moment; then the rest, in a drawn order."""
    by_words: dict[str, list[Case]] = defaultdict(list)
    for case in all_thought_of():
        by_words[case.name.partition("/")[2]].append(case)
    first, rest = [], []
    for same in by_words.values():
        draw.shuffle(same)
        first.append(same[0])
        rest += same[1:]
    draw.shuffle(rest)
    return first + rest


def _from_schemas(draw: random.Random) -> Iterator[Case]:
    """Fields in a drawn order, each with one of its changes; then each with its next one."""
    by_field: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in _all_from_schemas(draw):
        by_field[case.kind, case.field].append(case)
    fields = sorted(by_field)
    for same in by_field.values():
        draw.shuffle(same)
    while fields:
        draw.shuffle(fields)
        for field in fields:
            yield by_field[field].pop()
        fields = [field for field in fields if by_field[field]]


def _all_from_schemas(draw: random.Random) -> Iterator[Case]:
    for name, base in bases.PROMOTIONS.items():
        for change in _changes("ModelPromotion", name):
            yield _at_some_moment(change, draw, base)
    for change in _changes("ModelRegistry", ""):
        yield of_change(change, draw.choice((Moment.AT_REST, *MID_ATTEMPT)))
    for action in bases.DECISIONS:
        for change in _changes("PromotionDecision", action):
            yield of_change(change, bases.moment_of(action))


@cache
def _changes(kind: str, name: str) -> tuple[Change, ...]:
    """Of the base of that name."""
    if kind == "ModelRegistry":
        return tuple(changes_of(kind, bases.REGISTRY))
    promotion = kind == "ModelPromotion"
    return tuple(changes_of(kind, bases.PROMOTIONS[name] if promotion else bases.decision(name)))


def _at_some_moment(change: Change, draw: random.Random, base: bases.Spec) -> Case:
    created = change.field.startswith(IMMUTABLE)
    often = [Moment.CREATED] * (14 if created else 2) + [Moment.AT_REST] * 6
    moment = draw.choice((*often, *MID_ATTEMPT))
    if moment not in MID_ATTEMPT:
        return of_change(change, moment, base)
    same = _changes_at(moment).get((change.field, change.what))
    return of_change(same, moment) if same else of_change(change, Moment.AT_REST, base)


@cache
def _changes_at(moment: Moment) -> dict[tuple[str, str], Change]:
    """The changes of the promotion that is valid at that moment."""
    found = changes_of("ModelPromotion", bases.promotion_at(moment))
    return {(change.field, change.what): change for change in found}
