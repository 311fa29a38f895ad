"""The commands that a run can be of: what dbt executes for each is what the tables say, at first and in retries."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from dbt_operator.api.commands import Command
from dbt_operator.dbt import artifacts
from dbt_operator.runner.arguments import COMMANDS
from dbt_operator.runner.invocation import PRINTED
from tests.unit.runner.conftest import Project, Run

UNIT_TEST = "unit_test.torture.ok_model.ut_upper_ok"
FAILING = "test.torture.not_null_test_fails_name.1eb6c457d7"


@dataclass(frozen=True, slots=True)
class Built:
    """A project whose models are there, and how it was built."""

    project: Project
    run: Run


@pytest.fixture(scope="module")
def built(make_project: Callable[[], Project]) -> Built:
    project = make_project()
    project.run("build", "--exclude", "resource_type:test", "resource_type:unit_test")
    return Built(project=project, run=project.run("test"))


def _executed(run: Run) -> set[str]:
    """The nodes that dbt has results of."""
    return {result["unique_id"] for result in run.digest if not result["unique_id"].startswith("operation.")}


def test_the_runner_and_the_operator_agree_on_what_each_command_executes() -> None:
    assert set(COMMANDS) == {command.rules.words for command in Command}
    for command in Command:
        rules = COMMANDS[command.rules.words]
        assert rules.types == command.rules.executes
        assert rules.unit_tests_with_model is command.rules.tests_hold_back
        assert set(rules.files) <= artifacts.FOR_USER
    assert PRINTED in artifacts.ASKED_FOR


def test_run_executes_models_and_says_so(built: Built) -> None:
    run = built.project.run("run")
    assert {part["command"] for part in run.named("SelectedNodes")} == {"run"}
    assert {one.partition(".")[0] for one in run.selected} == {"model"}
    assert _executed(run) == run.selected - {"model.torture.eph"}


def test_test_executes_tests_and_lists_the_nodes_that_they_test(built: Built) -> None:
    run = built.run
    assert {part["command"] for part in run.named("SelectedNodes")} == {"test"}
    assert {one.partition(".")[0] for one in run.selected} == {"test", "unit_test"}
    assert _executed(run) == run.selected
    for test in run.selected:
        assert set(run.graph[test]["depends_on"]) <= run.graph.keys()
    assert run.graph["model.torture.ok_model"]["selected"] is False
    assert run.results[FAILING]["status"] == "fail"


@pytest.mark.parametrize("again", [{FAILING}, {UNIT_TEST}, {FAILING, UNIT_TEST}])
def test_a_retry_of_test_executes_just_these(built: Built, again: set[str]) -> None:
    run = built.project.again(built.run, sorted(again), "test")
    assert run.finished["error"] is None
    assert run.selected == again
    assert _executed(run) == again


def test_a_retry_of_run_executes_just_the_model(built: Built) -> None:
    run = built.project.again(built.run, ["model.torture.ok_model"], "run")
    assert run.selected == {"model.torture.ok_model"}
    assert run.results["model.torture.ok_model"]["status"] == "success"
