"""Runs of commands that execute no nodes: of these the command itself tells how it ended, and it is run as a whole."""

import pytest

from dbt_operator.api.commands import Command
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from tests.unit.plan.story import Story

WITHOUT_NODES = [command for command in Command if not command.rules.executes]
REPEATED = [command for command in WITHOUT_NODES if command.rules.repeats]


def an_operation() -> Story:
    """`dbt run-operation`, with every retry allowed."""
    return Story(command=Command.RUN_OPERATION, reasons=frozenset(RetryReason), limit=3)


@pytest.mark.parametrize("command", WITHOUT_NODES)
def test_a_success_is_dbts_own_word_and_says_which_command_it_was(command: Command) -> None:
    run = Story(command=command)
    run["Producer"].starts()
    run.next()
    assert (run.phase(), run.message()) == (RunPhase.RUNNING, f"dbt {command.rules.words} is at work.")
    run["Producer"].builds()
    assert run.next() == []
    assert (run.phase(), run.message()) == (RunPhase.SUCCEEDED, f"dbt {command.rules.words} ended successfully.")


@pytest.mark.parametrize("command", WITHOUT_NODES)
def test_a_failure_is_what_dbt_said_and_nothing_is_tried_again(command: Command) -> None:
    run = Story(command=command, reasons=frozenset(RetryReason), limit=3)
    run["Producer"].starts().complains("macro failed")
    assert run.later(seconds=100) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.DBT_ERROR)
    assert run.message() == f"dbt {command.rules.words} failed: macro failed."


def test_what_is_not_kept_of_what_was_asked_for_is_said() -> None:
    run = Story(command=Command.DOCS)
    run["Producer"].starts().log.add("ArtifactOmitted", {"name": "catalog.json", "reason": "TooLarge"}, at=run.now)
    run["Producer"].builds()
    run.next()
    assert run.message() == "dbt docs generate ended successfully; catalog.json is not kept, as it is too large."


@pytest.mark.parametrize("command", REPEATED)
def test_what_a_lost_pod_did_is_done_again(command: Command) -> None:
    run = Story(command=command)
    run["Producer"].starts().is_evicted()
    assert run.later(seconds=100) == ["Producer"]
    run["Producer"].starts().builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_an_operation_is_not_repeated_by_itself() -> None:
    run = an_operation()
    run["Producer"].starts().is_evicted()
    assert run.later(seconds=1000) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.EVICTED)
    assert run.message().endswith("a retry that you ask for runs it again.")
    assert run.ask("once more") == ["Producer"]
    run["Producer"].starts().builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_an_operation_that_does_not_reach_the_warehouse_is_not_repeated_either() -> None:
    run = an_operation()
    run["Producer"].starts().gives_up("connection", "no route to host")
    assert run.later(seconds=1000) == []
    assert run.reason() is RunReason.CONNECTION_FAILED


def test_an_operation_whose_queue_took_its_place_back_is_not_repeated() -> None:
    run = an_operation()
    run["Producer"].starts().loses_its_place()
    assert run.later(seconds=1000) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.POD_LOST)


def test_whoever_has_suspended_an_operation_lets_it_run_again() -> None:
    run = an_operation()
    run["Producer"].starts()
    run.next()
    run.change(suspend=True)
    run["Producer"].stops()
    run.next()
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Producer"]


def test_what_has_succeeded_is_not_run_again_for_whoever_asks() -> None:
    run = an_operation()
    run["Producer"].starts().builds()
    run.next()
    assert run.ask("again") == []
    assert run.phase() is RunPhase.SUCCEEDED


def test_an_end_that_dbt_reported_stands_whatever_became_of_its_pod() -> None:
    run = an_operation()
    dbt = run["Producer"].starts()
    dbt.log.finishes(0, at=run.now)
    dbt.is_evicted()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_connection_that_fails_once_is_no_failure_of_a_command_that_may_be_repeated() -> None:
    run = Story(command=Command.DOCS, reasons=frozenset({RetryReason.CONNECTION_FAILED}))
    run["Producer"].starts().gives_up("connection", "no route to host")
    assert run.later(seconds=100) == ["Producer"]
    run["Producer"].starts().builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED
