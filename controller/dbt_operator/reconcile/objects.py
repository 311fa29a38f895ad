"""From the view of a node to its DbtModel: the spec and the status.

Pure: values in, values out.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dbt_operator.api import names, status
from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import ListedTest, NodeView, TestCounts, node_view
from dbt_operator.pods.run import RunRef, owner_reference, run_labels


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
        status.ModelTest(
            unique_id=test.unique_id,
            name=test.name,
            severity=_severity(test.severity),
            warn_if=test.warn_if or None,
            error_if=test.error_if or None,
            depends_on=tuple(one for one in graph.reads(test.unique_id) if one != node.unique_id),
        )
        for test in graph.tests_of(node.unique_id)
    )
    return status.DbtModelSpec(
        run_name=run.name,
        unique_id=node.unique_id,
        name=node.name,
        resource_type=node.resource_type,
        selected=None if node.selected else False,
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


def _severity(text: str | None) -> status.Severity | None:
    return status.Severity(text.upper()) if text and text.upper() in set(status.Severity) else None


class Tried(NamedTuple):
    """What one attempt did to a node."""

    kind: AttemptKind
    job: str
    view: NodeView


def tried(unique_id: str, *, history: History, jobs: Iterable[tuple[AttemptKind, str]]) -> list[Tried]:
    """The attempts that began to execute the node, with what each of them alone says of it.

    jobs: those of the attempts of the history.
    """
    found = []
    for (kind, job), state in zip(jobs, history.attempts, strict=True):
        node = state.nodes.get(unique_id)
        # dbt 2 says of nodes that it skips that it has started them.
        if node is not None and node.started_at is not None and node.phase is not NodePhase.SKIPPED:
            found.append(Tried(kind=kind, job=job, view=node_view(state=state, unique_id=unique_id)))
    return found


def tells_why(view: NodeView, *, history: History) -> bool:
    """Whether the view can be shown. dbt reports that a node failed a moment before it reports why.

    A failure is shown with its text, or without one if none will come.
    """
    if view.phase is not NodePhase.FAILED or view.message:
        return True
    report = history.report(view.unique_id)
    return report is not None and report.state.closed is not None


def model_status(
    *,
    view: NodeView,
    tried: Sequence[Tried],
    jobs: Sequence[tuple[AttemptKind, str]],
    handled_retry: str | None,
) -> status.DbtModelStatus:
    """The status of a DbtModel.

    tried: the attempts that began to execute the node, oldest first.
    jobs: those of all attempts, oldest first.
    """
    attempts = tuple(
        status.ModelAttempt(
            kind=each.kind,
            job=each.job,
            phase=each.view.phase,
            message=each.view.message if each.view.message != view.message else None,
            started_at=each.view.started_at,
            finished_at=each.view.finished_at,
        )
        for each in tried
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
        bytes_billed=view.bytes_billed,
        slot_milliseconds=view.slot_milliseconds,
        cache_hit=view.cache_hit,
        job_id=view.job_id or None,
        executor=view.executor or None,
        executor_reason=view.executor_reason or None,
        freshness=_freshness(view),
        batches=_batches(view),
        tests=_tests(view.tests, jobs=jobs) if view.tests is not None and view.tests.total else None,
        tries=len(attempts) or None,
        handled_retry=handled_retry,
        attempts=attempts,
    )


def _freshness(view: NodeView) -> status.SourceFreshness | None:
    found = view.freshness
    if found is None:
        return None
    return status.SourceFreshness(
        status=found.status or view.status,
        max_loaded_at=found.max_loaded_at,
        snapshotted_at=found.snapshotted_at,
        age_seconds=int(found.age_seconds),
        warn_after=found.warn_after or None,
        error_after=found.error_after or None,
    )


def _batches(view: NodeView) -> status.ModelBatches | None:
    found = view.batches
    if found is None:
        return None
    return status.ModelBatches(total=found.total, succeeded=found.succeeded, failed=found.failed)


def _tests(counts: TestCounts, *, jobs: Sequence[tuple[AttemptKind, str]]) -> status.ModelTests:
    return status.ModelTests(
        total=counts.total,
        passed=counts.passed,
        warned=counts.warned,
        failed=counts.failed,
        errored=counts.errored,
        skipped=counts.skipped,
        failing=tuple(_listed(test, jobs=jobs) for test in counts.failing),
        warning=tuple(_listed(test, jobs=jobs) for test in counts.warning),
    )


def _listed(test: ListedTest, *, jobs: Sequence[tuple[AttemptKind, str]]) -> status.ListedTest:
    return status.ListedTest(
        unique_id=test.unique_id,
        name=test.name,
        message=test.message or None,
        failures=test.failures,
        relation=test.relation or None,
        finished_at=test.finished_at,
        job=jobs[test.attempt][1],
    )
