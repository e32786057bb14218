"""A real API server accepts and refuses what the CRDs promise, and drops nothing."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import yaml

from podium.api import decision, ledger_entry, meta, model_registry, promotion, promotion_status
from podium.api.reasons import ConditionType, Reason
from podium.api.values import Resource, read, write
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

HERE = Path(__file__).parent
MODELS: Mapping[str, type[Resource]] = {
    "ModelPromotion": promotion.ModelPromotion,
    "ModelRegistry": model_registry.ModelRegistry,
    "PromotionDecision": decision.PromotionDecision,
}
SPECS: Mapping[str, type[Resource]] = {
    "ModelPromotion": promotion.ModelPromotionSpec,
    "ModelRegistry": model_registry.ModelRegistrySpec,
    "PromotionDecision": decision.PromotionDecisionSpec,
}
T = TypeVar("T", bound=Resource)
NOW = datetime(2026, 11, 21, 14, 3, 5, 123456, tzinfo=UTC)


def cases(name: str) -> list[Any]:
    return [pytest.param(c, id=c["name"]) for c in yaml.safe_load((HERE / name).read_text())]


def manifest(case: Mapping[str, Any], spec: object) -> str:
    kind = case["kind"]
    body = {"apiVersion": "podium.dev/v1alpha1", "kind": kind, "metadata": {"name": "case"}}
    return json.dumps({**body, "spec": spec})


@pytest.mark.parametrize("case", cases("refused.yaml"))
def test_refused_with_a_sentence(kubectl: Kubectl, case: Mapping[str, Any]) -> None:
    verb = "create"
    if "old" in case:
        kubectl("create", "-f", "-", stdin=manifest(case, case["old"]))
        verb = "replace"
    said = kubectl.refused(verb, "-f", "-", stdin=manifest(case, case["spec"]))
    assert case["says"] in said
    if "never_says" in case:
        assert case["never_says"] not in said


@pytest.mark.parametrize("case", cases("accepted.yaml"))
def test_accepted_with_the_models_defaults(kubectl: Kubectl, case: Mapping[str, Any]) -> None:
    if "old" in case:
        kubectl("create", "-f", "-", stdin=manifest(case, case["old"]))
        kubectl("replace", "-f", "-", stdin=manifest(case, case["spec"]))
    else:
        kubectl("create", "-f", "-", stdin=manifest(case, case["spec"]))
    stored = kubectl.get(case["kind"], "case")
    seen = read(MODELS[case["kind"]], stored, "case")
    meant = read(SPECS[case["kind"]], case["spec"], "case")
    assert seen.spec == meant  # type: ignore[attr-defined]
    lost = [path for path in leaves(case["spec"]) if path not in set(leaves(stored["spec"]))]
    assert not lost


def test_a_client_that_is_not_strict_loses_unknown_fields_only(kubectl: Kubectl) -> None:
    case = {"kind": "ModelPromotion"}
    typo = manifest(case, {"model": "churn", "autoRollback": True})
    kubectl("create", "--validate=ignore", "-f", "-", stdin=typo)
    assert "autoRollback" not in kubectl.get("ModelPromotion", "case")["spec"]
    kubectl("delete", "mp", "case")
    canary = manifest(case, {"model": "churn", "rollout": {"canary": {"steps": []}}})
    said = kubectl.refused("create", "--validate=ignore", "-f", "-", stdin=canary)
    assert "canary is not in this release" in said


def test_the_whole_status_of_a_promotion_is_kept(kubectl: Kubectl) -> None:
    status = promotion_status.PromotionStatus(
        conditions=tuple(condition(kind) for kind in ConditionType),
        observed_generation=1,
        champion=full(promotion_status.ChampionStatus),
        candidate=full(promotion_status.CandidateStatus),
        attempt=full(promotion_status.AttemptStatus),
        hold=full(promotion_status.HoldStatus),
        quarantined=tuple(
            msgspec.structs.replace(full(promotion_status.QuarantineStatus), version=str(n))
            for n in range(1, 101)
        ),
        claim=full(promotion_status.ClaimStatus),
        highest_promoted="7",
        history=tuple(
            msgspec.structs.replace(full(ledger_entry.LedgerEntry), action=action)
            for action in ledger_entry.EntryAction
        ),
        ledger_seq=17,
        ledger_head="sha256:" + 64 * "f",
        ledger_id="sha256:" + 64 * "e",
        signer="c2lnbmVy",
        former_signers=("Zm9ybWVy",),
        model_created_at=NOW,
    )
    assert_every_field_is_set(status)
    back = status_round_trip(kubectl, "ModelPromotion", {"model": "churn"}, status)
    assert back.status == status  # type: ignore[attr-defined]


@pytest.mark.parametrize("phase", promotion_status.Phase)
def test_every_phase_can_be_written(kubectl: Kubectl, phase: promotion_status.Phase) -> None:
    attempt = msgspec.structs.replace(full(promotion_status.AttemptStatus), phase=phase)
    status = promotion_status.PromotionStatus(attempt=attempt)
    status_round_trip(kubectl, "ModelPromotion", {"model": "churn"}, status)


def test_the_whole_status_of_a_registry_is_kept(kubectl: Kubectl) -> None:
    status = model_registry.ModelRegistryStatus(
        conditions=(condition(ConditionType.READY), condition(ConditionType.STALLED)),
        observed_generation=1,
        server_version="3.17.2",
        capabilities=model_registry.Capabilities(aliases=True, stages=True, webhooks=True),
    )
    assert_every_field_is_set(status)
    back = status_round_trip(kubectl, "ModelRegistry", {"trackingURI": "http://mlflow"}, status)
    assert back.status == status  # type: ignore[attr-defined]


@pytest.mark.parametrize("outcome", decision.DecisionOutcome)
def test_the_whole_status_of_a_decision_is_kept(
    kubectl: Kubectl, outcome: decision.DecisionOutcome
) -> None:
    status = decision.PromotionDecisionStatus(outcome=outcome, message="m" * 4096)
    spec = {"promotionRef": {"name": "churn"}, "action": "Release"}
    back = status_round_trip(kubectl, "PromotionDecision", spec, status)
    assert back.status == status  # type: ignore[attr-defined]


def test_status_is_written_through_its_subresource_only(kubectl: Kubectl) -> None:
    body = json.loads(manifest({"kind": "ModelPromotion"}, {"model": "churn"}))
    kubectl("create", "-f", "-", stdin=json.dumps({**body, "status": {"ledgerSeq": 3}}))
    assert "status" not in kubectl.get("mp", "case")


def test_kubectl_get_shows_the_columns(kubectl: Kubectl) -> None:
    status = promotion_status.PromotionStatus(
        conditions=(condition(ConditionType.READY), condition(ConditionType.STALLED)),
        champion=full(promotion_status.ChampionStatus),
        candidate=full(promotion_status.CandidateStatus),
        attempt=full(promotion_status.AttemptStatus),
    )
    status_round_trip(kubectl, "ModelPromotion", {"model": "churn"}, status)
    header, row = kubectl("get", "mp", "-o", "wide").splitlines()
    assert header.split() == [
        "NAME", "MODEL", "ALIAS", "CHAMPION", "CANDIDATE", "PHASE", "READY", "REASON",
        "STALLED", "MESSAGE", "AGE",
    ]  # fmt: skip
    assert row.split()[:10] == [
        "case", "churn", "champion", "text", "text", "Validating", "True", "ChampionServed",
        "True", "all",
    ]  # fmt: skip
    assert "podium" in kubectl("api-resources", "--categories=podium")


def status_round_trip(
    kubectl: Kubectl, kind: str, spec: Mapping[str, object], status: Resource
) -> Resource:
    """Write `status` to a new object; every leaf of it must be there when it is read back."""
    kubectl("create", "-f", "-", stdin=manifest({"kind": kind}, spec))
    written = json.loads(json.dumps(write(status)))
    body = {**kubectl.get(kind, "case"), "status": written}
    kubectl("replace", "--subresource=status", "-f", "-", stdin=json.dumps(body))
    stored = kubectl.get(kind, "case")
    assert stored["status"] == written  # not one field more, not one less
    return read(MODELS[kind], stored, "case")


def condition(kind: ConditionType) -> meta.Condition:
    return meta.Condition(
        type=kind,
        status=meta.ConditionStatus.TRUE,
        reason=Reason.CHAMPION_SERVED,
        message="all is well",
        last_transition_time=NOW,
        observed_generation=1,
    )


def full(kind: type[T]) -> T:
    """A value with every field set to something that is not its default."""
    return read(kind, sample(msgspec.inspect.type_info(kind)), kind.__name__)


def sample(kind: msgspec.inspect.Type) -> Any:
    match kind:
        case msgspec.inspect.StructType(fields=fields):
            return {field.encode_name: sample(field.type) for field in fields}
        case msgspec.inspect.UnionType(types=types):
            return sample(next(t for t in types if not isinstance(t, msgspec.inspect.NoneType)))
        case msgspec.inspect.VarTupleType(item_type=item):
            return [sample(item)]
        case msgspec.inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.IntType():
            return 7
        case msgspec.inspect.DateTimeType():
            return NOW.isoformat()
        case msgspec.inspect.StrType():
            return "text"
    raise AssertionError(f"no sample of {kind}")


def assert_every_field_is_set(status: Resource) -> None:
    unset = [f for f in status.__struct_fields__ if not getattr(status, f)]
    assert not unset, f"the test does not write {unset}"


def leaves(value: object, path: str = "") -> list[str]:
    match value:
        case dict():
            return [leaf for key, v in value.items() for leaf in leaves(v, f"{path}.{key}")]
        case list():
            return [leaf for i, v in enumerate(value) for leaf in leaves(v, f"{path}[{i}]")]
    return [f"{path}={value}"]
