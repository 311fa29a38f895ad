"""What the demo shows of a run, and when it calls a run as it should be."""

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from dbt_operator.local import render
from dbt_operator.local.picture import Node, Picture, Run, graph_order, see
from dev.demo.expectation import Expectation, differences

NOW = datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC)
RUN = Run(name="shop", uid="u1")
ERROR = "Runtime Error in model sales (models/sales.sql)\n  Binder Error: no column price\n  LINE 1: select price"
EXPECTED = Expectation(phase="Failed", failed={"sales": "no column price"}, blocked={"report": "sales"})


def model(name: str, *, uid: str = "u1", parents: tuple[str, ...] = (), **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"shop.{name}", "ownerReferences": [{"uid": uid}]},
        "spec": {
            "uniqueId": f"model.shop.{name}",
            "name": name,
            "resourceType": "model",
            "dependsOn": [f"model.shop.{parent}" for parent in parents],
        },
        "status": status,
    }


def picture_of(*models: dict[str, Any], run: Run = RUN) -> Picture:
    picture = Picture(run=run)
    for document in models:
        picture = see(picture, kind="DbtModel", document=document)
    return picture


def broken_picture() -> Picture:
    return picture_of(
        model("orders", phase="Succeeded", tests={"total": 1, "passed": 1, "summary": "1/1"}, executionSeconds=0.25),
        model("sales", parents=("orders",), phase="Failed", reason="Error", message=ERROR),
        model("report", parents=("sales",), phase="Skipped", blockedBy="model.shop.sales"),
        run=replace(RUN, phase="Failed", reason="NodesFailed", message="1 of 3 nodes failed."),
    )


def text_of(picture: Picture, *, width: int = 100, height: int | None = None) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(render.screen(picture, elapsed=12.3, now=NOW, height=height))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_nodes_come_in_the_order_of_the_graph() -> None:
    picture = picture_of(model("c", parents=("b",)), model("b", parents=("a",)), model("z"), model("a"))
    assert [node.name for node in graph_order(picture.nodes)] == ["a", "z", "b", "c"]


def test_what_an_older_run_of_the_same_name_left_is_not_shown() -> None:
    picture = picture_of(model("orders", uid="u0", phase="Succeeded"))
    old = {"metadata": {"name": "shop", "uid": "u0"}, "status": {"phase": "Succeeded"}}
    picture = see(picture, kind="DbtRun", document=old)
    assert not picture.nodes
    assert not picture.complete


def test_the_table_shows_the_error_and_who_is_blocked_by_whom() -> None:
    text = text_of(broken_picture())
    assert "shop  Failed · NodesFailed  12.3s" in text
    assert "Binder Error: no column price" in text
    assert "blocked by sales" in text
    assert "1/1" in text
    assert "3/3 nodes" in text


def test_a_narrow_terminal_shortens_messages_only() -> None:
    text = text_of(broken_picture(), width=62)
    assert all(word in text for word in ("Succeeded", "TESTS", "1/1", "SECONDS", "0.25", "Binder"))
    assert "no column price" not in text


def test_a_low_terminal_keeps_what_is_at_work_or_went_wrong() -> None:
    nodes = [model(f"a{i:02}", phase="Succeeded") for i in range(20)]
    nodes += [
        model("busy", phase="Running", startedAt="2026-01-01T12:00:05Z"),
        model("wrong", phase="Failed", message="x"),
    ]
    text = text_of(picture_of(*nodes), height=14)
    assert len(text.splitlines()) < 14
    assert "16 more that succeeded" in text
    assert "5.0" in next(line for line in text.splitlines() if "busy" in line)
    assert "wrong" in text


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_line_says_that_a_node_has_ended_once_all_of_it_is_known(phase: str) -> None:
    tests = {"total": 2, "passed": 2, "summary": "2/2"}
    bare = picture_of(model("orders", phase=phase, tests={"total": 2, "passed": 1, "summary": "1/2"}))
    full = picture_of(model("orders", phase=phase, message=ERROR, executionSeconds=0.42, tests=tests))
    lines = [*render.change_lines(Picture(run=RUN), bare, elapsed=1), *render.change_lines(bare, full, elapsed=2)]
    ends = [line for line in lines if phase in line]
    assert len(ends) == 1
    assert "orders  tests 2/2  0.4s" in ends[0]


def test_a_picture_as_expected_has_no_differences() -> None:
    assert differences(broken_picture(), expected=EXPECTED) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sales": {"message": "out of memory"}}, "The message of sales does not contain 'no column price'"),
        ({"report": {"blocked_by": "model.shop.orders"}}, "report is blocked by orders, not by sales."),
        ({"report": {"phase": "Succeeded"}}, "report is Succeeded, not Skipped"),
        ({"orders": {"phase": "Failed", "message": "disk full"}}, "orders is Failed, not Succeeded: disk full"),
    ],
)
def test_each_difference_is_said(change: dict[str, dict[str, str]], said: str) -> None:
    picture = broken_picture()
    nodes: dict[str, Node] = {key: replace(node, **change.get(node.name, {})) for key, node in picture.nodes.items()}  # type: ignore[arg-type]  # all strings
    (found,) = differences(replace(picture, nodes=nodes), expected=EXPECTED)
    assert said in found


def test_a_run_without_nodes_is_never_as_expected() -> None:
    picture = Picture(run=replace(RUN, phase="Succeeded"))
    assert differences(picture, expected=Expectation(phase="Succeeded")) == ["The run shop has no DbtModels."]
