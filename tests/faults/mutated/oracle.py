"""What must be true after a change, told from the docs and not from the operator's code.

A small second opinion: which version a spec chooses, whether it passes the gates, which reasons
are documented, and whether alias, Deployments and status agree. It knows nothing of phases.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from tests.faults.invariants import Watch
from tests.faults.mutated.api import Answer
from tests.faults.mutated.scene import ENDED, GOOD, Scene, condition, describe, is_true
from tests.faults.stories import STORIES
from tests.faults.world import State, World

DOCS = Path(__file__).parents[3] / "docs"
_ROW = re.compile(r"^\| `(\w+)` \| .+ \| (?:nobody|you) \|", re.MULTILINE)
HAPPY = frozenset({"ChampionServed", "NoAttempt", "UpToDate", "Connected"})
REFUSED_BEFORE = frozenset({"CandidateBlocked", "Quarantined", "Held"})
SENTENCE = 12  # characters: shorter says nothing


@cache
def documented() -> frozenset[str]:
    """Every reason of docs/reasons.md."""
    return frozenset(_ROW.findall((DOCS / "reasons.md").read_text()))


def unclear_refusal(answer: Answer, field: str) -> str | None:
    """Why a refusal is no help: it must name the field (or what holds it, or is in it) and say
    something about it. None: it helps."""
    text = answer.message
    if answer.status not in (400, 422):
        return f"refused with {answer.status}: {text}"
    if answer.status == 400:  # what strict decoding finds has no causes
        return None if _last_name(field) in text else f"{field} is not named: {text}"
    for named, sentence in answer.causes:
        if _related(named, field) and len(sentence) >= SENTENCE and " " in sentence:
            return None
    return f"no cause is about {field}: {answer.causes or text}"


def _last_name(field: str) -> str:
    return re.split(r"[.\[]", re.sub(r"\[\d+\]", "", field))[-1]


def _related(named: str, field: str) -> bool:
    """Lists in causes are `gates[0].name`, or `gates` alone, or for duplicates `gates[2]`."""
    one, other = (re.sub(r"\[[^\]]*\]", "", each) for each in (named, field))
    one, other = one.removeprefix("spec."), other.removeprefix("spec.")
    if one == "<nil>":  # that further rules were not looked at
        return False
    if one in ("", "spec") or other in ("", "spec"):
        return True
    return one.startswith(other) or other.startswith(one) or one.split(".")[0] in other


# What a spec chooses


def chosen(spec: Mapping[str, Any], state: State, highest: int) -> str | None:
    """The version that spec.candidate points at; None: none, or whoever moves the alias says."""
    selector = spec.get("candidate")
    if selector is None:
        return None
    ready = {number: v for number, v in state.versions.items() if v["status"] == "READY"}
    found: str | None = None
    if "version" in selector:
        found = selector["version"]
    elif "alias" in selector:
        aliases = {each["alias"]: each["version"] for each in state.model.get("aliases", [])}
        found = aliases.get(selector["alias"])
    elif "stage" in selector:
        found = _newest(n for n, v in ready.items() if v["current_stage"] == selector["stage"])
    elif "latest" in selector:
        wanted = (selector["latest"] or {}).get("matchTags") or {}
        found = _newest(n for n, v in ready.items() if wanted.items() <= tags(v).items())
        if found is not None and int(found) < highest:
            return None
    return found if found in ready else None


def _newest(numbers: Any) -> str | None:
    return max(numbers, key=int, default=None)


def may_pass(spec: Mapping[str, Any], version: str, scene: Scene, state: State) -> bool:
    """Whether no gate says for sure that this version must not be promoted."""
    return all(
        gate.get("dryRun") or _gate_may_pass(gate, version, scene, state)
        for gate in spec.get("gates") or []
    )


def _gate_may_pass(gate: Mapping[str, Any], version: str, scene: Scene, state: State) -> bool:
    if "tag" in gate:
        found = tags(state.versions[version]).get(gate["tag"]["key"])
        values = gate["tag"].get("values") or []
        return found is not None and (not values or found in values)
    if "minAge" in gate:
        return True
    metric = gate["metric"]
    value = scene.metrics(version).get(metric["key"])
    if "compare" in metric and not any(e["action"] == "Adopted" for e in ledger(state)):
        return True  # no champion yet
    if value is None or metric.get("source", "Run") != "Run":
        return False  # no version here is made of a LoggedModel
    if "compare" in metric:
        compare = metric["compare"]
        worse = Decimal(str(GOOD - value)) * (1 if compare["goal"] == "Maximize" else -1)
        return worse <= Decimal(compare.get("tolerance", "0")) or value == GOOD
    low, high = metric["bound"].get("min"), metric["bound"].get("max")
    exact = Decimal(str(value))
    return (low is None or exact >= Decimal(low)) and (high is None or exact <= Decimal(high))


def ledger(state: State) -> list[dict[str, Any]]:
    """The entries of the promotion's alias by number: in MLflow, and those that only status has."""
    alias = (state.promotion.get("spec") or {}).get("alias", "champion")
    texts = [
        value
        for each in (state.model, *state.versions.values())
        for key, value in tags(each).items()
        if key.startswith("podium.dev/ledger/")
    ]
    entries = [json.loads(text) for text in texts] + list(state.status.get("history", []))
    of_alias = {each["seq"]: each for each in entries if each["alias"] == alias}
    return [of_alias[seq] for seq in sorted(of_alias)]


