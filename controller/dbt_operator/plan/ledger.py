"""What is done, what failed and what is left of a run, over all its attempts.

A pure function of what the attempts reported. Only here it is known what an earlier attempt means for a later one.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reason_table import LOST, STOPPED
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.dbt.blame import Skips
from dbt_operator.dbt.error_texts import cause_of
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.history import History
from dbt_operator.dbt.node_types import TEST_TYPES
from dbt_operator.dbt.state import AttemptState, Ending, NodeState
from dbt_operator.dbt.statuses import STALE
from dbt_operator.plan.attempt import Assessment


def was_lost(assessment: Assessment) -> bool:
    """Whether the attempt ended, or never began, with its pod. One whose dbt had come to its own end lost nothing.

    Neither did one come to any node that could not fetch packages: it is as if its pod had never come up.
    """
    finished = assessment.state.finished
    cut_off = finished is None or finished.cancelled or assessment.ended_as({RunReason.SOURCE_UNAVAILABLE})
    return assessment.ended_as(LOST) and cut_off


class Standing(StrEnum):
    """Where a node stands in the run."""

    DONE = "Done"  # dbt reported its success, and nothing has to be done for it
    BUSY = "Busy"  # an attempt that is alive, or may be, has it and has not reported its end
    FAILED = "Failed"  # dbt reported that it failed
    OPEN = "Open"  # the attempt that had it was stopped or lost before dbt reported its end, or in which way it failed
    BLOCKED = "Blocked"  # dbt skipped it because of failures that are known, or what it tests was built again since
    PASSED_OVER = "PassedOver"  # a source that it depends on is stale: its end, unless a person asks for more
    UNREPORTED = "Unreported"  # dbt skipped it for another reason, or reported nothing: it would do so again


@dataclass(frozen=True, slots=True)
class Failure:
    """A node that failed: in which way, how often in this episode, and when it last did."""

    kind: RetryReason
    count: int
    at: datetime | None
    cause: str  # the same text for all nodes that failed for the same cause; "" where it is not known


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where every node of the run stands."""

    graph: Graph
    standings: Mapping[str, Standing]
    failures: Mapping[str, Failure]  # of those that are FAILED
    causes: Mapping[str, frozenset[str]]  # what dbt skipped a node for, until it succeeds in a later attempt
    at_work: frozenset[str]  # those of the BUSY ones that are executed, or will be
    lingering: bool  # whether some are BUSY only because an ended attempt may still have a process
    stale: frozenset[str]  # nodes that succeeded, but not what they read: they are BLOCKED
    undecided: frozenset[str]  # sources that have to be looked at before anything else is executed
    too_old: frozenset[str]  # sources that are stale, which is no failure of the run
    missed: Mapping[str, tuple[RunReason, ...]]  # why attempts ended by themselves before they reached the node

    def ready(self, candidates: Iterable[str]) -> frozenset[str]:
        """The largest part of the candidates that one attempt can execute.

        All that a node of it needs is done, or is executed by the same attempt.
        """
        found = set(candidates)
        changed = True
        while changed:
            late = {one for one in found if not self.satisfied(one, within=found)}
            found -= late
            changed = bool(late)
        return frozenset(found)

    def satisfied(self, unique_id: str, *, within: Iterable[str] = ()) -> bool:
        """Whether all that the node needs is done, or among `within`; and so is all that dbt has skipped it for.

        The graph may miss what dbt knew when it skipped the node, so both count.
        """
        needs = (need for need in self._needs(unique_id) if self.standings.get(need) is not Standing.DONE)
        before = () if unique_id in self.undecided else self.undecided
        return all(need in within for need in (*needs, *self.causes.get(unique_id, ()), *before))

    def _needs(self, unique_id: str) -> Iterator[str]:
        """What has to be executed before the node: in the place of what is passed over, what that needs.

        dbt itself looks through what it is not to execute. What an ephemeral model needs is needed besides: who has it
        in their text read that, and it counts as done with them.
        """
        stack, seen = list(self.graph.order.needs(unique_id)), {unique_id}
        while stack:
            need = stack.pop()
            if need in seen:
                continue
            seen.add(need)
            passed_over = self.standings.get(need) is Standing.PASSED_OVER
            if passed_over or self.graph.nodes[need].ephemeral:
                stack += self.graph.order.gates(need)
            if not passed_over:
                yield need

    def decides_on(self, nodes: frozenset[str]) -> frozenset[str]:
        """What an attempt at these nodes decides on besides them: all that is left, if it is to look at sources.

        They are looked at once, also for what waits for another node, a retry or the stage of the tests.
        """
        left = (Standing.OPEN, Standing.BLOCKED, Standing.UNREPORTED)
        if self.undecided.isdisjoint(nodes):
            return frozenset()
        waiting = (one for one, standing in self.standings.items() if standing in left and one not in self.causes)
        return frozenset(waiting) - nodes

    @property
    def passed_over(self) -> frozenset[str]:
        """The nodes that are not executed as a source is stale."""
        return frozenset(one for one, standing in self.standings.items() if standing is Standing.PASSED_OVER)

    def undone(self) -> Iterator[str]:
        """The nodes that are not done although they wait for no other one."""
        over = (Standing.DONE, Standing.PASSED_OVER)
        left = (unique_id for unique_id, standing in self.standings.items() if standing not in over)
        return (unique_id for unique_id in left if self.satisfied(unique_id))

    def related(self, nodes: Collection[str]) -> frozenset[str]:
        """The nodes, all that they read and all that reads them, directly or through what was built from it.

        While they are executed none of these may be: one of the two would read what the other one builds.
        """
        graph = self.graph
        needs = {need for one in nodes for need in graph.order.needs(one)}
        return graph.ancestors(*nodes).union(nodes, needs, graph.order.needing(*nodes), graph.descendants(*nodes))


