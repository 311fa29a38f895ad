"""What a run needs next: the one place where attempts are asked for and the run's phase is decided.

A pure function of what was observed: the status, Jobs, pods, logs, and the records of its own decisions. It is called
again and again, with the same facts or newer ones, and gives the same answer for the same facts.

    Pending ──► Queued ──► Starting ──► Running ──► Retrying ──► Succeeded, Failed, Cancelled
                                          │  ▲          │  ▲                    │
                                          ▼  │          ▼  │                    │ a person asks for a retry
                                        Suspended ◄──► Suspended                └──► Retrying

`plan_run` comes first; below it is one function for each phase, in the order of the diagram.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reason_table import STOPPED
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.dbt.history import Report
from dbt_operator.plan import run_text
from dbt_operator.plan.assess import assess
from dbt_operator.plan.attempt import Assessment, Life, history_of_run, time_at_work
from dbt_operator.plan.conclusion import conclude_run
from dbt_operator.plan.ledger import Standing
from dbt_operator.plan.next_attempts import NOTHING, Upcoming, next_attempts
from dbt_operator.plan.observation import Observation, Plan
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.requests import NO_ANSWER, Answer, answer
from dbt_operator.plan.situation import Situation, situation_of


def plan_run(observation: Observation) -> Plan:
    """What the run needs, given what was observed."""
    stop = _asked_to_stop(observation) if observation.ended is None else None
    assessments = _assessed(observation, stop)
    if any(_unsealed(each) for each in assessments):
        return _storing_ends(observation, assessments)
    situation = situation_of(observation, assessments)
    if observation.ended is not None:
        return _after_the_end(_Turn(observation, situation), outcome=observation.ended)
    turn = _Turn(observation, situation, next_attempts(situation))
    if stop is not None:
        return _stopping(turn) if situation.live else _stopped(turn, stop)
    turn = turn.with_answer()
    if turn.run_ends and not turn.answer.decisions:
        return _ended(turn, conclude_run(situation, withheld=turn.upcoming.withheld))
    if not assessments:
        return _superseding(turn) if observation.waits_for else _pending(turn)
    producers = [each for each in situation.live if each.attempt.kind is AttemptKind.PRODUCER]
    if producers:
        return _running(turn, producers[-1])
    if turn.executes_nodes:
        return _executing(turn)
    return _testing(turn) if turn.begins_tests else _retrying(turn)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one turn of the planner is made of."""

    observation: Observation
    situation: Situation
    upcoming: Upcoming = NOTHING
    answer: Answer = NO_ANSWER

    @property
    def run_ends(self) -> bool:
        """Whether the run ends now, or has ended, unless a person asks for more."""
        return self.upcoming.nothing_more and not self.situation.live

    @property
    def begins_tests(self) -> bool:
        """Whether the tests are executed next, in a stage of their own."""
        decisions = self.answer.decisions or self.upcoming.decisions
        return any(each.kind is AttemptKind.PRODUCER and each.stage is Stage.TEST for each in decisions)

    @property
    def executes_nodes(self) -> bool:
        """Whether nodes are executed for the first time, each in a pod of its own, or will be next."""
        decisions = self.answer.decisions or self.upcoming.decisions
        live = (each.attempt.decision for each in self.situation.live)
        return any(each.kind is AttemptKind.NODE for each in (*live, *decisions))

    def with_answer(self) -> "_Turn":
        """The turn with what comes of the retries that people ask for."""
        if _held_back(self.observation):
            return self
        return replace(self, answer=answer(self.situation, self.observation.requests, run_ends=self.run_ends))


def _held_back(observation: Observation) -> str:
    """Why a retry that a person asks for is not begun, and what to do about it; "" where nothing holds it back.

    Who has cancelled the run wants nothing of it to be executed.
    """
    rules = observation.rules
    wishes = (("spec.cancel", rules.cancel), ("spec.suspend", rules.suspend))
    held = next((f"{field} is true; set it to false, and the retry follows" for field, set_ in wishes if set_), "")
    newer = observation.superseded_by
    superseded = f"DbtRun {newer} supersedes the run; delete it, and the retry follows" if newer else ""
    return observation.invalid or held or superseded


# where its attempts stand


def _assessed(observation: Observation, stop: "_Stop | None") -> tuple[Assessment, ...]:
    # Deadlines are measured at the time of the look at the cluster: what is missing may have happened since.
    now, start_deadline = observation.looked_at or observation.now, observation.rules.start_deadline
    asked = stop.attempts if stop is not None else None
    assessed = (
        assess(attempt, now=now, start_deadline=start_deadline, asked=asked) for attempt in observation.attempts
    )
    return tuple(_with_nothing_to_do(each) if observation.rules.compares else each for each in assessed)


