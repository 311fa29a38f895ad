"""What the warehouse was paid for is known when the next attempt is decided on."""

import pytest

from dbt_operator.plan.decisions import billed
from tests.unit.dbt.logs import RunnerLog, model
from tests.unit.plan.story import Story

SHOWN = {"model.shop.orders": "Async", "model.shop.report": "Async", "model.shop.hooked": "dbt"}


def _log() -> RunnerLog:
    told = [{"unique_id": one, "executor": executor, "reason": ""} for one, executor in SHOWN.items()]
    log = RunnerLog().select(*(model(one.rpartition(".")[2]) for one in SHOWN))
    return log.add("Executors", {"part": 1, "parts": 1, "nodes": told})


def test_what_was_executed_without_dbt_counts_over_all_attempts_and_nothing_else() -> None:
    first = _log().run("model.shop.orders", bytes_billed=10).run("model.shop.hooked", bytes_billed=1000)
    second = _log().run("model.shop.orders", "error", bytes_billed=20).start("model.shop.report")
    assert billed([first.state]) == 10
    assert billed([first.state, second.state]) == 30
    assert billed([]) == 0


def test_in_other_modes_there_is_nothing_to_count() -> None:
    assert billed([RunnerLog().select(model("orders")).run("model.shop.orders", bytes_billed=10).state]) == 0


@pytest.mark.parametrize(("budget", "told"), [(True, 10), (False, 0)])
def test_where_there_is_a_budget_the_next_attempt_is_told(budget: bool, told: int) -> None:
    run = Story(model("orders"), model("report"), budget=budget)
    producer = run["Producer"].starts()
    orders, report = run.ids["orders"], run.ids["report"]
    entry = {"unique_id": orders, "executor": "Async", "reason": ""}
    producer.log.add("Executors", {"part": 1, "parts": 1, "nodes": [entry]}, at=run.now)
    result = {"unique_id": orders, "resource_type": "model", "name": "orders", "status": "success", "bytes_billed": 10}
    producer.log.add("NodeResult", result, at=run.now)
    producer.reports(report="running").is_evicted()
    assert run.next() == ["Resume report"]
    assert run["Resume report"].decision.billed == told
    assert report in (run["Resume report"].decision.nodes or ())
