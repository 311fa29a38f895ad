"""Steps before dbt: what they found is kept to by later attempts, and what becomes of a run when one fails."""

import json
from typing import Any

import pytest

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.facts import StepFailure, pod_facts
from tests.unit.dbt.logs import model
from tests.unit.plan.story import Story
from tests.unit.plan.test_facts import pod

COMMIT = {"project.commit": "a" * 40}
NO_BRANCH = StepFailure(RunReason.PROJECT_FETCH_FAILED, "The repository has no branch mian.")
NO_VERSION = StepFailure(RunReason.ENVIRONMENT_FAILED, "dbt-core==9.9: there is no such version.")
NO_ANSWER = StepFailure(RunReason.SOURCE_UNAVAILABLE, "The server did not answer.")


def _run(**rules: Any) -> Story:
    return Story(model("orders"), model("report", "orders"), **rules)


def _found(run: Story) -> dict[str, str]:
    return dict(run.attempts[-1].decision.found)


def test_a_retry_and_a_resume_keep_to_what_the_first_attempt_has_found() -> None:
    run = _run()
    run["Producer"].starts().finds(project_commit="a" * 40).builds(orders="error: x", report="skipped")
    assert run.later(seconds=10) == ["Retry orders"]
    assert _found(run) == COMMIT
    # Which has found another one, whatever that means.
    run["Retry orders"].starts().finds(project_commit="b" * 40).builds()
    assert run.next() == ["Resume report"]
    assert _found(run) == COMMIT


def test_a_pod_that_was_lost_while_it_executed_has_said_what_it_found() -> None:
    run = _run()
    run["Producer"].starts().finds(project_commit="a" * 40).reports(orders="running").is_killed()
    assert run.next() == ["Resume orders report"]
    assert _found(run) == COMMIT


def test_a_pod_that_was_lost_before_dbt_has_executed_nothing_and_leaves_all_open() -> None:
    run = _run()
    run["Producer"].fails_to_start(exit_code=143)
    assert run.next() == ["Producer"]
    assert _found(run) == {}


@pytest.mark.parametrize("failure", [NO_BRANCH, NO_VERSION])
def test_what_a_step_cannot_do_ends_the_run_with_its_words(failure: StepFailure) -> None:
    run = _run()
    run["Producer"].fails_to_start(step=failure)
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, failure.reason)
    assert run.message() == failure.message


def test_a_server_that_is_away_is_asked_again_as_often_as_restarts_are_allowed() -> None:
    run = _run(max_restarts=1)
    run["Producer"].fails_to_start(step=NO_ANSWER)
    assert run.next() == ["Producer"]
    run["Producer"].fails_to_start(step=NO_ANSWER)
    assert run.later(seconds=60) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.SOURCE_UNAVAILABLE)
    assert "spec.producer.maxRestarts (1) allows no further attempt" in run.message()
    assert NO_ANSWER.message in run.message()


@pytest.mark.parametrize(("facts", "exit_code"), [({"pod_reason": "Evicted"}, 1), ({"deleting": True}, 1), ({}, 137)])
def test_a_pod_that_is_taken_away_while_a_step_is_at_work_is_a_lost_one(facts: dict[str, Any], exit_code: int) -> None:
    run = _run()
    run["Producer"].fails_to_start(exit_code=exit_code, **facts)
    assert run.next() == ["Producer"]


def test_a_retry_whose_project_cannot_be_fetched_is_a_try_of_its_node() -> None:
    run = _run(limit=1)
    run["Producer"].starts().builds(orders="error: x", report="skipped")
    run.later(seconds=10)
    run["Retry orders"].fails_to_start(step=NO_BRANCH)
    assert run.later(seconds=60) == []
    assert run.phase() is RunPhase.FAILED
    assert NO_BRANCH.message in run.message()


def _with_step(name: str, message: str) -> Any:
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": message}}
    return pod_facts(pod(initContainerStatuses=[{"name": name, "state": ended}], phase="Failed")).init_failure


def test_only_the_operators_own_steps_give_a_reason() -> None:
    words = json.dumps({"reason": "ProjectFetchFailed", "message": "no"})
    assert _with_step("dbt-operator-fetch", words).step == StepFailure(RunReason.PROJECT_FETCH_FAILED, "no")
    assert _with_step("load", words).step is None


@pytest.mark.parametrize(
    "message", ["", "Traceback", "[]", '{"reason": "AllSucceeded", "message": "x"}', '{"reason": 1}']
)
def test_what_no_step_would_write_gives_no_reason(message: str) -> None:
    assert _with_step("dbt-operator-fetch", message).step is None