def tags(raw: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in raw.get("tags", [])}


def highest_promoted(state: State) -> int:
    arrived = [e for e in ledger(state) if e["action"] in ("Promoted", "Adopted") and e.get("to")]
    return max((int(each["to"]) for each in arrived), default=0)


# What must hold


def untold(resource: Mapping[str, Any]) -> list[str]:
    """What conditions leave open: each reason must be documented, and what is in the way said."""
    found = []
    for each in resource.get("status", {}).get("conditions", []):
        if each["reason"] not in documented():
            found.append(f"reason {each['reason']} of {each['type']} is not documented")
        if each["reason"] == "InvalidSpec":
            found.append(f"accepted by the API server, refused by the operator: {each['message']}")
    ready, stalled = condition(resource, "Ready"), condition(resource, "Stalled")
    if not ready:
        return [*found, "no condition Ready"]
    waits = ready["status"] != "True" or is_true(resource, "AttemptActive")
    attempt = resource["status"].get("attempt", {})
    if resource["metadata"].get("deletionTimestamp"):
        return found  # it is on its way out: nothing is done for it
    if is_true(resource, "AttemptActive") and len(attempt.get("message", "")) < SENTENCE:
        found.append(f"an attempt runs, and does not say what it waits for: {describe(resource)}")
    if waits and len(stalled.get("message", "")) < SENTENCE:
        found.append(f"it waits, and does not say what for: {describe(resource)}")
    return found


def disagreements(scene: Scene, state: State, specs: list[Mapping[str, Any]]) -> list[str]:
    """Where alias, targets, status and spec do not agree, and moves that no spec allowed.

    `specs` are those that were in force during the case; the last one is in force now.
    """
    allowed = _allowed(scene, state, specs)
    found = _forbidden_moves(state, allowed)
    champion = str(state.status.get("champion", {}).get("version"))
    if not is_true(state.promotion, "Ready"):  # what is in the way is said: see `untold`
        return found + _left_on_another(specs[-1], allowed | {"", champion}, state)
    if state.alias != champion:
        found.append(f"Ready, but the alias is at {state.alias} and the champion {champion}")
    for target in specs[-1].get("targets") or []:
        found += _wrong_target(target, champion, scene, state)
    choice = chosen(specs[-1], state, highest_promoted(state))
    if state.attempt.get("phase") in ENDED and choice not in (None, champion):
        told = condition(state.promotion, "Stalled").get("reason")
        if told in HAPPY:
            found.append(f"the spec chooses {choice}, {champion} is served, and nothing says why")
    return found


