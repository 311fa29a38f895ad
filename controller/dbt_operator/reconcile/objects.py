"""From what dbt said to what the cluster shows of a node: the spec and status of its DbtModel.

Pure: values in, values out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dbt_operator.api import names, status
from dbt_operator.api.commands import Command
from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import NodeView, TestCounts, node_view
from dbt_operator.pods.run import RunRef, owner_reference, run_labels


def model_manifest(*, run: RunRef, name: str, spec: status.DbtModelSpec, nodes_of_run: int | None) -> dict[str, Any]:
    """A DbtModel, owned by its run. `nodes_of_run`: how many there are to be; None for one that no graph asks for."""
    labels = run_labels(run) | {names.LABEL_RESOURCE_TYPE: names.label_value(spec.resource_type)}
    if spec.package:
        labels[names.LABEL_PACKAGE] = names.label_value(spec.package)
    annotations = {} if nodes_of_run is None else {names.ANNOTATION_NODES: str(nodes_of_run)}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DbtModel",
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": labels,
            "annotations": annotations,
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


def all_stored(models: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are all DbtModels of a run. A controller may have died while it created them."""
    numbers = [(model["metadata"].get("annotations") or {}).get(names.ANNOTATION_NODES) for model in models]
    asked_for = [number for number in numbers if number is not None]
    return bool(asked_for) and all(number == str(len(asked_for)) for number in asked_for)


def stored_graph(specs: Iterable[status.DbtModelSpec], *, command: Command) -> Graph:
    """The graph as far as the DbtModels of a run remember it: for a log whose beginning was rotated away.

    command: that of the run.
    """
    specs = tuple(specs)
    listed = Counter(test.unique_id for spec in specs for test in spec.tests)
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
                selected=spec.selected is not False,
            )
        )
        nodes += (
            GraphNode(
                unique_id=test.unique_id,
                name=test.name,
                resource_type=test.unique_id.partition(".")[0],
                severity=test.severity or "",
                # One that is attached to no node is listed on all that it reads.
                attached_node=spec.unique_id if listed[test.unique_id] == 1 else None,
                depends_on=(spec.unique_id, *test.depends_on),
            )
            for test in spec.tests
        )
    return Graph.of(nodes, command=command)


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
        if node is not None and node.started_at is not None:
            found.append(Tried(kind=kind, job=job, view=node_view(state=state, unique_id=unique_id)))
    return found


def tells_why(view: NodeView, *, history: History) -> bool:
    """Whether the view can be shown: dbt says that a node failed a moment before it says why.

    Red without a reason helps nobody, unless no reason will come.
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
    remembered: Sequence[status.ModelAttempt] = (),
) -> status.DbtModelStatus:
    """The status of a DbtModel.

    tried: the attempts that began to execute the node, oldest first.
    jobs: those of all attempts, oldest first.
    remembered: attempts that were shown before; an end that is not among those tried is still true.
    """
    attempts = [
        status.ModelAttempt(
            kind=each.kind,
            job=each.job,
            phase=each.view.phase,
            message=each.view.message if each.view.message != view.message else None,
            started_at=each.view.started_at,
            finished_at=each.view.finished_at,
        )
        for each in tried
    ]
    known, order = {each.job for each in tried}, [job for _, job in jobs]
    attempts += (each for each in remembered if each.phase.terminal and each.job not in known and each.job in order)
    attempts.sort(key=lambda each: order.index(each.job))
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
        freshness=_freshness(view),
        tests=_tests(view.tests, jobs=jobs) if view.tests is not None and view.tests.total else None,
        tries=len(attempts) or None,
        handled_retry=handled_retry,
        attempts=tuple(attempts),
    )


def _freshness(view: NodeView) -> status.SourceFreshness | None:
    found = view.freshness
    if found is None:
        return None
    return status.SourceFreshness(
        status=view.status,
        max_loaded_at=found.max_loaded_at,
        snapshotted_at=found.snapshotted_at,
        age_seconds=int(found.age_seconds),
        warn_after=found.warn_after or None,
        error_after=found.error_after or None,
    )


def _tests(counts: TestCounts, *, jobs: Sequence[tuple[AttemptKind, str]]) -> status.ModelTests:
    failing = (
        status.FailingTest(
            unique_id=test.unique_id,
            name=test.name,
            message=test.message or None,
            failures=test.failures,
            finished_at=test.finished_at,
            job=jobs[test.attempt][1],
        )
        for test in counts.failing
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
