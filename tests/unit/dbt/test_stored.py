"""The state of an attempt as it is stored: nothing that anybody reads of it is lost, and it fits."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_operator.api.commands import Command
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.dbt import stored
from dbt_operator.dbt.fold import EMPTY, close, fold_lines
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.dbt.stored import decode, encode
from dbt_operator.dbt.view import node_views
from dbt_operator.plan.outcome import conclude
from tests.unit.dbt.logs import RECORDED, RunnerLog, closed, data_test, folded, model, recorded

LIMIT = 900 * 1024


def _cancelled() -> AttemptState:
    log = RunnerLog().add("Hooks", {"on_run_start": 0, "on_run_end": 1}).select(model("a"), model("b", "a"), model("c"))
    log.run("model.shop.a").start("model.shop.b", "model.shop.c").add("CancelRequested", {"signal": "SIGTERM"})
    log.add("LogCancelLine", {"conn_name": "model.shop.b"}).end("model.shop.b", "error", message="Interrupted")
    return close(state=log.state, ending=Ending.CANCELLED)


def _doubtful() -> AttemptState:
    """dbt's word that all is well, and a result that says otherwise."""
    log = RunnerLog().select(model("a"), data_test("t", "a", attached_node="model.shop.a")).run("model.shop.a")
    return log.run("test.shop.t", "fail").finish(0).closed


@cache
def _state(name: str) -> AttemptState:
    special = {"cancelled": _cancelled, "doubtful": _doubtful}
    return special[name]() if name in special else closed(recorded(name))


def _restored(state: AttemptState) -> AttemptState:
    restored = decode(encode(state))
    assert restored is not None
    return restored


_STATES = [*RECORDED, "cancelled", "doubtful"]


@pytest.mark.parametrize("name", _STATES)
def test_an_ended_attempt_is_what_it_was(name: str) -> None:
    state = _state(name)
    restored = _restored(state)
    # Only what further lines would need is gone.
    assert restored == replace(state, digest_parts={}, graph_parts={})
    assert (restored.events, restored.ignored) == (state.events, state.ignored)
    assert list(restored.nodes) == list(state.nodes)
    views = node_views(state=state)
    assert list(node_views(state=restored).items()) == list(views.items())
    assert conclude(state=restored, pod=None) == conclude(state=state, pod=None)
    assert encode(restored) == encode(state)


@settings(max_examples=80)
@given(st.sampled_from(RECORDED), st.data())
def test_an_attempt_that_goes_on_goes_on_where_it_was(name: str, data: st.DataObject) -> None:
    lines = recorded(name)
    cut = data.draw(st.integers(min_value=0, max_value=len(lines)))
    state = folded(lines[:cut])
    restored = _restored(state)
    assert restored == state
    assert list(node_views(state=restored).items()) == list(node_views(state=state).items())
    assert fold_lines(state=restored, lines=lines[cut:]) == folded(lines)
    for ending in Ending:
        ended = close(state=state, ending=ending)
        assert node_views(state=_restored(ended)) == node_views(state=ended)
        assert conclude(state=_restored(ended), pod=None) == conclude(state=ended, pod=None)


def test_graphs_and_digests_that_are_still_arriving_are_kept() -> None:
    log = RunnerLog().select(model("a"), model("b", "a"), model("c"), parts=3)
    del log.lines[2]
    log.run("model.shop.a").digest({"model.shop.a": "success", "model.shop.b": "error"}, parts=2)
    assert len(log.state.graph_parts) == len(log.state.digest_parts) == 2
    assert _restored(log.state) == log.state