def ledger_of(
    *, assessments: Sequence[Assessment], history: History, since: int, lingering: Container[int] = frozenset()
) -> Ledger | None:
    """Where the nodes stand after these attempts; None while no attempt has said what is selected.

    `history`: that of these attempts.
    `since`: the first attempt of the present episode, from 0. Failures before it are forgiven.
    `lingering`: ended attempts whose process may still be alive, from 0.
    """
    graph = history.graph
    if graph is None:
        return None
    alive = {index: _ahead(each, graph) for index, each in enumerate(assessments) if each.live or index in lingering}
    none = frozenset[str]()
    ahead = none.union(*(nodes for index, nodes in alive.items() if assessments[index].live))
    left = none.union(*(nodes for index, nodes in alive.items() if index in lingering))
    silent = [index for index, each in enumerate(assessments) if _ended_silently(each)]
    released = [index for index, each in enumerate(assessments) if each.attempt.released]
    skips = Skips(history)
    standings = {
        one: Standing.BUSY
        if one in ahead or one in left
        else _standing(one, history=history, assessments=assessments, silent=silent, released=released, skips=skips)
        for one in graph.executables()
    }
    standings |= dict.fromkeys(_tests_due(history, graph, standings), Standing.BLOCKED)
    stale = _stale_successes(history, graph, standings)
    standings |= dict.fromkeys(stale, Standing.BLOCKED)
    episode = assessments[since:]
    failed = [one for one, standing in standings.items() if standing is Standing.FAILED]
    looked_at = [one for one in standings if one.startswith("source.")] if graph.command.rules.looks_at_sources else []
    waiting = [one for one, each in standings.items() if each is Standing.OPEN or each is Standing.BLOCKED]
    return Ledger(
        graph=graph,
        standings=standings,
        failures={one: _failure(one, history=history, episode=episode, graph=graph) for one in failed},
        causes=_unrepaired(skips, standings=standings, history=history),
        at_work=none.union(*(nodes - _skipped(assessments[index], graph) for index, nodes in alive.items())),
        lingering=not left <= ahead,
        stale=stale,
        undecided=frozenset(one for one in looked_at if standings[one] is Standing.OPEN),
        too_old=frozenset(one for one in looked_at if _status(history, one) == STALE),
        missed=_missed(episode, unique_ids=waiting, graph=graph),
    )


# A node that has to be executed before what was built from it can be relied upon.
_UNDONE = frozenset({Standing.OPEN, Standing.UNREPORTED, Standing.FAILED, Standing.BLOCKED})


def _stale_successes(history: History, graph: Graph, standings: Mapping[str, Standing]) -> frozenset[str]:
    """The nodes that are done although something that they read is not, or was built after them: to be executed again.

    It happens where the report of a node was lost with a part of a log, and that of a node below it was not.
    """
    newest: dict[str, int] = {}  # the last attempt that began a node above; `every` where one above is not done
    found: set[str] = set()
    every = len(history.attempts)
    for one in graph.relations():
        above = -1
        for source in graph.sources(one):
            above = max(above, newest[source], every if standings[source] in _UNDONE else history.begun(source))
        kept = standings[one] is Standing.PASSED_OVER and not graph.nodes[one].without_data
        newest[one] = -1 if kept else above  # a table that is passed over stays as it is
        if above > 0 and standings[one] is Standing.DONE:
            report = history.report(one)
            if report is not None and report.attempt < above:
                found.add(one)
    return frozenset(found)


