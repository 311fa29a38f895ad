"""What uv and pip say when they fail, as one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dbt_operator.runner.steps import StepError

_ERROR = re.compile(r"^\s*(?:error:|ERROR:|\u00d7)\s*|^(?=The virtual environment was not created)")
# How causes are set under their error, and boxes around them.
_CAUSE = re.compile(r"\s*(?:╰─▶|├─▶|[│╰├\u00d7]|(?:cause|Caused by):)\s*")
# pip only warns of an index that does not answer, and then says that there is no such package.
_NO_ANSWER = re.compile(r"Retrying \(Retry\(total=0.*after connection broken by '(.*)': (\S+)$")
_NO_SUCH_PACKAGE = re.compile(r"No matching distribution found for|Could not find a version")
# What may be over when it is tried again: names that are not resolved, connections and answers that do not come.
_PASSING = re.compile(
    r"connection (?:refused|reset|aborted)|time(?:d)?[ -]?out|name resolution|name or service not known|unreachable|"
    r"no route to host|dns error|error sending request|connection broken|server error|"
    r"\b(?:429|500|502|503|504)\b (?:too many|internal|bad gateway|service|gateway|server)",
    re.IGNORECASE,
)
_LONGEST = 1000


def failure(lines: Iterable[str], *, by: str) -> StepError:
    """The error of an installer that has ended with these lines."""
    words, lines = last_words(lines), list(lines)
    silence = next((found for found in map(_NO_ANSWER.search, reversed(lines)) if found), None)
    if silence is not None and _NO_SUCH_PACKAGE.search(words):
        words = f"{words}; the index did not answer for {silence[2]}: {_last_part(silence[1])}"
    words = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
    passing = _PASSING.search(words) is not None
    return StepError(
        f"The packages of spec.environment were not installed by {by}: {words.rstrip('.')}.", passing=passing
    )


def last_words(lines: Iterable[str]) -> str:
    """The last error with what explains it, in one line; without an error, the last line."""
    said = [line for line in lines if line.strip()]
    start = max((number for number, line in enumerate(said) if _ERROR.match(line)), default=len(said) - 1)
    parts = [_CAUSE.sub(": ", line, count=1).strip() for line in said[start:]]
    text = re.sub(r"\s+", " ", " ".join(parts)).replace(" : ", ": ")
    return _ERROR.sub("", text.lstrip(": ")) or "it has said nothing"


def _last_part(error: str) -> str:
    """Of the representation of an exception with other ones in it what the innermost says."""
    return re.split(r">: |\): ", error)[-1].strip("'\")")
