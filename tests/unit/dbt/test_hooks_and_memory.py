"""What the runner says of the project's hooks, of its own memory and of the database."""

import itertools

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.stored import decode, encode
from dbt_operator.dbt.view import node_views
from tests.unit.dbt.logs import RunnerLog, data_test, folded, model


def test_nothing_is_known_before_the_runner_says_it() -> None:
    state = RunnerLog().state
    assert (state.end_hooks, state.peak_memory_bytes) == (None, None)


@pytest.mark.parametrize("count", [0, 3])
def test_hooks_at_the_end_are_counted_without_those_at_the_start(count: int) -> None:
    log = RunnerLog().add("Hooks", {"on_run_start": 7, "on_run_end": count})
    assert log.state.end_hooks == count


@pytest.mark.parametrize("wrong", [None, -1, "many", [], True])
def test_a_number_that_is_none_says_nothing(wrong: object) -> None:
    log = RunnerLog().add("Hooks", {"on_run_start": 1, "on_run_end": 2}).add("Hooks", {"on_run_end": wrong})
    log.add("MemoryPeak", {"peak_memory_bytes": 5}).add("MemoryPeak", {"peak_memory_bytes": wrong})
    assert (log.state.end_hooks, log.state.peak_memory_bytes) == (2, 5)


def test_the_largest_peak_stands_whoever_says_it_and_however_often() -> None:
    log = RunnerLog().add("MemoryPeak", {"peak_memory_bytes": 10}).add("MemoryPeak", {"peak_memory_bytes": 30})
    log.finish(0, peak_memory_bytes=20)
    first, *rest = log.lines
    for order in itertools.permutations([*rest, rest[0]]):
        assert folded([first, *order]).peak_memory_bytes == 30
    assert (
        RunnerLog().add("MemoryPeak", {"peak_memory_bytes": 10}).finish(0, peak_memory_bytes=40).state.peak_memory_bytes
        == 40
    )


def test_only_a_database_that_is_gone_with_the_pod_is_remembered() -> None:
    file = "/data/shop.duckdb"
    assert RunnerLog().add("DatabaseFile", {"file": file, "kept": True}).state.pod_database == ""
    log = RunnerLog().add("DatabaseFile", {"file": file, "kept": False})
    assert log.state.pod_database == file
    assert decode(encode(log.finish(0).closed)) == log.closed


@pytest.mark.parametrize("wrong", [{}, {"kept": False}, {"file": "", "kept": False}, {"file": "/f", "kept": "no"}])
def test_what_is_not_said_of_the_database_is_not_known(wrong: dict[str, object]) -> None:
    assert RunnerLog().add("DatabaseFile", wrong).state.pod_database == ""


@pytest.mark.parametrize(
    "text",
    [
        "Compilation Error in operation shop-on-run-start-0 (./dbt_project.yml)\n  the load is not finished",
        "Runtime Error\n  no such table\n  > called by operation shop-on-run-start-0",
    ],
)
def test_behind_a_hook_that_fails_before_it_is_executed_all_nodes_are_skipped_for_it(text: str) -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a", attached_node="model.shop.a"))
    state = log.finish(2, error={"kind": "project", "message": text}, results=0).closed
    hook = "operation.shop.shop-on-run-start-0"
    views = dict(node_views(state=state))
    failed = views.pop(hook)
    assert (failed.phase, failed.message) == (NodePhase.FAILED, text)
    assert len(views) == 2
    for view in views.values():
        assert (view.phase, view.reason, view.blocked_by) == (NodePhase.SKIPPED, NodeReason.HOOK_FAILED, hook)


def test_a_hook_at_the_end_blocks_nothing() -> None:
    log = RunnerLog().select(model("a"), model("b")).run("model.shop.a")
    text = "Compilation Error in operation shop-on-run-end-0 (./dbt_project.yml)\n  no"
    state = log.finish(2, error={"kind": "project", "message": text}, results=1).closed
    assert node_views(state=state)["model.shop.b"].reason is NodeReason.LOST


def test_only_the_runner_is_believed() -> None:
    log = RunnerLog().add("MemoryPeak", {"peak_memory_bytes": 10}).add("Hooks", {"on_run_end": 1})
    forged = [line.replace(b'"seq"', b'"sequence"').replace(b": 10}", b": 99}") for line in log.lines[1:]]
    assert folded([log.lines[0], *forged]) == folded(log.lines[:1])
