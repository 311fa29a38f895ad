"""What a run needs next: the one place where attempts are asked for and the run's phase is decided.

A pure function of what was observed. It is called again and again, with the same facts or newer ones, and so has to
give the same answer for the same facts: whatever it remembers is in the facts (`status`, Jobs, pods, the log, and the
records of its own decisions).

    Pending ──► Queued ──► Starting ──► Running ──► Retrying ──► Succeeded, Failed, Cancelled
                                          │  ▲          │  ▲                    │
                                          ▼  │          ▼  │                    │ a person asks for a retry
                                        Suspended ◄──► Suspended                └──► Retrying
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.history import History, Report, Reports, pod_database
from dbt_operator.plan import run_text
from dbt_operator.plan.assess import assess
from dbt_operator.plan.attempt import Assessment, Attempt, Decision, Request, Stage, history_of_run
from dbt_operator.plan.conclusion import conclude_run
from dbt_operator.plan.ledger import Standing, ledger_of
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.repair import Next, next_attempts
from dbt_operator.plan.requests import NO_ANSWER, Answer, answer, episode_of
from dbt_operator.plan.situation import RetryRules, Situation, lingering_of


@dataclass(frozen=True, slots=True)
class Rules:
    """What the spec asks for, with the administrator's defaults where it is silent."""

    start_deadline: timedelta
    active_deadline: timedelta | None = None
    ttl: timedelta | None = None
    cancel: bool = False
    suspend: bool = False
    retry: RetryRules = field(default_factory=RetryRules)


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a run at one moment."""

    run: str  # its name
    now: datetime
    attempts: tuple[Attempt, ...]  # in the order of their decisions
    started: bool  # status.startTime is set
    rules: Rules
    requests: tuple[Request, ...] = ()  # retries that a person asks for, answered ones included
    looked_at: datetime | None = None  # when the cluster was looked at, if that is not now
    invalid: str | None = None  # why nothing can be made of the run
    invalid_reason: RunReason = RunReason.INVALID_SPEC
    ended: Outcome | None = None  # status says that the run has ended, and nothing was decided since
    ended_at: datetime | None = None
    reports: Reports = field(default_factory=Reports, compare=False, repr=False)  # of the plan before


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What should be.

    The steps are to be taken in the order of the fields: `start` is stored before anything is created, as it closes
    the spec against changes; how an attempt ended is sealed before anything follows from it; a decision is recorded
    before it is acted upon; and the status is stored before anything is stopped, as it says why.
    """

    start: bool
    seal: tuple[Assessment, ...] = ()  # attempts whose end is to be stored; nothing else is decided before that
    record: tuple[Decision, ...] = ()  # new attempts
    create: tuple[str, ...] = ()  # names of attempts whose Job should exist
    release: tuple[str, ...] = ()  # names of attempts whose pod may be scheduled
    assessments: tuple[Assessment, ...]
    history: History
    phase: RunPhase
    reason: RunReason
    message: str
    stop: tuple[str, ...] = ()  # names of Jobs that must not live on
    wake_at: datetime
    handled: tuple[Request, ...] = ()  # requests that are answered
    held_back: str = ""  # why requests that are open are not answered, in words that say what to do
    answers_later: bool = False  # the run has ended, and a request is answered as soon as its last process is gone
    expire: bool = False  # the DbtRun itself is to be deleted

    def worked(self, *, now: datetime) -> timedelta:
        """How long the run was at work until now, over all of its attempts."""
        return time_at_work((each.attempt for each in self.assessments), now=now)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for the run, but perhaps to delete it when its time to live is over."""
        left = self.stop or self.start or self.expire or self.record or self.answers_later
        return self.phase.terminal and not left


# When to look again although nothing was heard: a watch can miss what happened, and some facts are in no watch.
_PERIODS = {
    Stage.ABSENT: timedelta(seconds=1),  # its creation is in the way of the garbage collector
    Stage.QUEUED: timedelta(seconds=10),  # … and what was refused is tried again
    Stage.STARTING: timedelta(seconds=3),  # the reason of a failed mount is only in the pod's events
    Stage.RUNNING: timedelta(seconds=30),
    Stage.DRAINING: timedelta(seconds=5),
    Stage.ENDED: timedelta(seconds=2),
}
_NOTHING_RUNS = timedelta(seconds=30)

_PHASES = {
    Stage.ABSENT: RunPhase.PENDING,
    Stage.QUEUED: RunPhase.QUEUED,
    Stage.STARTING: RunPhase.STARTING,
    Stage.RUNNING: RunPhase.RUNNING,
    Stage.DRAINING: RunPhase.RUNNING,
}


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a live run says of itself."""

    phase: RunPhase
    reason: RunReason
    message: str