def _allowed(scene: Scene, state: State, specs: list[Mapping[str, Any]]) -> set[str]:
    """The versions that one of the specs could choose, and let pass."""
    return {
        version
        for spec in specs
        for version in state.versions
        if may_pass(spec, version, scene, state) and _could_choose(spec, version, state)
    }


def _forbidden_moves(state: State, allowed: set[str]) -> list[str]:
    return [
        f"I1: ledger entry {entry['seq']} promotes {entry.get('to')}; allowed were {allowed}"
        for entry in ledger(state)
        if entry["action"] == "PromoteIntent" and entry.get("to") not in allowed
    ]


def _left_on_another(spec: Mapping[str, Any], allowed: set[str], state: State) -> list[str]:
    """Targets that nobody is moving, on a version that no spec chose."""
    if state.attempt.get("phase") not in ENDED:
        return []
    names = [each["deployment"]["name"] for each in spec.get("targets") or []]
    at = {n: state.annotation(n, "model-version") for n in names if n in state.deployments}
    return [
        f"not Ready, and Deployment {name} was left at version {version}; allowed were {allowed}"
        for name, version in at.items()
        if version not in allowed
    ]


def _could_choose(spec: Mapping[str, Any], version: str, state: State) -> bool:
    """Also what was chosen before a newer version came."""
    older = {n: v for n, v in state.versions.items() if int(n) <= int(version)}
    then = State(state.promotion, state.deployments, state.pods, state.model, older)
    return chosen(spec, then, 0) == version or "stage" in (spec.get("candidate") or {})


def _wrong_target(
    target: Mapping[str, Any], champion: str, scene: Scene, state: State
) -> list[str]:
    name = target["deployment"]["name"]
    if name not in state.deployments:
        return [f"Ready, but there is no Deployment {name}"]
    found = []
    if state.annotation(name, "model-version") not in ("", champion):
        at = state.annotation(name, "model-version")
        found.append(f"Ready with {champion}, but Deployment {name} says version {at}")
    source = target.get("modelSource") or {}
    if source.get("type") == "Version":
        variable = source.get("envVar", "MODEL_URI")
        wanted = f"models:/{scene.world.model}/{champion}"
        (container, *_) = [
            each
            for each in state.deployments[name]["spec"]["template"]["spec"]["containers"]
            if each["name"] == target["deployment"].get("container", each["name"])
        ]
        values = [e.get("value") for e in container.get("env", []) if e["name"] == variable]
        if values != [wanted]:
            found.append(f"Ready with {champion}, but {variable} of {name} is {values}")
    return found


def not_ready(scene: Scene) -> str | None:
    """Why the promotion serves nothing yet, by its status alone; None: it does."""
    promotion = scene.promotion()
    champion = str(promotion.get("status", {}).get("champion", {}).get("version"))
    return None if scene.serves(promotion, champion) else f"not Ready: {describe(promotion)}"


def not_settled(scene: Scene, state: State) -> str | None:
    """Why the valid promotion has not had its way yet; None: it has."""
    promotion = state.promotion
    champion = str(state.status.get("champion", {}).get("version"))
    if not scene.serves(promotion, champion):
        return f"not Ready: {describe(promotion)}"
    choice = chosen(scene.valid, state, highest_promoted(state)) or champion
    if champion == choice:
        return None
    told = condition(promotion, "Stalled").get("reason")
    failed = any(e["action"] == "RollbackIntent" and e.get("from") == choice for e in ledger(state))
    said = any(e["action"] in ("Held", "Rejected") for e in ledger(state))
    if told in REFUSED_BEFORE and (failed or said):
        return None
    return f"version {champion} is served, the spec chooses {choice}: {describe(promotion)}"


def ledger_troubles(world: World, state: State) -> list[str]:
    """I6 whole, as the fault harness looks at it; one trouble more: it is not there yet."""
    try:
        return Watch(world, STORIES["rejected"]).end(state)
    except ValueError:
        return ["I6: MLflow has no signed head of the ledger"]
