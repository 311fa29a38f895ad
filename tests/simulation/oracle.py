"""What can be known of a run, worked out anew from the lines that were really read, in the simulation's own terms."""

from dataclasses import dataclass, field

from dbt_operator.api.commands import Mode
from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reason_table import LOST, STOPPED
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.plan.attempt import Decision, Sealed
from dbt_operator.plan.observation import Plan
from tests.simulation.cluster import Cluster
from tests.simulation.process import Process
from tests.simulation.project import TESTS, Project
from tests.simulation.warehouse import BAD, GOOD
from tests.simulation.world import broken

KINDS = {
    "fail": RetryReason.TESTS_FAILED,
    "compile": RetryReason.COMPILE_ERROR,
    "partial": RetryReason.PARTIAL_SUCCESS,
    "error": RetryReason.ERROR,
    "lost": RetryReason.ERROR,
    "late": RetryReason.DEADLINE_EXCEEDED,
    "old": RetryReason.TESTS_FAILED,
    "unread": RetryReason.ERROR,
}
_ENDINGS = {
    NodePhase.SUCCEEDED: "success",
    NodePhase.FAILED: "bad",
    NodePhase.SKIPPED: "skipped",
    NodePhase.CANCELLED: "cancelled",
}


@dataclass
class EndedAttempt:
    """What is known of an ended attempt by its log: the part of it that was read."""

    decision: Decision
    sealed: Sealed
    endings: dict[str, str] = field(default_factory=dict)  # how nodes ended, in the words of the simulated dbt
    begun: frozenset[str] = frozenset()
    listed: bool = False  # whether it is known what it had selected
    lines: int = 0  # so many are known

    @property
    def lost(self) -> bool:
        """Whether its pod was lost before dbt had come to its own end."""
        finished = self.sealed.state.finished
        return self.sealed.outcome.reason in LOST and (finished is None or finished.cancelled)

    def may_have_begun(self, one: str) -> bool:
        """Whether it was to execute this node, and was cut off before dbt's last word, without one about the node."""
        cut_off = self.sealed.outcome.reason in LOST | STOPPED and self.sealed.state.finished is None
        return self.decision.covers(one) and cut_off and one not in self.endings

    def not_reached(self, one: str) -> bool:
        """Whether dbt ended by itself and without reporting the end of this node: it would do so again."""
        interrupted = self.lost or self.sealed.outcome.reason in (RunReason.SUSPENDED, RunReason.JOB_SUSPENDED)
        return self.decision.covers(one) and not interrupted and one not in self.endings


@dataclass
class Known:
    """What is known at the moment of a decision, by the index of the attempt; of live ones as far as they were read."""

    endings: dict[int, dict[str, str]]
    begun: dict[int, frozenset[str]]
    project: Project

    def last(self, one: str) -> tuple[int, str]:
        """The last report of a node and its attempt; 0 and "" when there is none.

        A test that was stopped has not taken back what was found since the nodes that it reads were built.
        """
        reported = [index for index, endings in self.endings.items() if one in endings]
        if self.project.nodes[one].kind in TESTS:
            since = self.last_begun(self.project.subjects(one))
            reported = [
                index for index in reported if index >= since and self.endings[index][one] != "cancelled"
            ] or reported
        index = max(reported, default=0)
        return index, self.endings[index][one] if index else ""

    def last_begun(self, nodes: tuple[str, ...]) -> int:
        """The last attempt that has begun with one of these nodes."""
        return max((index for index, begun in self.begun.items() if begun.intersection(nodes)), default=0)


