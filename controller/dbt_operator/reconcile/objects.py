"""From what dbt said to what the cluster shows: the specs and statuses of DbtModels, and the status of the DbtRun.

Pure: values in, values out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dbt_operator.api import names, status
from dbt_operator.api.conditions import Condition, run_conditions
from dbt_operator.api.phases import AttemptKind, AttemptPhase, NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.values import format_time
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.state import AttemptState
from dbt_operator.dbt.view import NodeView, TestCounts, node_counts, test_counts
from dbt_operator.plan.attempt import Assessment, Stage
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.run import Plan
from dbt_operator.pods.job import RunRef, owner_reference, run_labels

MODEL_TYPES = frozenset({"model", "seed", "snapshot"})


def model_manifest(*, run: RunRef, name: str, spec: status.DbtModelSpec) -> dict[str, Any]:
    """A DbtModel, owned by its run."""
    labels = run_labels(run) | {names.LABEL_RESOURCE_TYPE: names.label_value(spec.resource_type)}
    if spec.package:
        labels[names.LABEL_PACKAGE] = names.label_value(spec.package)
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DbtModel",
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(run)],
        },
        "spec": spec.to_dict(),
    }


def model_spec(*, run: RunRef, node: GraphNode, graph: Graph) -> status.DbtModelSpec:
    """The spec of the DbtModel of a node of the graph."""
    tests = (
        status.ModelTest(unique_id=test.unique_id, name=test.name, severity=_severity(test.severity))
        for test in graph.tests_of(node.unique_id)
    )
    return status.DbtModelSpec(
        run_name=run.name,
        unique_id=node.unique_id,
        name=node.name,
        resource_type=node.resource_type,
        package=node.package or None,
        path=node.path or None,
        materialized=node.materialized or None,
        relation=node.relation or None,
        tags=tuple(node.tags),
        depends_on=graph.parents(node.unique_id),
        tests=tuple(tests),
    )


def unannounced_model_spec(*, run: RunRef, view: NodeView) -> status.DbtModelSpec:
    """The spec of the DbtModel of a node that executes without being in the graph: as much as its events tell."""
    return status.DbtModelSpec(
        run_name=run.name,
        unique_id=view.unique_id,
        name=view.name or view.unique_id.rpartition(".")[2],
        resource_type=view.resource_type,
        package=view.package or None,
        path=view.path or None,
        materialized=view.materialized or None,
        relation=view.relation or None,
    )


def stored_graph(specs: Iterable[status.DbtModelSpec]) -> Graph:
    """The graph as far as the DbtModels of a run remember it: for a log whose beginning was rotated away."""
    nodes: list[GraphNode] = []
    for spec in specs:
        nodes.append(
            GraphNode(
                unique_id=spec.unique_id,
                name=spec.name,
                resource_type=spec.resource_type,
                package=spec.package or "",
                path=spec.path or "",
                materialized=spec.materialized or "",
                relation=spec.relation,
                tags=spec.tags,
                depends_on=spec.depends_on,
            )
        )
        nodes += (
            GraphNode(
                unique_id=test.unique_id,
                name=test.name,
                resource_type=test.unique_id.partition(".")[0],
                severity=test.severity or "",
                attached_node=spec.unique_id,
                depends_on=(spec.unique_id,),
            )
            for test in spec.tests
        )
    return Graph.of(nodes)


def _severity(text: str | None) -> status.Severity | None:
    return status.Severity(text.upper()) if text and text.upper() in set(status.Severity) else None


def model_status(*, view: NodeView, job: str) -> status.DbtModelStatus:
    """The status of a DbtModel, as the attempt of this Job has it."""
    tried = view.started_at is not None
    attempt = status.ModelAttempt(
        kind=AttemptKind.PRODUCER,
        job=job,
        phase=view.phase,
        message=view.message or None,
        started_at=view.started_at,
        finished_at=view.finished_at,
    )
    return status.DbtModelStatus(
        phase=view.phase,
        reason=view.reason,
        message=view.message or None,
        blocked_by=view.blocked_by,
        started_at=view.started_at,
        finished_at=view.finished_at,
        execution_seconds=view.execution_seconds,
        rows_affected=view.rows_affected,
        bytes_processed=view.bytes_processed,
        job_id=view.job_id or None,
        tests=_tests(view.tests) if view.tests is not None and view.tests.total else None,
        tries=1 if tried else None,
        attempts=(attempt,) if tried else (),
    )


def _tests(counts: TestCounts) -> status.ModelTests:
    failing = (
        status.FailingTest(unique_id=t.unique_id, name=t.name, message=t.message or None, failures=t.failures)
        for t in counts.failing
    )
    return status.ModelTests(
        total=counts.total,
        passed=counts.passed,
        warned=counts.warned,
        failed=counts.failed,
        errored=counts.errored,
        skipped=counts.skipped,
        failing=tuple(failing),
    )


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the run's status said before: what has to be carried on."""

    start_time: datetime | None
    conditions: tuple[Condition, ...]
    completion_time: datetime | None
    attempts: frozenset[str]  # those whose Job was created
    active_since: datetime | None  # when the first container started
    ended: Outcome | None


