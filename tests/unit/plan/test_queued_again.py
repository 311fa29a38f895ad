"""A queueing system may take back the place of a Job that has begun: its work goes on in another one."""

from dataclasses import replace

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.assess import assess
from dbt_operator.plan.attempt import Life
from tests.unit.dbt.logs import model
from tests.unit.plan import given, lines
from tests.unit.plan.story import Story

SUSPENDED = replace(given.JOB, suspended=True)


def test_a_job_that_was_never_admitted_waits_in_its_queue() -> None:
    found = assess(given.attempt(job=SUSPENDED), now=given.NOW, start_deadline=given.DEADLINE)
    assert (found.life, found.reason) == (Life.QUEUED, RunReason.JOB_SUSPENDED)


def test_a_job_that_is_suspended_after_it_began_must_not_come_back() -> None:
    log = given.log(*lines.EXECUTING, read=True)
    found = assess(given.attempt(job=SUSPENDED, log=log, created=True), now=given.NOW, start_deadline=given.DEADLINE)
    assert (found.life, found.reason) == (Life.ENDED, RunReason.JOB_SUSPENDED)
    assert found.must_stop


def test_dbt_that_was_stopped_because_its_job_was_suspended_is_not_lost() -> None:
    pod, log = given.ended(exit_code=2, deleting=True), given.log(*lines.CANCELLED_LOG, read=True)
    found = assess(given.attempt(job=SUSPENDED, pod=pod, log=log), now=given.NOW, start_deadline=given.DEADLINE)
    assert (found.life, found.reason) == (Life.ENDED, RunReason.JOB_SUSPENDED)


def test_a_place_that_is_taken_back_uses_up_no_restart() -> None:
    run = Story(model("a"), model("b", "a"), max_restarts=0)
    run["Producer"].starts().reports(a="success", b="running").loses_its_place()
    assert run.next() == ["Resume b"]
    run["Resume b"].starts().reports(b="running").loses_its_place()
    assert run.next() == ["Resume b"]
    run["Resume b"].builds()
    assert run.next() == []
    assert run.phase() is RunPhase.SUCCEEDED


def test_nor_does_one_that_is_taken_back_before_dbt_has_said_what_is_selected() -> None:
    run = Story(model("a"), max_restarts=0)
    run["Producer"].starts(loaded=False).loses_its_place()
    assert run.next() == ["Producer"]


def test_the_last_words_of_a_suspended_job_are_read_before_it_is_given_up() -> None:
    log = given.log(*lines.EXECUTING)
    found = assess(given.attempt(job=SUSPENDED, log=log, created=True), now=given.NOW, start_deadline=given.DEADLINE)
    assert found.life is Life.DRAINING
