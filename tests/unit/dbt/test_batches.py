"""The batches of a microbatch model, as they are counted while dbt executes them, and over several attempts."""

import pytest

from dbt_operator.dbt import stored
from dbt_operator.dbt.batches import BatchCounts
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import node_view
from tests.unit.dbt.logs import RunnerLog, closed, folded, model, node_info, recorded

DAYS = "model.shop.days"


def _log() -> RunnerLog:
    return RunnerLog().select(model("days", materialized="incremental")).start(DAYS)


def _info(status: str) -> dict[str, object]:
    return node_info(DAYS, materialized="incremental", node_status=status)


def _begins(log: RunnerLog, number: int, *, of: int) -> RunnerLog:
    data = {"node_info": _info("started"), "batch_index": number, "total_batches": of}
    return log.add("LogStartBatch", data)


def _ends(log: RunnerLog, number: int, status: str, *, of: int) -> RunnerLog:
    """As dbt says it: node_info does not know of a skipped one, and the status of a good one is the warehouse's."""
    said = {"success": "MERGE 1"}.get(status, status)
    node = _info("started" if status == "skipped" else status)
    data = {"node_info": node, "batch_index": number, "total_batches": of, "status": said}
    return log.add("LogBatchResult", data, level="error" if status == "error" else "info")


def _counts(*logs: RunnerLog) -> BatchCounts | None:
    return node_view(state=History(attempts=tuple(log.state for log in logs)), unique_id=DAYS).batches


def test_batches_are_counted_as_they_end() -> None:
    log = _log()
    assert _counts(log) is None
    assert _counts(_begins(log, 1, of=4)) == BatchCounts(total=4, succeeded=0, failed=0)
    assert _counts(_ends(log, 1, "success", of=4)) == BatchCounts(total=4, succeeded=1, failed=0)
    _ends(_begins(log, 3, of=4), 3, "error", of=4)  # two at a time, and not in their order
    assert _counts(_ends(_begins(log, 2, of=4), 2, "success", of=4)) == BatchCounts(total=4, succeeded=2, failed=1)
    _ends(log, 4, "skipped", of=4).end(DAYS, "partial success").finish(1)
    assert _counts(log) == BatchCounts(total=4, succeeded=2, failed=1)
    assert folded([*log.lines, *log.lines]).nodes == log.state.nodes


def test_a_retry_goes_on_counting_where_the_attempt_before_it_ended() -> None:
    first = _log()
    for number, status in enumerate(("success", "error", "success", "error", "success"), start=1):
        _ends(first, number, status, of=5)
    first.end(DAYS, "partial success").finish(1)
    retry = _ends(_begins(_log(), 1, of=2), 1, "success", of=2)
    assert _counts(first, retry) == BatchCounts(total=5, succeeded=4, failed=0)
    _ends(retry, 2, "error", of=2).end(DAYS, "partial success").finish(1)
    assert _counts(first, retry) == BatchCounts(total=5, succeeded=4, failed=1)
    last = _ends(_begins(_log(), 1, of=1), 1, "success", of=1).end(DAYS).finish()
    assert _counts(first, retry, last) == BatchCounts(total=5, succeeded=5, failed=0)


def test_an_attempt_that_executes_all_of_them_counts_anew() -> None:
    lost = _ends(_begins(_log(), 1, of=3), 1, "success", of=3)
    assert _counts(lost, _begins(_log(), 1, of=3)) == BatchCounts(total=3, succeeded=0, failed=0)


def test_a_node_that_waits_for_its_retry_has_no_count_yet() -> None:
    first = _ends(_log(), 1, "error", of=1).end(DAYS, "error").finish(1)
    history = History(attempts=(first.closed,), pending=frozenset({DAYS}))
    assert node_view(state=history, unique_id=DAYS).batches is None


@pytest.mark.parametrize(("number", "of"), [(0, 3), (4, 3), (1, 10**9), ("x", 3)])
def test_numbers_that_cannot_be_are_not_counted(number: int, of: int) -> None:
    assert _counts(_begins(_log(), number, of=of)) is None


def test_hundreds_of_batches_are_stored_with_the_state_of_the_attempt() -> None:
    log = _log()
    for number in range(1, 401):
        _ends(log, number, "error" if number == 70 else "success", of=400)
    again = stored.decode(stored.encode(log.state))
    assert again is not None
    assert again.nodes == log.state.nodes
    assert node_view(state=again, unique_id=DAYS).batches == BatchCounts(total=400, succeeded=399, failed=1)


def test_batches_of_the_command_line_are_read_as_well() -> None:
    view = node_view(state=closed(recorded("microbatch_partial.jsonl")), unique_id="model.torture.mb_model")
    assert view.batches == BatchCounts(total=4, succeeded=3, failed=1)
