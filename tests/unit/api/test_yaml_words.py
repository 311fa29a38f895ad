"""No word of the API changes its meaning when a person writes it in YAML without quotes.

YAML 1.1, which kubectl reads, takes a plain `on` for the boolean true. As the name of a field it arrives as "true", and
is refused or, by tools that do not validate strictly, dropped without a word.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

import dbt_operator.api
from dbt_operator.api import names
from dbt_operator.api.conditions import ConditionStatus

CHECKOUT = Path(__file__).resolve().parents[3]

# https://yaml.org/type/bool.html and https://yaml.org/type/null.html, in lower case. PyYAML does not know y and n.
NOT_TEXT = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null", "~", ""})
# Kubernetes' own words in its own type, which the operator writes and nobody else.
CONDITION_STATUSES = frozenset(ConditionStatus)


def changes(word: str) -> bool:
    """Whether YAML 1.1 reads a plain scalar as anything but this text: a boolean, a null, a number or a date."""
    return word.lower() in NOT_TEXT or yaml.safe_load(word) != word


def of_schema(schema: Any) -> Iterator[str]:
    """What a person writes or reads below a schema: the names of fields, the values to choose from, and defaults."""
    for name, field in schema.get("properties", {}).items():
        yield str(name)
        yield from of_schema(field)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from of_schema(schema[key])
    choices = schema.get("enum", ())
    yield from () if set(choices) == CONDITION_STATUSES else (str(each) for each in choices)
    yield from texts(schema.get("default"))


def texts(value: Any) -> Iterator[str]:
    """The texts of a value, also those that are keys."""
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                yield str(key)
                yield from texts(each)
        case list():
            for each in value:
                yield from texts(each)


def of_crd(plural: str) -> Iterator[str]:
    """The names of a resource and of its versions, and the words of its schema."""
    spec = yaml.safe_load((CHECKOUT / "crds" / f"{plural}.yaml").read_text())["spec"]
    yield from (spec["group"], *texts(spec["names"]))
    for version in spec["versions"]:
        yield version["name"]
        yield from of_schema(version["schema"]["openAPIV3Schema"])


def of_chart() -> Iterator[str]:
    """The values of the chart, which administrators write."""
    return of_schema(json.loads((CHECKOUT / "charts" / "dbt-operator" / "values.schema.json").read_text()))


def of_code() -> Iterator[str]:
    """The closed lists, such as phases and reasons, and the keys of labels and annotations."""
    for module in pkgutil.iter_modules(dbt_operator.api.__path__, "dbt_operator.api."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and issubclass(one, StrEnum) and one is not ConditionStatus:
                yield from one
    for name, one in vars(names).items():
        if name.startswith(("LABEL_", "ANNOTATION_")) and isinstance(one, str):
            yield one


@pytest.mark.parametrize(
    ("words", "one_of_them"),
    [
        (of_crd("dbtruns"), "concurrencyPolicy"),
        (of_crd("dbtmodels"), "Succeeded"),
        (of_chart(), "watchNamespaces"),
        (of_code(), "NodesFailed"),
    ],
    ids=["DbtRun", "DbtModel", "chart", "code"],
)
def test_every_word_is_what_it_looks_like_without_quotes(words: Iterator[str], one_of_them: str) -> None:
    found = set(words)
    assert one_of_them in found
    assert not sorted(word for word in found if changes(word))


@pytest.mark.parametrize("word", ["on", "Off", "y", "N", "YES", "~", "Null", "1.5", "2026-11-20", "0x1f", "1:30"])
def test_what_yaml_reads_as_something_else_is_known(word: str) -> None:
    assert changes(word)
