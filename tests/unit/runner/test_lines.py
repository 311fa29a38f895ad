"""Lines stay readable and small whatever is put into them."""

import ast
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.pods.archive import build_archive
from dbt_operator.runner import graph, main
from dbt_operator.runner.output import LARGEST_LINE, encode

_texts = st.text() | st.integers(0, 20_000).map(lambda length: "ä😀\\\x00\u2028" * (length // 5))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=200) | st.dictionaries(st.text(max_size=30), inner, max_size=20),
    max_leaves=60,
)


@given(data=st.dictionaries(st.text(max_size=30), _json, max_size=10), msg=_texts)
def test_any_event_is_one_line_of_valid_json(data: dict[str, object], msg: str) -> None:
    line = encode({"seq": 1, "info": {"name": "X", "msg": msg}, "data": data})
    assert len(line) <= LARGEST_LINE
    assert line.count(b"\n") == 1
    assert json.loads(line)["seq"] == 1
    text = line.decode()
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in text[:-1])


def test_identity_survives_the_shortening_of_an_event() -> None:
    node = {"unique_id": "model.a.b", "materialized": "table"}
    data = {"node_info": node, "many": [str(number) for number in range(5000)], "status": "error", "text": "x" * 20_000}
    assert json.loads(encode({"seq": 1, "info": {"name": "X", "msg": ""}, "data": data}))["data"]["node_info"] == node


def _node(unique_id: str, **more: object) -> dict[str, object]:
    empty = {"resource_type": "model", "materialized": "table", "depends_on": [], "tags": []}
    return {"unique_id": unique_id, "name": unique_id, **empty, **more}


def test_what_is_called_like_the_identity_and_is_none_is_no_reason_to_print_nothing() -> None:
    data = {"node_info": True, "many": ["x" * 100] * 500, "status": "error"}
    assert json.loads(encode({"seq": 1, "info": {"name": "X", "msg": ""}, "data": data}))["data"]["status"] == "error"


def test_graph_of_any_size_is_split_into_lines() -> None:
    many = [f"model.shop.a_rather_long_name_of_a_model_{number}" for number in range(2000)]
    nodes = [_node(many[0]), _node("model.shop.wide", depends_on=many, tags=["x"] * 10), _node(many[1])]
    parts = graph.parts(items=nodes, key="nodes", split=graph.split_node)
    assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert {(part["parts"], part["total"]) for part in parts} == {(len(parts), 3)}
    envelope = {"name": "SelectedNodes", "level": "info", "ts": "2026-11-20T17:11:13.219457Z", "msg": ""}
    for part in parts:
        assert json.loads(encode({"seq": 10**9, "info": envelope, "data": part}))["data"] == part
    wide = [node for part in parts for node in part["nodes"] if node["unique_id"] == "model.shop.wide"]
    assert [parent for node in wide for parent in node["depends_on"]] == many


def test_archive_is_the_same_each_time_and_small() -> None:
    build_archive.cache_clear()
    first = build_archive()
    build_archive.cache_clear()
    assert first == build_archive()
    assert len(first) < 200_000


def test_runner_is_written_for_python_3_9() -> None:
    for source in Path(main.__file__).parent.glob("*.py"):
        ast.parse(source.read_text(), feature_version=(3, 9))