def _tests_due(history: History, graph: Graph, standings: Mapping[str, Standing]) -> frozenset[str]:
    """Tests of a stage of their own that were passed over, of nodes that are not, as a person has asked for them since.

    What is asked for begins with the stage before, where the sources are looked at.
    """
    over = frozenset(one for one, standing in standings.items() if standing is Standing.PASSED_OVER)
    old = frozenset(one for one in standings if one.startswith("source.") and _status(history, one) == STALE)
    tests = (one for one in over if graph.nodes[one].test) if graph.rules.stages else ()
    found: set[str] = set()
    for test in tests:
        reads, report = frozenset(graph.reads(test)), history.report(test)
        since = max((history.begun(one) for one in reads), default=-1)
        if report is not None and report.attempt < since and reads.isdisjoint(over | old):
            found.add(test)
    return frozenset(found)


def _ended_silently(assessment: Assessment) -> bool:
    """Whether the attempt may have begun more nodes than are known: its pod was taken away, and its log with it.

    A node that it was to execute again may no longer be as an earlier attempt left it.
    """
    cut_off = assessment.ended_as(LOST | STOPPED) and assessment.state.finished is None
    return cut_off and assessment.attempt.released


def _standing(
    unique_id: str,
    *,
    history: History,
    assessments: Sequence[Assessment],
    silent: Sequence[int],
    released: Sequence[int],
    skips: Skips,
) -> Standing:
    report = history.report(unique_id)
    if report is None or (report.node.phase.terminal and _undecided(report.state, unique_id, graph=history.graph)):
        return Standing.OPEN
    match report.node.phase:
        case NodePhase.SUCCEEDED | NodePhase.SKIPPED if report.node.status == STALE:
            # A person asked for more, and the attempt that was to do it has not come to look at the sources.
            asked_for = any(each.attempt.covers(unique_id) for each in assessments[report.attempt + 1 :])
            found = Standing.DONE if report.node.phase is NodePhase.SUCCEEDED else Standing.PASSED_OVER
            return Standing.OPEN if asked_for else found
        case NodePhase.SUCCEEDED:
            # What was built into a database that is gone with its pod is not there for any attempt after it.
            undoing = released if report.state.pod_database else silent
            later = [assessments[index] for index in undoing if index > report.attempt]
            return Standing.OPEN if any(each.attempt.covers(unique_id) for each in later) else Standing.DONE
        case NodePhase.FAILED if not report.node.stopped:
            # The pod was lost before the runner could say what the failure was. No rule for retries can be applied,
            # so the node is executed again like those that were running.
            unclear = report.node.unexplained and was_lost(assessments[report.attempt])
            return Standing.OPEN if unclear else Standing.FAILED
        case NodePhase.FAILED:
            return Standing.BLOCKED if skips.causes(unique_id) else Standing.OPEN
        case NodePhase.SKIPPED:
            return Standing.BLOCKED if skips.causes(unique_id) else Standing.UNREPORTED
        case _ if history.inlined(unique_id):
            return Standing.DONE
        case NodePhase.RUNNING:
            return Standing.OPEN
        case _ if not assessments[report.attempt].attempt.covers(unique_id):
            return Standing.BLOCKED  # a test: that attempt has built what it tests, and was not asked for the test
        case _:
            return Standing.UNREPORTED if _completed(report.state) else Standing.OPEN


def _unrepaired(skips: Skips, *, standings: Mapping[str, Standing], history: History) -> Mapping[str, frozenset[str]]:
    """What dbt skipped nodes for, without what a later attempt has executed with success."""

    def repaired(cause: str, *, since: int) -> bool:
        report = history.report(cause)
        return standings.get(cause) is Standing.DONE and report is not None and report.attempt > since

    found: dict[str, frozenset[str]] = {}
    for unique_id in (one for one, standing in standings.items() if standing is Standing.BLOCKED):
        since = skips.attempt(unique_id)
        left = frozenset(one for one in skips.causes(unique_id) if not repaired(one, since=since))
        if left:
            found[unique_id] = left
    return found


def _ahead(assessment: Assessment, graph: Graph) -> frozenset[str]:
    """The nodes that an attempt has and whose end it has not reported. Its process is alive, or may be."""
    covered = assessment.attempt.decision.covered(graph.executed)
    return frozenset(one for one in covered if _has(assessment, one, graph))


