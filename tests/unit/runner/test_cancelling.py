"""SIGTERM, whenever it comes, ends in a record that says so."""

import os
from collections.abc import Callable

import pytest

from tests.unit.runner.conftest import Event, Project, Run

SLOW = ("build", "--select", "slow_a", "slow_b")
THERE = {"SLOW": "yes"}  # not a var: for other vars than before dbt parses the whole project anew


SLOW_HOOK = "create or replace table t as select sum(sin(i) * cos(i)) as x from range(4000000000) t(i)"


def _begin_slowly(project: Project) -> None:
    project.edit("dbt_project.yml", "on-run-start:", f'on-run-start:\n  - "{SLOW_HOOK}"')


def _at(name: str) -> Callable[[Event], bool]:
    return lambda event: event["info"]["name"] == name


def _assert_cancelled(run: Run) -> None:
    assert run.code == run.finished["exit_code"] == 2
    assert run.finished["cancelled"] is True
    assert run.finished["error"]["kind"] == "interrupted"
    assert run.named("CancelRequested") == [{"signal": "SIGTERM"}]
    assert [event["seq"] for event in run.events] == list(range(1, len(run.lines) + 1))


@pytest.mark.parametrize(
    ("event", "phase"), [("RunnerStarted", "start"), ("MainReportVersion", "parse"), ("SelectedNodes", "execute")]
)
def test_before_any_node_runs(project: Project, event: str, phase: str) -> None:
    _begin_slowly(project)  # or else a node may have run before the signal is there
    run = project.run("build", stop_at=_at(event))
    _assert_cancelled(run)
    # The listing may have ended before the signal was there.
    assert run.finished["phase"] == phase or event == "SelectedNodes"
    assert "LogModelResult" not in [e["info"]["name"] for e in run.events]


def test_while_nodes_run_their_queries_are_cancelled(project: Project) -> None:
    run = project.run(*SLOW, environment=THERE, stop_at=_at("LogStartLine"))
    _assert_cancelled(run)
    assert run.named("EndOfRunSummary")[0]["keyboard_interrupt"] is True
    started = {data["node_info"]["unique_id"] for data in run.named("LogStartLine")}
    assert {run.results[unique_id]["status"] for unique_id in started} == {"error"}
    # dbt hands over no results then; the digest has what was seen.
    assert started <= {result["unique_id"] for result in run.digest}


def test_while_a_hook_runs_in_the_main_thread(project: Project) -> None:
    _begin_slowly(project)
    run = project.run("build", "--select", "s_users", stop_at=_at("LogHookStartLine"))
    _assert_cancelled(run)


# A plugin of the adapter that makes its driver swallow what interrupts it, as Python itself does in a destructor or a
# callback from C. dbt then takes the hook whose query was cancelled for one that failed.
SWALLOWING = """
import duckdb
from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper
from dbt.adapters.duckdb.plugins import BasePlugin as Plugin

execute = DuckDBCursorWrapper.execute

def swallowing(cursor, *arguments):
    try:
        if "range(4000000000)" in str(arguments):
            print("the slow hook", flush=True)
        return execute(cursor, *arguments)
    except KeyboardInterrupt:
        raise duckdb.InterruptException("INTERRUPT Error: Interrupted!") from None

DuckDBCursorWrapper.execute = swallowing
"""


@pytest.mark.needs("dbt-core", "1.9", "results of hooks")
def test_while_a_hook_runs_in_a_driver_that_swallows_the_interrupt(project: Project) -> None:
    _begin_slowly(project)
    (project.path / "swallowing.py").write_text(SWALLOWING)
    plugin = f"module_paths: ['{project.path}']\n      plugins: [{{module: swallowing}}]"
    project.edit("profiles.yml", "type: duckdb", f"type: duckdb\n      {plugin}")
    # Not at the line that says that the hook begins: dbt would be interrupted between that and the driver.
    run = project.run(
        "build",
        *("--select", "s_users"),
        stop_at=lambda event: event["info"]["name"] == "Output" and event["data"]["text"] == "the slow hook",
    )
    assert "error" in [hook["status"] for hook in run.named("LogHookEndLine")]  # so dbt has it
    _assert_cancelled(run)


# A driver that waits for a warehouse that does not answer, whatever it is told.
DEAF = """
import time
from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper
from dbt.adapters.duckdb.plugins import BasePlugin as Plugin

execute = DuckDBCursorWrapper.execute

def deaf(cursor, *arguments):
    if "range(4000000000)" in str(arguments):
        print("the slow hook", flush=True)
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
    return execute(cursor, *arguments)

DuckDBCursorWrapper.execute = deaf
"""


def test_a_pod_with_a_short_grace_period_still_writes_its_record(project: Project) -> None:
    _begin_slowly(project)
    (project.path / "deaf.py").write_text(DEAF)
    plugin = f"module_paths: ['{project.path}']\n      plugins: [{{module: deaf}}]"
    project.edit("profiles.yml", "type: duckdb", f"type: duckdb\n      {plugin}")
    run = project.run(
        "build",
        *("--select", "s_users"),
        options=["--grace-seconds=1"],
        stop_at=lambda event: event["info"]["name"] == "Output" and event["data"]["text"] == "the slow hook",
    )
    _assert_cancelled(run)
    assert run.named("EndOfRunSummary") == []  # dbt did not come to its end


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace of one's own needs root")
def test_as_the_first_process_of_a_container(project: Project) -> None:
    prefix = ("unshare", "--pid", "--fork", "--mount-proc")
    _assert_cancelled(project.run(*SLOW, environment=THERE, stop_at=_at("LogStartLine"), prefix=prefix))


def test_after_the_end_changes_nothing(project: Project) -> None:
    run = project.run("build", "--select", "s_users", stop_at=_at("StatsLine"))
    assert run.code == 0
    assert run.finished["cancelled"] is False
    assert run.named("CancelRequested") == []


def test_a_second_time_does_no_harm(project: Project) -> None:
    # unshare is not needed here: each of the two signals is sent at an event of its own.
    import signal
    import subprocess

    command, environment = [str(project.warm), *project.command(*SLOW)[1:]], project.environment(THERE)
    with subprocess.Popen(command, env=environment, cwd=project.scratch, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if b'"LogStartLine"' in line or b'"CancelRequested"' in line or b'"LogCancelLine"' in line:
                process.send_signal(signal.SIGTERM)
    run = Run(lines=tuple(lines), code=process.returncode, target=project.scratch)
    _assert_cancelled(run)
    assert run.named("EndOfRunSummary")[0]["keyboard_interrupt"] is True
