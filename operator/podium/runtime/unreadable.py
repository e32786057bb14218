"""What is written to an object that does not have the form its CRD promises (an old or foreign
CRD let it in): the conditions, by hand, and nothing else of its status is touched."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from podium.api.reasons import ConditionType, Reason
from podium.api.values import ParseError
from podium.cluster.client import KubernetesClient
from podium.cluster.resources import PodiumKind

Raw = Mapping[str, object]
_log = logging.getLogger(__name__)


async def tell(
    kube: KubernetesClient, kind: PodiumKind, raw: Raw, error: ParseError, now: datetime
) -> None:
    """Sets Ready False and Stalled True with the field's name, once. Raises ClusterError."""
    metadata = cast(Raw, raw["metadata"])
    status = dict(cast(Raw, raw.get("status") or {}))
    known = cast(list[Raw], status.get("conditions") or [])
    message = str(error)[:512]
    _log.warning("%s", message)
    if any(c.get("type") == "Stalled" and c.get("message") == message for c in known):
        return
    mine = [
        {
            "type": kind.value,
            "status": value,
            "reason": Reason.INVALID_SPEC.value,
            "message": message,
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "observedGeneration": metadata.get("generation", 0),
        }
        for kind, value in ((ConditionType.READY, "False"), (ConditionType.STALLED, "True"))
    ]
    others = [c for c in known if c.get("type") not in ("Ready", "Stalled")]
    status["conditions"] = [*others, *mine]
    await kube.write_status(
        kind,
        str(metadata["namespace"]),
        str(metadata["name"]),
        uid=str(metadata["uid"]),
        resource_version=str(metadata["resourceVersion"]),
        status=status,
    )