def _skipped(assessment: Assessment, graph: Graph) -> frozenset[str]:
    """What its dbt has skipped or will skip, because of what failed in it."""
    nodes = assessment.state.nodes.items()
    bad = (one for one, node in nodes if node.phase in (NodePhase.FAILED, NodePhase.SKIPPED) and node.status != STALE)
    return graph.order.needing(*bad)


def _has(assessment: Assessment, unique_id: str, graph: Graph) -> bool:
    """Whether an attempt that is alive, and is to execute the node, may yet do so, or does."""
    node = assessment.state.nodes.get(unique_id)
    if node is None or not node.phase.terminal or _undecided(assessment.state, unique_id, graph=graph):
        return True
    # A dbt that cancels its queries is about to end. It will leave more nodes open than those cancelled so far.
    return node.stopped or node.unexplained


def _status(history: History, unique_id: str) -> str:
    report = history.report(unique_id)
    return "" if report is None else report.node.status


def _undecided(state: AttemptState, unique_id: str, *, graph: Graph | None) -> bool:
    """Whether the node is a source that was looked at in vain, as what that means for others was not decided."""
    if graph is None or not unique_id.startswith("source."):  # asked first, as most nodes are none
        return False
    return graph.command.rules.looks_at_sources and not state.looked_at_sources


def _completed(state: AttemptState) -> bool:
    return state.closed is not None and state.closed.ending is Ending.COMPLETED and state.error is None


def _failure(unique_id: str, *, history: History, episode: Sequence[Assessment], graph: Graph) -> Failure:
    undecided = [_undecided(each.state, unique_id, graph=graph) for each in episode]
    own = [None if vain else each.state.nodes.get(unique_id) for each, vain in zip(episode, undecided, strict=True)]
    failed = [node for node in own if node is not None and node.phase is NodePhase.FAILED and not node.stopped]
    # Attempts before the first failure do not count as retries.
    since = own.index(failed[0]) if failed else 0
    without = [each for each in episode[since:] if _ended_without(each, unique_id, graph)]
    report = history.report(unique_id)
    assert report is not None  # noqa: S101 - a node that failed was mentioned
    times = [node.finished_at or node.ended_ts for node in failed] + [each.ended_at for each in without]
    return Failure(
        kind=failure_kind(report.node),
        count=len(failed) + len(without),
        at=max((moment for moment in times if moment is not None), default=None),
        cause=node_cause(report.node),
    )


def node_cause(node: NodeState) -> str:
    """What a node failed for, as `cause_of`. A warehouse that has cancelled one query was not lost."""
    return cause_of(node.message) if node.deadline_seconds is None else ""


def failure_kind(node: NodeState) -> RetryReason:
    """In which way a node failed, in the words of `spec.retry.reasons`."""
    if node.deadline_seconds is not None:
        return RetryReason.DEADLINE_EXCEEDED
    if node.resource_type in TEST_TYPES and node.status == "fail":
        return RetryReason.TESTS_FAILED
    if node.resource_type == "source" and node.status == "error":  # it is stale, as a test that finds something
        return RetryReason.TESTS_FAILED
    if node.status == "partial success":
        return RetryReason.PARTIAL_SUCCESS
    if node.message.lstrip().startswith("Compilation Error"):
        return RetryReason.COMPILE_ERROR
    return RetryReason.ERROR


def _missed(
    episode: Sequence[Assessment], *, unique_ids: Sequence[str], graph: Graph
) -> Mapping[str, tuple[RunReason, ...]]:
    found: dict[str, tuple[RunReason, ...]] = {}
    for each in episode:
        nodes = each.attempt.nodes
        # Of hundreds of attempts most have a few nodes.
        for one in unique_ids if nodes is None or len(nodes) > len(unique_ids) else nodes.intersection(unique_ids):
            if _ended_without(each, one, graph):
                found[one] = (*found.get(one, ()), each.end.reason)
    return found


def _ended_without(assessment: Assessment, unique_id: str, graph: Graph) -> bool:
    """Whether the attempt had the node, and ended by itself without reporting the end of the node.

    Another attempt would do the same, again and again.
    """
    if assessment.live or was_lost(assessment) or assessment.ended_as(STOPPED):
        return False
    if not assessment.attempt.covers(unique_id):
        return False
    node = assessment.state.nodes.get(unique_id)
    return node is None or not node.phase.terminal or _undecided(assessment.state, unique_id, graph=graph)
