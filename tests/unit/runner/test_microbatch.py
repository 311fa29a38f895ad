"""Microbatch models that are executed again a day later: the batches of the first attempt, and only what is left."""

import gzip
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import EMPTY
from dbt_operator.dbt.view import node_view
from tests.unit.runner.conftest import Project, Run

pytestmark = pytest.mark.needs("dbt-core", "1.9", "microbatch models")

MODEL = "model.torture.days"
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
DAYS = [(TODAY - timedelta(days=ago)).date().isoformat() for ago in range(5, -1, -1)]  # the last one is today
TOMORROW = (TODAY + timedelta(days=1)).date().isoformat()
SOURCE = """
{{ config(materialized='table', event_time='ts') }}
select cast(ts as timestamp) as ts from (values ROWS) as days (ts)
"""
DAYS_SQL = """
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='ts', batch_size='day',
   begin='BEGIN', lookback=1, concurrent_batches=false) }}
select ts, '{{ invocation_id }}' as built_by
  {% if (model.batch.event_time_start | string)[:10] in env_var('BROKEN', '').split() %}, no_such_column{% endif %}
from {{ ref('days_source') }}
"""
# A process on a machine whose clock has gone on, by DAYS_LATER days: the runner's clock, and that of dbt's invocation.
LATER = """
import datetime, os, sys
sys.path.insert(0, {archive!r})
import dbt_common.invocation
from dbt_operator.runner import invocation, main

class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(days=int(os.environ["DAYS_LATER"]))

dbt_common.invocation.datetime = invocation.datetime = Clock
main.main()
"""
BUILT = """
import duckdb, json, sys
database = duckdb.connect(sys.argv[1])  # older versions close it with the last reference
rows = database.sql("select cast(ts as date)::text, built_by from days order by 1").fetchall()
print(json.dumps(rows))
"""


@pytest.fixture
def days(make_project: Callable[[], Project], tmp_path: Path) -> Project:
    """A project with a model of one row a day, which has begun five days ago."""
    project = make_project()
    models = project.path / "models"
    (models / "days.sql").write_text(DAYS_SQL.replace("BEGIN", DAYS[0]))
    rows = ", ".join(f"('{day} 12:00:00')" for day in [*DAYS, TOMORROW])
    (models / "days_source.sql").write_text(SOURCE.replace("ROWS", rows))
    wrapper = tmp_path / "later.py"
    wrapper.write_text(LATER.format(archive=str(project.archive)))
    project.archive = wrapper
    return project


def _run(
    project: Project, nodes: Sequence[dict[str, Any]] = (), *dbt: str, later: int = 0, end: str = "", broken: str = ""
) -> Run:
    place = Path(tempfile.mkdtemp(dir=project.scratch))
    options = [f"--microbatch-end={end}"] if end else []
    if nodes:
        (place / "nodes.json.gz").write_bytes(gzip.compress(json.dumps(list(nodes)).encode()))
        options += ["--attempt-kind", "retry", "--nodes", str(place / "nodes.json.gz")]
    selected = ("build",) if nodes else ("build", "--select", "days_source", "days")
    environment = {"DAYS_LATER": str(later), "BROKEN": broken, "DBT_TARGET_PATH": str(place / "target")}
    return project.run(*selected, *dbt, options=options, environment=environment)


def _told(run: Run, what: str) -> list[Any]:
    return [data[what] for data in run.named("Microbatch") if what in data]


def _dates(periods: list[list[str]]) -> list[list[str]]:
    return [[text[:10] for text in period] for period in periods]


