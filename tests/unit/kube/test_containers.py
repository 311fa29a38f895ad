"""A pod's own words about a container that never restarts."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dbt_operator.kube.containers import ContainerPhase, ContainerState, container_state


def pod(phase: str, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    statuses = [{"name": "sidecar", "state": {"running": {}}}]
    if state is not None:
        statuses.append({"name": "dbt", "state": state})
    return {"status": {"phase": phase, "containerStatuses": statuses, **status}}


@pytest.mark.parametrize(
    ("given", "phase"),
    [
        ({}, ContainerPhase.WAITING),
        ({"status": {"phase": "Pending"}}, ContainerPhase.WAITING),
        (pod("Pending", {"waiting": {"reason": "ImagePullBackOff"}}), ContainerPhase.WAITING),
        (pod("Pending", {}), ContainerPhase.WAITING),
        (pod("Running", {"running": {"startedAt": "2026-11-20T17:11:13Z"}}), ContainerPhase.RUNNING),
        (pod("Running", {"terminated": {"exitCode": 0}}), ContainerPhase.ENDED),
        (pod("Failed", {"running": {}}), ContainerPhase.ENDED),
        (pod("Failed"), ContainerPhase.ENDED),
    ],
)
def test_how_far_a_container_has_come(given: dict[str, Any], phase: ContainerPhase) -> None:
    assert container_state(pod=given, container="dbt").phase is phase


def test_an_ended_container_says_how() -> None:
    given = pod(
        "Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-20T17:11:13Z"}}
    )
    assert container_state(pod=given, container="dbt") == ContainerState(
        ContainerPhase.ENDED,
        exit_code=137,
        reason="OOMKilled",
        finished_at=datetime(2026, 11, 20, 17, 11, 13, tzinfo=UTC),
    )


def test_an_evicted_pod_speaks_for_its_containers() -> None:
    given = pod("Failed", reason="Evicted", message="The node was low on resource: memory.")
    state = container_state(pod=given, container="dbt")
    assert (state.exit_code, state.reason) == (None, "Evicted")
    assert state.message.startswith("The node was low")


def test_an_init_container_has_a_state_too() -> None:
    given = {"status": {"phase": "Pending", "initContainerStatuses": [{"name": "clone", "state": {"running": {}}}]}}
    assert container_state(pod=given, container="clone").phase is ContainerPhase.RUNNING
