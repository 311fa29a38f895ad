"""Kubernetes Events, as `kubectl describe` shows them.

Of the two APIs this is the core one: `kubectl describe` and `kubectl get events` read both the same, and it needs no
further right. The name is a digest of what is said about whom, so that a restarted controller that says it again
meets its own Event and nobody sees it twice.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from dbt_operator.api import names
from dbt_operator.kube.resources import Object

EventType = Literal["Normal", "Warning"]
_MESSAGE_LIMIT = 1024  # Kubernetes' own
_NAME_LIMIT = names.OBJECT_NAME_LIMIT - 17


def event_manifest(
    *, regarding: Mapping[str, Any], kind: EventType, reason: str, message: str, key: str, now: datetime
) -> Object:
    """The Event that says `reason` and `message` of an object; another `key` makes the same words news."""
    metadata = regarding["metadata"]
    digest = names.digest("\n".join((metadata.get("uid", ""), reason, message, key)), length=16)
    name = metadata["name"][:_NAME_LIMIT].rstrip(".-")
    stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…",
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
