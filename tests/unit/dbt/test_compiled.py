"""The compiled code of several attempts in one file, and the lines of a query beside a message."""

import gzip
import random

import pytest

from dbt_operator.dbt import stored
from dbt_operator.dbt.compiled import Code, merged, packed, read
from dbt_operator.dbt.error_texts import cause_of
from dbt_operator.dbt.view import node_views
from tests.unit.dbt.logs import RunnerLog, data_test, model


def codes(*names: str, attempt: int, failed: str = "") -> tuple[Code, ...]:
    return tuple(
        Code(unique_id=f"model.a.{name}", code=f"{name} of {attempt}", failed=name in failed, attempt=attempt)
        for name in names
    )


def test_of_each_node_the_code_of_its_newest_attempt_stands_and_failed_nodes_come_first() -> None:
    first, third = codes("a", "b", "c", attempt=1, failed="c"), codes("c", "d", attempt=3, failed="d")
    both = merged(merged((), first, attempt=1), third, attempt=3)
    assert [(one.unique_id, one.code) for one in both] == [
        ("model.a.d", "d of 3"),
        ("model.a.c", "c of 3"),
        ("model.a.a", "a of 1"),
        ("model.a.b", "b of 1"),
    ]
    # A log that is read once more, or before that of an earlier attempt, changes nothing.
    assert merged(both, first, attempt=1) == both
    assert set(merged(merged((), third, attempt=3), first, attempt=1)) == set(both)


def test_what_does_not_fit_is_left_out_from_the_end_and_nothing_is_cut() -> None:
    chance = random.Random(1)  # noqa: S311 - not for secrets: what cannot be compressed
    many = [Code(unique_id=f"model.a.n{number}", code=chance.randbytes(500).hex()) for number in range(100)]
    huge = Code(unique_id="model.a.huge", code=chance.randbytes(100_000).hex(), failed=True)
    file = packed([huge, *many], limit=20_000)
    assert 10_000 < len(file) <= 20_000
    kept = read(file)
    assert kept == tuple(many[: len(kept)])
    assert read(packed([huge, *many], limit=1 << 20)) == (huge, *many)
    assert read(packed([huge], limit=60)) == ()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no gzip", gzip.compress(b"{}"), gzip.compress(b"[]")[:-4], gzip.compress(b" " * (33 << 20))],
    ids=["none", "empty", "no gzip", "no list", "cut", "too large"],  # a file of gzip's has the time in it
)
def test_a_file_that_is_damaged_has_no_code(content: bytes | None) -> None:
    assert read(content) == ()


EXCERPT = "  1 | select 'connection refused'\n> 2 | fro m y\n  3 | from x"
MESSAGE = "Database Error in model a (models/a.sql)\n  syntax error\n  LINE 2: fro m y"


def failed(*, message: str = MESSAGE, excerpt: str = EXCERPT) -> RunnerLog:
    log = RunnerLog().select(model("a"), data_test("t", "a"))
    log.run("model.shop.a", "error", message=message, excerpt=excerpt)
    return log.run("test.shop.t", "error", message=message, excerpt=excerpt).finish(1)


def test_the_lines_of_the_query_are_shown_with_the_message_and_decide_nothing() -> None:
    state = failed().closed
    view = node_views(state=state)["model.shop.a"]
    assert view.message == f"{MESSAGE}\n\nIn the query:\n{EXCERPT}"
    # What the text of a query says is not what the node failed for.
    assert cause_of(state.nodes["model.shop.a"].message) == "syntax error\nLINE 2: fro m y"
    assert view.tests is not None
    assert view.tests.failing[0].message == MESSAGE


def test_of_a_long_message_and_a_long_excerpt_both_are_shown_and_no_more_than_fits() -> None:
    view = node_views(state=failed(message="m" * 2000, excerpt="> 1 | " + "ä" * 900).closed)["model.shop.a"]
    assert view.message.startswith("m" * 300)
    assert "m…\n\nIn the query:\n> 1 | ä" in view.message
    assert len(view.message.encode()) <= 1024


def test_the_excerpt_is_sealed_with_the_state_and_the_first_to_go_where_there_is_no_room() -> None:
    state = failed().closed
    full = stored.encode(state)
    again = stored.decode(full)
    assert again is not None
    assert again.nodes["model.shop.a"].excerpt == EXCERPT
    shorter = stored.decode(stored.encode(state, limit=len(full) - 1))
    assert shorter is not None
    assert shorter.nodes["model.shop.a"].excerpt == ""
    assert shorter.nodes["model.shop.a"].status == "error"
