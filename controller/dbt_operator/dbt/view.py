"""What users see of a node, derived from what dbt said of it, of its tests and of what it depends on."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.api.status import Counts
from dbt_operator.dbt.blame import Blame
from dbt_operator.dbt.changes import affected
from dbt_operator.dbt.excerpts import without_excerpt
from dbt_operator.dbt.graph import TEST_TYPES, GraphNode
from dbt_operator.dbt.history import History, Word, history_of
from dbt_operator.dbt.node_folding import announced
from dbt_operator.dbt.own_view import Verdict, held_back, own_verdict
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
    """A test that failed, warned excluded. `attempt`: which one says so, from 0."""

    unique_id: str
    name: str
    message: str
    failures: int | None
    finished_at: datetime | None
    attempt: int


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


def node_view(*, state: AttemptState | History, unique_id: str) -> NodeView:
    """The view of one node; raises KeyError for a node that neither dbt nor the graph ever mentioned."""
    return _Reader(history_of(state)).view(unique_id)


def node_views(*, state: AttemptState | History) -> Mapping[str, NodeView]:
    """The views of every node that dbt executes, tests and hooks included, and of sources that tests are listed on."""
    return views_of(state=state, unique_ids=_listed(history_of(state)))


def views_of(*, state: AttemptState | History, unique_ids: Iterable[str]) -> Mapping[str, NodeView]:
    """The views of these nodes; cheaper than asking for each of them alone. Unknown ids are left out."""
    history = history_of(state)
    reader = _Reader(history)
    return {unique_id: reader.view(unique_id) for unique_id in unique_ids if _known(history, unique_id)}


def _known(history: History, unique_id: str) -> bool:
    return history.word(unique_id) is not None or (history.graph is not None and unique_id in history.graph.nodes)


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


def _listed(history: History) -> Iterable[str]:
    mentioned = list(history.unique_ids())
    graph = history.graph
    if graph is None:
        return mentioned
    listed = {*(node.unique_id for node in graph.model_nodes()), *mentioned}
    return [*(one for one in graph.nodes if one in listed), *(one for one in mentioned if one not in graph.nodes)]


class _Reader:
    """Reads the views of one history. What is to blame for skipped nodes is searched once for each attempt."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._blames: dict[int, Blame] = {}

    def view(self, unique_id: str) -> NodeView:
        """The view of one node. Raises KeyError for a node that nobody mentioned."""
        word = self._history.word(unique_id)
        own = word.node if word is not None else self._announced(unique_id)
        tests, lost = (None, 0) if own.resource_type in TEST_TYPES else self._tests(unique_id)
        if unique_id in self._history.pending:
            # What an attempt left of it before is not what it is now; its attempts are listed on the object.
            own, verdict = _fresh(own), Verdict(phase=NodePhase.PENDING)
        else:
            verdict = self._verdict(word) if word is not None else self._unexecuted(own, tests)
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
            executed=word is not None,
        )

    def _announced(self, unique_id: str) -> NodeState:
        if self._history.graph is None:
            raise KeyError(unique_id)
        return announced(self._history.graph.nodes[unique_id], None)

    def _verdict(self, word: Word) -> Verdict:
        if word.node.phase is NodePhase.PENDING and word.state.closed is not None and word.state.closed.ending in _CUT:
            culprit = self._blame_of_run.of(word.node.unique_id)
            if culprit is not None:
                return held_back(culprit)
        blame = self._blames.setdefault(word.attempt, Blame(word.state))
        return own_verdict(state=word.state, node=word.node, blame=blame)

    @cached_property
    def _blame_of_run(self) -> Blame:
        """What keeps those from being executed that no dbt came to before it was stopped, or lost with its pod.

        Such a dbt had no time to call them skipped, and those after it were not asked to execute them.
        """
        words = {one: word.node for one in self._history.unique_ids() if (word := self._history.word(one)) is not None}
        nodes = {
            one: msgspec.structs.replace(node, phase=NodePhase.SKIPPED)
            if node.stopped or node.phase is NodePhase.PENDING
            else node
            for one, node in words.items()
        }
        failures = frozenset(one for one, node in nodes.items() if node.phase is NodePhase.FAILED)
        return Blame(AttemptState(graph=self._history.graph, nodes=nodes, failures=failures))

    def _unexecuted(self, node: NodeState, tests: TestCounts | None) -> Verdict:
        """A source on which tests or freshness criteria are listed and which this command does not execute itself."""
        state = self._history.attempts[0]
        completed = state.closed is not None and state.closed.ending is Ending.COMPLETED
        if tests is not None and tests.total:
            done = tests.passed + tests.warned + tests.failed + tests.errored + tests.skipped
            if done == tests.total and done > tests.skipped:
                return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.SUCCESS)
            if done == tests.total and completed:
                return Verdict(phase=NodePhase.SKIPPED, reason=NodeReason.SKIPPED, message="None of its tests ran.")
            if done < tests.total and self._history.pending:
                return Verdict(phase=NodePhase.PENDING)
        elif completed:
            message = "dbt had nothing to execute for it."
            return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.NO_OP, message=message)
        return own_verdict(state=state, node=node, blame=Blame(state))

    def _tests(self, unique_id: str) -> tuple[TestCounts, int]:
        """The tests listed on the node, and how many of them were lost while they ran."""
        graph = self._history.graph
        unique_ids = [test.unique_id for test in graph.tests_of(unique_id)] if graph is not None else []
        attached = [one for state in self._history.attempts for one in state.attached.get(unique_id, ())]
        unique_ids += [one for one in dict.fromkeys(attached) if graph is None or one not in graph.nodes]
        if not unique_ids:
            return _NO_TESTS, 0
        return _counted([self._test(one) for one in unique_ids])

    def _test(self, unique_id: str) -> tuple[NodeState, Verdict, int]:
        word = self._history.word(unique_id)
        if word is not None and unique_id not in self._history.pending:
            return word.node, self._verdict(word), word.attempt
        graph = self._history.graph
        node = graph.nodes[unique_id] if graph is not None and unique_id in graph.nodes else None
        unsaid = announced(node or GraphNode(unique_id=unique_id), None)
        if unique_id in self._history.pending:
            return unsaid, Verdict(phase=NodePhase.PENDING), 0
        state = self._history.attempts[0]
        return unsaid, own_verdict(state=state, node=unsaid, blame=Blame(state)), 0


_NO_TESTS = TestCounts()
_CUT = frozenset({Ending.CANCELLED, Ending.LOST})


def _fresh(node: NodeState) -> NodeState:
    return NodeState(
        unique_id=node.unique_id,
        name=node.name,
        resource_type=node.resource_type,
        relation=node.relation,
        materialized=node.materialized,
        package=node.package,
        path=node.path,
    )


def _counted(tests: list[tuple[NodeState, Verdict, int]]) -> tuple[TestCounts, int]:
    passed = warned = failed = errored = skipped = lost = 0
    failing: list[FailingTest] = []
    for test, verdict, attempt in tests:
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
                        message=shorten(without_excerpt(verdict.message)[0], limit=256),
                        failures=test.num_failures,
                        finished_at=test.finished_at or test.ended_ts,
                        attempt=attempt,
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
