"""Reading facts out of objects as the API sends them, complete or hardly begun."""

from typing import Any

import pytest

from dbt_operator.api.names import GATE
from dbt_operator.plan.facts import job_facts, pod_facts

METADATA = {"name": "x", "uid": "u", "creationTimestamp": "2026-11-20T03:00:00Z"}


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": METADATA, "status": status}


def test_objects_without_a_status_have_facts() -> None:
    assert pod_facts({"metadata": METADATA}).phase == "Pending"
    assert job_facts({"metadata": METADATA}).failed is None


def test_the_containers_state_is_that_of_dbt_not_of_a_sidecar() -> None:
    statuses = [
        {"name": "proxy", "state": {"terminated": {"exitCode": 9}}},
        {"name": "dbt", "state": {"running": {"startedAt": "2026-11-20T03:00:05Z"}}},
    ]
    facts = pod_facts(pod(phase="Running", containerStatuses=statuses))
    assert (facts.running, facts.terminated) == (True, None)


def test_containers_that_outlast_dbt_are_named_and_those_that_kubernetes_ends_are_not() -> None:
    ended = {"terminated": {"exitCode": 0}}
    statuses = [
        {"name": "dbt", "state": ended},
        {"name": "mesh", "state": {"running": {}}},
        {"name": "agent", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        {"name": "done", "state": ended},
    ]
    native = [{"name": "proxy", "state": {"running": {}}}]
    assert pod_facts(pod(phase="Running", containerStatuses=statuses)).others == ("mesh", "agent")
    assert pod_facts(pod(phase="Running", containerStatuses=statuses[:1], initContainerStatuses=native)).others == ()
    assert pod_facts(pod(phase="Failed", containerStatuses=statuses)).others == ()  # its node is gone


def test_a_waiting_init_container_explains_more_than_pod_initializing() -> None:
    facts = pod_facts(
        pod(
            initContainerStatuses=[{"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}}],
            containerStatuses=[{"name": "dbt", "state": {"waiting": {"reason": "PodInitializing"}}}],
        )
    )
    assert facts.waiting == ("ImagePullBackOff", "m")


def test_why_an_image_is_not_pulled_is_told_by_an_event_where_the_status_only_backs_off() -> None:
    state = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "shop"'}}
    events = [
        {"reason": "Failed", "message": 'Failed to pull image "shop": rpc error: code = NotFound'},
        {"reason": "Failed", "message": "Error: ImagePullBackOff"},
    ]
    facts = pod_facts(pod(containerStatuses=[{"name": "dbt", "state": state}]), events=events)
    assert facts.waiting == ("ImagePullBackOff", 'Failed to pull image "shop": rpc error: code = NotFound')


SIDECAR = {"spec": {"initContainers": [{"name": "load"}, {"name": "proxy", "restartPolicy": "Always"}]}}
EXITED = {"terminated": {"exitCode": 7, "reason": "Error"}}


@pytest.mark.parametrize(
    "states",
    [
        {"state": EXITED, "lastState": {}},
        {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": EXITED},
        {"state": {"running": {}}, "lastState": EXITED},
    ],
)
def test_a_sidecar_that_was_started_anew_is_told_with_its_exit_code_whatever_it_does_now(
    states: dict[str, Any],
) -> None:
    facts = pod_facts(pod(initContainerStatuses=[{"name": "proxy", "restartCount": 3, **states}]) | SIDECAR)
    assert facts.sidecar is not None
    assert (facts.sidecar.name, facts.sidecar.restarts, facts.sidecar.last.exit_code) == ("proxy", 3, 7)
    assert facts.init_failure is None


def test_an_init_container_that_failed_is_no_sidecar_and_a_sidecar_that_was_stopped_is_no_failure() -> None:
    failed = [
        {"name": "load", "restartCount": 0, "state": EXITED},
        {"name": "proxy", "restartCount": 0, "state": EXITED},
    ]
    facts = pod_facts(pod(initContainerStatuses=failed) | SIDECAR)
    assert (facts.init_failure is not None, facts.sidecar) == (True, None)
    assert pod_facts(pod(initContainerStatuses=failed[1:]) | SIDECAR).init_failure is None


def test_a_pod_is_held_until_the_gate_of_the_operator_is_removed() -> None:
    gates = [{"name": "example.com/budget"}, {"name": GATE}]
    facts = pod_facts(pod() | {"spec": {"schedulingGates": gates}})
    assert (facts.held, facts.other_gates) == (True, ("example.com/budget",))
    assert not pod_facts(pod() | {"spec": {"schedulingGates": gates[:1]}}).held


def test_the_newest_event_tells_why_a_volume_is_not_mounted() -> None:
    events = [
        {"reason": "FailedMount", "message": "old"},
        {"reason": "Pulled"},
        {"reason": "FailedMount", "message": "new"},
    ]
    assert pod_facts(pod(), events=events).mount_failure == "new"


def test_a_disruption_is_one_only_while_its_condition_is_true() -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "message": "preempted"}
    assert pod_facts(pod(conditions=[condition])).disruption == "preempted"
    assert pod_facts(pod(conditions=[{**condition, "status": "False"}])).disruption is None


def test_a_jobs_conditions_count_only_while_they_are_true() -> None:
    failed = {"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}
    assert job_facts({"metadata": METADATA, "status": {"conditions": [failed]}}).failed == "BackoffLimitExceeded"
    assert job_facts({"metadata": METADATA, "status": {"conditions": [{**failed, "status": "False"}]}}).failed is None
