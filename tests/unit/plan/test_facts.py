"""Reading facts out of objects as the API sends them, complete or hardly begun."""

from typing import Any

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


def test_a_waiting_init_container_explains_more_than_pod_initializing() -> None:
    facts = pod_facts(
        pod(
            initContainerStatuses=[{"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}}],
            containerStatuses=[{"name": "dbt", "state": {"waiting": {"reason": "PodInitializing"}}}],
        )
    )
    assert facts.waiting == ("ImagePullBackOff", "m")


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