def _with_nothing_to_do(assessment: Assessment) -> Assessment:
    """A selection that compares matches nothing where nothing has changed; for dbt, too, that is a success."""
    finished, reason = assessment.state.finished, RunReason.NOTHING_TO_DO
    if not assessment.ended_as({RunReason.NOTHING_SELECTED}) or finished is None or not finished.success:
        return assessment
    outcome = Outcome(phase=RunPhase.SUCCEEDED, reason=reason, message=run_text.NOTHING_TO_DO)
    return replace(assessment, outcome=outcome, reason=reason, message=outcome.message)


def _unsealed(assessment: Assessment) -> bool:
    return not assessment.live and assessment.attempt.sealed is None


def _storing_ends(observation: Observation, assessments: tuple[Assessment, ...]) -> Plan:
    """Nothing is decided before what has ended is stored."""
    return Plan(
        start=False,
        seal=tuple(each for each in assessments if _unsealed(each)),
        assessments=assessments,
        history=history_of_run(assessments, known=observation.reports),
        phase=RunPhase.RUNNING,
        reason=RunReason.FINISHING,
        message="An attempt has ended; what it did is being stored.",
        wake_at=observation.now,
    )


# Pending, Queued, Starting, Running


def _pending(turn: _Turn) -> Plan:
    """Nothing has been decided before this turn."""
    return _working(turn, RunPhase.PENDING, RunReason.ACCEPTED, "The run was accepted.")


def _superseding(turn: _Turn) -> Plan:
    """Nothing of the run begins, nor is its spec closed, before the older runs have ended whose place it takes."""
    message = f"The run waits for the end of what it supersedes: DbtRun {run_text.named(turn.observation.waits_for)}."
    plan = _live(turn, RunPhase.PENDING, RunReason.SUPERSEDING, message)
    return replace(plan, start=False, create=())


_PHASES = {
    Life.ABSENT: RunPhase.PENDING,
    Life.QUEUED: RunPhase.QUEUED,
    Life.STARTING: RunPhase.STARTING,
    Life.RUNNING: RunPhase.RUNNING,
    Life.DRAINING: RunPhase.RUNNING,
}


def _running(turn: _Turn, producer: Assessment) -> Plan:
    """The whole command is executed, or a whole stage, or will be. Failed nodes may be retried at the same time."""
    if producer.life is Life.ABSENT and producer.attempt.stage is Stage.TEST:
        return _testing(turn)
    return _working(turn, _PHASES[producer.life], producer.reason, producer.message)


def _testing(turn: _Turn) -> Plan:
    """The Job of the tests is about to be created. All else has been done that can be."""
    return _working(turn, RunPhase.STARTING, RunReason.SCHEDULING, "The tests are executed next.")


def _executing(turn: _Turn) -> Plan:
    """Each node has a pod of its own, and some are executed for the first time. Others may be retried meanwhile."""
    live = turn.situation.live
    first = min(live, key=lambda each: _FURTHEST_FIRST.index(each.life)) if live else None
    if first is not None and first.life in (Life.QUEUED, Life.STARTING):
        return _working(turn, RunPhase.RUNNING, first.reason, first.message)
    return _working(turn, RunPhase.RUNNING, RunReason.EXECUTING, "dbt is executing nodes.")


# Retrying

_REPAIRS = {
    AttemptKind.PRODUCER: RunReason.RESUMING,
    AttemptKind.NODE: RunReason.RESUMING,
    AttemptKind.RETRY: RunReason.RETRYING_NODES,
    AttemptKind.RESUME: RunReason.RESUMING,
}
_FURTHEST_FIRST = (Life.DRAINING, Life.RUNNING, Life.STARTING, Life.QUEUED, Life.ABSENT)


def _retrying(turn: _Turn) -> Plan:
    """Attempts at certain nodes are at work, were just decided on, or wait for the clock."""
    live, decisions = turn.situation.live, turn.answer.decisions or turn.upcoming.decisions
    if live:
        # The attempt that has come furthest is shown. While it has not started, its obstacle is what people need.
        first = min(live, key=lambda each: _FURTHEST_FIRST.index(each.life))
        if first.life in (Life.QUEUED, Life.STARTING):
            return _working(turn, RunPhase.RETRYING, first.reason, first.message)
        return _working(turn, RunPhase.RETRYING, _REPAIRS[first.attempt.kind], run_text.repairing(live))
    if decisions:
        return _working(turn, RunPhase.RETRYING, _REPAIRS[decisions[0].kind], run_text.about_to(decisions))
    message = run_text.waiting(turn.upcoming, turn.situation)
    return _working(turn, RunPhase.RETRYING, RunReason.BACKING_OFF, message)


