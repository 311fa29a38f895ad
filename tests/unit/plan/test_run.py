"""What a run needs next."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.attempt import Refusal, Release, Shown
from dbt_operator.plan.observation import Observation, Plan, Rules
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.run import plan_run
from tests.unit.plan import lines
from tests.unit.plan.given import DEADLINE, GREEN, HELD, JOB, NOW, POD, PRODUCER, RUNNING, attempt, ended, log, settled

SUCCESS = Outcome(phase=RunPhase.SUCCEEDED, reason=RunReason.ALL_SUCCEEDED, message="done")


def observed(*, started: bool = True, **facts: Any) -> Observation:
    """A run whose producer is decided on: these are the facts of its attempt, and the rules."""
    rules = {key: facts.pop(key) for key in ("active_deadline", "ttl", "cancel", "max_restarts") if key in facts}
    rules.setdefault("max_restarts", 0)
    known = {key: facts.pop(key) for key in ("invalid", "ended", "ended_at", "now") if key in facts}
    return Observation(
        run="nightly",
        attempts=(attempt(**facts),),
        started=started,
        rules=Rules(start_deadline=DEADLINE, **rules),
        **{"now": NOW, **known},
    )


def planned(**facts: Any) -> Plan:
    """The plan once what has ended is sealed."""
    return plan_run(settled(observed(**facts)))


def undecided(**facts: Any) -> Plan:
    """The plan of a run for which nothing was decided yet."""
    return plan_run(replace(observed(**facts), attempts=()))


def test_a_new_run_is_started_before_anything_is_decided_or_created() -> None:
    plan = undecided(started=False)
    assert (plan.start, plan.record, plan.create) == (True, (), ())
    assert not plan.done


def test_a_started_run_gets_the_decision_for_its_first_attempt() -> None:
    plan = undecided()
    assert (plan.start, plan.record, plan.phase) == (False, (PRODUCER,), RunPhase.PENDING)
    assert plan.create == ()  # not before the decision is recorded


def test_a_decision_without_a_job_gets_one() -> None:
    plan = planned()
    assert (plan.start, plan.record, plan.create) == (False, (), ("nightly-producer-1",))
    assert plan.phase is RunPhase.PENDING


def test_what_an_attempt_did_is_sealed_before_the_run_ends() -> None:
    before = observed(job=JOB, pod=ended(), log=GREEN)
    plan = plan_run(before)
    assert [each.attempt.name for each in plan.seal] == [PRODUCER.name]
    assert not plan.phase.terminal
    after = settled(before)
    assert plan_run(after).phase is RunPhase.SUCCEEDED
    # From then on it does not matter what has become of the Job, its pod and its log.
    forgotten = replace(after.attempts[0], shown=Shown(created=True))
    plan = plan_run(replace(after, attempts=(forgotten,)))
    assert (plan.phase, plan.reason) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_the_job_is_created_once() -> None:
    assert planned(job=JOB).create == ()
    assert planned(job=JOB, pod=POD).create == ()
    assert planned(created=True).create == ()


def test_a_pod_is_released_once_and_no_other_one_ever() -> None:
    assert planned(job=JOB, pod=HELD).release == (PRODUCER.name,)
    assert planned(job=JOB, pod=POD).release == ()
    # The operator died between the record and the pod.
    assert planned(job=JOB, pod=HELD, release=Release(pod=HELD.uid, at=NOW)).release == (PRODUCER.name,)
    assert planned(job=JOB, pod=HELD, release=Release(pod="another", at=NOW)).release == ()
    assert planned(job=JOB, pod=replace(HELD, deleting=True)).release == ()


def test_no_pod_is_released_of_a_run_that_is_not_to_run() -> None:
    assert planned(job=JOB, pod=HELD, cancel=True).release == ()
    assert planned(job=JOB, pod=HELD, ended=SUCCESS, ended_at=NOW).release == ()


def test_a_refused_job_is_tried_again_when_the_refusal_may_pass() -> None:
    plan = planned(refusal=Refusal(RunReason.QUOTA_EXCEEDED, "full"))
    assert (plan.phase, plan.create) == (RunPhase.QUEUED, ("nightly-producer-1",))
    plan = planned(refusal=Refusal(RunReason.CONNECTION_NOT_FOUND, "no"))
    assert (plan.phase, plan.create) == (RunPhase.STARTING, ("nightly-producer-1",))
    assert planned(refusal=Refusal(RunReason.ADMISSION_DENIED, "no")).create == ()


def test_a_job_whose_creation_was_answered_with_an_error_and_that_has_run_is_not_created_again() -> None:
    plan = planned(refusal=Refusal(RunReason.API_SERVER_ERROR, "500"), log=log(*lines.EXECUTING))
    assert (plan.reason, plan.create) == (RunReason.FINISHING, ())


def test_the_phases_of_a_good_run() -> None:
    assert planned(job=JOB, pod=POD).phase is RunPhase.STARTING
    assert planned(job=JOB, pod=RUNNING, log=log(*lines.EXECUTING)).phase is RunPhase.RUNNING
    plan = planned(job=JOB, pod=ended(), log=GREEN)
    assert (plan.phase, plan.done) == (RunPhase.SUCCEEDED, True)


def test_an_invalid_spec_fails_without_anything_being_created() -> None:
    plan = undecided(started=False, invalid="spec.image is required.")
    assert (plan.phase, plan.reason, plan.message) == (
        RunPhase.FAILED,
        RunReason.INVALID_SPEC,
        "spec.image is required.",
    )
    assert (plan.record, plan.create) == ((), ())


def test_a_pod_that_never_started_is_stopped_after_the_run_has_failed() -> None:
    plan = planned(job=JOB, pod=POD, now=NOW + DEADLINE)
    assert plan.phase is RunPhase.FAILED
    assert plan.stop == (JOB.name,)
    assert not plan.done


def test_an_ended_run_stays_as_it_is_whatever_the_cluster_shows() -> None:
    for facts in ({}, {"job": JOB, "pod": RUNNING}, {"created": True}, {"job": JOB, "pod": ended(exit_code=1)}):
        plan = planned(ended=SUCCESS, **facts)
        assert (plan.phase, plan.reason, plan.create) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED, ())


def test_it_looks_again_at_the_deadline_at_the_latest() -> None:
    now = POD.created + DEADLINE - timedelta(seconds=1)
    assert planned(job=JOB, pod=POD, now=now).wake_at == POD.created + DEADLINE
    assert planned(job=JOB, pod=RUNNING).wake_at > NOW


def test_a_cancelled_run_that_has_not_begun_creates_nothing() -> None:
    for plan in (undecided(started=False, cancel=True), undecided(cancel=True), planned(cancel=True)):
        assert (plan.phase, plan.reason) == (RunPhase.CANCELLED, RunReason.CANCELLED)
        assert (plan.record, plan.create) == ((), ())


def test_a_cancelled_run_in_a_queue_ends_and_takes_its_job_away() -> None:
    plan = planned(job=replace(JOB, suspended=True), cancel=True)
    assert (plan.phase, plan.stop) == (RunPhase.CANCELLED, (JOB.name,))


def test_cancelling_a_running_run_stops_it_and_waits_for_dbt_to_end() -> None:
    plan = planned(job=JOB, pod=RUNNING, log=log(*lines.EXECUTING), cancel=True)
    assert (plan.phase, plan.reason, plan.stop) == (RunPhase.RUNNING, RunReason.STOPPING, (JOB.name,))
    # The Job is gone at once, the pod when dbt has cancelled its queries.
    plan = planned(created=True, pod=RUNNING, log=log(*lines.EXECUTING), cancel=True)
    assert (plan.phase, plan.stop) == (RunPhase.RUNNING, ())
    plan = planned(created=True, log=log(*lines.CANCELLED_LOG, read=True), cancel=True)
    assert (plan.phase, plan.reason) == (RunPhase.CANCELLED, RunReason.CANCELLED)


def test_a_run_that_ended_before_the_wish_reached_it_stays_what_it_was() -> None:
    plan = planned(job=JOB, pod=ended(), log=GREEN, cancel=True)
    assert plan.phase is RunPhase.SUCCEEDED


def test_a_run_that_takes_too_long_is_stopped_and_has_failed() -> None:
    limit: dict[str, Any] = {"active_deadline": timedelta(seconds=60)}
    executing: dict[str, Any] = {"job": JOB, "pod": replace(RUNNING, started=NOW), "log": log(*lines.EXECUTING)}
    plan = planned(**executing, **limit, now=NOW + timedelta(seconds=59))
    assert (plan.reason, plan.wake_at) == (RunReason.EXECUTING, NOW + timedelta(seconds=60))
    plan = planned(**executing, **limit, now=NOW + timedelta(seconds=60))
    assert (plan.reason, plan.stop) == (RunReason.STOPPING, (JOB.name,))
    gone: dict[str, Any] = {"created": True, "began": NOW, "log": log(*lines.CANCELLED_LOG, read=True)}
    plan = planned(**gone, **limit, now=NOW + timedelta(seconds=70))
    assert (plan.phase, plan.reason) == (RunPhase.FAILED, RunReason.DEADLINE_EXCEEDED)


def test_a_run_is_deleted_when_its_time_after_the_end_is_over_and_not_before() -> None:
    ended_run: dict[str, Any] = {"ended": SUCCESS, "ended_at": NOW, "ttl": timedelta(seconds=60)}
    plan = planned(**ended_run, now=NOW + timedelta(seconds=59))
    assert (plan.expire, plan.done) == (False, True)
    plan = planned(**ended_run, now=NOW + timedelta(seconds=60))
    assert (plan.expire, plan.done) == (True, False)
    assert planned(ended=SUCCESS, ended_at=NOW).done


def test_a_run_is_not_deleted_before_its_end_is_stored() -> None:
    plan = planned(job=JOB, pod=ended(), log=GREEN, ttl=timedelta())
    assert (plan.phase, plan.expire) == (RunPhase.SUCCEEDED, False)
