"""One line of a log, however it is damaged, is an event or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.dbt import bodies
from dbt_operator.dbt.decoding import Event, decode
from dbt_operator.dbt.fold import EMPTY, fold
from dbt_operator.dbt.lines import LINE_LIMIT
from tests.unit.dbt.logs import RECORDED, core_line, node_info, recorded

_RESULT = core_line("LogModelResult", {"node_info": node_info("model.a.b", node_status="success"), "status": "OK"})


def _event(line: bytes) -> Event:
    event = decode(line)
    assert event is not None
    return event


@pytest.mark.parametrize(
    "line",
    [
        b"2026-11-20T17:11:13.219457123Z " + _RESULT,
        b"2026-11-20T17:11:13.219457123+01:00 " + _RESULT,
        b"\xef\xbb\xbf" + _RESULT,
        b"\xef\xbb\xbf2026-11-20T17:11:13.219457123Z " + _RESULT,
        b"2026-11-20T17:11:13.219457123Z \xef\xbb\xbf" + _RESULT,
        b"[pod/run-producer-1-x7k2p/dbt] " + _RESULT,
        b"[pod/run-producer-1-x7k2p/dbt] 2026-11-20T17:11:13.219457123Z " + _RESULT,
        _RESULT + b"\r",
        b"  " + _RESULT + b"  \r\n",
    ],
)
def test_what_surrounds_a_line_does_not_matter(line: bytes) -> None:
    assert _event(line) == _event(_RESULT)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"plain text",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"{",
        b"{}",
        b'{"data": {}}',
        b'{"info": null, "data": {}}',
        b'{"info": [], "data": {}}',
        b'{"info": {"name": ""}, "data": {}}',
        b'{"info": {"name": ["LogModelResult"]}, "data": {}}',
        b'{"info": {"name": "X"}} {"info": {"name": "X"}}',
        b"{" * 200_000,
        b'{"a":' * 150_000,
        b'{"info": {"name": "X"}, "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"info": {"name": "' + b"x" * LINE_LIMIT + b'"}}',
        "{}".encode("utf-16"),
        bytes(range(256)),
    ],
)
def test_what_is_no_event_is_none(line: bytes) -> None:
    assert decode(line) is None


def test_numbers_that_json_does_not_have_lose_only_themselves() -> None:
    line = _RESULT.replace(b'"status": "OK"', b'"status": "OK", "execution_time": NaN, "x": [Infinity, -Infinity]')
    body = _event(line).body
    assert isinstance(body, bodies.NodeEnded)
    assert body.status == "success"
    assert body.facts.execution_seconds is None


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    line = _RESULT.replace(b'"OK"', b'"O\xff\xfeK"')
    body = _event(line).body
    assert isinstance(body, bodies.NodeEnded)
    assert body.message == "O\ufffd\ufffdK"


def test_halves_of_characters_do_not_survive() -> None:
    line = _RESULT.replace(b'"OK"', b'"a\\ud800b"')
    body = _event(line).body
    assert isinstance(body, bodies.NodeEnded)
    assert body.message.encode() == "a\ufffdb".encode()


def test_colours_and_control_characters_are_taken_out_of_texts() -> None:
    message = "\x1b[31mBinder\x1b[0m Error\x1b]8;;http://x\x07\x00\x07:\r\n  no\tsuch column\x1b[0m"
    line = core_line("RunResultError", {"node_info": node_info("model.a.b"), "msg": message}, level="error")
    body = _event(line).body
    assert isinstance(body, bodies.NodeMessage)
    assert body.message == "Binder Error:\n  no\tsuch column"


@pytest.mark.parametrize("wrong", [None, 7, 1.5, True, [], {}, "", ["x"], {"a": 1}, 10**400])
@pytest.mark.parametrize("field", ["execution_time", "status", "num_failures", "attached_node", "name", "index"])
def test_a_field_of_the_wrong_type_loses_only_itself(field: str, wrong: object) -> None:
    data = {"node_info": node_info("test.a.b.1", node_status="fail"), "status": "fail", "num_failures": 3}
    event = _event(core_line("LogTestResult", {**data, field: wrong}, level="error"))
    assert isinstance(event.body, bodies.NodeEnded)
    assert event.body.node.unique_id == "test.a.b.1"
    state = fold(state=EMPTY, events=[event])
    assert state.nodes["test.a.b.1"].phase == "Failed"


@pytest.mark.parametrize("wrong", [None, 7, [], "x", {"unique_id": None}, {"unique_id": ["model.a.b"]}])
def test_an_event_about_no_node_changes_no_node(wrong: object) -> None:
    for name in ("LogModelResult", "LogTestResult", "LogStartLine", "SkippingDetails", "NodeFinished", "NodeStart"):
        assert _event(core_line(name, {"node_info": wrong, "status": "success"})).body is None


def test_of_duplicate_keys_the_last_one_counts() -> None:
    line = b'{"info": {"name": "A", "name": "StatsLine"}, "data": {"stats": {"error": 0}, "stats": {"error": 2}}}'
    body = _event(line).body
    assert isinstance(body, bodies.Stats)
    assert body.errors == 2


def test_an_error_count_that_cannot_be_read_is_not_zero() -> None:
    body = _event(core_line("StatsLine", {"stats": {"error": "many", "total": 3}})).body
    assert isinstance(body, bodies.Stats)
    assert body.errors == 1


@pytest.mark.parametrize("ts", ["", "yesterday", 5, None, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_cannot_be_read_is_none(ts: object) -> None:
    assert _event(core_line("StatsLine", {}, ts=ts)).ts is None


@pytest.mark.parametrize("name", RECORDED)
def test_every_line_of_the_recorded_logs_is_an_event(name: str) -> None:
    decoded = [decode(line) for line in recorded(name)]
    assert all(event is not None and event.ts is not None and (event.invocation_id or event.seq) for event in decoded)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_NAMES = [
    "RunnerStarted", "SelectedNodes", "NodeResult", "RunResults", "RunFinished", "MainReportVersion", "ConcurrencyLine",
    "MainEncounteredError", "MainStackTrace", "LogCancelLine", "EndOfRunSummary", "StatsLine", "CommandCompleted",
    "LogModelResult", "LogTestResult", "LogSeedResult", "LogFutureResult", "LogHookEndLine", "SkippingDetails",
    "NodeFinished", "MarkSkippedChildren", "RunResultError", "GenericExceptionOnRun", "Generic", "LogStartLine",
    "NoNodesForSelectionCriteria", "Hooks", "MemoryPeak", "Artifact",
]  # fmt: skip
_KEYS = [
    "node_info", "unique_id", "status", "run_result", "nodes", "results", "part", "parts", "total", "stats", "error",
    "exc", "msg", "exit_code", "success", "conn_name", "version", "execution_time", "node_count", "stack_trace",
    "on_run_end", "peak_memory_bytes", "data", "size", "sha256",
]  # fmt: skip
_LEVELS = st.sampled_from(["info", "warn", "error", "debug", ""])


@given(st.sampled_from(_NAMES), st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=8), _LEVELS, _JSON)
def test_no_content_makes_decoding_or_folding_raise(name: str, data: dict[str, Any], level: str, seq: object) -> None:
    document = {"seq": seq, "info": {"name": name, "level": level, "invocation_id": "i"}, "data": data}
    event = decode(json.dumps(document).encode("utf-8", "surrogatepass"))
    if event is not None:
        fold(state=EMPTY, events=[event])


@given(st.binary(max_size=300))
def test_no_bytes_make_decoding_raise(line: bytes) -> None:
    decode(line)
    decode(b"{" + line)
