"""The variables of a run as dbt's --vars reads them: YAML 1.1, of which JSON is not a part.

Other than in JSON a number needs a point to be one, a character beyond U+FFFF is one escape and not two, and a key is
found only where it is short, or where it is marked as a key.
"""

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

_ESCAPED = re.compile(r"[^ -~]")  # all but printable ASCII, so that no locale matters on the way to dbt
_LONGEST_PLAIN_KEY = 1000  # PyYAML looks no further than 1,024 characters for the colon behind a key


def yaml_text(value: JsonValue) -> str:
    """The value in one line of ASCII that a parser of YAML 1.1 (and of 1.2) reads as what JSON means by it."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {yaml_text(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(yaml_text(each) for each in value) + "]"
    return json.dumps(value)


def _key(text: str) -> str:
    quoted = _quoted(text)
    return quoted if len(quoted) <= _LONGEST_PLAIN_KEY else f"? {quoted}"


def _quoted(text: str) -> str:
    return _ESCAPED.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _number(value: float) -> str:
    digits, exponent, power = repr(value).partition("e")
    return digits + ("" if "." in digits else ".0") + exponent + power