class Oracle:
    """Knows what was sealed, and what of it stands."""

    def __init__(self, *, project: Project, cluster: Cluster) -> None:
        self.project, self.cluster, self._warehouse = project, cluster, cluster.warehouse
        self.attempts: dict[int, EndedAttempt] = {}

    def sealed(self, sealed: Sealed, decision: Decision, lines: int) -> None:
        """The end of an attempt was stored, when so many lines of its log were known: read, or stored before."""
        if decision.index in self.attempts:
            broken("sealed once", f"{decision.name} is sealed again")
        attempt = EndedAttempt(decision, sealed, lines=lines)
        self.attempts[decision.index] = attempt
        process = self.process_of(decision)
        if process is None:
            return
        if sealed.outcome.reason is RunReason.RUNNER_FAILED and not process.crashed:
            broken("the right reason", f"{decision.name} is called {sealed.outcome.reason}, and was killed")
        attempt.listed = 0 < (process.graph_line or 0) <= lines
        attempt.begun = frozenset(node for line, node in process.starts if line <= lines)
        attempt.endings = {node: ending for line, node, ending in process.reports if line <= lines}
        for one, ending in attempt.endings.items():
            node = sealed.state.nodes.get(one)
            other = NodePhase.SKIPPED if ending == "skipped" else NodePhase.FAILED
            if node is None or node.phase is not (NodePhase.SUCCEEDED if ending in GOOD else other):
                broken("the log is understood", f"{one} ended with {ending} and is stored as {node and node.phase}")

    def process_of(self, decision: Decision) -> Process | None:
        """The process of an attempt, whether anybody has read its log or not."""
        return next((one for one in self._warehouse.processes if one.job == decision.name), None)

    def forgotten(self, one: str) -> bool:
        """Whether dbt's last report of a node was read, and went with its operator and its log before it was stored."""
        lines = {each.decision.name: each.lines for each in self.attempts.values()}
        readable = {pod.job.name for pod in self.cluster.pods.values() if not pod.unreachable}
        for record in self.cluster.records.values():  # of one that is not sealed, while its log cannot be read
            if record.decision.name not in readable:
                lines.setdefault(record.decision.name, record.lines)
        job, line = "", 0
        for process in self._warehouse.processes:
            for at, node, _ in process.reports:
                if node == one:
                    job, line = process.job, at
        return job in lines and line > lines[job]

    @property
    def since(self) -> int:
        """The first attempt of the present episode: a person has asked for it, after the run had ended."""
        made = {index: record.decision for index, record in self.cluster.records.items() if record.decision.requests}
        began = (
            index
            for index, decision in made.items()
            if decision.roots is not None or any(one.unique_id is None for one in decision.requests)
        )
        return max(began, default=1)

    @property
    def rooted(self) -> bool:
        """Whether the episode is limited to some nodes and what is below them."""
        record = self.cluster.records.get(self.since)
        return record is not None and record.decision.roots is not None

    @property
    def recent(self) -> list[EndedAttempt]:
        """The ended attempts of the episode."""
        return [attempt for index, attempt in sorted(self.attempts.items()) if index >= self.since]

    @property
    def losses(self) -> int:
        """How often pods were lost in this episode; those that were alive when another one went count with it."""
        own = self.project.mode is Mode.PER_NODE  # there they are counted for each node
        found = (each for each in self.recent if each.lost and not (own and each.decision.nodes is not None))
        lost = sorted(found, key=lambda attempt: attempt.sealed.ended_at)
        groups: list[EndedAttempt] = []
        for attempt in lost:
            started = attempt.sealed.started
            if not groups or started is None or started >= groups[-1].sealed.ended_at:
                groups.append(attempt)
        return len(groups)

    def losses_of(self, one: str) -> int:
        """How often a node was lost in this episode with a pod of its own."""
        lost = (each.decision.nodes or () for each in self.recent if each.lost)
        return sum(one in nodes for nodes in lost) if self.project.mode is Mode.PER_NODE else 0

    def ending(self, one: str) -> str:
        """How the last execution of a node ended that was heard of; "" when nothing stands for it."""
        test = self.project.nodes[one].kind in TESTS
        tested = [node for node in self.project.subjects(one) if node in self.project.executables] if test else []
        since = max(
            (index for index, attempt in self.attempts.items() if attempt.begun.intersection(tested)), default=0
        )
        for index in sorted((index for index in self.attempts if index >= since), reverse=True):
            attempt = self.attempts[index]
            if one in attempt.endings and attempt.endings[one] != "cancelled":
                return attempt.endings[one]
            if not test and (one in attempt.begun or one in attempt.endings):
                return ""
        return ""

    def failures(self, one: str) -> int:
        """How often the node failed in this episode, as far as was heard, or its attempt ended without reaching it."""
        failed = [attempt.endings.get(one) in BAD for attempt in self.recent]
        since = failed.index(True) if True in failed else 0  # before that it was not a retry
        return sum(
            bad or attempt.not_reached(one) for bad, attempt in list(zip(failed, self.recent, strict=True))[since:]
        )

    def known(self, plan: Plan) -> Known:
        """What is known when this plan is made."""
        known = Known(
            endings={index: attempt.endings for index, attempt in self.attempts.items()},
            begun={index: attempt.begun for index, attempt in self.attempts.items()},
            project=self.project,
        )
        for each in plan.assessments:
            made = each.attempt.decision
            if each.live and made is not None:
                reported = each.state.nodes.items()
                known.endings[made.index] = {one: _ENDINGS[node.phase] for one, node in reported if node.phase.terminal}
                known.begun[made.index] = frozenset(
                    one for one, node in reported if node.phase not in (NodePhase.PENDING, NodePhase.SKIPPED)
                )
        return known
