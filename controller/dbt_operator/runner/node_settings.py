"""What the project itself says of a node, in its `meta.dbt_operator`: how it is retried, how long it may take, and what
the pod needs that executes it.

What is wrong is left out and told in a sentence: whoever writes the project is not whoever applies the run, and nothing
that they write here is worth a run.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from dbt_operator.runner.output import Line

Fields = dict[str, Callable[[Any], Any]]
KEY = "dbt_operator"
REASONS = frozenset(("Error", "TestsFailed", "CompileError", "PartialSuccess", "ConnectionFailed", "DeadlineExceeded"))
_DURATION = re.compile(r"^(?=.)(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?$")
_QUANTITY = re.compile(r"^([0-9]{1,15}(?:\.[0-9]{1,9})?)(m|k|[MGTP]|[KMGTP]i)?$")
_SCALES = {"": 1.0, "m": 0.001, "k": 1e3, **{unit: 1e3 ** (at + 2) for at, unit in enumerate("MGTP")}} | {
    f"{unit}i": 1024.0 ** (at + 1) for at, unit in enumerate("KMGTP")
}
_RESOURCE = re.compile(r"^[a-z0-9]([-a-z0-9./]{0,100}[a-z0-9])?$")
_LONGEST = 24 * 3600
_MOST_RESOURCES = 10
_PROBLEM_LENGTH = 300


class WrongError(Exception):
    """A value is of no use; the text says what it has to be."""


def settings_of(meta: Any) -> tuple[Line, str]:
    """What `meta` of a node says for the operator, as it understands it, and what of that it does not."""
    said = meta.get(KEY) if isinstance(meta, Mapping) else None
    if said is None:
        return {}, ""
    if not isinstance(said, Mapping):
        return {}, "it has to be a mapping with retry, timeout or resources"
    read = [(str(key), *_field(key, value)) for key, value in said.items()]
    found = {key: value for key, value, problem in read if not problem}
    problems = "; ".join(problem for _, _, problem in read if problem)
    return found, problems[:_PROBLEM_LENGTH]


def _field(key: Any, value: Any) -> tuple[Any, str]:
    try:
        return _read(_FIELDS, key, value), ""
    except WrongError as error:
        return None, f"{key} {error}"


def _read(fields: Fields, key: Any, value: Any) -> Any:
    if key not in fields:
        raise WrongError(f"is none of {', '.join(fields)}")
    return fields[key](value)


def _mapping(fields: Fields, value: Any) -> Line:
    if not isinstance(value, Mapping):
        raise WrongError(f"has to be a mapping with {', '.join(fields)}")
    found = {}
    for key, each in value.items():
        with _within(key):
            found[str(key)] = _read(fields, key, each)
    return found


@contextlib.contextmanager
def _within(key: Any) -> Iterator[None]:
    try:
        yield
    except WrongError as error:
        raise WrongError(f"has {key}, which {error}") from None


def _seconds(value: Any) -> int:
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is not None:
        hours, minutes, seconds = (int(number or 0) for number in found.groups())
        value = hours * 3600 + minutes * 60 + seconds
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LONGEST:
        raise WrongError("has to be a duration of at least 1s and at most 24h, such as 30s, 10m or 1h30m")
    return value


def _duration(value: Any) -> str:
    return f"{_seconds(value)}s"


def _limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 20:
        raise WrongError("has to be a number from 0 to 20")
    return value


def _factor(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 10:
        raise WrongError("has to be a number from 1 to 10")
    return float(value)


def _reasons(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one in REASONS for one in value):
        raise WrongError(f"has to be a list of {', '.join(sorted(REASONS))}")
    return sorted(set(value))


def _resources(value: Any) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = _mapping({"requests": _quantities, "limits": _quantities}, value)
    limits = found.get("limits", {})
    for name, amount in found.get("requests", {}).items():
        if name in limits and _amount(amount) > _amount(limits[name]):
            raise WrongError(f"has more {name} in requests than in limits")
    return found


def _quantities(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > _MOST_RESOURCES:
        raise WrongError("has to be a mapping of resources, such as {cpu: 500m, memory: 4Gi}")
    found = {}
    for name, each in value.items():
        with _within(name):
            found[str(name)] = _quantity(name, each)
    return found


def _quantity(name: Any, value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not _RESOURCE.match(str(name)) or not _QUANTITY.match(text):
        raise WrongError("has to be a quantity of Kubernetes, such as 500m, 2 or 4Gi")
    return text


def _amount(text: str) -> float:
    found = _QUANTITY.match(text)
    assert found is not None  # noqa: S101 - it was read as one
    return float(found[1]) * _SCALES[found[2] or ""]


_BACKOFF: Fields = {"duration": _duration, "factor": _factor, "max": _duration}
_RETRY: Fields = {
    "limit": _limit,
    "reasons": _reasons,
    "backoff": lambda value: _mapping(_BACKOFF, value),
}
_FIELDS: Fields = {
    "retry": lambda value: _mapping(_RETRY, value),
    "timeout": _seconds,
    "resources": _resources,
}
