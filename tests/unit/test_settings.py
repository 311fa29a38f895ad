"""Settings come from the environment, as the chart sets it, and a wrong one is named."""

import re

import pytest

from dbt_operator.settings import InvalidSettings, load_settings


def test_without_any_variable_all_namespaces_are_watched() -> None:
    assert load_settings().watch_namespaces == ()


def test_namespaces_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_OPERATOR_WATCH_NAMESPACES", " analytics, finance,,analytics")
    assert load_settings().watch_namespaces == ("analytics", "finance")


def test_an_empty_variable_of_the_chart_means_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_OPERATOR_WATCH_NAMESPACES", "")
    assert load_settings().watch_namespaces == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROBE_PORT", "soon"),
        ("DEFAULTS", "{image: a"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DBT_OPERATOR_{name}", value)
    with pytest.raises(
        InvalidSettings, match=rf"^The environment variable DBT_OPERATOR_{name} is wrong: .*{re.escape(repr(value))}\.$"
    ):
        load_settings()
