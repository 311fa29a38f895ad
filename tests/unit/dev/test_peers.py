"""The parts of `benchmarks.peers` that decide what a figure is."""

import pytest

from benchmarks.peers import cosmos, dagster
from benchmarks.peers.peer import Look, Timeline, figures
from benchmarks.peers.plain import printed_state
from benchmarks.peers.prefect import task_state
from benchmarks.peers.processes import Process, Spent, below
from benchmarks.peers.warehouse import failures
from benchmarks.project import SEQUENCE, failing, files

PRINTED = """\
12:00:01  5 of 12 START sql table model bench.m00009 ......... [RUN]
12:00:02  5 of 12 ERROR creating sql table model bench.m00009 ......... [ERROR in 0.05s]
12:00:02  6 of 12 OK created sql view model bench.m00010 ............... [CREATE VIEW in 0.05s]
"""
AGAIN = "12:00:09  1 of 3 OK created sql table model bench.m00009 ................. [SELECT 100 in 0.05s]\n"
LOG = """\
2026-11-28 12:00:00.500 UTC [7] ERROR:  relation "no" does not exist at character 15
2026-11-28 12:00:02.250 UTC [9] ERROR:  division by zero
2026-11-28 12:00:02.250 UTC [9] STATEMENT:  create table "x"
"""


@pytest.mark.parametrize("nodes", [20, 40, 100, 190])
def test_one_model_of_the_project_fails_once_and_others_read_it(nodes: int) -> None:
    content = dict(files(nodes, fails_once=True))
    changed = {name for name, text in files(nodes) if content[name] != text}
    assert changed == {f"models/{failing(nodes)}.sql"}
    assert SEQUENCE in content[changed.pop()]
    assert any(f"ref('{failing(nodes)}')" in text for text in content.values())


def test_processor_time_is_that_of_a_whole_tree_from_the_first_look_to_the_last() -> None:
    def seen(*, service: float, worker: float, job: float | None = None) -> dict[int, Process]:
        found = {
            1: Process(parent=0, began=1, seconds=99),
            10: Process(parent=1, began=5, seconds=service),
            11: Process(parent=10, began=6, seconds=worker),
        }
        return found if job is None else found | {12: Process(parent=1, began=7, seconds=job)}

    spent = Spent()
    assert spent.note(seen(service=2, worker=1), [10, 12]) == {10, 11}
    spent.note(seen(service=3, worker=3, job=0.5), [10, 12])
    spent.note(seen(service=3, worker=4), [10, 12])  # the job has ended
    assert spent.seconds == (3 + 4) - (2 + 1) + 0.5


def test_what_has_the_pid_of_one_that_has_ended_is_another_process() -> None:
    spent = Spent()
    spent.note({}, [])
    spent.note({12: Process(parent=1, began=7, seconds=2)}, [12])
    spent.note({12: Process(parent=1, began=9, seconds=0.5)}, [12])
    assert spent.seconds == 2.5


def test_a_tree_ends_where_a_root_is_gone() -> None:
    assert below({1: Process(parent=0, began=1, seconds=0)}, 7) == set()


def test_times_are_counted_from_the_failure_in_the_warehouse() -> None:
    timeline = Timeline(began=100)
    looks = [(101, Look()), (104, Look(node="failed")), (105, Look(node="failed")), (109, Look(node="succeeded"))]
    for at, look in [*looks, (112, Look(node="succeeded", run="succeeded"))]:
        timeline = timeline.after(look, at)
    assert figures(timeline, [103.5]) == (12, 0.5, 5.5)


def test_what_was_not_seen_has_no_figure() -> None:
    assert figures(Timeline(began=100), []) == (None, None, None)


def test_the_log_of_the_warehouse_says_when_the_model_failed() -> None:
    assert [at % 60 for at in failures(LOG)] == [2.25]


@pytest.mark.parametrize(("text", "state"), [("", ""), (PRINTED, "failed"), (PRINTED + AGAIN, "succeeded")])
def test_what_dbt_prints_of_a_model(text: str, state: str) -> None:
    assert printed_state(text, "m00009") == state


@pytest.mark.parametrize(
    ("states", "look"),
    [
        ({}, Look()),
        ({"node": "queued", "run": "running"}, Look()),
        ({"node": "up_for_retry", "run": "running"}, Look(node="failed")),
        ({"node": "success", "run": "success"}, Look(node="succeeded", run="succeeded")),
    ],
)
def test_what_airflow_shows(states: dict[str, str], look: Look) -> None:
    assert cosmos.looked(states) == look


def test_what_dagster_shows() -> None:
    events = [("ASSET_MATERIALIZATION", '["m00001"]'), ("STEP_START", None), ("ASSET_MATERIALIZATION", '["m00009"]')]
    assert dagster.looked("STARTED", events[:2], "m00009") == Look()
    assert dagster.looked("SUCCESS", events, "m00009") == Look(node="succeeded", run="succeeded")


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (("model m00009", "RUNNING", "Running"), ""),
        (("model m00009", "SCHEDULED", "AwaitingRetry"), "failed"),
        (("model m00009", "COMPLETED", "Completed"), "succeeded"),
        (("model m00010", "FAILED", "Failed"), ""),
    ],
)
def test_what_prefect_shows(row: tuple[str, str, str], state: str) -> None:
    assert task_state(iter([row]), "m00009") == state
