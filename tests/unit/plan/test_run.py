"""What a run needs next."""

from datetime import timedelta
from typing import Any

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.attempt import Refusal
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.run import Observation, Plan, Settings, plan_run
from tests.unit.plan import lines
from tests.unit.plan.given import DEADLINE, GREEN, JOB, NOW, POD, RUNNING, attempt, ended, log

SUCCESS = Outcome(phase=RunPhase.SUCCEEDED, reason=RunReason.ALL_SUCCEEDED, message="done")


def planned(*, started: bool = True, **facts: Any) -> Plan:
    settled = {key: facts.pop(key) for key in ("invalid", "ended_as") if key in facts}
    observation = Observation(
        now=facts.pop("now", NOW),
        attempts=(attempt(**facts),),
        started=started,
        invalid=settled.get("invalid"),
        ended=settled.get("ended_as"),
    )
    return plan_run(observation, settings=Settings(start_deadline=DEADLINE))


def test_a_new_run_is_started_before_anything_is_created() -> None:
    plan = planned(started=False)
    assert plan.start
    assert not plan.done


def test_a_started_run_without_a_job_gets_one() -> None:
    plan = planned()
    assert (plan.start, plan.create, plan.phase) == (False, ("nightly-producer-1",), RunPhase.PENDING)


def test_the_job_is_created_once() -> None:
    assert planned(job=JOB).create == ()
    assert planned(job=JOB, pod=POD).create == ()
    assert planned(created=True).create == ()


def test_a_refused_job_is_tried_again_when_the_refusal_may_pass() -> None:
    plan = planned(refusal=Refusal(RunReason.QUOTA_EXCEEDED, "full"))
    assert (plan.phase, plan.create) == (RunPhase.QUEUED, ("nightly-producer-1",))
    assert planned(refusal=Refusal(RunReason.ADMISSION_DENIED, "no")).create == ()


def test_the_phases_of_a_good_run() -> None:
    assert planned(job=JOB, pod=POD).phase is RunPhase.STARTING
    assert planned(job=JOB, pod=RUNNING, log=log(*lines.EXECUTING)).phase is RunPhase.RUNNING
    plan = planned(job=JOB, pod=ended(), log=GREEN)
    assert (plan.phase, plan.done) == (RunPhase.SUCCEEDED, True)


def test_an_invalid_spec_fails_without_anything_being_created() -> None:
    plan = planned(started=False, invalid="spec.image is required.")
    assert (plan.phase, plan.reason, plan.message) == (
        RunPhase.FAILED,
        RunReason.INVALID_SPEC,
        "spec.image is required.",
    )
    assert plan.create == ()


def test_a_pod_that_never_started_is_stopped_after_the_run_has_failed() -> None:
    plan = planned(job=JOB, pod=POD, now=NOW + DEADLINE)
    assert plan.phase is RunPhase.FAILED
    assert plan.stop == (JOB.name,)
    assert not plan.done


def test_an_ended_run_stays_as_it_is_whatever_the_cluster_shows() -> None:
    for facts in ({}, {"job": JOB, "pod": RUNNING}, {"created": True}, {"job": JOB, "pod": ended(exit_code=1)}):
        plan = planned(ended_as=SUCCESS, **facts)
        assert (plan.phase, plan.reason, plan.create) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED, ())


def test_it_looks_again_at_the_deadline_at_the_latest() -> None:
    now = POD.created + DEADLINE - timedelta(seconds=1)
    assert planned(job=JOB, pod=POD, now=now).wake_at == POD.created + DEADLINE
    assert planned(job=JOB, pod=RUNNING).wake_at > NOW
