"""What dbt found out about the age of a source, from the runner's line to what is shown of the source."""

from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt import stored
from dbt_operator.dbt.view import NodeView, node_view
from tests.unit.dbt.logs import RunnerLog, model

SOURCE = "source.shop.raw.events"
FOUND = {
    "unique_id": SOURCE,
    "max_loaded_at": "2026-11-20T12:00:00Z",
    "snapshotted_at": "2026-11-20T15:00:00Z",
    "age_seconds": 3 * 3600.0,
    "warn_after": "1 hour",
    "error_after": "2 hours",
}


def shown(status: str, **found: Any) -> NodeView:
    """The source after a run in which dbt gave it this status."""
    listed = {"unique_id": SOURCE, "name": "events", "resource_type": "source", "freshness": True}
    line = {"part": 1, "parts": 1, "total": 1, "nodes": [listed], "command": "source freshness"}
    log = RunnerLog().add("SelectedNodes", line).run(SOURCE, status).add("Freshness", FOUND | found)
    return node_view(state=log.finish(int(status == "error"), results=1).closed, unique_id=SOURCE)


def test_a_source_that_is_too_old_says_how_old_it_is_and_how_old_it_may_be() -> None:
    stale, late = shown("error"), shown("warn")
    assert (stale.phase, stale.reason) == (NodePhase.FAILED, NodeReason.STALE)
    assert stale.message == "Its newest row is of 2026-11-20 12:00:00 UTC, 3 hours ago; it may be 2 hours old."
    assert (late.phase, late.reason) == (NodePhase.SUCCEEDED, NodeReason.WARNED)
    assert late.message == "Its newest row is of 2026-11-20 12:00:00 UTC, 3 hours ago; it may be 1 hour old."
    assert (shown("pass").reason, shown("pass").message) == (NodeReason.SUCCESS, "")


@pytest.mark.parametrize(
    ("seconds", "ago"), [(1, "1 seconds"), (119, "119 seconds"), (7199, "119 minutes"), (200_000, "2 days")]
)
def test_an_age_is_told_in_a_unit_that_fits(seconds: int, ago: str) -> None:
    assert f", {ago} ago;" in shown("error", age_seconds=seconds).message


@pytest.mark.parametrize("wrong", [{"max_loaded_at": "yesterday"}, {"age_seconds": "old"}, {"snapshotted_at": None}])
def test_what_cannot_be_read_of_it_is_left_out_and_the_status_stands(wrong: dict[str, Any]) -> None:
    view = shown("error", **wrong)
    assert (view.reason, view.freshness) == (NodeReason.STALE, None)
    assert view.message == "The newest row is older than the source's freshness criteria allow."


EVENTS = {"unique_id": SOURCE, "name": "events", "resource_type": "source", "freshness": True}
HELD = [{"unique_id": f"model.shop.{name}", "blocked_by": SOURCE, "status": "stale"} for name in ("a", "b")]


def looked(*parts: int, **of_source: str) -> RunnerLog:
    """A build of two models below a source that is stale: so many of the two parts of the decision were printed."""
    log = RunnerLog().select(EVENTS, model("a", SOURCE), model("b", "a"))
    log.run(SOURCE, **({"status": "stale"} | of_source)).add("Freshness", FOUND | {"status": "error"})
    for part in parts:
        log.add("HeldBack", {"part": part, "parts": 2, "total": 2, "nodes": HELD[part - 1 : part]})
    return log


@pytest.mark.parametrize("parts", [(1, 2), (2, 1), (1, 1, 2, 2)])
def test_what_is_held_back_is_skipped_once_all_of_the_decision_was_read(parts: tuple[int, ...]) -> None:
    state = looked(*parts).state
    assert state.looked_at_sources
    for name in ("a", "b"):
        view = node_view(state=state, unique_id=f"model.shop.{name}")
        assert (view.phase, view.reason, view.blocked_by) == (NodePhase.SKIPPED, NodeReason.STALE, SOURCE)
    stored_again = stored.decode(stored.encode(state))
    assert stored_again == state
    half = looked(parts[0]).state
    assert not half.looked_at_sources
    assert node_view(state=half, unique_id="model.shop.a").phase is NodePhase.PENDING
    assert stored.decode(stored.encode(half)) == half


def test_a_stale_source_of_a_build_is_warned_of_with_dbts_own_word_and_its_age() -> None:
    view = node_view(state=looked(1, 2).state, unique_id=SOURCE)
    assert (view.phase, view.reason) == (NodePhase.SUCCEEDED, NodeReason.WARNED)
    assert view.message == "Its newest row is of 2026-11-20 12:00:00 UTC, 3 hours ago; it may be 2 hours old."
    assert view.freshness is not None
    assert (view.freshness.status, view.freshness.warn_after) == ("error", "1 hour")


def test_where_the_decision_was_lost_the_record_at_the_end_tells_it() -> None:
    log = looked()
    log.digest({SOURCE: "stale", "model.shop.a": "stale", "model.shop.b": "stale"}).finish(results=3)
    view = node_view(state=log.closed, unique_id="model.shop.b")
    assert (view.phase, view.reason, view.blocked_by) == (NodePhase.SKIPPED, NodeReason.STALE, None)
    assert view.message == "A source that it depends on is stale."


@pytest.mark.parametrize("wrong", [{"part": 3}, {"nodes": [{"unique_id": "model.shop.a", "status": "success"}]}])
def test_a_decision_that_cannot_be_read_makes_nothing_of_a_node(wrong: dict[str, Any]) -> None:
    log = looked().add("HeldBack", {"part": 1, "parts": 1, "total": 1, "nodes": HELD} | wrong)
    assert node_view(state=log.state, unique_id="model.shop.a").phase is NodePhase.PENDING
