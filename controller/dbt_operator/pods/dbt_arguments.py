"""The arguments of dbt, from the spec of a run."""

import json
from collections.abc import Iterator, Mapping

from dbt_operator.api.flags import WarnErrorOptions
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.pods.variables import yaml_text

# Linux gives a single argument of a process 128 KiB at most (MAX_ARG_STRLEN).
_ARGUMENT_LIMIT = 128 * 1024 - 1


def dbt_arguments(spec: DbtRunSpec, *, selection: bool = True) -> list[str]:
    """The arguments of dbt itself, the command first. Without `selection` the runner is told the nodes by a file.

    Raises: InvalidSpec where a value does not fit into an argument of a process.
    """
    arguments = spec.command.rules.words.split()
    operation = spec.run_operation
    if operation is not None:
        arguments.append(operation.macro)
        if operation.args:
            arguments.append(argument("--args", operation.args, field="runOperation.args"))
    for flag, value in spec.flags:
        if selection or not flag.selects:
            arguments += _with_option(flag.option, value, negative=flag.negative, field=flag.field)
    for option, name in (("--profile", spec.profile.name), ("--target", spec.profile.target_name)):
        if name:
            arguments.append(f"{option}={name}")
    return [*arguments, *spec.args]


def _with_option(option: str, value: object, *, negative: str, field: str) -> Iterator[str]:
    if isinstance(value, bool):
        # An explicit false has to win over a true among the project's flags.
        yield option if value else negative
    else:
        for item in value if isinstance(value, list | tuple) else (value,):
            yield argument(option, item, field=field)


def argument(option: str, value: object, *, field: str) -> str:
    """The value in one argument with its option: whatever it is, it cannot be taken for an option itself.

    Raises: InvalidSpec where it does not fit into an argument of a process.
    """
    text = _text(value)
    if "\0" in text:
        raise InvalidSpec(f"spec.{field} has the character NUL in it, which no argument of a process can have.")
    limit = _ARGUMENT_LIMIT - len(option) - 1
    if len(text) > limit:
        raise InvalidSpec(
            f"spec.{field} is too large: as one line of ASCII it may have {limit} bytes and has {len(text)}."
        )
    return f"{option}={text}"


def _text(value: object) -> str:
    if isinstance(value, WarnErrorOptions):
        given = {key: each for key, each in value.model_dump(mode="json").items() if each}
        # dbt has a word for all warnings only where there could be a list.
        return json.dumps(given | ({"error": "all"} if value.error == ("all",) else {}))
    return yaml_text(dict(value)) if isinstance(value, Mapping) else str(value)