def _built(project: Project) -> dict[str, str]:
    database = project.path / project.environment()["DBT_DUCK"]
    done = subprocess.run([project.python, "-c", BUILT, str(database)], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _status(run: Run) -> str:
    status: str = run.results[MODEL]["status"]
    return status


def test_a_day_later_the_window_is_that_of_the_first_attempt(days: Project) -> None:
    first = _run(days, broken=" ".join(DAYS))
    assert _status(first) == "error"
    (end,), (window,) = _told(first, "end"), _told(first, "window")
    assert _dates(window) == [[DAYS[0], TOMORROW]]
    assert _told(first, "left") == []  # none has succeeded: dbt's own retry executes all of them, too
    again = _run(days, [{"unique_id": MODEL}], later=1, end=end)
    assert (_status(again), _told(again, "end"), _told(again, "window")) == ("success", [end], [window])
    assert list(_built(days)) == DAYS
    # Without being told it would build the next day, too.
    assert _dates(_told(_run(days, [{"unique_id": MODEL}], later=1), "window")[0])[-1][-1] > TOMORROW


@pytest.mark.parametrize("flags", [(), ("--full-refresh",)], ids=["plain", "full refresh"])
def test_of_a_partial_success_only_the_failed_batches_are_executed_again(days: Project, flags: tuple[str, ...]) -> None:
    first = _run(days, (), *flags, broken=f"{DAYS[1]} {DAYS[2]} {DAYS[4]}")
    assert _status(first) == "partial success"
    (end,), (left,) = _told(first, "end"), _told(first, "left")
    assert _dates(left) == [[DAYS[1], DAYS[3]], [DAYS[4], DAYS[5]]]
    nodes = [{"unique_id": MODEL, "periods": left, "incremental": True}]
    none = _run(days, nodes, *flags, later=1, end=end, broken=f"{DAYS[1]} {DAYS[2]} {DAYS[4]}")
    assert (_status(none), _told(none, "left")) == ("error", [left])
    again = _run(days, nodes, *flags, later=2, end=end, broken=DAYS[4])
    assert _status(again) == "partial success"
    assert _told(again, "window") == [left]
    last = _run(days, [{**nodes[0], "periods": _told(again, "left")[0]}], *flags, later=3, end=end)
    assert _status(last) == "success"
    ids = [run.finished["invocation_id"] for run in (first, again, last)]
    built = dict(zip(DAYS, (ids[0], ids[1], ids[1], ids[0], ids[2], ids[0]), strict=True))
    assert _built(days) == built


def _counted(*runs: Run) -> tuple[int, int, int]:
    attempts = tuple(fold_lines(state=EMPTY, lines=run.lines) for run in runs)
    found = node_view(state=History(attempts=attempts), unique_id=MODEL).batches
    assert found is not None
    return found.succeeded, found.failed, found.total


def test_batches_are_counted_while_they_are_executed_and_over_all_attempts(days: Project) -> None:
    first = _run(days, broken=f"{DAYS[1]} {DAYS[4]}")
    (end,), (left,) = _told(first, "end"), _told(first, "left")
    begins = [at for at, event in enumerate(first.events) if event["info"]["name"] == "LogStartBatch"]
    live = [_counted(replace(first, lines=first.lines[: at + 1])) for at in begins]
    assert live == [(0, 0, 6), (1, 0, 6), (1, 1, 6), (2, 1, 6), (3, 1, 6), (3, 2, 6)]
    assert _counted(first) == (4, 2, 6)
    again = _run(days, [{"unique_id": MODEL, "periods": left, "incremental": True}], end=end, broken=DAYS[4])
    assert _counted(first, again) == (5, 1, 6)
    last = _run(days, [{"unique_id": MODEL, "periods": _told(again, "left")[0], "incremental": True}], end=end)
    assert _counted(first, again, last) == (6, 0, 6)


def test_a_first_execution_that_was_cut_off_is_executed_again_from_its_beginning(days: Project) -> None:
    # The table is there, so that dbt by itself would look back for a day only.
    first = _run(days, broken=DAYS[1])
    (end,), (window,) = _told(first, "end"), _told(first, "window")
    again = _run(days, [{"unique_id": MODEL, "periods": window, "incremental": False}], later=1, end=end)
    assert _status(again) == "success"
    assert _built(days) == dict.fromkeys(DAYS, again.finished["invocation_id"])


def test_projects_without_such_models_are_told_nothing_of_them(project: Project) -> None:
    (project.path / "models" / "mb" / "mb_model.sql").unlink()
    (project.path / "models" / "after_mb.sql").unlink()
    run = project.run("build", "--select", "s_users")
    assert (run.code, run.named("Microbatch")) == (0, [])
