"""What holds for any log: cut anywhere, doubled, mixed with garbage, read in pieces, read again."""

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.fold import EMPTY, close, fold_lines
from dbt_operator.dbt.lines import LineSplitter
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.dbt.stored import decode, encode
from dbt_operator.dbt.view import affected, node_views, views_of
from dbt_operator.plan.outcome import conclude, ending_of
from tests.unit.dbt.logs import RECORDED, RunnerLog, data_test, ephemeral, folded, model, recorded, unit_test

_ORDER = {NodePhase.PENDING: 0, NodePhase.RUNNING: 1}
_CLOSING = {NodeReason.LOST, NodeReason.CANCELLED}
_GARBAGE = st.one_of(
    st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ")),
    st.sampled_from([b"", b"{", b"null", b'{"info": {"name": "StatsLine"}}', b'{"info":', b"2026-11-20T17:11:13Z x"]),
)


def _runner_log() -> list[bytes]:
    log = RunnerLog().select(
        model("a"), ephemeral("e", "a"), model("b", "e"), model("c", "b"), model("d", "a"), model("f"), model("g", "d"),
        data_test("ta", "a", attached_node="model.shop.a"), data_test("td", "d", "a", attached_node="model.shop.d"),
        unit_test("uf", "model.shop.f"), parts=3,
    )  # fmt: skip
    log.add("Hooks", {"on_run_start": 1, "on_run_end": 2}).add("MemoryPeak", {"peak_memory_bytes": 50_000_000})
    log.run("operation.shop.shop-on-run-start-0").run("model.shop.a").end("model.shop.e", materialized="ephemeral")
    log.start("test.shop.ta", "model.shop.b", "model.shop.d").end("test.shop.ta", "warn", message="Got 2 results")
    log.end("model.shop.b", "error", message="Database Error in model b (models/b.sql)\n  no column x")
    log.add("MemoryPeak", {"peak_memory_bytes": 70_000_000})
    log.end("model.shop.c", "skipped").end("model.shop.d").run("test.shop.td", "fail", message="Got 1 result")
    log.end("model.shop.g", "skipped").run("unit_test.shop.f.uf", "fail").end("model.shop.f", "skipped")
    results = {node.unique_id: node.status for node in folded(log.lines).nodes.values() if node.status}
    return log.digest(results, parts=2).finish(1, results=len(results), peak_memory_bytes=60_000_000).lines


def _cancelled_log() -> list[bytes]:
    log = RunnerLog().select(model("a"), model("b", "a"), model("c", "b")).run("model.shop.a").start("model.shop.b")
    log.add("CancelRequested", {"signal": "SIGTERM"}).add("LogCancelLine", {"conn_name": "model.shop.b"})
    log.end("model.shop.b", "error", message="Interrupted")
    return log.digest({"model.shop.a": "success"}).finish(2, cancelled=True, success=False, results=1).lines


@cache
def _log(name: str) -> list[bytes]:
    return {"runner": _runner_log, "cancelled": _cancelled_log}.get(name, lambda: recorded(name))()


@cache
def _whole(name: str) -> AttemptState:
    return folded(_log(name))


_LOGS = st.sampled_from([*RECORDED, "runner", "cancelled"])
_quick = settings(max_examples=60)


def _not_beyond(state: AttemptState, whole: AttemptState) -> None:
    """Nothing in this state is further than, or other than, what the whole log says."""
    for unique_id, node in state.nodes.items():
        final = whole.nodes[unique_id]
        if node.phase.terminal:
            assert (node.phase, node.status) == (final.phase, final.status)
        else:
            assert _ORDER[node.phase] <= _ORDER.get(final.phase, 2)
    assert state.end_hooks in (None, whole.end_hooks)
    assert (state.peak_memory_bytes or 0) <= (whole.peak_memory_bytes or 0)


@_quick
@given(_LOGS, st.data())
def test_a_log_cut_at_any_byte(name: str, data: st.DataObject) -> None:
    stream, whole = b"\n".join(_log(name)), _whole(name)
    cut = data.draw(st.integers(min_value=0, max_value=len(stream)))
    state = folded(stream[:cut].split(b"\n"))
    _not_beyond(state, whole)
    finals = node_views(state=close(state=whole, ending=ending_of(state=whole, pod=None)))
    for ending in Ending:
        views = node_views(state=close(state=state, ending=ending))
        assert all(view.phase.terminal for view in views.values())
        for unique_id, view in views.items():
            if view.phase is NodePhase.SUCCEEDED and view.executed and view.reason is not NodeReason.NO_OP:
                assert whole.nodes[unique_id].phase is NodePhase.SUCCEEDED
            if view.phase is NodePhase.FAILED and view.reason not in (NodeReason.LOST, NodeReason.TESTS_FAILED):
                assert finals[unique_id].phase in (NodePhase.FAILED, NodePhase.CANCELLED)
    conclude(state=state, pod=None)
    # The rest arrives, from the beginning of the line that was cut, or from anywhere before it.
    again = data.draw(st.integers(min_value=0, max_value=stream[:cut].count(b"\n")))
    assert fold_lines(state=state, lines=_log(name)[again:]) == whole


@_quick
@given(_LOGS, st.data())
def test_a_log_that_is_read_on_from_a_checkpoint(name: str, data: st.DataObject) -> None:
    """The state is stored after any line; reading goes on with that line, or with any one before it."""
    lines = _log(name)
    stored = data.draw(st.integers(min_value=0, max_value=len(lines)))
    again = data.draw(st.integers(min_value=0, max_value=stored))
    state = decode(encode(folded(lines[:stored])))
    assert state is not None
    assert fold_lines(state=state, lines=lines[again:]) == _whole(name)