def _working(turn: _Turn, phase: RunPhase, reason: RunReason, message: str) -> Plan:
    """A run that goes on: what was decided on is recorded, and what may start does."""
    situation, started = turn.situation, turn.observation.started
    decisions = turn.answer.decisions or turn.upcoming.decisions
    return replace(
        _live(turn, phase, reason, message),
        record=decisions if started else (),
        release=tuple(each.attempt.name for each in situation.live if each.attempt.to_release),
        handled=turn.answer.handled,
    )


def _live(turn: _Turn, phase: RunPhase, reason: RunReason, message: str) -> Plan:
    """A run that has not ended."""
    observation, situation = turn.observation, turn.situation
    pending = _pending_nodes(turn)
    absent = (each for each in situation.live if each.life is Life.ABSENT or _refused(each))
    return Plan(
        start=not observation.started,
        create=tuple(each.attempt.name for each in absent) if observation.started else (),
        assessments=situation.assessments,
        history=situation.history.waiting_for(pending),
        phase=phase,
        reason=reason,
        message=message,
        stop=_to_stop(situation.assessments),
        wake_at=_wake_at(turn, due=None if phase is RunPhase.SUSPENDED else turn.upcoming.due),
        held_back=_held_back(observation),
    )


def _refused(assessment: Assessment) -> bool:
    """Whether its Job was refused for a reason that may pass, so that creating it is worth another try."""
    shown, waits = assessment.attempt.shown, assessment.life in (Life.QUEUED, Life.STARTING)
    return waits and shown.job is None and shown.pod is None


def _pending_nodes(turn: _Turn) -> frozenset[str]:
    """The nodes that will be executed although an attempt before has reported something else of them.

    What dbt has reported as failed stays so until it is executed again; so does what is done and only stale.
    """
    situation, ledger = turn.situation, turn.situation.ledger
    if ledger is None or (len(situation.assessments) == 1 and situation.live):
        return frozenset()
    history = situation.history
    return frozenset(
        unique_id
        for unique_id, standing in ledger.standings.items()
        if standing is Standing.OPEN
        or (unique_id in turn.upcoming.resumed and unique_id not in ledger.stale)
        or (standing is Standing.BUSY and _no_result_yet(history.report(unique_id), situation))
    )


def _no_result_yet(report: Report | None, situation: Situation) -> bool:
    if report is None or report.node.phase in (NodePhase.PENDING, NodePhase.SKIPPED):
        return True
    if situation.assessments[report.attempt].live:
        return False
    gone = report.node.phase is NodePhase.SUCCEEDED and report.state.pod_database != ""
    return gone or report.node.phase is NodePhase.RUNNING or report.node.stopped


# When to look again without a watch event: a watch can miss something, and shows no Events of pods.
_PERIODS = {
    Life.ABSENT: timedelta(seconds=1),  # its creation is in the way of the garbage collector
    Life.QUEUED: timedelta(seconds=10),  # … and what was refused is tried again
    Life.STARTING: timedelta(seconds=3),  # the reason of a failed mount is only in the pod's events
    Life.RUNNING: timedelta(seconds=30),
    Life.DRAINING: timedelta(seconds=5),
    Life.ENDED: timedelta(seconds=2),
}
_NOTHING_LIVES = timedelta(seconds=30)


def _wake_at(turn: _Turn, *, due: datetime | None) -> datetime:
    live, now = turn.situation.live, turn.observation.now
    periods = [now + _PERIODS[each.life] for each in live] or [now + _NOTHING_LIVES]
    moments = (*periods, *(each.deadline for each in live), due, _active_until(turn.observation))
    return min(moment for moment in moments if moment is not None and moment > now)


# Suspended, and on the way to an end that somebody asked for


@dataclass(frozen=True, slots=True)
class _Stop:
    """How attempts end that are to be stopped, and how their run ends for that."""

    attempts: Outcome
    run: Outcome

    @classmethod
    def of(cls, phase: RunPhase, reason: RunReason, message: str) -> "_Stop":
        outcome = Outcome(phase=phase, reason=reason, message=message)
        return cls(attempts=outcome, run=outcome)


