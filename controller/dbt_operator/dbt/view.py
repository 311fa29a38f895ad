"""What users see of a node: from the reports of it, of its tests, and of what it depends on."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.api.status import Counts, NodeCounts
from dbt_operator.dbt.batches import BatchCounts, batch_counts
from dbt_operator.dbt.blame import Blame, start_hook
from dbt_operator.dbt.bodies import Freshness
from dbt_operator.dbt.changes import affected
from dbt_operator.dbt.graph import GraphNode
from dbt_operator.dbt.history import History, Report, history_of
from dbt_operator.dbt.node_folding import announced
from dbt_operator.dbt.node_types import TEST_TYPES, Shown, node_type
from dbt_operator.dbt.own_view import Verdict, behind_hook, held_back, own_verdict
from dbt_operator.dbt.state import AttemptState, Ending, NodeState
from dbt_operator.dbt.tests_view import (
    ListedTest,
    TestCounts,
    TestReport,
    counts_of,
    kept_rows,
    verdict_by_tests,
    with_tests,
)
from dbt_operator.dbt.values import shorten

__all__ = [
    "ListedTest",
    "NodeView",
    "Tally",
    "TestCounts",
    "affected",
    "executed_counts",
    "node_counts",
    "node_view",
    "node_views",
    "test_counts",
    "views_of",
]


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
    bytes_billed: int | None = None
    slot_milliseconds: int | None = None
    cache_hit: bool | None = None
    job_id: str = ""
    executor: str = ""
    executor_reason: str = ""
    status: str = ""  # dbt's word for how it ended
    freshness: Freshness | None = None
    batches: BatchCounts | None = None
    relation: str = ""
    kept_rows: str = ""  # of a test: the relation with the rows that it has found
    materialized: str = ""
    package: str = ""
    path: str = ""
    executed: bool = True  # False: no attempt reports on the node itself
    shown: bool = True  # whether it has a DbtModel of its own


def node_view(*, state: AttemptState | History, unique_id: str) -> NodeView:
    """The view of one node; raises KeyError for a node that neither dbt nor the graph ever mentioned."""
    return _Reader(history_of(state)).view(unique_id)


def node_views(*, state: AttemptState | History) -> Mapping[str, NodeView]:
    """The views of every node that dbt executes, tests and hooks included, and of those that tests are listed on."""
    return views_of(state=state, unique_ids=_listed(history_of(state)))


def views_of(*, state: AttemptState | History, unique_ids: Iterable[str]) -> Mapping[str, NodeView]:
    """The views of these nodes; cheaper than asking for each of them alone. Unknown ids are left out."""
    history = history_of(state)
    reader = _Reader(history)
    return {unique_id: reader.view(unique_id) for unique_id in unique_ids if _known(history, unique_id)}


def _known(history: History, unique_id: str) -> bool:
    return history.report(unique_id) is not None or (history.graph is not None and history.graph.has_object(unique_id))


class Tally:
    """How many nodes and tests are in which state, and what has failed.

    Kept as views change: of thousands a few change at a time, and they are counted once a second.
    """

    def __init__(self, views: Iterable[NodeView] = ()) -> None:
        self.failed: dict[str, NodeView] = {}  # by unique_id
        self._nodes: Counter[tuple[NodePhase, NodeReason | None]] = Counter()
        self._tests: Counter[tuple[NodePhase, NodeReason | None]] = Counter()
        for view in views:
            self.change(before=None, after=view)

    def change(self, *, before: NodeView | None, after: NodeView) -> None:
        """A view has taken the place of another one, or of none."""
        if before is not None:
            self._count(before, -1)
        self._count(after, 1)
        self.failed.pop(after.unique_id, None)
        if after.phase is NodePhase.FAILED:
            self.failed[after.unique_id] = after

    def _count(self, view: NodeView, step: int) -> None:
        if view.shown:
            self._nodes[view.phase, view.reason] += step
        if view.resource_type in TEST_TYPES:
            self._tests[view.phase, view.reason] += step

    @property
    def nodes(self) -> NodeCounts:
        """Of the nodes that have a DbtModel. What warned, or was reused, is not among those that succeeded."""
        phases, ended = _phases(self._nodes), NodePhase.SUCCEEDED
        warned, reused = self._nodes[ended, NodeReason.WARNED], self._nodes[ended, NodeReason.REUSED]
        phases["succeeded"] -= warned + reused
        return NodeCounts(total=self._nodes.total(), **phases, warned=warned, reused=reused or None)

    @property
    def tests(self) -> Counts:
        """Of the tests and unit tests. One that was reused has passed, as dbt itself counts it."""
        warned = sum(count for (_, reason), count in self._tests.items() if reason is NodeReason.WARNED)
        phases = _phases(self._tests)
        phases["succeeded"] -= warned
        return Counts(total=self._tests.total(), **phases, warned=warned)


def node_counts(*, views: Mapping[str, NodeView]) -> NodeCounts:
    """The counts of the nodes that have a DbtModel."""
    return Tally(views.values()).nodes


def test_counts(*, views: Mapping[str, NodeView]) -> Counts:
    """The counts of the tests and unit tests."""
    return Tally(views.values()).tests


def executed_counts(*, views: Mapping[str, NodeView]) -> tuple[Counts, str]:
    """The counts of what the run executes, and what one of these is called: a node, or a test where all are tests."""
    nodes = (view for view in views.values() if view.resource_type not in TEST_TYPES)
    if any(view.executed and view.shown for view in nodes):
        return node_counts(views=views), "node"
    return test_counts(views=views), "test"


test_counts.__test__ = False  # type: ignore[attr-defined]  # pytest takes imported functions of this name for tests


def _listed(history: History) -> Iterable[str]:
    mentioned = list(history.unique_ids())
    graph = history.graph
    if graph is None:
        return mentioned
    known = set(mentioned)
    listed = (one for one in graph.nodes if one in known or graph.has_object(one))
    return [*listed, *(one for one in mentioned if one not in graph.nodes)]


class _Reader:
    """Makes the views of one history. Searches the causes of skipped nodes once for each attempt."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._blames: dict[int, Blame] = {}

    def view(self, unique_id: str) -> NodeView:
        """The view of one node. Raises KeyError for a node that nobody mentioned."""
        report = self._history.report(unique_id)
        own = report.node if report is not None else self._announced(unique_id)
        tests = [] if own.resource_type in TEST_TYPES else self._tests(unique_id)
        counts = counts_of(tests)
        shown = self._shown(own, report, tested=bool(tests))
        if unique_id in self._history.pending:
            # What an attempt before reported of it no longer counts. Its attempts are listed on the object.
            own, verdict = own.unreported, Verdict(phase=NodePhase.PENDING)
        else:
            verdict = with_tests(self._own(own, report, tests), tests, counts)
        return NodeView(
            unique_id=unique_id,
            name=own.name,
            resource_type=own.resource_type,
            phase=verdict.phase,
            reason=verdict.reason,
            message=shorten(verdict.message),
            blocked_by=verdict.blocked_by,
            tests=None if own.resource_type in TEST_TYPES else counts,
            started_at=own.started_at,
            finished_at=own.finished_at,
            # For a node that it reused dbt reports the time that it took to find that out.
            execution_seconds=None if verdict.reason is NodeReason.REUSED else own.execution_seconds,
            rows_affected=own.rows_affected,
            bytes_processed=own.bytes_processed,
            bytes_billed=own.bytes_billed,
            slot_milliseconds=own.slot_milliseconds,
            cache_hit=own.cache_hit,
            job_id=own.job_id,
            executor=own.executor,
            executor_reason=own.executor_reason,
            status=own.status,
            freshness=own.freshness,
            batches=self._batches(own),
            relation=own.relation,
            kept_rows=kept_rows(own),
            materialized=own.materialized,
            package=own.package,
            path=own.path,
            executed=report is not None,
            shown=shown,
        )

    def _batches(self, own: NodeState) -> BatchCounts | None:
        """The batches of a node that has begun, or has not come to them in this attempt yet."""
        if own.materialized != "incremental" or own.phase is NodePhase.PENDING:
            return None
        return batch_counts(own.unique_id, attempts=self._history.attempts)

    def _announced(self, unique_id: str) -> NodeState:
        if self._history.graph is None:
            raise KeyError(unique_id)
        return announced(self._history.graph.nodes[unique_id], None)

    def _verdict(self, report: Report) -> Verdict:
        closed, unique_id = report.state.closed, report.node.unique_id
        later = unique_id in self._history.later and unique_id not in report.state.nodes
        if report.node.phase is NodePhase.PENDING and closed is not None and (later or closed.ending in _CUT):
            culprit = self._blame_of_run.of(unique_id)
            if culprit is not None:
                return held_back(culprit)
            if self._history.only_listed(report):
                return self._not_reached(report)
        blame = self._blames.setdefault(report.attempt, Blame(report.state))
        return own_verdict(state=report.state, node=report.node, blame=blame)

    def _not_reached(self, listed: Report) -> Verdict:
        """About a node that nothing has held back, and no attempt was asked for."""
        hooks = (start_hook(state) for state in self._history.attempts)
        hook = next((one for one in hooks if one is not None), None)
        if hook is not None:
            return behind_hook(hook)
        listing = listed.state
        if listing.error is not None or (listing.closed is not None and listing.closed.ending in _CUT):
            return own_verdict(state=listing, node=listed.node, blame=Blame(listing))
        return _NOT_REACHED.get(self._history.unreached, _NOT_REACHED[NodeReason.SKIPPED])

    @cached_property
    def _blame_of_run(self) -> Blame:
        """The failures that hold back nodes which no attempt reached before it was stopped, or lost with its pod.

        dbt had no time to report them as skipped, and later attempts were not asked to execute them.
        """
        reports = {
            one: report.node for one in self._history.unique_ids() if (report := self._history.report(one)) is not None
        }
        nodes = {
            one: msgspec.structs.replace(node, phase=NodePhase.SKIPPED)
            if node.stopped or node.phase is NodePhase.PENDING
            else node
            for one, node in reports.items()
        }
        failures = frozenset(one for one, node in nodes.items() if node.phase is NodePhase.FAILED)
        return Blame(AttemptState(graph=self._history.graph, nodes=nodes, failures=failures))

    def _own(self, own: NodeState, report: Report | None, tests: Sequence[TestReport]) -> Verdict:
        """What is shown of the node, before what its tests change."""
        if report is None:
            ephemeral = own.materialized == "ephemeral"
            return verdict_by_tests(tests, good=_INLINED if ephemeral else _GOOD) if tests else self._unreported(own)
        if not report.node.phase.terminal and self._history.inlined(own.unique_id):
            return _INLINED
        return self._verdict(report)

    def _unreported(self, node: NodeState) -> Verdict:
        """What is shown of a node of which no attempt reported anything."""
        if node.unique_id in self._history.pending:
            return Verdict(phase=NodePhase.PENDING)
        state = self._history.attempts[0]
        return own_verdict(state=state, node=node, blame=Blame(state))

    def _tests(self, unique_id: str) -> list[TestReport]:
        """The tests listed on the node."""
        graph = self._history.graph
        unique_ids = [test.unique_id for test in graph.tests_of(unique_id)] if graph is not None else []
        attached = [one for state in self._history.attempts for one in state.attached.get(unique_id, ())]
        unique_ids += [one for one in dict.fromkeys(attached) if graph is None or one not in graph.nodes]
        return [self._test(one) for one in unique_ids]

    def _test(self, unique_id: str) -> TestReport:
        report = self._history.report(unique_id)
        if report is not None and unique_id not in self._history.pending:
            return TestReport(report.node, self._verdict(report), report.attempt)
        graph = self._history.graph
        node = graph.nodes[unique_id] if graph is not None and unique_id in graph.nodes else None
        unreported = announced(node or GraphNode(unique_id=unique_id), None)
        return TestReport(unreported, self._unreported(unreported), 0)

    def _shown(self, own: NodeState, report: Report | None, *, tested: bool) -> bool:
        """Whether the node has a DbtModel."""
        match node_type(own.resource_type).shown:
            case Shown.SELECTED:
                return report is not None or tested
            case Shown.UNLISTED:
                graph = self._history.graph
                return graph is not None and own.unique_id in graph.nodes and not graph.listed_elsewhere(own.unique_id)
            case Shown.NEVER:
                return False
            case _:  # once it has failed it keeps its DbtModel
                return tested or any(own.unique_id in state.failures for state in self._history.attempts)


_NOT_REACHED = {
    NodeReason.SKIPPED: Verdict(
        phase=NodePhase.SKIPPED, reason=NodeReason.SKIPPED, message="The run ended before it was executed."
    ),
    NodeReason.FAIL_FAST: Verdict(
        phase=NodePhase.SKIPPED,
        reason=NodeReason.FAIL_FAST,
        message="Another node failed before it was begun, and nothing is begun after that, as fail-fast asks.",
    ),
    NodeReason.CANCELLED: Verdict(
        phase=NodePhase.CANCELLED, reason=NodeReason.CANCELLED, message="It had not started when the run was stopped."
    ),
}
_GOOD = Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.SUCCESS)
_INLINED = Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.INLINED)
_CUT = frozenset({Ending.CANCELLED, Ending.LOST})


def _phases(states: Mapping[tuple[NodePhase, NodeReason | None], int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (phase, _), count in states.items():
        found[phase.value.lower()] += count
    return found
