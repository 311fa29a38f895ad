"""What a Pod says about one of its containers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class ContainerPhase(StrEnum):
    """How far a container of a pod that never restarts has come."""

    WAITING = "Waiting"
    RUNNING = "Running"
    ENDED = "Ended"


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The state of one container; `exit_code` is None for one that ended without ever having run."""

    phase: ContainerPhase
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


def container_state(*, pod: Mapping[str, Any], container: str) -> ContainerState:
    """The state of the named container, init containers included.

    A pod can be over without a word about its containers (evicted before they started): then they are over too.
    """
    status = pod.get("status") or {}
    for entry in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        if entry.get("name") != container:
            continue
        state = entry.get("state") or {}
        if "terminated" in state:
            return _ended(state["terminated"] or {})
        if "running" in state and status.get("phase") not in ("Succeeded", "Failed"):
            return ContainerState(ContainerPhase.RUNNING)
    if status.get("phase") in ("Succeeded", "Failed"):
        reason, message = status.get("reason") or "", status.get("message") or ""
        return ContainerState(ContainerPhase.ENDED, reason=reason, message=message)
    return ContainerState(ContainerPhase.WAITING)


def _ended(state: Mapping[str, Any]) -> ContainerState:
    finished = state.get("finishedAt")
    return ContainerState(
        ContainerPhase.ENDED,
        exit_code=state.get("exitCode"),
        reason=state.get("reason") or "",
        message=state.get("message") or "",
        finished_at=datetime.fromisoformat(finished) if finished else None,
    )