def plan_run(observation: Observation) -> Plan:
    """What the run needs, given what was observed."""
    asked = _asked(observation) if observation.ended is None else None
    start_deadline = observation.rules.start_deadline
    # What has not happened in time is judged by when the cluster was looked at: it may have happened since.
    looked_at = observation.looked_at or observation.now
    assessments = tuple(
        assess(
            attempt, now=looked_at, start_deadline=start_deadline, asked=asked.attempts if asked is not None else None
        )
        for attempt in observation.attempts
    )
    unsealed = tuple(each for each in assessments if not each.live and each.attempt.sealed is None)
    if unsealed:
        return _seal(observation, assessments, unsealed)
    situation = _situation(observation, assessments)
    upcoming = next_attempts(situation) if observation.ended is None else Next()
    run_ends = upcoming.nothing_more and not situation.live
    forbidden = asked is not None or _held_back(observation) != ""
    reply = NO_ANSWER if forbidden else answer(situation, requests=observation.requests, run_ends=run_ends)
    if observation.ended is not None and not reply.decisions:
        return _ended(observation, assessments=assessments, outcome=observation.ended, reply=reply)
    if asked is not None:
        return _stopping(observation, situation, asked=asked, upcoming=upcoming)
    decisions = reply.decisions or upcoming.decisions
    if run_ends and not reply.decisions:
        outcome = conclude_run(situation, withheld=upcoming.withheld)
        return _ended(observation, assessments=assessments, outcome=outcome, reply=reply)
    shown = _shown(situation, upcoming, decisions)
    release = tuple(each.attempt.name for each in situation.live if each.attempt.to_release)
    return _live(
        observation, situation, upcoming, shown=shown, decisions=decisions, release=release, handled=reply.handled
    )


def _held_back(observation: Observation) -> str:
    """What keeps retries that people ask for from being begun, until somebody takes it back; "" where nothing does.

    Whoever has cancelled the run wants nothing of it to be executed.
    """
    rules = observation.rules
    wishes = (("spec.cancel", rules.cancel), ("spec.suspend", rules.suspend))
    held = next((f"{field} is true; set it to false, and the retry follows" for field, set_ in wishes if set_), "")
    return observation.invalid or held


def _situation(observation: Observation, assessments: tuple[Assessment, ...]) -> Situation:
    episode = episode_of(assessments)
    grace = observation.rules.retry.grace
    lingering = lingering_of(assessments, now=observation.now, grace=grace)
    history = history_of_run(assessments, since=episode.since, known=observation.reports)
    needed = _needs_ledger(assessments)
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
        rules=observation.rules.retry,
        adapter=next((each.state.adapter for each in assessments if each.state.adapter), ""),
        pod_database=pod_database(history.attempts),
    )


def _needs_ledger(assessments: Sequence[Assessment]) -> bool:
    """Whether there may be anything to repair: a first attempt at work that has not failed anywhere needs no look."""
    return len(assessments) > 1 or any(not each.live or each.state.failures for each in assessments)


