"""A run whose tests come after all else: dbt builds what is selected, and executes the tests when asked again."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.fold import EMPTY, Ending, close, fold_lines
from dbt_operator.plan.outcome import conclude
from dbt_operator.runner.arguments import STAGES, TESTS
from tests.unit.runner.conftest import Project, Run

# The database is on a volume that another pod mounts as well.
BUILD = ["--stage", "build", "--kept-path", "/"]
SELECTION = (
    "--select",
    "+test_fails",
    "+ok_model",
    "after_test_fail",
    "--exclude",
    "s_events",
    "test_name:ut_upper_bad",
)
# What `dbt build` has and `dbt test` has not.
FOR_BUILD_ONLY = ("--full-refresh", "--show")


def is_test(unique_id: str) -> bool:
    return unique_id.startswith(("test.", "unit_test."))


@pytest.fixture(scope="module")
def staged(make_project: Callable[[], Project]) -> tuple[Project, Run]:
    """A project, and the first stage of a run of it."""
    project = make_project()
    return project, project.run("build", *SELECTION, *FOR_BUILD_ONLY, options=BUILD)


def executed(run: Run) -> set[str]:
    """What dbt has executed, but for hooks."""
    return {one for one in run.results if not one.startswith("operation.")}


def types(unique_ids: set[str]) -> set[str]:
    return {one.partition(".")[0] for one in unique_ids}


def listed(project: Project, unique_ids: set[str]) -> str:
    file = Path(project.scratch / "nodes.json.gz")
    file.write_bytes(gzip.compress(json.dumps([{"unique_id": one} for one in sorted(unique_ids)]).encode()))
    return str(file)


def test_the_runner_and_the_operator_know_the_same_stages() -> None:
    assert {stage.value.lower(): stage.rules.words for stage in Stage} == STAGES
    assert frozenset(TESTS) == Stage.TEST.rules.executes


def test_the_first_stage_builds_everything_and_lists_the_tests_that_come_later(staged: tuple[Project, Run]) -> None:
    project, first = staged
    assert first.code == 0
    tests = {one for one in first.selected if is_test(one)}
    assert {one for one in tests if one.startswith("unit_test.")} == {"unit_test.torture.ok_model.ut_upper_ok"}
    assert len(tests) > 3
    assert executed(first) == first.selected - tests
    # What the failing test of test_fails holds back in `build`.
    assert first.results["model.torture.after_test_fail"]["status"] == "success"
    assert first.selected == project.run("build", *SELECTION).selected
    state = close(state=fold_lines(state=EMPTY, lines=first.lines), ending=Ending.COMPLETED)
    assert state.graph is not None
    assert state.graph.later() == tests
    assert not any(map(is_test, state.nodes))


def test_the_second_stage_executes_the_tests_of_the_list_and_nothing_else(staged: tuple[Project, Run]) -> None:
    project, first = staged
    tests = {one for one in first.selected if is_test(one)}
    options = ["--stage", "test", "--nodes", listed(project, tests)]
    second = project.run("build", *FOR_BUILD_ONLY, "--store-failures", options=options)
    assert executed(second) == tests
    failed = {one for one, result in second.results.items() if result["status"] == "fail"}
    assert {one.split(".")[2] for one in failed} == {"not_null_test_fails_name"}
    state = fold_lines(state=EMPTY, lines=second.lines)
    assert {one for one, node in state.nodes.items() if node.phase is NodePhase.FAILED} == failed
    assert second.finished["command"] == "test"
    (kept,) = (second.results[one]["relation"] for one in failed)
    assert kept.endswith('"main_dbt_test__audit"."not_null_test_fails_name"')
    assert [state.nodes[one].relation for one in failed] == [kept]


def test_nodes_of_the_first_stage_are_built_again_without_their_unit_tests(staged: tuple[Project, Run]) -> None:
    project, _ = staged
    options = [*BUILD, "--nodes", listed(project, {"model.torture.ok_model"})]
    again = project.run("build", options=options)
    assert executed(again) == again.selected == {"model.torture.ok_model"}


def test_a_selection_of_tests_alone_builds_nothing_and_lists_them(project: Project) -> None:
    first = project.run("build", "--select", "test_name:singular", "test_type:unit", options=BUILD)
    assert (first.code, first.digest) == (0, [])
    assert first.selected
    assert all(map(is_test, first.selected))


def test_nothing_is_built_where_the_tests_would_find_nothing_of_it(project: Project) -> None:
    refused = project.run("build", *SELECTION, options=["--stage", "build"])
    assert (refused.code, refused.results) == (2, {})
    assert refused.finished["error"]["kind"] == "spec"
    assert f"the file {project.path}/torture.duckdb inside the pod" in refused.finished["error"]["message"]
    state = fold_lines(state=EMPTY, lines=refused.lines)
    outcome = conclude(state=state, pod=None)
    assert outcome.reason is RunReason.INVALID_SPEC
    assert outcome.message.startswith("spec.tests is AfterAll")
    assert project.run("build", "--select", "s_users", options=["--stage", "build"]).code == 0


def test_without_tests_dbt_neither_lists_nor_executes_one_whatever_else_is_excluded(project: Project) -> None:
    run = project.run("build", *SELECTION, options=["--without-tests"])
    assert run.code == 0
    assert "model.torture.after_test_fail" in run.results
    assert types(executed(run)) == types(run.selected) == {"seed", "model"}
    for excluding, variable in ((["--exclude-resource-type=model"], ""), ([], "model")):
        environment = {"DBT_EXCLUDE_RESOURCE_TYPES": variable}
        run = project.run("build", *SELECTION, *excluding, options=["--without-tests"], environment=environment)
        assert types(executed(run)) == types(run.selected) == {"seed"}


# where each node has a pod of its own


@dataclass(frozen=True)
class Apart:
    """A project, the attempt that lists the nodes of a run of it, and one that executes all of them."""

    project: Project
    first: Run
    together: Run


@pytest.fixture(scope="module")
def apart(make_project: Callable[[], Project]) -> Apart:
    project = make_project()
    first = project.run("build", *SELECTION, options=["--stage", "list", "--kept-path", "/"])
    return Apart(project, first, project.run("build", *SELECTION, options=["--kept-path", "/"]))


def test_the_attempt_that_lists_the_nodes_lists_what_dbt_would_build_and_executes_nothing(apart: Apart) -> None:
    first = apart.first
    assert (first.code, first.digest, first.results) == (0, [], {})
    assert first.selected == apart.together.selected
    state = close(state=fold_lines(state=EMPTY, lines=first.lines), ending=Ending.COMPLETED)
    assert state.graph is not None
    assert state.graph.later() == first.selected
    assert conclude(state=state, pod=None).phase is RunPhase.SUCCEEDED


def test_an_attempt_at_a_node_leaves_no_files_that_nobody_looks_at(apart: Apart) -> None:
    nodes = {"model.torture.ok_model"}
    options = ["--stage", "execute", "--attempt-kind", "node", "--nodes", listed(apart.project, nodes)]
    results = Path(apart.project.scratch) / "target" / "run_results.json"
    results.unlink()
    run = apart.project.run("build", options=options)
    assert (run.code, executed(run), results.exists()) == (0, nodes, False)


def test_where_the_next_pod_would_find_nothing_no_node_is_executed(project: Project) -> None:
    refused = project.run("build", *SELECTION, options=["--stage", "list"])
    message = refused.finished["error"]["message"]
    assert (refused.code, refused.finished["error"]["kind"]) == (2, "spec")
    assert message.startswith("spec.mode is PerNode")
    assert message.endswith("or take mode: Producer")


def test_a_selection_that_matches_nothing_is_told_as_ever(project: Project) -> None:
    run = project.run("build", "--select", "nothing_of_this_name", options=["--stage", "list"])
    state = close(state=fold_lines(state=EMPTY, lines=run.lines), ending=Ending.COMPLETED)
    assert conclude(state=state, pod=None).reason is RunReason.NOTHING_SELECTED