@_quick
@given(_LOGS, st.integers(min_value=1, max_value=5000))
def test_a_log_read_in_pieces_of_any_size(name: str, size: int) -> None:
    stream, splitter, state = b"\n".join(_log(name)), LineSplitter(), EMPTY
    for start in range(0, len(stream), size):
        state = fold_lines(state=state, lines=splitter.feed(stream[start : start + size]))
    rest = splitter.flush()
    state = fold_lines(state=state, lines=[rest] if rest else [])
    assert state == _whole(name)
    assert (state.events, state.ignored) == (_whole(name).events, _whole(name).ignored)


@_quick
@given(_LOGS, st.data())
def test_lines_that_come_again_later_change_nothing(name: str, data: st.DataObject) -> None:
    lines = _log(name)
    doubled = list(lines)
    for _ in range(data.draw(st.integers(min_value=1, max_value=20))):
        at = data.draw(st.integers(min_value=0, max_value=len(lines) - 1))
        later = data.draw(st.integers(min_value=doubled.index(lines[at]) + 1, max_value=len(doubled)))
        doubled.insert(later, lines[at])
    assert folded(doubled) == _whole(name)


@_quick
@given(_LOGS, st.lists(st.tuples(st.integers(min_value=1, max_value=400), _GARBAGE), max_size=15))
def test_garbage_between_the_lines_changes_nothing(name: str, garbage: list[tuple[int, bytes]]) -> None:
    lines = list(_log(name))
    for at, line in garbage:
        lines.insert(min(at, len(lines)), line)
    assert folded(lines) == _whole(name)


@_quick
@given(_LOGS, st.randoms(use_true_random=False))
def test_lines_out_of_order_end_in_the_same_phases(name: str, shuffled: random.Random) -> None:
    first, *rest = _log(name)
    moved = sorted(enumerate(rest), key=lambda pair: pair[0] + shuffled.uniform(0, 6))
    state, whole = folded([first, *(line for _, line in moved)]), _whole(name)
    assert {one: node.phase for one, node in state.nodes.items()} == {
        one: node.phase for one, node in whole.nodes.items()
    }
    assert conclude(state=state, pod=None).phase == conclude(state=whole, pod=None).phase
    assert (state.end_hooks, state.peak_memory_bytes) == (whole.end_hooks, whole.peak_memory_bytes)


@_quick
@given(_LOGS, st.randoms(use_true_random=False))
def test_any_lost_lines_never_make_a_node_or_the_run_greener(name: str, chance: random.Random) -> None:
    first, *rest = _log(name)
    state, whole = folded([first, *(line for line in rest if chance.random() < 0.8)]), _whole(name)
    state = close(state=state, ending=ending_of(state=state, pod=None))
    for unique_id, view in node_views(state=state).items():
        if view.phase is NodePhase.SUCCEEDED and unique_id in state.nodes and state.nodes[unique_id].status:
            assert whole.nodes[unique_id].phase is NodePhase.SUCCEEDED
    if conclude(state=whole, pod=None).phase != "Succeeded":
        known_to_end_well = not state.failures and state.stats is None and state.finished is None
        assert conclude(state=state, pod=None).phase != "Succeeded" or known_to_end_well


@pytest.mark.parametrize("name", [*RECORDED, "runner", "cancelled"])
def test_phases_only_move_forward_and_changed_views_are_announced(name: str) -> None:
    state, views = EMPTY, dict(node_views(state=EMPTY))
    for line in _log(name):
        following = fold_lines(state=state, lines=[line])
        for unique_id, node in state.nodes.items():
            later = following.nodes[unique_id]
            assert later.phase is node.phase or _ORDER.get(node.phase, 2) < _ORDER.get(later.phase, 2)
        touched = affected(before=state, after=following)
        views |= views_of(state=following, unique_ids=touched)
        assert views == node_views(state=following)
        state = following
    ended = close(state=state, ending=ending_of(state=state, pod=None))
    views |= views_of(state=ended, unique_ids=affected(before=state, after=ended))
    assert views == node_views(state=ended)


@settings(max_examples=20)
@given(st.sampled_from(["runner", "cancelled", "runner_unit_test_fail.jsonl", "unit_test_fail.jsonl"]), st.data())
def test_changed_views_are_announced_in_any_order(name: str, data: st.DataObject) -> None:
    lines = data.draw(st.permutations(_log(name)))
    state, views = EMPTY, dict(node_views(state=EMPTY))
    for line in lines:
        following = fold_lines(state=state, lines=[line])
        views |= views_of(state=following, unique_ids=affected(before=state, after=following))
        assert views == node_views(state=following)
        state = following


@pytest.mark.parametrize("name", [*RECORDED, "runner", "cancelled"])
def test_closing_twice_is_closing_once(name: str) -> None:
    ending = ending_of(state=_whole(name), pod=None)
    once = close(state=_whole(name), ending=ending)
    assert close(state=once, ending=ending) == once
    assert conclude(state=once, pod=None) == conclude(state=_whole(name), pod=None)
    assert affected(before=once, after=once) == frozenset()


def test_folding_nothing_returns_the_same_state() -> None:
    state = _whole("failure.jsonl")
    assert fold_lines(state=state, lines=[]) is state