def _seal(observation: Observation, assessments: tuple[Assessment, ...], unsealed: tuple[Assessment, ...]) -> Plan:
    return Plan(
        start=False,
        seal=unsealed,
        assessments=assessments,
        history=history_of_run(assessments, since=episode_of(assessments).since, known=observation.reports),
        phase=RunPhase.RUNNING,
        reason=RunReason.FINISHING,
        message="An attempt has ended; what it did is being stored.",
        wake_at=observation.now,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """How attempts end that are to be stopped, and how their run ends for that."""

    attempts: Outcome
    run: Outcome

    @classmethod
    def of(cls, phase: RunPhase, reason: RunReason, message: str) -> "_Asked":
        outcome = Outcome(phase=phase, reason=reason, message=message)
        return cls(attempts=outcome, run=outcome)


def _asked(observation: Observation) -> _Asked | None:
    """What stops the run, None while nothing does. A person's wish goes before all else."""
    if observation.rules.cancel:
        return _Asked.of(RunPhase.CANCELLED, RunReason.CANCELLED, "The run was cancelled.")
    if observation.invalid is not None:
        return _Asked(
            # Nothing is wrong with the attempts: they rest. Their work is taken up when a person asks for a retry
            # later, or when the run can go on after all, before its end is stored.
            attempts=Outcome(
                phase=RunPhase.CANCELLED,
                reason=RunReason.SUSPENDED,
                message=f"The attempt was stopped, as its run cannot go on: {observation.invalid}",
            ),
            run=Outcome(phase=RunPhase.FAILED, reason=observation.invalid_reason, message=observation.invalid),
        )
    deadline = _active_until(observation)
    if deadline is not None and observation.now >= deadline:
        seconds = (observation.rules.active_deadline or timedelta()).total_seconds()
        message = f"The run took longer than spec.activeDeadlineSeconds ({seconds:.0f} s) allows."
        return _Asked.of(RunPhase.FAILED, RunReason.DEADLINE_EXCEEDED, message)
    if observation.rules.suspend:
        return _Asked.of(RunPhase.CANCELLED, RunReason.SUSPENDED, "The run was suspended.")
    return None


def _active_until(observation: Observation) -> datetime | None:
    """When the run will have been active for as long as it may, if it goes on as it does; None while nothing runs.

    What counts is the time in which a container of the run is at work. Waiting to start (quota, queue, node), for a
    retry or for the end of a suspension does not; a retry that a person asked for begins the count anew.
    """
    limit = observation.rules.active_deadline
    if limit is None:
        return None
    anew = max(
        (index for index, one in enumerate(observation.attempts) if one.decision is not None and one.decision.requests),
        default=0,
    )
    counted = observation.attempts[anew:]
    left = limit - time_at_work(counted, now=observation.now)
    at_work = any(one.sealed is None for one in counted if one.started is not None)
    return observation.now + left if at_work or left <= timedelta() else None


def time_at_work(attempts: Iterable[Attempt], *, now: datetime) -> timedelta:
    """How long a container of at least one of these attempts was at work until now."""
    begun = ((one.started, one.sealed) for one in attempts)
    spans = ((start, sealed.ended_at if sealed is not None else now) for start, sealed in begun if start is not None)
    total, counted = timedelta(), datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(spans):
        total += max(timedelta(), end - max(start, counted))
        counted = max(counted, end)
    return total


def _stopping(observation: Observation, situation: Situation, *, asked: _Asked, upcoming: Next) -> Plan:
    """What is alive is stopped; then the run ends, or rests."""
    if situation.live:
        stopping = next((each for each in situation.live if each.reason is RunReason.STOPPING), situation.live[-1])
        shown = _Shown(_PHASES[stopping.stage], stopping.reason, stopping.message)
        return _live(observation, situation, upcoming, shown=shown)
    ends, reason = asked.run, asked.attempts.reason
    rests = ends.reason is RunReason.SUSPENDED
    stopped = any(each.outcome is not None and each.outcome.reason is reason for each in situation.recent)
    if upcoming.nothing_more and not (stopped and not rests):
        outcome = conclude_run(situation, withheld=upcoming.withheld)
        return _ended(observation, assessments=situation.assessments, outcome=outcome)
    if rests:
        message = run_text.suspended(situation.history)
        shown = _Shown(RunPhase.SUSPENDED, RunReason.SUSPENDED, message)
        return _live(observation, situation, upcoming, shown=shown)
    if situation.assessments or observation.invalid is None:  # where nothing was begun there is nothing to tell of it
        ends = replace(ends, message=run_text.stopped(ends.message, situation))
    return _ended(observation, assessments=situation.assessments, outcome=ends)


def _live(
    observation: Observation,
    situation: Situation,
    upcoming: Next,
    *,
    shown: _Shown,
    decisions: tuple[Decision, ...] = (),
    release: tuple[str, ...] = (),
    handled: tuple[Request, ...] = (),
) -> Plan:
    assessments = situation.assessments
    pending = _pending(situation, upcoming)
    absent = (each for each in situation.live if each.stage is Stage.ABSENT or _refused(each))
    return Plan(
        start=not observation.started,
        record=decisions if observation.started else (),
        create=tuple(each.attempt.name for each in absent) if observation.started else (),
        release=release,
        assessments=assessments,
        history=replace(situation.history, pending=pending) if pending else situation.history,
        phase=shown.phase,
        reason=shown.reason,
        message=shown.message,
        stop=_to_stop(assessments),
        wake_at=_wake_at(observation, situation.live, due=None if shown.phase is RunPhase.SUSPENDED else upcoming.due),
        handled=handled,
        held_back=_held_back(observation),
    )


def _shown(situation: Situation, upcoming: Next, decisions: tuple[Decision, ...]) -> _Shown:
    producers = [each for each in situation.live if each.attempt.kind is AttemptKind.PRODUCER]
    if producers:
        return _Shown(_PHASES[producers[-1].stage], producers[-1].reason, producers[-1].message)
    if not situation.assessments:
        return _Shown(RunPhase.PENDING, RunReason.ACCEPTED, "The run was accepted.")
    if situation.live:
        return _repairing(situation.live)
    if decisions:
        return _Shown(RunPhase.RETRYING, _REPAIRS[decisions[0].kind], run_text.about_to(decisions))
    return _Shown(RunPhase.RETRYING, RunReason.BACKING_OFF, run_text.waiting(upcoming, situation))


_REPAIRS = {
    AttemptKind.PRODUCER: RunReason.RESUMING,
    AttemptKind.RETRY: RunReason.RETRYING_NODES,
    AttemptKind.RESUME: RunReason.RESUMING,
}


def _repairing(live: Sequence[Assessment]) -> _Shown:
    """The attempt that has come furthest speaks for all; what keeps it from starting is worth more than what it is."""
    order = (Stage.DRAINING, Stage.RUNNING, Stage.STARTING, Stage.QUEUED, Stage.ABSENT)
    first = min(live, key=lambda each: order.index(each.stage))
    if first.stage in (Stage.QUEUED, Stage.STARTING):
        return _Shown(RunPhase.RETRYING, first.reason, first.message)
    return _Shown(RunPhase.RETRYING, _REPAIRS[first.attempt.kind], run_text.repairing(live))


def _pending(situation: Situation, upcoming: Next) -> frozenset[str]:
    """The nodes that will be executed although an attempt before has said something else of them.

    What dbt has reported as failed stays so until it is executed again.
    """
    ledger = situation.ledger
    if ledger is None or (len(situation.assessments) == 1 and situation.live):
        return frozenset()
    history = situation.history
    return frozenset(
        unique_id
        for unique_id, standing in ledger.standings.items()
        if standing is Standing.OPEN
        or unique_id in upcoming.resumed
        or (standing is Standing.BUSY and _no_result_yet(history.report(unique_id), situation))
    )


def _no_result_yet(report: Report | None, situation: Situation) -> bool:
    if report is None or report.node.phase in (NodePhase.PENDING, NodePhase.SKIPPED):
        return True
    if situation.assessments[report.attempt].live:
        return False
    gone = report.node.phase is NodePhase.SUCCEEDED and report.state.pod_database != ""
    return gone or report.node.phase is NodePhase.RUNNING or report.node.stopped


def _to_stop(assessments: tuple[Assessment, ...]) -> tuple[str, ...]:
    return tuple(a.attempt.job.name for a in assessments if a.must_stop and a.attempt.job is not None)


def _refused(assessment: Assessment) -> bool:
    """Whether its Job was refused for a reason that may pass, so that creating it is worth another try."""
    return assessment.stage is Stage.QUEUED and assessment.attempt.job is None


def _ended(
    observation: Observation,
    *,
    assessments: tuple[Assessment, ...],
    outcome: Outcome,
    reply: Answer = NO_ANSWER,
) -> Plan:
    """The run has ended; what of it still lives is stopped."""
    stop = _to_stop(assessments)
    soon = reply.due or observation.now + _PERIODS[Stage.ENDED]
    rules, ended_at = observation.rules, observation.ended_at
    expiry = None if rules.ttl is None else (ended_at or observation.now) + rules.ttl
    return Plan(
        start=not observation.started,
        assessments=assessments,
        history=history_of_run(assessments, since=episode_of(assessments).since, known=observation.reports),
        phase=outcome.phase,
        reason=outcome.reason,
        message=outcome.message,
        stop=stop,
        wake_at=soon,
        handled=reply.handled,
        held_back=_held_back(observation),
        answers_later=reply.due is not None,
        # Only a stored end counts: whoever waits for it must have had the chance to see it. A retry that is answered
        # later needs the run.
        expire=expiry is not None
        and ended_at is not None
        and not stop
        and reply.due is None
        and observation.now >= expiry,
    )


def _wake_at(observation: Observation, live: Sequence[Assessment], *, due: datetime | None) -> datetime:
    periods = [observation.now + _PERIODS[each.stage] for each in live] or [observation.now + _NOTHING_RUNS]
    deadlines = [each.deadline for each in live]
    moments = (*periods, *deadlines, due, _active_until(observation))
    return min(moment for moment in moments if moment is not None and moment > observation.now)