@pytest.mark.parametrize("state", [EMPTY, _doubtful(), close(state=EMPTY, ending=Ending.LOST)])
def test_what_cannot_be_read_is_nothing(state: AttemptState) -> None:
    data = encode(state)
    assert all(decode(data[:cut]) is None for cut in range(len(data)))
    document = json.loads(gzip.decompress(data))
    damages: list[dict[str, object]] = [
        {"format": 3},
        {"format": "1"},
        {"state": []},
        {"state": {"finished": 1}},
        {"state": {"source": "elsewhere"}},
        {"nodes": None},
        {"nodes": {"unique_id": ["model.a.b"], "phase": []}},
        {"nodes": {"unique_id": ["model.a.b"], "phase": ["Sleeping"]}},
        {"nodes": {"name": ["b"]}},
        {"graph": {"unique_id": [7]}},
    ]
    for damage in damages:
        assert decode(gzip.compress(json.dumps({**document, **damage}).encode())) is None
    for nothing in (b"[1]", b"", b"\xff", b"[" * 100_000, b'{"format": 3, "nodes": 5}'):
        assert decode(gzip.compress(nothing)) is None
    assert decode(gzip.compress(json.dumps({**document, "later": 1}).encode())) == decode(data)


def test_a_small_file_that_unpacks_to_a_huge_one_is_not_read() -> None:
    document = gzip.decompress(encode(EMPTY))
    assert decode(gzip.compress(document + b" " * 1000)) == EMPTY
    assert decode(gzip.compress(document + b" " * (65 << 20), compresslevel=1)) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_raise(data: bytes) -> None:
    assert decode(data) is None
    assert decode(gzip.compress(data)) is None


def _forms(state: AttemptState) -> Iterator[AttemptState]:
    """The state in its poorer and poorer forms."""
    size = len(encode(state))
    while True:
        data = encode(state, limit=size - 1)
        restored = decode(data)
        assert restored is not None
        yield restored
        if len(data) >= size:
            return
        size = len(data)


@pytest.mark.parametrize("name", _STATES)
def test_no_form_is_greener_than_what_was(name: str) -> None:
    state = _state(name)
    views, outcome = node_views(state=state), conclude(state=state, pod=None)
    for form in _forms(state):
        for unique_id, view in node_views(state=form).items():
            assert view.phase is views[unique_id].phase
            # Why dbt skipped a node is in the graph only.
            assert view.reason is views[unique_id].reason or (form.graph is None and view.phase is NodePhase.SKIPPED)
        assert form.failures == state.failures
        phase = conclude(state=form, pod=None).phase
        assert phase is outcome.phase or RunPhase.SUCCEEDED not in (phase, outcome.phase)


