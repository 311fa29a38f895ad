"""What dbt found out about the age of a source, from the runner's line to what is shown of the source."""

from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.view import NodeView, node_view
from tests.unit.dbt.logs import RunnerLog

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
