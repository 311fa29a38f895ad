"""What all attempts of a run have reported, oldest first, and which report counts for which node.

A later attempt replaces an earlier one for the nodes that it has begun or skipped. It reports nothing of those that it
never came to. The result of a test is about one build of the nodes that it reads: once one of them is built again, the
result no longer counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.graph import Graph, is_test
from dbt_operator.dbt.node_folding import announced
from dbt_operator.dbt.state import AttemptState, NodeState, changed_nodes
from dbt_operator.dbt.statuses import STALE

BEGUN = frozenset({NodePhase.RUNNING, NodePhase.SUCCEEDED, NodePhase.FAILED})


class _Latest(NamedTuple):
    """The last attempt, from 0, that reported so much of a node; -1 where none did."""

    mentioned: int
    reported: int  # that it was begun, ended or skipped
    begun: int
    ended: int  # how it ended; a cancelled query does not count
    failed: int


_NOTHING = _Latest(-1, -1, -1, -1, -1)


class Reports:
    """Which attempt reported what of each node: an index that another attempt is added to."""

    def __init__(self, *, states: tuple[AttemptState, ...] = (), before: "Reports | None" = None) -> None:
        self.states, self.before = states, before
        self.latest: dict[str, _Latest] = {}

    def of(self, states: tuple[AttemptState, ...]) -> "Reports":
        """The index of these attempts, made of this one as far as they are the same."""
        found, earlier = self, None
        while found.before is not None and not found.begins(states):
            earlier, found = found, found.before
        for state in states[len(found.states) :]:
            found, earlier = found.plus(state, earlier=earlier), None
        return found

    def begins(self, states: tuple[AttemptState, ...]) -> bool:
        """Whether these attempts begin with those of this index."""
        own = len(self.states)
        return own <= len(states) and all(one is other for one, other in zip(self.states, states[:own], strict=True))

    def plus(self, state: AttemptState, *, earlier: "Reports | None" = None) -> "Reports":
        """The index with one more attempt. earlier: the one with an earlier state of that attempt, to spare work."""
        now, found = len(self.states), Reports(states=(*self.states, state), before=self)
        known = earlier.states[-1].nodes if earlier is not None else {}
        changed = changed_nodes(known, state.nodes)
        again = earlier is not None and all(one in state.nodes for one in changed)
        latest = found.latest = dict(earlier.latest if earlier is not None and again else self.latest)
        for unique_id in changed if again else state.nodes:
            old, node = self.latest.get(unique_id, _NOTHING), state.nodes[unique_id]
            phase = node.phase
            if phase is NodePhase.PENDING:
                latest[unique_id] = _Latest(now, *old[1:])
            else:
                latest[unique_id] = _Latest(
                    mentioned=now,
                    reported=now,
                    begun=now if phase in BEGUN else old.begun,
                    ended=now if phase.terminal and not node.stopped else old.ended,
                    failed=now if phase is NodePhase.FAILED and not node.stopped else old.failed,
                )
        return found


class Report(NamedTuple):
    """What counts for a node: what an attempt reported of it, and the state of that attempt."""

    state: AttemptState
    node: NodeState
    attempt: int  # which one, from 0


@dataclass(frozen=True)
class History:
    """The states of the attempts in their order. `pending`: nodes that will be executed, whatever was reported of them.

    `parts`: those attempts, from 0, that were asked for certain nodes only, with these nodes. Their selection is never
    taken for that of the run: if the log of the first attempt is lost, the run would look finished with a part of it.
    `since`: the first attempt, from 0, after a person asked for a retry of a run that had ended.
    `unreached`: why nothing came to what was listed for a later stage, and is held back by nothing.
    """

    attempts: tuple[AttemptState, ...] = ()
    pending: frozenset[str] = frozenset()
    parts: Mapping[int, frozenset[str]] = field(default_factory=dict)
    since: int = 0
    unreached: NodeReason = NodeReason.SKIPPED
    known: Reports = field(default_factory=Reports, compare=False, repr=False)  # of a moment before, to spare work

    @cached_property
    def reports(self) -> Reports:
        """Which attempt reported what."""
        return self.known.of(self.attempts)

    def waiting_for(self, pending: frozenset[str]) -> "History":
        """The same history, of which these nodes are pending."""
        return replace(self, pending=pending, known=self.reports) if pending else self

    @cached_property
    def graph(self) -> Graph | None:
        """The graph of the run, as the first attempt at the whole command that listed it has reported it."""
        whole = (state.graph for index, state in enumerate(self.attempts) if index not in self.parts)
        return next((graph for graph in whole if graph is not None), None)

    @cached_property
    def later(self) -> frozenset[str]:
        """What was listed for a later stage than that of the attempt that has listed it."""
        return self.graph.later() if self.graph is not None else frozenset()

    def _listed_for_later(self, unique_id: str) -> Report | None:
        """The report of a node of which there is no other one: its listing."""
        if self.graph is None or unique_id not in self.later:
            return None
        if unique_id not in self._listed:
            at = self._asked_for.get(unique_id, self._listing)
            node = announced(self.graph.nodes[unique_id], None)
            self._listed[unique_id] = Report(self.attempts[at], node, at)
        return self._listed[unique_id]

    @cached_property
    def _listed(self) -> dict[str, Report]:
        """What was asked for so far. Late in a run of thousands of nodes it is a few."""
        return {}

    @cached_property
    def _listing(self) -> int:
        """The attempt, from 0, that has listed the nodes."""
        return next(index for index, state in enumerate(self.attempts) if state.graph is self.graph)

    @cached_property
    def _asked_for(self) -> Mapping[str, int]:
        """The last attempt, from 0, that was to execute a node."""
        return {one: index for index, nodes in sorted(self.parts.items()) for one in nodes}

    def report(self, unique_id: str) -> Report | None:
        """What counts for the node; None when no attempt has mentioned it.

        Of what was listed for a later stage its listing counts, until another attempt was to execute it: then that one.
        """
        if len(self.attempts) == 1:
            node = self.attempts[0].nodes.get(unique_id)
            return self._listed_for_later(unique_id) if node is None else Report(self.attempts[0], node, 0)
        latest = self.reports.latest.get(unique_id)
        if latest is None:
            return self._listed_for_later(unique_id)
        if is_test(unique_id):
            return self._report_of_test(unique_id, latest)
        if latest.failed >= self.since and unique_id.startswith("operation."):
            # A hook belongs to its attempt. A hook of a later attempt does not make up for one that failed.
            return self._report_by(latest.failed, unique_id)
        return self._report_by(latest.reported if latest.reported >= 0 else latest.mentioned, unique_id)

    def _report_by(self, attempt: int, unique_id: str) -> Report:
        state = self.attempts[attempt]
        return Report(state, state.nodes[unique_id], attempt)

    def inlined(self, unique_id: str) -> bool:
        """Whether it is an ephemeral model that was good. No attempt reports it: dbt's own results never list it.

        dbt executes what contains it only after it.
        """
        graph, report = self.graph, self.report(unique_id)
        if graph is None or report is None or unique_id not in graph.nodes or not graph.nodes[unique_id].ephemeral:
            return False
        finished = report.state.finished
        if finished is not None and finished.success and not self.only_listed(report):
            return True
        containing = (self.report(one) for one in graph.order.held_back(unique_id))
        return any(
            each is not None and each.node.phase in BEGUN and each.attempt >= report.attempt for each in containing
        )

    def only_listed(self, report: Report) -> bool:
        """Whether no attempt was asked for the node but for later ones: that which the report is of has listed it."""
        unique_id = report.node.unique_id
        return unique_id in self.later and unique_id not in report.state.nodes and report.attempt not in self.parts

    def unique_ids(self) -> Iterator[str]:
        """Every node that an attempt has mentioned, or listed for a later stage, once."""
        seen: dict[str, None] = {}
        for state in self.attempts:
            seen.update(dict.fromkeys(state.nodes))
        nodes = self.graph.nodes if self.graph is not None else ()
        seen.update(dict.fromkeys(one for one in nodes if one in self.later))
        return iter(seen)

    def _report_of_test(self, unique_id: str, latest: _Latest) -> Report:
        if latest.reported >= 0 and self.attempts[latest.reported].nodes[unique_id].status == STALE:
            return self._report_by(latest.reported, unique_id)  # it is no result, and about no build
        since = self.built(unique_id)
        # Keep a test's last result until a re-run of it finishes; one that was stopped did not.
        for attempt in (latest.ended, latest.reported, latest.mentioned):
            if attempt >= since:
                return self._report_by(attempt, unique_id)
        return Report(self.attempts[since], self.attempts[latest.mentioned].nodes[unique_id].unreported, since)

    def built(self, test: str) -> int:
        """Index of the attempt that began last to build what the test is about; 0 when none has."""
        subjects = self.graph.subjects(test) if self.graph is not None else ()
        latest = self.reports.latest
        return max([0, *[latest[one].begun for one in subjects if one in latest]])

    def begun(self, unique_id: str) -> int:
        """Index of the last attempt that began with the node; -1 when none has."""
        return self.reports.latest.get(unique_id, _NOTHING).begun


def pod_database(states: Sequence[AttemptState]) -> str:
    """The database that is gone with its pod, as the last attempt that listed its nodes reported it; "" if it is not.

    A later attempt may have another profile, as it comes from a Secret.
    """
    known_in = (each for each in reversed(states) if each.pod_database or each.graph is not None)
    return next((each.pod_database for each in known_in), "")


def history_of(reported: AttemptState | History) -> History:
    """The history itself, or that of a single attempt."""
    return reported if isinstance(reported, History) else History(attempts=(reported,))
