"""A queueing system may take back the place of a Job that has begun: its work goes on in another one."""

from dataclasses import replace

from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.assess import assess
from dbt_operator.plan.attempt import Stage
from tests.unit.plan import given, lines

SUSPENDED = replace(given.JOB, suspended=True)


def test_a_job_that_was_never_admitted_waits_in_its_queue() -> None:
    found = assess(given.attempt(job=SUSPENDED), now=given.NOW, start_deadline=given.DEADLINE)
    assert (found.stage, found.reason) == (Stage.QUEUED, RunReason.JOB_SUSPENDED)


def test_a_job_that_is_suspended_after_it_began_is_a_lost_attempt_whose_job_must_not_come_back() -> None:
    log = given.log(*lines.EXECUTING, ended=True)
    found = assess(given.attempt(job=SUSPENDED, log=log, created=True), now=given.NOW, start_deadline=given.DEADLINE)
    assert (found.stage, found.reason) == (Stage.ENDED, RunReason.POD_LOST)
    assert found.must_stop


def test_the_last_words_of_a_suspended_job_are_read_before_it_is_given_up() -> None:
    log = given.log(*lines.EXECUTING)
    found = assess(given.attempt(job=SUSPENDED, log=log, created=True), now=given.NOW, start_deadline=given.DEADLINE)
    assert found.stage is Stage.DRAINING
