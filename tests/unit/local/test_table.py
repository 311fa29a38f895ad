"""Tables as kubectl prints them."""

from datetime import UTC, datetime

import pytest

from dbt_operator.local import table

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"), (119, "119s"), (120, "2m"), (135, "2m15s"), (601, "10m"), (3600 * 3 + 60, "3h1m"), (3600 * 9, "9h"),
        (86400 * 2, "2d"), (86400 * 3 + 3600, "3d1h"), (86400 * 9, "9d"),
    ],
)  # fmt: skip
def test_ages_are_those_of_kubectl(seconds: float, shown: str) -> None:
    assert table.age(seconds) == shown


def test_kinds_are_called_as_kubectl_knows_them() -> None:
    for word in ("dbtmodels", "dbtmodel", "dbtm", "DbtModel", "dbtmodels.dbt-operator.io"):
        kind = table.kind_of(word)
        assert kind is not None
        assert kind.names["kind"] == "DbtModel"
    assert table.kind_of("pods") is None


def test_a_cell_that_has_no_value_is_empty_and_of_several_keys_the_first_counts() -> None:
    kind = table.kind_of("dbtconnection")
    assert kind is not None
    obj = {
        "metadata": {"name": "warehouse", "creationTimestamp": "2026-11-28T11:59:00Z"},
        "spec": {"type": "snowflake", "fields": {"account": "acme", "database": "d"}},
    }
    assert table.row(kind, obj, wide=False, now=NOW) == ["warehouse", "snowflake", "acme", "60s"]
    assert table.row(kind, {**obj, "spec": {}}, wide=False, now=NOW, prefix=True) == [
        *("dbtconnection.dbt-operator.io/warehouse", "", "", "60s")
    ]


def test_an_object_is_described_with_its_events() -> None:
    event = {"type": "Warning", "reason": "NodeFailed", "message": "no\n", "lastTimestamp": "2026-11-28T11:59:00Z"}
    obj = {
        "apiVersion": "v1",
        "kind": "DbtRun",
        "metadata": {"name": "r"},
        "status": {"startTime": "x", "nodes": {"total": 1}},
    }
    text = table.describe(obj, events=[event])
    assert "  Start Time:  x\n  Nodes:\n    Total:  1\n" in text
    assert "NodeFailed" in text.splitlines()[-1]
    assert table.describe(obj, events=[]).endswith("Events:  <none>\n")
