"""Where a run stands: what all decisions about further attempts are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reason_table import BY_NODES, LOST, STOPPED
from dbt_operator.api.spec import ConcurrencyPolicy
from dbt_operator.dbt.history import History, pod_database
from dbt_operator.plan.attempt import Assessment, history_of_run
from dbt_operator.plan.ledger import Ledger, ledger_of, was_lost
from dbt_operator.plan.observation import Observation, Rules

# One process at a time may have the database file of these open. "": which one it is was lost with a log.
_SINGLE_PROCESS = frozenset({"duckdb", "sqlite", ""})
# A time that is further in the future than this was stamped by a clock that is wrong: it is not waited for.
_CLOCK_TOLERANCE = timedelta(minutes=1)
# How soon to look again at an ended attempt whose pod is not gone yet, if no watch event comes before.
_LOOK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Episode:
    """What the run does since its start, or since a person asked for a retry after its end."""

    since: int  # its first attempt, from 0
    roots: frozenset[str] | None = None  # it is limited to these nodes and what is below them; None: it is not


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decisions are made from."""

    run: str
    now: datetime
    assessments: tuple[Assessment, ...]
    history: History
    ledger: Ledger | None
    episode: Episode
    rules: Rules
    adapter: str
    pod_database: str = ""  # see `dbt.history.pod_database`
    lingering: Mapping[int, datetime] = field(default_factory=dict)  # see `_lingering`
    lost_nodes: Mapping[str, Sequence[Assessment]] = field(default_factory=dict)  # see `lost_with`

    @property
    def last_index(self) -> int:
        """The index of the newest attempt. Somebody may have deleted the record of one before it."""
        return max((each.attempt.decision.index for each in self.assessments), default=0)

    @property
    def live(self) -> list[Assessment]:
        """The attempts that have not ended."""
        return [each for each in self.assessments if each.live]

    @property
    def recent(self) -> tuple[Assessment, ...]:
        """The attempts of the episode."""
        return self.assessments[self.episode.since :]

    @property
    def last_whole(self) -> Assessment | None:
        """The last attempt of the episode at all that the run selects."""
        whole = (each for each in reversed(self.recent) if each.attempt.whole)
        return next(whole, None)

    @property
    def unlisted(self) -> bool:
        """Whether the nodes are to be listed by an attempt of its own, and that has not come to a good end.

        One that was cut off after it had decided what is not executed for sources had done all that it was for.
        """
        last = self.last_whole
        if self.rules.per_node is None or last is None:
            return False
        listed = last.state.finished is not None and last.state.finished.success
        decided = last.state.looked and last.ended_as(LOST | STOPPED)
        return last.live or not (listed or decided or last.end.phase is RunPhase.SUCCEEDED or last.ended_as(BY_NODES))

    @property
    def lost(self) -> list[Assessment]:
        """The attempts of the episode whose pod was lost, or did not start: those that count for the whole run."""
        return [each for each in self.recent if was_lost(each) and (self.rules.per_node is None or each.attempt.whole)]

    def lost_with(self, unique_id: str) -> Sequence[Assessment]:
        """Those that had a node, where each has a pod of its own: there losses are counted for each node."""
        return self.lost_nodes.get(unique_id, ())

    def given_up(self, unique_id: str) -> bool:
        """Whether a node was lost with its own pod more often than it may be taken up again."""
        return len(self.lost_with(unique_id)) > self.rules.max_restarts

    @property
    def losses(self) -> int:
        """How often pods were lost. Those that went together, with a drained node, count once.

        Two losses are one if the later pod was already running when the earlier loss was recorded. Clocks may differ,
        so at most parallelism + 1 losses are merged: otherwise a run might be resumed for ever.
        """
        lost = self.lost
        count, noted = 0, None
        for each in sorted(lost, key=lambda one: one.ended_at or self.now):
            started = each.attempt.started
            if noted is None or started is None or started >= noted:
                count, noted = count + 1, each.ended_at
        return max(count, -(-len(lost) // (self.rules.parallelism + 1)))

    @property
    def restarts_used_up(self) -> bool:
        """Whether pods were lost more often than the run may take up the work again."""
        return self.losses > self.rules.max_restarts

    @property
    def exclusive(self) -> bool:
        """Whether only one attempt may be live at a time."""
        policy = self.rules.retry.concurrency_policy
        return policy is ConcurrencyPolicy.FORBID or (
            policy is ConcurrencyPolicy.AUTO and self.adapter in _SINGLE_PROCESS
        )

    @property
    def room(self) -> int:
        """How many more attempts may be live, besides the one that runs the whole command."""
        live = self.live
        if self.exclusive:
            return 0 if live or self.lingering else 1
        return self.rules.parallelism - sum(each.attempt.kind is not AttemptKind.PRODUCER for each in live)


def situation_of(observation: Observation, assessments: tuple[Assessment, ...]) -> Situation:
    """Where the run stands, given where its attempts stand."""
    episode = _episode(assessments)
    lingering = _lingering(assessments, now=observation.now, grace=observation.rules.grace)
    history = history_of_run(assessments, since=episode.since, known=observation.reports)
    # A first attempt at work that has not failed anywhere needs no look at its nodes.
    needed = len(assessments) > 1 or any(not each.live or each.state.failures for each in assessments)
    return Situation(
        run=observation.run,
        now=observation.now,
        assessments=assessments,
        history=history,
        ledger=ledger_of(assessments=assessments, history=history, since=episode.since, lingering=lingering)
        if needed
        else None,
        lingering=lingering,
        episode=episode,
        rules=observation.rules,
        adapter=next((each.state.adapter for each in assessments if each.state.adapter), ""),
        pod_database=pod_database(history.attempts),
        lost_nodes=_lost_nodes(assessments[episode.since :]) if observation.rules.per_node is not None else {},
    )


def _lost_nodes(recent: Sequence[Assessment]) -> Mapping[str, Sequence[Assessment]]:
    """The attempts that were lost, by the nodes that they had."""
    found: dict[str, list[Assessment]] = {}
    for each in (one for one in recent if one.attempt.nodes is not None and was_lost(one)):
        for unique_id in each.attempt.nodes or ():
            found.setdefault(unique_id, []).append(each)
    return found


def _episode(assessments: Sequence[Assessment]) -> Episode:
    """The present episode: the last one that a person began, else the run from its start."""
    also: set[str] = set()  # asked for since then
    for index in range(len(assessments) - 1, -1, -1):
        made = assessments[index].attempt.decision
        if not made.requests:
            continue
        if made.roots is not None:
            return Episode(since=index, roots=frozenset(made.roots).union(also))
        if made.nodes is None or any(request.unique_id is None for request in made.requests):
            return Episode(since=index)
        also.update(request.unique_id or "" for request in made.requests)
    return Episode(since=0)


def _lingering(assessments: Sequence[Assessment], *, now: datetime, grace: timedelta) -> Mapping[int, datetime]:
    """The ended attempts, from 0, whose process may still be alive, and until when that has to be assumed.

    A pod that the cluster still shows is waited for, however long it takes. A process whose pod was deleted by force
    ends within its grace period.
    """
    ended = [(index, each) for index, each in enumerate(assessments) if not each.live]
    until = {
        index: now + _LOOK if each.left_over else after(each.ended_at, grace, now=now)
        for index, each in ended
        if each.left_over or not each.gone
    }
    return {index: moment for index, moment in until.items() if moment > now}


def after(moment: datetime | None, wait: timedelta, *, now: datetime) -> datetime:
    """The moment so long after another one; now, if that one is unknown or lies in the future: its clock was wrong."""
    if moment is None or moment > now + _CLOCK_TOLERANCE:
        return now
    return moment + wait
