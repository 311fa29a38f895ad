"""A node that takes longer than it may is cancelled in the warehouse, and everything else goes on."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dbt_operator.runner.deadlines import Deadlines
from tests.unit.runner.conftest import Project, Run

THERE = {"SLOW": "yes"}
SLOW = "model.torture.slow_a"
FAST = "model.torture.afterwards"


def overrides(*items: dict[str, Any]) -> list[str]:
    return [f"--overrides={json.dumps(items)}"]


def limited(seconds: int, **criterion: str) -> dict[str, Any]:
    return {"select": [criterion], "activeDeadlineSeconds": seconds}


@pytest.fixture(scope="module")
def late(make_project: Callable[[], Project]) -> Run:
    """A run with a node that is cancelled, one with all the time it wants, and one that needs the first."""
    project = make_project()
    (project.path / "models" / "after_slow.sql").write_text("select * from {{ ref('slow_a') }}")
    (project.path / "models" / "afterwards.sql").write_text("select 1 as id")
    return project.run(
        *("build", "--select", "slow_a+", "afterwards", "--threads=1"),
        options=overrides(limited(3600, name="*"), limited(1, name="slow_*")),
        environment=THERE,
    )


def test_its_query_is_cancelled_and_the_result_says_so(late: Run) -> None:
    result = late.results[SLOW]
    assert (result["status"], result["deadline_seconds"]) == ("error", 1)
    assert "INTERRUPT" in result["message"]  # dbt's own words
    (entry,) = [one for one in late.digest if one["unique_id"] == SLOW]
    assert entry["deadline_seconds"] == 1


def test_the_rest_goes_on_also_on_the_same_thread(late: Run) -> None:
    assert late.finished["exit_code"] == 1
    assert late.results[FAST]["status"] == "success"
    assert "deadline_seconds" not in late.results[FAST]
    assert late.results["model.torture.after_slow"]["status"] == "skipped"
    assert [node["unique_id"] for node in late.digest if "deadline_seconds" in node] == [SLOW]


def test_where_dbt_cannot_cancel_the_query_of_one_node_it_is_said_once(make_project: Callable[[], Project]) -> None:
    project = make_project()
    server = "remote: {host: 127.0.0.1, port: 1, user: dbt}"  # DuckDB as a server: it is not reached, but that is later
    project.edit("profiles.yml", "type: duckdb", f"type: duckdb\n      {server}")
    selection = ("build", "--select", "ok_model", "s_users")
    run = project.run(*selection, options=overrides(limited(1, name="*_*")))
    assert [told["adapter_name"] for told in run.named("DeadlinesIgnored")] == ["duckdb"]
    assert not project.run(*selection, options=overrides(limited(1, name="nothing"))).named("DeadlinesIgnored")


class Warehouse:
    """What a node asks of it is cancelled when that is asked for; `idle` so many times there is nothing to cancel."""

    def __init__(self, *, idle: int = 0) -> None:
        self.asked: list[str] = []
        self.cancelled = threading.Event()
        self._idle = idle

    def cancel(self, unique_id: str) -> bool:
        self.asked.append(unique_id)
        if len(self.asked) <= self._idle:
            return False
        self.cancelled.set()
        return True


def watched(warehouse: Warehouse, *, seconds: float = 0.01) -> Deadlines:
    def warn(message: str) -> None:
        raise AssertionError(message)

    found = Deadlines(cancel=warehouse.cancel, warn=warn)
    found.watch({SLOW: seconds})
    found.saw("NodeCompiling", SLOW)
    return found


def result(status: str, *, ended: datetime) -> dict[str, Any]:
    return {"unique_id": SLOW, "status": status, "completed_at": ended.isoformat().replace("+00:00", "Z")}


@pytest.mark.parametrize(
    ("status", "after", "marked"),
    [
        ("error", timedelta(seconds=1), True),
        ("partial success", timedelta(seconds=1), True),
        ("success", timedelta(seconds=1), False),
        ("error", timedelta(seconds=-5), False),  # it had failed before, and dbt had not said so yet
    ],
)
def test_what_dbt_reports_is_the_truth_also_at_the_moment_of_the_deadline(
    status: str, after: timedelta, *, marked: bool
) -> None:
    warehouse = Warehouse()
    deadlines = watched(warehouse)
    assert warehouse.cancelled.wait(timeout=10)
    told = deadlines.marked(result(status, ended=datetime.now(UTC) + after))
    assert ("deadline_seconds" in told) is marked
    deadlines.over()


def test_it_is_cancelled_again_as_long_as_it_goes_on() -> None:
    warehouse = Warehouse(idle=1)
    deadlines = watched(warehouse)
    assert warehouse.cancelled.wait(timeout=10)
    deadlines.saw("LogModelResult", SLOW)
    deadlines.over()
    assert warehouse.asked[:2] == [SLOW, SLOW]


def test_the_end_of_a_batch_is_not_the_end_of_the_model() -> None:
    warehouse = Warehouse()
    deadlines = watched(warehouse, seconds=0.5)
    for event in ("LogStartBatch", "NodeCompiling", "NodeFinished"):
        deadlines.saw(event, SLOW)
    assert warehouse.cancelled.wait(timeout=10)
    deadlines.over()


def test_what_has_ended_in_time_is_left_alone() -> None:
    warehouse = Warehouse()
    deadlines = Deadlines(cancel=warehouse.cancel, warn=print)
    deadlines.watch({SLOW: 0.3, FAST: 0.6})
    for one in (SLOW, FAST):
        deadlines.saw("NodeCompiling", one)
    deadlines.saw("NodeFinished", SLOW)
    assert warehouse.cancelled.wait(timeout=10)
    assert warehouse.asked == [FAST]
    assert "deadline_seconds" not in deadlines.marked(result("error", ended=datetime.now(UTC)))
    deadlines.over()
