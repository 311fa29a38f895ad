"""Reading single values out of decoded JSON: a value of the wrong type costs that value and nothing else."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite

TEXT_LIMIT = 8 * 1024
IDENTIFIER_LIMIT = 2 * 1024
MESSAGE_LIMIT = 1024

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE = re.compile(r"^[+-]?\d{1,19}$")


def mapping(value: object) -> Mapping[str, object]:
    """The value when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """The value when it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def clean(text: str, *, limit: int = TEXT_LIMIT) -> str:
    """A text fit to be stored and shown: no colours, no control characters, no half characters, not too long."""
    if len(text) <= limit and text.isprintable():  # as nearly all are
        return text
    if len(text) > 2 * limit:  # before the expressions run over it; colours may take a part of it
        text = text[: 2 * limit]
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    text = text.replace("\r\n", "\n")
    if not text.isprintable():
        text = _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))
    return text[:limit]


def text(value: object, *, limit: int = TEXT_LIMIT) -> str:
    """The value as text; numbers are written out, objects and arrays are no text."""
    if isinstance(value, str):
        return clean(value, limit=limit)
    if isinstance(value, bool) or value is None or not isinstance(value, int | float):
        return ""
    if isinstance(value, int) and abs(value) >= 1 << 64:  # writing out huge numbers takes quadratic time, or raises
        return ""
    return str(value)


def identifier(value: object) -> str:
    """The value as a name or id; one of an absurd length is none, as a shortened id would be another node's."""
    found = text(value, limit=IDENTIFIER_LIMIT + 1).strip()
    return found if len(found) <= IDENTIFIER_LIMIT else ""


def integer(value: object) -> int | None:
    """The value as a whole number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and _WHOLE.match(value):
        value = int(value)
    if isinstance(value, float) and isfinite(value) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def count(value: object) -> int | None:
    """The value as a number of things: negative numbers are how some adapters write "unknown"."""
    found = integer(value)
    return found if found is not None and found >= 0 else None


def seconds(value: object) -> float | None:
    """The value as a duration, in microseconds: dbt has no more precise clock, and its further digits cost room."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(float(value), 6) if 0 <= value < 1e12 else None  # false for NaN too


def truth(value: object) -> bool:
    """Whether the value is true; protobuf's JSON leaves false out, so that a missing value is false."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def known_truth(value: object) -> bool | None:
    """Whether the value is true or false, if it is one of them."""
    return value if isinstance(value, bool) else None


def moment(value: object) -> datetime | None:
    """The value as an aware time in UTC; dbt Core writes the times of node_info in UTC without saying so."""
    if not isinstance(value, str) or not 19 <= len(value) <= 40:
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def texts(value: object, *, limit: int = 10_000) -> tuple[str, ...]:
    """The texts of an array."""
    return tuple(found for item in sequence(value)[:limit] if (found := identifier(item)))


def integers(value: object) -> tuple[int, ...]:
    """The whole numbers of an array, from 0."""
    return tuple(found for item in sequence(value)[:1000] if (found := count(item)) is not None)


def shorten(message: str, *, limit: int = MESSAGE_LIMIT) -> str:
    """A message cut to `limit` bytes of UTF-8, with an ellipsis where it was cut."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return message
    return encoded[: limit - 3].decode("utf-8", "ignore").rstrip() + "…"


_HEADING = re.compile(r"^(?:.{0,80} )?(?:Error|Exception)(?: in \S+ .*)?$")


def headline(message: str, *, limit: int = 200) -> str:
    """The one line of an error text that says most: dbt's own first line only repeats which node it is about."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) > 1 and _HEADING.match(lines[0]):
        lines = lines[1:]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = [f"{lines[0]} {lines[1]}"]
    return shorten(lines[0], limit=limit) if lines else ""
