"""What the DbtModels of a run remember of an attempt whose log is gone, or has lost its beginning.

The log is the better source, and what was sealed the best. This is for the rest: a pod that was taken away while no
controller was there, and a log so long that the kubelet has rotated its beginning away. What dbt reported and we
stored stays; that it cannot be found any more does not make it untrue.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

from dbt_operator.api import status
from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt import statuses
from dbt_operator.dbt.bodies import Freshness
from dbt_operator.dbt.excerpts import without_excerpt
from dbt_operator.dbt.graph import Graph, GraphNode, is_test
from dbt_operator.dbt.history import History
from dbt_operator.dbt.node_types import TEST_TYPES
from dbt_operator.dbt.state import AttemptState, NodeState
from dbt_operator.plan.attempt import Attempt

# dbt's word for what is stored; reasons that are missing here say that dbt had not ended the node.
_WORDS: dict[NodeReason, tuple[NodePhase, str]] = {
    NodeReason.SUCCESS: (NodePhase.SUCCEEDED, "success"),
    NodeReason.WARNED: (NodePhase.SUCCEEDED, "success"),
    NodeReason.TESTS_FAILED: (NodePhase.SUCCEEDED, "success"),  # it was built; its tests are restored with it
    NodeReason.NO_OP: (NodePhase.SUCCEEDED, "no-op"),
    NodeReason.REUSED: (NodePhase.SUCCEEDED, "reused"),
    NodeReason.INLINED: (NodePhase.SUCCEEDED, "success"),
    NodeReason.ERROR: (NodePhase.FAILED, "error"),
    NodeReason.PARTIAL_SUCCESS: (NodePhase.FAILED, "partial success"),
    NodeReason.UPSTREAM_FAILED: (NodePhase.SKIPPED, "skipped"),
    NodeReason.FAIL_FAST: (NodePhase.SKIPPED, "skipped"),
    NodeReason.SKIPPED: (NodePhase.SKIPPED, "skipped"),
}
# The same for a reason that a later version has added: what it shows of the node is in its phase.
_WORD_OF_PHASE: dict[NodePhase, tuple[NodePhase, str]] = {
    NodePhase.SUCCEEDED: (NodePhase.SUCCEEDED, "success"),
    NodePhase.FAILED: (NodePhase.FAILED, "error"),
    NodePhase.SKIPPED: (NodePhase.SKIPPED, "skipped"),
}
_WORDS_OF_TESTS = _WORDS | {
    NodeReason.SUCCESS: (NodePhase.SUCCEEDED, "pass"),
    NodeReason.WARNED: (NodePhase.SUCCEEDED, "warn"),
    NodeReason.TESTS_FAILED: (NodePhase.FAILED, "fail"),
}
_WORDS_OF_SOURCES = _WORDS | {
    NodeReason.SUCCESS: (NodePhase.SUCCEEDED, "pass"),
    NodeReason.WARNED: (NodePhase.SUCCEEDED, "warn"),
    NodeReason.STALE: (NodePhase.FAILED, "error"),
    NodeReason.ERROR: (NodePhase.FAILED, "runtime error"),
}
_WORDS_BY_TYPE = dict.fromkeys(TEST_TYPES, _WORDS_OF_TESTS) | {"source": _WORDS_OF_SOURCES}


@dataclass(frozen=True)
class Memory:
    """What the DbtModels of a run tell of its attempts.

    `graph`: of all that the run selects; None unless all of its DbtModels are there. `nodes`: how far they had come, by
    the Job that began with them last, `first_job` where none has. Tests that passed go with the node on which they are
    listed.
    """

    graph: Graph | None = None
    first_job: str = ""
    nodes: Mapping[str, Mapping[str, NodeState]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        models: Iterable[tuple[status.DbtModelSpec, status.DbtModelStatus]],
        *,
        graph: Graph | None,
        first_job: str,
    ) -> "Memory":
        """The memory that these DbtModels are."""
        nodes: dict[str, dict[str, NodeState]] = {}
        for spec, stored in models:
            built_by = stored.attempts[-1].job if stored.attempts else first_job
            for job, node in restored_nodes(spec=spec, stored=stored, job=built_by):
                nodes.setdefault(job, {})[node.unique_id] = node
        return cls(graph=graph, first_job=first_job, nodes=nodes)

    def completed(
        self,
        attempts: Sequence[Attempt],
        *,
        dbt: status.DbtInfo | None = None,
        found: Mapping[str, str] | None = None,
    ) -> tuple[Attempt, ...]:
        """The attempts with what is remembered of them, where their logs tell less.

        attempts: all that were decided on, in their order. found: what the run's status says that they have found out.
        """
        known: list[Attempt] = []
        for index, attempt in enumerate(attempts):
            one = self._completed(attempt, earlier=known, later=attempts[index + 1 :], dbt=dbt)
            known.append(_with_found(one, found or {}))
        return tuple(known)

    def _completed(
        self, attempt: Attempt, *, earlier: Sequence[Attempt], later: Sequence[Attempt], dbt: status.DbtInfo | None
    ) -> Attempt:
        if attempt.sealed is not None or not attempt.existed:
            return attempt
        nodes = self._of(attempt, earlier=earlier, later=later)
        # An attempt before it may have been lost without having said a graph. Then the DbtModels are the graph of one
        # that is to execute all of the run, if some of them are known to have begun in it.
        graph = self.graph if attempt.whole and (nodes or attempt.name == self.first_job) else None
        state = filled(attempt.log.state, nodes=nodes, graph=graph, dbt=dbt) if nodes or graph is not None else None
        return attempt if state is None else replace(attempt, log=replace(attempt.log, state=state))

    @cached_property
    def _passed(self) -> Mapping[str, NodeState]:
        """The tests that have passed, or warned."""
        tests = (node for nodes in self.nodes.values() for one, node in nodes.items() if is_test(one))
        return {test.unique_id: test for test in tests if test.phase is NodePhase.SUCCEEDED}

    def _of(self, attempt: Attempt, *, earlier: Sequence[Attempt], later: Sequence[Attempt]) -> Mapping[str, NodeState]:
        """What is remembered of the attempt.

        A DbtModel tells who executed the tests that failed, not those that passed. But two that are to execute the same
        node never have processes at the same time, and none is decided on for a test that has passed: so a pass is of
        the last attempt that is to execute the test without the nodes that it reads, and where there is none, of the
        one that has built them.
        """
        own = self.nodes.get(attempt.name, {})
        if not self._passed or not (own or earlier):
            return own
        before = _history(earlier)
        graph = before.graph or (attempt.known.graph if attempt.whole else None) or self.graph
        if graph is None:
            return own
        own = {**own, **self._passes(attempt, before=before, earlier=earlier, graph=graph)}
        others = frozenset[str]().union(*(_tests_only(each, self._passed.keys(), graph) for each in later))
        return {one: node for one, node in own.items() if one not in others or node.phase is not NodePhase.SUCCEEDED}

    def _passes(
        self, attempt: Attempt, *, before: History, earlier: Sequence[Attempt], graph: Graph
    ) -> Mapping[str, NodeState]:
        """The passes that the attempt may have said of tests that it executes by themselves."""
        found: dict[str, NodeState] = {}
        for test in sorted(_tests_only(attempt, self._passed.keys(), graph)) if earlier else ():
            # What was stored before a node that it reads was built again is not about what is there. Where it is listed
            # on another node than that, this can only be told from whether an attempt before has said it.
            stored = self.nodes.get(earlier[before.built(test)].name, {}).get(test)
            new = stored is not None and stored.phase is NodePhase.SUCCEEDED
            new = new or not any(_said_pass(each, test) for each in earlier)
            if new and _rank(attempt.log.state.nodes.get(test)) != _ENDED:
                found[test] = self._passed[test]
        return found


def _said_pass(attempt: Attempt, test: str) -> bool:
    node = attempt.known.nodes.get(test)
    return node is not None and node.phase is NodePhase.SUCCEEDED


def _history(attempts: Sequence[Attempt]) -> History:
    return History(
        attempts=tuple(each.known for each in attempts),
        parts=frozenset(index for index, each in enumerate(attempts) if not each.whole),
    )


def _tests_only(attempt: Attempt, tests: Set[str], graph: Graph) -> frozenset[str]:
    """Those of the tests that the attempt is to execute without the nodes that they read."""
    nodes = attempt.decision.nodes if attempt.decision is not None else None
    mine = nodes or frozenset()
    return frozenset(one for one in tests & mine if mine.isdisjoint(graph.subjects(one)))


def restored_nodes(
    *, spec: status.DbtModelSpec, stored: status.DbtModelStatus, job: str
) -> Iterable[tuple[str, NodeState]]:
    """The node of a DbtModel and its tests, as far as its status tells how they ended, each with a Job.

    job: of the attempt that began with the node last. A test that failed has that of the attempt that executed it.
    """
    word = _word(spec, stored)
    if spec.selected is False:
        word = None  # dbt does not execute it: what is shown of it is what is shown of its tests
    elif word is None:
        return
    if word is not None:
        yield job, _node(spec, stored, word)
    if stored.tests is None:
        return
    for failed in stored.tests.failing:
        yield failed.job or job, _failed(failed, attached_node=spec.unique_id)
    for test in _passed(spec, stored.tests, built=word is not None and word[0] is NodePhase.SUCCEEDED):
        yield job, test


def _word(spec: status.DbtModelSpec, stored: status.DbtModelStatus) -> tuple[NodePhase, str] | None:
    if stored.phase is NodePhase.RUNNING:
        return (NodePhase.RUNNING, "")  # that dbt had begun it is known as well
    if stored.reason is None or not stored.phase.terminal:
        return None
    if stored.reason is NodeReason.REUSED and statuses.did_nothing(stored.message or ""):
        return _WORDS[NodeReason.SUCCESS]
    if not stored.reason.known:
        return _WORD_OF_PHASE.get(stored.phase)
    return _WORDS_BY_TYPE.get(spec.resource_type, _WORDS).get(stored.reason)


def _node(spec: status.DbtModelSpec, stored: status.DbtModelStatus, word: tuple[NodePhase, str]) -> NodeState:
    phase, said = word
    told = phase in (NodePhase.FAILED, NodePhase.SKIPPED) or stored.reason is NodeReason.REUSED
    message, excerpt = without_excerpt(stored.message or "")
    return NodeState(
        unique_id=spec.unique_id,
        name=spec.name,
        resource_type=spec.resource_type,
        phase=phase,
        status=said,
        message=message if told else "",
        excerpt=excerpt if phase is NodePhase.FAILED else "",
        message_authority=0,
        started_at=stored.started_at,
        finished_at=stored.finished_at,
        execution_seconds=stored.execution_seconds,
        rows_affected=stored.rows_affected,
        bytes_processed=stored.bytes_processed,
        job_id=stored.job_id or "",
        freshness=_freshness(stored.freshness),
        # What failed may have been executed again since, and then it is remembered of that attempt.
        blocked_by=stored.blocked_by or "",
        relation=spec.relation or "",
        materialized=spec.materialized or "",
        package=spec.package or "",
        path=spec.path or "",
    )


def _freshness(stored: status.SourceFreshness | None) -> Freshness | None:
    if stored is None:
        return None
    return Freshness(
        max_loaded_at=stored.max_loaded_at,
        snapshotted_at=stored.snapshotted_at,
        age_seconds=stored.age_seconds,
        warn_after=stored.warn_after or "",
        error_after=stored.error_after or "",
    )


def _failed(test: status.FailingTest, *, attached_node: str) -> NodeState:
    return NodeState(
        unique_id=test.unique_id,
        name=test.name,
        resource_type=test.unique_id.partition(".")[0],
        phase=NodePhase.FAILED,
        status="fail" if test.failures else "error",
        message=test.message or "",
        message_authority=0,
        num_failures=test.failures,
        finished_at=test.finished_at,  # it is tried again so long after that
        attached_node=attached_node,
    )


def _passed(spec: status.DbtModelSpec, counts: status.ModelTests, *, built: bool) -> Iterable[NodeState]:
    """The tests of which it is certain that they passed, or warned.

    Which ones did is told only where all have that are not listed as failing; the others are run once more. But dbt
    executes the unit tests of a model before it, and does not build it where one of them fails.
    """
    failing = {test.unique_id for test in counts.failing}
    all_ended = counts.passed + counts.warned + len(failing) == counts.total
    warned = counts.warned
    for test in spec.tests:
        resource_type, word = test.unique_id.partition(".")[0], "pass"
        if test.unique_id in failing or not (all_ended or (built and resource_type == "unit_test")):
            continue
        if warned and resource_type != "unit_test":  # whose severity is always error
            word, warned = "warn", warned - 1
        yield NodeState(
            unique_id=test.unique_id,
            name=test.name,
            resource_type=resource_type,
            phase=NodePhase.SUCCEEDED,
            status=word,
            message_authority=0,
            attached_node=spec.unique_id,
        )


def _with_found(attempt: Attempt, found: Mapping[str, str]) -> Attempt:
    state = attempt.log.state
    if attempt.sealed is not None or not attempt.existed or found.keys() <= state.found.keys():
        return attempt
    return replace(attempt, log=replace(attempt.log, state=replace(state, found={**found, **state.found})))


def filled(
    state: AttemptState, *, nodes: Mapping[str, NodeState], graph: Graph | None, dbt: status.DbtInfo | None = None
) -> AttemptState:
    """The state with what is remembered where it knows less."""
    better = {one: node for one, node in nodes.items() if _rank(state.nodes.get(one)) < _rank(node)}
    if not better and (graph is None or state.graph is not None):
        return state
    announced: dict[str, NodeState] = {}
    if state.graph is None and graph is not None:
        # As the event with the graph would have done: what is selected has not begun until something else is known.
        announced = {one: _announced(graph.nodes[one]) for one in graph.executables()}
    merged = {**announced, **state.nodes, **better}
    failures = frozenset(one for one, node in merged.items() if node.phase is NodePhase.FAILED)
    return replace(
        state,
        graph=state.graph if state.graph is not None else graph,
        nodes=merged,
        failures=failures,
        adapter=state.adapter or (dbt.adapter if dbt is not None else None) or "",
        adapter_version=state.adapter_version or (dbt.adapter_version if dbt is not None else None) or "",
        dbt_version=state.dbt_version or (dbt.version if dbt is not None else None) or "",
        target=state.target or (dbt.target if dbt is not None else None) or "",
        invocation_id=state.invocation_id or (dbt.invocation_id if dbt is not None else None) or "",
        pod_database=state.pod_database or (dbt.pod_database if dbt is not None else None) or "",
        end_hooks=dbt.on_run_end_hooks if dbt is not None and state.end_hooks is None else state.end_hooks,
    )


def _announced(node: GraphNode) -> NodeState:
    return NodeState(
        unique_id=node.unique_id,
        name=node.name,
        resource_type=node.resource_type,
        attached_node=node.attached_node or "",
        relation=node.relation or "",
        materialized=node.materialized,
        package=node.package,
        path=node.path,
    )


_ENDED = 2


def _rank(node: NodeState | None) -> int:
    """How far it is known to have come: nowhere, pending, running, ended."""
    if node is None:
        return -1
    return _ENDED if node.phase.terminal else int(node.phase is NodePhase.RUNNING)
