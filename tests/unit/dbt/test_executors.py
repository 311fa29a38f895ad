"""What executes a node of a run with the mode Async."""

import itertools
from typing import Any

from dbt_operator.dbt.stored import decode, encode
from dbt_operator.dbt.view import node_views
from tests.unit.dbt.logs import RunnerLog, folded, model

ORDERS = "model.shop.orders"


def told(executor: str, reason: str = "", unique_id: str = ORDERS) -> dict[str, Any]:
    return {"part": 1, "parts": 1, "nodes": [{"unique_id": unique_id, "executor": executor, "reason": reason}]}


def test_it_is_shown_and_stored_with_the_reason() -> None:
    log = RunnerLog().select(model("orders"), model("others"))
    log.add("Executors", told("Async")).add("Executors", told("dbt", "it has a hook", "model.shop.others"))
    views = node_views(state=log.state)
    assert (views[ORDERS].executor, views[ORDERS].executor_reason) == ("Async", "")
    assert (views["model.shop.others"].executor, views["model.shop.others"].executor_reason) == ("dbt", "it has a hook")
    closed = log.finish(0).closed
    assert decode(encode(closed)) == closed


def test_what_is_given_to_dbt_later_stays_there_in_whichever_order_it_is_read() -> None:
    log = RunnerLog().select(model("orders"))
    log.add("Executors", told("Async")).add("Executors", told("dbt", "it has changed"))
    *before, one, two = log.lines
    for order in itertools.permutations([one, two, one]):
        assert folded([*before, *order]).nodes[ORDERS].executor == "dbt"


def test_without_the_mode_nothing_is_said_of_it() -> None:
    assert node_views(state=RunnerLog().select(model("orders")).state)[ORDERS].executor == ""