def run_record(run: Mapping[str, Any]) -> RunRecord:
    """The record in a DbtRun. A status of another version that cannot be read counts as none."""
    before = status.DbtRunStatus.parse(run.get("status") or {}) or status.DbtRunStatus()
    return RunRecord(
        start_time=before.start_time,
        conditions=before.conditions,
        completion_time=before.completion_time,
        attempts=frozenset(attempt.name for attempt in before.attempts),
        active_since=min((a.start_time for a in before.attempts if a.start_time is not None), default=None),
        ended=_ended_as(before),
    )


def _ended_as(before: status.DbtRunStatus) -> Outcome | None:
    if before.phase is None or not before.phase.terminal:
        return None
    # A status without a reason was not written by us; the phase is what everybody else goes by.
    reason = before.reason or RunReason.DBT_ERROR
    return Outcome(phase=before.phase, reason=reason, message=before.message or "")


def run_status(
    *,
    plan: Plan,
    record: RunRecord,
    conditions: tuple[Condition, ...],
    views: Mapping[str, NodeView],
    generation: int,
    now: datetime,
) -> status.DbtRunStatus:
    """The status of the run, from the plan and its nodes."""
    terminal = plan.phase.terminal
    last = plan.assessments[-1]
    state = last.state
    message = _progress_message(plan=plan, views=views)
    return status.DbtRunStatus(
        phase=plan.phase,
        reason=plan.reason,
        message=message,
        conditions=run_conditions(
            phase=plan.phase,
            reason=plan.reason,
            message=message,
            now=now,
            generation=generation,
            previous=conditions,
        ),
        observed_generation=generation,
        start_time=record.start_time,
        completion_time=(record.completion_time or now) if terminal else None,
        nodes=node_counts(views=views),
        tests=test_counts(views=views),
        failures=_failures(views.values()),
        dbt=_dbt_info(state),
        peak_memory_bytes=state.finished.peak_memory_bytes if state.finished else None,
        # Listed here means that its Job was created: after a restart, a listed attempt without a Job is a lost one.
        attempts=tuple(
            _attempt(each) for each in plan.assessments if each.attempt.job is not None or each.stage is Stage.ENDED
        ),
    )


def _dbt_info(state: AttemptState) -> status.DbtInfo:
    return status.DbtInfo(
        version=state.dbt_version or None,
        adapter=state.adapter or None,
        adapter_version=state.adapter_version or None,
        target=state.target or None,
        invocation_id=state.invocation_id or None,
    )


def _progress_message(*, plan: Plan, views: Mapping[str, NodeView]) -> str:
    """While nodes execute, what a person would ask: how far it is and what has failed so far."""
    if plan.assessments[-1].stage is not Stage.RUNNING or not views:
        return plan.message
    counts = node_counts(views=views)
    failed = f", {counts.failed} failed" if counts.failed else ""
    done = counts.total - counts.pending - counts.running
    return f"{done} of {counts.total} nodes are done, {counts.running} running{failed}."


def _failures(views: Iterable[NodeView]) -> tuple[status.RunFailure, ...]:
    failed = [view for view in views if view.phase is NodePhase.FAILED]
    # A node that failed through its tests comes after what really went wrong, and all in the order of time.
    failed.sort(key=lambda view: (view.finished_at is None, view.finished_at and view.finished_at.timestamp()))
    return tuple(
        status.RunFailure(unique_id=view.unique_id, name=view.name, message=view.message or "") for view in failed
    )


_LIVE = {
    Stage.QUEUED: AttemptPhase.PENDING,
    Stage.STARTING: AttemptPhase.PENDING,
    Stage.RUNNING: AttemptPhase.RUNNING,
    Stage.DRAINING: AttemptPhase.RUNNING,
}
_ENDED = {RunPhase.SUCCEEDED: AttemptPhase.SUCCEEDED, RunPhase.CANCELLED: AttemptPhase.CANCELLED}
_LOST = frozenset({RunReason.POD_LOST, RunReason.OOM_KILLED, RunReason.EVICTED, RunReason.LOG_UNREADABLE})


def _attempt(assessment: Assessment) -> status.RunAttempt:
    attempt, outcome = assessment.attempt, assessment.outcome
    pod = attempt.pod
    if outcome is None:
        state = _LIVE[assessment.stage]
    else:
        state = AttemptPhase.LOST if outcome.reason in _LOST else _ENDED.get(outcome.phase, AttemptPhase.FAILED)
    return status.RunAttempt(
        name=attempt.name,
        kind=AttemptKind.PRODUCER,
        state=state,
        reason=assessment.reason,
        start_time=pod.started if pod else None,
        completion_time=pod.ended_at if pod else None,
        pod=pod.name if pod else None,
        exit_code=pod.terminated.exit_code if pod and pod.terminated else None,
        log_time=format_time(attempt.log.position) if attempt.log.position else None,
    )
