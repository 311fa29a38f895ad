"""What is wrong with a spec, in a sentence that names the field."""

from collections.abc import Callable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dbt_operator.api.strict import shown


class InvalidSpec(Exception):  # noqa: N818 - called as the run's reason is
    """The spec of an object cannot be used; the text is a sentence for `status.message`."""


Path = tuple[int | str, ...]
"""Where a value is in a spec: the names of fields, and places in lists."""


def in_the_run(path: Path) -> str:
    """What a field of a run's own spec is called."""
    return f"spec{dotted(path)}"


def dotted(path: Path) -> str:
    """A path as people write it, such as .retry.reasons[1]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def sentence_of(error: ValidationError, *, called: Callable[[Path], str] = in_the_run) -> str:
    """The sentence. called: what to call a field, for whoever has written it."""
    problems = error.errors(include_url=False, include_context=True)
    others = ", ".join(called(problem["loc"]) for problem in problems[1:6])
    sentence = _sentence(problems[0], field=called(problems[0]["loc"]))
    return sentence + (f" Wrong as well: {others}." if others else "")


def _sentence(problem: ErrorDetails, *, field: str) -> str:
    match problem["type"]:
        case "missing" if len(problem["loc"]) == 1:
            return f"{field} is required, as no defaults give it."
        case "missing":
            return f"{field} is required."
        case "extra_forbidden":
            return f"{field} is not a field that this version of the operator knows."
        case "string_too_long" | "too_long":
            return f"{field} is too long: {_too_long(problem)}."
        case "value_error":
            return f"{field}: {problem['msg'].removeprefix('Value error, ')}."
        case _:
            what = problem["msg"][:1].lower() + problem["msg"][1:]
            for word, meant in _PYTHONS.items():
                what = what.replace(word, meant)
            return f"{field} is wrong: {what}, not {shown(problem['input'])}."


# What Python calls otherwise than JSON and YAML do.
_PYTHONS = {"valid tuple": "list", "valid dictionary": "mapping"}


def _too_long(problem: ErrorDetails) -> str:
    limit, what = problem["ctx"]["max_length"], "characters" if isinstance(problem["input"], str) else "items"
    return f"it has {len(problem['input'])} {what}, and may have {limit}"
