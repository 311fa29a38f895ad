"""What users see of a node, derived from what dbt said of it, of its tests and of what it depends on."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.api.status import Counts
from dbt_operator.dbt.blame import Blame
from dbt_operator.dbt.changes import affected
from dbt_operator.dbt.graph import TEST_TYPES, GraphNode
from dbt_operator.dbt.node_folding import announced
from dbt_operator.dbt.own_view import Verdict, own_verdict
from dbt_operator.dbt.state import AttemptState, Ending, NodeState
from dbt_operator.dbt.values import headline, shorten

__all__ = [
    "FailingTest",
    "NodeView",
    "TestCounts",
    "affected",
    "node_counts",
    "node_view",
    "node_views",
    "test_counts",
    "views_of",
]

FAILING_LIMIT = 20
_COUNTED = frozenset({"model", "seed", "snapshot", "function", "source"})


class FailingTest(msgspec.Struct, frozen=True, kw_only=True):
    """A test that failed, warned excluded."""

    unique_id: str
    name: str
    message: str
    failures: int | None


class TestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The tests listed on a node. `failed`: rows were found; `errored`: no result came; `skipped`: it did not run."""

    __test__ = False

    total: int = 0
    passed: int = 0
    warned: int = 0
    failed: int = 0
    errored: int = 0
    skipped: int = 0
    failing: tuple[FailingTest, ...] = ()


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node as a user sees it."""

    unique_id: str
    name: str
    resource_type: str
    phase: NodePhase
    reason: NodeReason | None = None
    message: str = ""
    blocked_by: str | None = None
    tests: TestCounts | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    execution_seconds: float | None = None
    rows_affected: int | None = None
    bytes_processed: int | None = None
    job_id: str = ""
    relation: str = ""
    materialized: str = ""
    package: str = ""
    path: str = ""
    executed: bool = True  # False: only here because tests or freshness are listed on it; this dbt does not execute it


def node_view(*, state: AttemptState, unique_id: str) -> NodeView:
    """The view of one node; raises KeyError for a node that neither dbt nor the graph ever mentioned."""
    return _view(state, Blame(state), unique_id)


def node_views(*, state: AttemptState) -> Mapping[str, NodeView]:
    """The views of every node that dbt executes, tests and hooks included, and of sources that tests are listed on."""
    return views_of(state=state, unique_ids=_listed(state))


def views_of(*, state: AttemptState, unique_ids: Iterable[str]) -> Mapping[str, NodeView]:
    """The views of these nodes; cheaper than asking for each of them alone. Unknown ids are left out."""
    blame = Blame(state)
    known = (one for one in unique_ids if one in state.nodes or (state.graph is not None and one in state.graph.nodes))
    return {unique_id: _view(state, blame, unique_id) for unique_id in known}


def node_counts(*, views: Mapping[str, NodeView]) -> Counts:
    """The counts of the nodes that build something, and of sources whose freshness dbt checked.

    Those that warned are not among those that succeeded.
    """
    return _counts(
        view
        for view in views.values()
        if view.resource_type in _COUNTED and view.materialized != "ephemeral" and view.executed
    )


def test_counts(*, views: Mapping[str, NodeView]) -> Counts:
    """The counts of the tests and unit tests."""
    return _counts(view for view in views.values() if view.resource_type in TEST_TYPES)


test_counts.__test__ = False  # type: ignore[attr-defined]  # pytest takes imported functions of this name for tests


def _listed(state: AttemptState) -> Iterable[str]:
    if state.graph is None:
        return list(state.nodes)
    listed = {node.unique_id for node in state.graph.model_nodes()}
    ordered = [one for one in state.graph.nodes if one in state.nodes or one in listed]
    return [*ordered, *(one for one in state.nodes if one not in state.graph.nodes)]


def _view(state: AttemptState, blame: Blame, unique_id: str) -> NodeView:
    own = state.nodes.get(unique_id)
    executed = own is not None
    if own is None:
        if state.graph is None:
            raise KeyError(unique_id)
        own = announced(state.graph.nodes[unique_id], None)
    is_test = own.resource_type in TEST_TYPES
    tests, lost = (None, 0) if is_test else _tests(state, blame, unique_id)
    verdict = own_verdict(state=state, node=own, blame=blame) if executed else _unexecuted(state, own, tests)
    if tests is not None and tests.total:
        verdict = _with_tests(verdict, tests, lost)
    return NodeView(
        unique_id=unique_id,
        name=own.name,
        resource_type=own.resource_type,
        phase=verdict.phase,
        reason=verdict.reason,
        message=shorten(verdict.message),
        blocked_by=verdict.blocked_by,
        tests=tests,
        started_at=own.started_at,
        finished_at=own.finished_at,
        execution_seconds=own.execution_seconds,
        rows_affected=own.rows_affected,
        bytes_processed=own.bytes_processed,
        job_id=own.job_id,
        relation=own.relation,
        materialized=own.materialized,
        package=own.package,
        path=own.path,
        executed=executed,
    )


def _unexecuted(state: AttemptState, node: NodeState, tests: TestCounts | None) -> Verdict:
    """A source on which tests or freshness criteria are listed and which this command does not execute itself."""
    if tests is not None and tests.total:
        done = tests.passed + tests.warned + tests.failed + tests.errored + tests.skipped
        if done == tests.total and done > tests.skipped:
            return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.SUCCESS)
        if done == tests.total and state.closed is not None and state.closed.ending is Ending.COMPLETED:
            return Verdict(phase=NodePhase.SKIPPED, reason=NodeReason.SKIPPED, message="None of its tests ran.")
    elif state.closed is not None and state.closed.ending is Ending.COMPLETED:
        return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.NO_OP, message="dbt had nothing to execute for it.")
    return own_verdict(state=state, node=node, blame=Blame(state))


def _tests(state: AttemptState, blame: Blame, unique_id: str) -> tuple[TestCounts, int]:
    """The tests listed on the node, and how many of them were lost while they ran."""
    listed = state.graph.tests_of(unique_id) if state.graph is not None else ()
    unique_ids = [test.unique_id for test in listed]
    unique_ids += [one for one in state.attached.get(unique_id, ()) if not _in_graph(state, one)]
    if not unique_ids:
        return _NO_TESTS, 0
    nodes = [(state.nodes.get(one), one) for one in unique_ids]
    return _counted(state, blame, [node or _untouched(state, one) for node, one in nodes])


_NO_TESTS = TestCounts()


def _in_graph(state: AttemptState, unique_id: str) -> bool:
    return state.graph is not None and unique_id in state.graph.nodes


def _untouched(state: AttemptState, unique_id: str) -> NodeState:
    node = state.graph.nodes[unique_id] if state.graph is not None else GraphNode(unique_id=unique_id)
    return announced(node, None)


def _counted(state: AttemptState, blame: Blame, tests: list[NodeState]) -> tuple[TestCounts, int]:
    passed = warned = failed = errored = skipped = lost = 0
    failing: list[FailingTest] = []
    for test in tests:
        verdict = own_verdict(state=state, node=test, blame=blame)
        match verdict.phase:
            case NodePhase.SUCCEEDED if verdict.reason is NodeReason.WARNED:
                warned += 1
            case NodePhase.SUCCEEDED:
                passed += 1
            case NodePhase.SKIPPED | NodePhase.CANCELLED:
                skipped += 1
            case NodePhase.FAILED:
                failed += test.status == "fail"
                errored += test.status != "fail"
                lost += verdict.reason is NodeReason.LOST
                failing.append(
                    FailingTest(
                        unique_id=test.unique_id,
                        name=test.name,
                        message=shorten(verdict.message, limit=256),
                        failures=test.num_failures,
                    )
                )
            case _:
                pass
    counts = TestCounts(
        total=len(tests),
        passed=passed,
        warned=warned,
        failed=failed,
        errored=errored,
        skipped=skipped,
        failing=tuple(failing[:FAILING_LIMIT]),
    )
    return counts, lost


def _with_tests(verdict: Verdict, tests: TestCounts, lost: int) -> Verdict:
    """A built node whose test failed is not fit for use, although its relation is there."""
    if verdict.phase is not NodePhase.SUCCEEDED:
        return verdict
    bad = tests.failed + tests.errored
    if bad and bad == lost:
        message = f"It was built; the outcome of {lost} of its {tests.total} tests is unknown."
        return Verdict(phase=NodePhase.FAILED, reason=NodeReason.LOST, message=message)
    if bad:
        first = tests.failing[0]
        detail = f"{first.name} ({headline(first.message)})" if first.message else first.name
        more = ", …" if bad > 1 else ""
        message = f"{bad} of {tests.total} tests failed: {detail}{more}"
        return Verdict(phase=NodePhase.FAILED, reason=NodeReason.TESTS_FAILED, message=message)
    if tests.warned and verdict.reason in (NodeReason.SUCCESS, NodeReason.NO_OP):
        message = f"{tests.warned} of {tests.total} tests warned."
        return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.WARNED, message=message)
    return verdict


def _counts(views: Iterable[NodeView]) -> Counts:
    numbers = dict.fromkeys(("total", "pending", "running", "succeeded", "warned", "failed", "skipped", "cancelled"), 0)
    for view in views:
        numbers["total"] += 1
        warned = view.phase is NodePhase.SUCCEEDED and view.reason is NodeReason.WARNED
        numbers["warned" if warned else view.phase.value.lower()] += 1
    return Counts(**numbers)
