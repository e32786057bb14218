"""What the oracle's random steps choose from: specs, problems, pods, Deployments, people."""

import hypothesis.strategies as st

from podium.api.decision import DecisionAction
from podium.api.reasons import Reason
from podium.engine.observation import Problem, ProblemKind
from tests.unit.engine.iris import COMPARE, GATE, PINNED, TARGET, another
from tests.unit.engine.oracle.case import A
from tests.unit.engine.reached import GIVEN

Fields = dict[str, object]

TARGETS: dict[str, list[Fields]] = {
    "by alias": [Fields(TARGET)],
    "by version": [Fields(PINNED)],
    "both": [Fields(TARGET), another(Fields(PINNED), "web")],
    "none": [],
}
SOAK = {"name": "soak", "minAge": {"duration": "1h"}}
TAGGED = {"name": "tagged", "tag": {"key": "ok"}}
GATES: list[list[object]] = [
    [],
    [GATE],
    [GATE, COMPARE],
    [GATE, SOAK],
    [TAGGED, {**GATE, "dryRun": True}],
]
SELECTORS: list[Fields | None] = [
    None,
    {"latest": {}},
    {"latest": {"matchTags": {"reviewed": "true"}}},
    {"alias": "challenger"},
    {"stage": "Staging"},
    *(Fields(version=str(n)) for n in range(1, 5)),
]
EDITS: list[tuple[str, object]] = [
    *(("candidate", selector) for selector in SELECTORS),
    *(("gates", gates) for gates in GATES),
    *(("targets", targets) for targets in TARGETS.values()),
    *(("approval", {"required": n, "expireAfter": "1h"}) for n in (0, 1, 2)),
    ("approval", {"required": 1, "excludeAuthors": False}),
    *(("supersede", one) for one in ("Always", "BeforeApproval", "Never")),
    *(("aliasDriftPolicy", one) for one in ("Revert", "Adopt", "Hold", "Alert")),
    *(("stage", one) for one in ("Production", "Staging", "None")),
    *(("suspend", one) for one in (True, False, False)),
    *(("historyLimit", n) for n in (1, 2, 10, 20)),
    ("rollback", {"automatic": False}),
    ("rollback", {"bakeDuration": "40s"}),
    ("rollback", {"whenUnknown": "UseArchived"}),
    ("rollback", {}),
    ("rollout", {"progressDeadline": "30s"}),
]
PROBLEMS = [
    Problem(ProblemKind.TRANSIENT, Reason.REGISTRY_UNAVAILABLE, "MLflow does not answer"),
    *(
        Problem(
            ProblemKind.TRANSIENT if reason is Reason.REGISTRY_THROTTLED else ProblemKind.STALLED,
            reason,
            why,
        )
        for reason, why in GIVEN.items()
    ),
]
NOT_STARTED = {"ready": False, "started": False, "container_started_at": None}
PODS: list[Fields] = [
    {"ready": False},
    NOT_STARTED,
    {"ready": False, "failed": True, "exits": 1},
    {"ready": False, "failed": True, "exits": 2, "restarts": 1, "exit_message": "no model"},
    {**NOT_STARTED, "trouble": "ImagePullBackOff"},
    {**NOT_STARTED, "trouble": "Unschedulable"},
    {"ready": False, "disrupted": True, "failed": True},
    {"terminating": True},
    {"restarts": 1, "exits": 1, "failed": True, "container_started_at": None},
]
DEPLOYMENTS: list[Fields] = [
    {"observed": False},
    {"desired": 3},
    {"desired": 2, "updated": 2, "available": 2, "replicas": 2},
    {"paused": True, "recreate": True, "autoscaled": True},
    {"progress_deadline_exceeded": True, "available": 0},
    {"trouble": "exceeded quota", "available": 0, "updated": 0, "pods": ()},
    {"template": "t2"},
    {"pods": None},
    *(
        Fields(problem=Problem(kind, reason, GIVEN[reason]))
        for kind, reason in (
            (ProblemKind.WAITING, Reason.TARGET_NOT_FOUND),
            (ProblemKind.STALLED, Reason.CONTAINER_NOT_FOUND),
            (ProblemKind.TRANSIENT, Reason.KUBERNETES_UNAVAILABLE),
            (ProblemKind.STALLED, Reason.FIELD_CONFLICT),
        )
    ),
]
REFUSALS = [
    Problem(ProblemKind.STALLED, Reason.FIELD_CONFLICT, "argocd owns the field"),
    Problem(ProblemKind.STALLED, Reason.REGISTRY_FORBIDDEN, "MLflow answers 403"),
    Problem(ProblemKind.TRANSIENT, Reason.KUBERNETES_UNAVAILABLE, "500"),
]
RIVALS = [
    Problem(ProblemKind.STALLED, reason, "ns/q is older")
    for reason in (Reason.ALIAS_CLAIMED, Reason.STAGE_CLAIMED, Reason.TARGET_CLAIMED)
]
PEOPLE = ["ann", "bob", "eve"]
NAMES = st.sampled_from(["api", "api", "web"])
FEW = st.integers(0, 3)
JUDGING = frozenset({DecisionAction.APPROVE, DecisionAction.REJECT})
BY_PEOPLE = frozenset({A.APPROVED, A.REJECTED, A.ROLLBACK_INTENT, A.HELD, A.RELEASED, A.RETRIED})
GOALS = [
    "Validating",
    "AwaitingApproval",
    "Promoting",
    "Verifying",
    "Baking",
    "RollingBack",
    "Promoted",
]
ALSO_SEEN = st.fixed_dictionaries(
    {},
    optional={
        "rival": st.sampled_from(RIVALS),
        "staging_taken": st.just(True),
        "rollout_slot": st.just(False),
        "unsettled": st.just(True),
        "action_problem": st.sampled_from(REFUSALS),
        "registry_back_at": st.none(),
        "failed_try": st.sampled_from(REFUSALS),
        "unread_since": st.sampled_from([0, 20, 4000]),  # seconds ago
    },
).filter(lambda seen: len(seen) < 3)
SECONDS = [-3600, -3, 1, 20, 45, 700, 4000]