def _large(*, message: str, models: int = 1500) -> AttemptState:
    """An attempt of so many models with a test each, each of which failed."""
    count = range(models)
    tests = [data_test(f"t{n}", f"m{n}", attached_node=f"model.shop.m{n}", tags=["nightly"]) for n in count]
    built = [model(f"m{n}", *(f"m{at}" for at in range(n // 2, n // 2 + min(n, 3)) if at < n)) for n in count]
    nodes = [*built, *tests]
    log = RunnerLog().select(*nodes, parts=100)
    for n, node in enumerate(nodes):
        log.run(
            node["unique_id"],
            "error",
            message=f"{n} {message}" if message else "",
            started_at=f"2026-11-20T17:10:{n % 60:02d}.{n * 331 % 10**6:06d}Z",
            completed_at=f"2026-11-20T17:20:{n % 60:02d}.{n * 773 % 10**6:06d}Z",
            execution_time=n / 7,
            rows_affected=n * 991,
        )
    return log.finish(1).closed


def _text(size: int) -> str:
    """A text that compresses badly."""
    return "".join(chr(0x4E00 + n * n * 7919 % 20011) for n in range(size // 3))


@pytest.mark.parametrize("name", _STATES)
def test_the_form_for_very_many_nodes_says_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_MANY", 0)
    lines = [] if name in ("cancelled", "doubtful") else recorded(name)
    cuts = [folded(lines[:cut]) for cut in range(0, len(lines) + 1, 1 + len(lines) // 20)]
    for state in [*cuts, replace(_state(name), digest_parts={}, graph_parts={})]:
        restored = decode(encode(state))
        assert restored == state
        assert list(restored.nodes) == list(state.nodes)


def test_a_node_that_the_graph_does_not_have_is_stored_beside_those_of_very_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored, "_MANY", 0)
    log = RunnerLog().select(model("a"), model("b", "a", "gone"), model("e"))
    log.run("model.shop.late").run("model.shop.b", materialized="view").run("model.shop.a")
    assert _restored(log.state) == log.state


def test_what_is_stored_of_very_many_nodes_and_damaged_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_MANY", 0)
    document = json.loads(gzip.decompress(encode(_doubtful())))
    damages: list[dict[str, dict[str, object]]] = [
        {"nodes": {"unique_id": [1]}},
        {"nodes": {"unique_id": [99, 1]}},
        {"nodes": {"attached_node": [None, 99]}},
        {"nodes": {"ended_ts": ["now", 1]}},
        {"nodes": {"ended_ts": [1 << 90, 1]}},
        {"graph": {"unique_id": [1, 2]}},
        {"graph": {"depends_on": [None, [99]]}},
        {"graph": {"name": ["a"]}},
    ]
    for damage in damages:
        ((table, columns),) = damage.items()
        damaged = {**document, table: document[table] | columns}
        assert decode(gzip.compress(json.dumps(damaged).encode())) is None


def test_thousands_of_nodes_fit() -> None:
    state = _large(message="", models=6000)
    data = encode(state, limit=LIMIT)
    assert len(data) <= LIMIT
    assert decode(data) == replace(state, digest_parts={})


def test_messages_are_shortened_where_they_would_take_too_much() -> None:
    state = _large(message=_text(1000))
    limit = len(encode(state)) // 2
    data = encode(state, limit=limit)
    restored = decode(data)
    assert len(data) <= limit
    assert restored is not None
    assert restored.graph == state.graph
    for unique_id, node in state.nodes.items():
        kept = restored.nodes[unique_id]
        assert node.message.startswith(kept.message.rstrip("…"))
        assert 30 < len(kept.message.encode()) <= 200
        assert (kept.phase, kept.status) == (node.phase, node.status)


def test_a_tight_limit_leaves_a_few_of_the_nodes_that_failed() -> None:
    state = _large(message="x")
    restored = decode(encode(state, limit=1))
    assert restored is not None
    assert restored.graph is None
    assert 0 < len(restored.nodes) < len(state.nodes)
    assert restored.failures == frozenset(restored.nodes)
    assert conclude(state=restored, pod=None).phase is RunPhase.FAILED


def test_the_few_that_are_left_are_those_that_failed() -> None:
    log = RunnerLog().select(*(model(f"m{n}") for n in range(2000)), parts=100)
    for n in range(2000):
        log.end(f"model.shop.m{n}", "error" if n % 500 == 499 else "skipped")
    state = log.finish(1).closed
    restored = decode(encode(state, limit=1))
    assert restored is not None
    assert restored.failures == state.failures
    assert len(restored.nodes) == 1000


@pytest.mark.parametrize("command", Command)
def test_what_an_attempt_executes_is_remembered_with_its_command(command: Command) -> None:
    listed = [{**model("a"), "selected": command is not Command.TEST}]
    line = {"part": 1, "parts": 1, "total": 1, "nodes": listed, "command": command.rules.words}
    restored = _restored(RunnerLog().add("SelectedNodes", line).state)
    assert restored.graph is not None
    assert restored.graph.command is command


def test_what_is_executed_in_a_later_stage_is_remembered() -> None:
    listed = [model("a"), data_test("t", "a")]
    line = {"part": 1, "parts": 1, "total": 2, "nodes": listed, "command": "build", "tests": "AfterAll"}
    state = RunnerLog().add("SelectedNodes", line).state
    assert list(state.nodes) == ["model.shop.a"]
    restored = _restored(state)
    assert restored.graph is not None
    assert restored.graph.later() == {"test.shop.t"}