def _asked_to_stop(observation: Observation) -> _Stop | None:
    """What stops the run, None while nothing does. A person's wish goes before all else."""
    if observation.rules.cancel:
        return _Stop.of(RunPhase.CANCELLED, RunReason.CANCELLED, "The run was cancelled.")
    if observation.invalid is not None:
        return _Stop(
            # Nothing is wrong with the attempts: they rest. Their work goes on when a person asks for a retry, or when
            # the run becomes valid before its end is stored.
            attempts=Outcome(
                phase=RunPhase.CANCELLED,
                reason=RunReason.SUSPENDED,
                message=f"The attempt was stopped, as its run cannot go on: {observation.invalid}",
            ),
            run=Outcome(phase=RunPhase.FAILED, reason=observation.invalid_reason, message=observation.invalid),
        )
    if observation.superseded_by:
        message = f"DbtRun {observation.superseded_by} supersedes the run."
        return _Stop.of(RunPhase.CANCELLED, RunReason.SUPERSEDED, message)
    deadline = _active_until(observation)
    if deadline is not None and observation.now >= deadline:
        seconds = (observation.rules.active_deadline or timedelta()).total_seconds()
        message = f"The run took longer than spec.activeDeadlineSeconds ({seconds:.0f} s) allows."
        return _Stop.of(RunPhase.FAILED, RunReason.DEADLINE_EXCEEDED, message)
    if observation.rules.suspend:
        return _Stop.of(RunPhase.CANCELLED, RunReason.SUSPENDED, "The run was suspended.")
    return None


def _active_until(observation: Observation) -> datetime | None:
    """When the run will have been active for as long as it may, if it goes on as it does; None while nothing runs.

    Only the time counts in which a container of the run is at work: not the time in a queue, before a retry, or while
    the run is suspended. A retry that a person asked for begins the count anew.
    """
    limit = observation.rules.active_deadline
    if limit is None:
        return None
    asked_for = (index for index, one in enumerate(observation.attempts) if one.decision.requests)
    counted = observation.attempts[max(asked_for, default=0) :]
    left = limit - time_at_work(counted, now=observation.now)
    at_work = any(one.sealed is None for one in counted if one.started is not None)
    return observation.now + left if at_work or left <= timedelta() else None


def _stopping(turn: _Turn) -> Plan:
    """The run is shown as what it was, until its processes have ended."""
    live = turn.situation.live
    shown = next((each for each in live if each.reason is RunReason.STOPPING), live[-1])
    return _live(turn, _PHASES[shown.life], shown.reason, shown.message)


def _stopped(turn: _Turn, stop: _Stop) -> Plan:
    """Nothing lives any more: the run rests, or ends as it was asked to, if it has not come to its own end before."""
    situation, observation = turn.situation, turn.observation
    rests = stop.run.reason is RunReason.SUSPENDED
    cut_short = any(each.ended_as({stop.attempts.reason}) for each in situation.recent)
    if turn.upcoming.nothing_more and (rests or not cut_short):
        return _ended(turn, conclude_run(situation, withheld=turn.upcoming.withheld))
    if rests:
        return _live(turn, RunPhase.SUSPENDED, RunReason.SUSPENDED, run_text.suspended(situation.history))
    outcome = stop.run
    if situation.assessments or observation.invalid is None:  # of a run that has begun nothing there is no progress
        outcome = replace(outcome, message=run_text.stopped(outcome.message, situation))
    return _ended(turn, outcome)


def _to_stop(assessments: Sequence[Assessment]) -> tuple[str, ...]:
    return tuple(each.attempt.name for each in assessments if each.must_stop)


# Succeeded, Failed, Cancelled


def _after_the_end(turn: _Turn, *, outcome: Outcome) -> Plan:
    """The end of the run is stored. It stays, unless a person asks for a retry."""
    turn = turn.with_answer()
    if not turn.answer.decisions:
        return _ended(turn, outcome)
    return _retrying(turn) if turn.situation.assessments else _pending(turn)


def _unreached(observation: Observation, outcome: Outcome) -> NodeReason:
    """Why the run has come to its end before nodes that nothing holds back."""
    if outcome.reason in STOPPED:
        return NodeReason.CANCELLED
    return NodeReason.FAIL_FAST if observation.rules.fail_fast else NodeReason.SKIPPED


def _ended(turn: _Turn, outcome: Outcome) -> Plan:
    """The run has ended; what of it still lives is stopped."""
    observation, assessments, due = turn.observation, turn.situation.assessments, turn.answer.due
    stop, ended_at, ttl = _to_stop(assessments), observation.ended_at, observation.rules.ttl
    # Only an end that is stored can expire: who waits for it must have been able to see it. A retry that is answered
    # later needs the run.
    expired = ttl is not None and ended_at is not None and observation.now >= ended_at + ttl
    return Plan(
        start=not observation.started,
        assessments=assessments,
        history=replace(turn.situation.history, unreached=_unreached(observation, outcome)),
        phase=outcome.phase,
        reason=outcome.reason,
        message=outcome.message,
        stop=stop,
        wake_at=due or observation.now + _PERIODS[Life.ENDED],
        handled=turn.answer.handled,
        held_back=_held_back(observation),
        answer_pending=due is not None,
        expire=expired and not stop and due is None,
    )
