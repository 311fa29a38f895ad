"""dbt's own arguments, taken apart with dbt's own definition of them, to ask `parse` and `ls` the same question."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple


class Rules(NamedTuple):
    """What a command does.

    types: of the nodes that it executes, of what it selects.
    unit_tests_with_model: they are executed right before their model, and else never.
    begins: dbt's event by which a node begins, where that is another one than LogStartLine.
    parsed: what was parsed is kept, the manifest for the user and the parse cache for later attempts.
    printed: what it prints is what it is asked for.
    files: what it writes into the target directory and is asked for.
    """

    types: frozenset[str] = frozenset()
    unit_tests_with_model: bool = False
    begins: str = ""
    parsed: bool = True
    printed: bool = False
    files: tuple[str, ...] = ()


# By dbt's words for them.
COMMANDS = {
    "build": Rules(
        types=frozenset(
            ("model", "seed", "snapshot", "test", "unit_test", "saved_query", "exposure", "function"),
        ),
        unit_tests_with_model=True,
    ),
    "run": Rules(types=frozenset(("model",))),
    "test": Rules(types=frozenset(("test", "unit_test"))),
    "seed": Rules(types=frozenset(("seed",))),
    "snapshot": Rules(types=frozenset(("snapshot",))),
    "clone": Rules(types=frozenset(("model", "seed", "snapshot")), begins="NodeExecuting"),
    "source freshness": Rules(types=frozenset(("source",))),
    "compile": Rules(printed=True, files=("run_results.json",)),
    "docs generate": Rules(files=("catalog.json", "index.html", "static_index.html")),
    "ls": Rules(parsed=False, printed=True),
    "parse": Rules(),
    "show": Rules(parsed=False, printed=True),
    "run-operation": Rules(parsed=False, files=("run_results.json",)),
}
# A run may execute what it selects in two stages: all that is built, and then the tests. It may only list it at first.
# The words of dbt's command, "" where it is that of the run.
LIST = "list"
STAGES = {LIST: "", "execute": "", "build": "build", "test": "test"}
TESTS = ("test", "unit_test")
AFTER_ALL = "AfterAll"  # as `spec.tests` calls it
PER_NODE = "PerNode"  # as `spec.mode` calls it
_EXCLUDED = "exclude_resource_types"
# `ls` and `parse` know these as well, but for them they mean something else, or would overwrite what the build writes.
_NOT_PASSED = frozenset(
    (
        "output",
        "output_keys",
        "log_level",
        "log_format",
        "quiet",
        "print",
        "record_timing_info",
        "debug",
        "help",
        "version",
    )
)


@dataclass(frozen=True)
class Argument:
    """One option with its values, as the user wrote it."""

    parameter: str
    option: str
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A dbt command line: the words of the command, and its options. `known` is false when dbt will refuse it."""

    words: tuple[str, ...]
    rest: tuple[str, ...]
    arguments: tuple[Argument, ...]
    known: bool

    @property
    def name(self) -> str:
        """The words of the command as one text, "" when there are none."""
        return " ".join(self.words)

    @property
    def rules(self) -> Rules:
        """What it does."""
        return COMMANDS.get(self.name, Rules(parsed=False))

    def line(self, *, quiet: bool) -> list[str]:
        """The command line to give to dbt; `quiet` keeps dbt from writing its own log, unless the user asked for it."""
        asked = any(argument.parameter in ("log_level", "debug") for argument in self.arguments)
        silence = ["--log-level", "none"] if quiet and self.words and self.known and not asked else []
        return [*self.words, *silence, *self.rest]

    def with_value(self, parameter: str, value: str) -> Command:
        """The command with this value of an option of one value, in the place of any other."""
        option = "--" + parameter.replace("_", "-")
        others = tuple(argument for argument in self.arguments if argument.parameter != parameter)
        arguments = (*others, Argument(parameter=parameter, option=option, tokens=(option, value)))
        return replace(
            self, arguments=arguments, rest=tuple(token for argument in arguments for token in argument.tokens)
        )

    def without_files(self) -> Command:
        """The command, which writes no artifacts: of many pods for a node each nobody looks at their folders.

        To write the manifest of a large project takes longer than most of its nodes.
        """
        option = "--no-write-json"
        argument = Argument(parameter="write_json", option=option, tokens=(option,))
        return replace(self, arguments=(*self.arguments, argument), rest=(*self.rest, option))


def take_apart(*, cli: Any, args: tuple[str, ...]) -> Command:
    """The command line by the definition of `cli`, dbt's click group."""
    words: list[str] = []
    command = cli
    rest = list(args)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest[0]]
        words.append(rest.pop(0))
    if not words or hasattr(command, "commands"):
        return Command(words=tuple(words), rest=tuple(rest), arguments=(), known=False)
    arguments = _arguments(command, rest)
    return Command(words=tuple(words), rest=tuple(rest), arguments=arguments or (), known=arguments is not None)


def _arguments(command: Any, tokens: list[str]) -> tuple[Argument, ...] | None:
    options = {name: param for param in command.params for name in (*param.opts, *param.secondary_opts)}
    positional = [param.name for param in command.params if getattr(param, "param_type_name", "") == "argument"]
    found: list[Argument] = []
    at = 0
    while at < len(tokens):
        if positional and not tokens[at].startswith("-"):
            found.append(Argument(parameter=positional.pop(0), option="", tokens=(tokens[at],)))
            at += 1
            continue
        name = tokens[at].partition("=")[0] if tokens[at].startswith("--") else tokens[at][:2]
        param = options.get(name)
        if param is None or not tokens[at].startswith("-"):
            # Not an option dbt knows, or a positional argument too many: only dbt can tell.
            return None
        end = at + 1 + _values(param, tokens, at, attached=len(tokens[at]) > len(name))
        found.append(Argument(parameter=param.name, option=name, tokens=tuple(tokens[at:end])))
        at = end
    return tuple(found)


def _values(param: Any, tokens: list[str], at: int, *, attached: bool) -> int:
    if getattr(param, "is_flag", False) or getattr(param, "count", False):
        return 0
    if type(param).__name__ != "MultiOption":
        return 0 if attached else 1
    # dbt's options of several values take everything up to the next word that begins like an option.
    count = 0 if attached else 1
    while at + 1 + count < len(tokens) and not tokens[at + 1 + count].startswith("-"):
        count += 1
    return count


def setting(*, cli: Any, command: Command, parameter: str, environ: Mapping[str, str]) -> str:
    """The value of an option of one value: as written on the command line, else in the variable that dbt reads."""
    for argument in reversed(command.arguments):
        if argument.parameter == parameter:
            attached = argument.tokens[0][len(argument.option) :].lstrip("=")
            return attached or "".join(argument.tokens[1:2])
    return _of_variable(cli, command, parameter=parameter, environ=environ)


def _of_variable(cli: Any, command: Command, *, parameter: str, environ: Mapping[str, str]) -> str:
    for param in _definition(cli, command.words).params:
        if param.name == parameter:
            # One name, or several of which the first that is set counts.
            names = [param.envvar] if isinstance(param.envvar, str) else param.envvar or ()
            return next((environ[name] for name in names if environ.get(name)), "")
    return ""


def _definition(cli: Any, words: Iterable[str]) -> Any:
    found = cli
    for word in words:
        found = found.commands[word]
    return found


def has_option(*, cli: Any, command: Command, parameter: str) -> bool:
    """Whether dbt has this option for the command."""
    return any(param.name == parameter for param in _definition(cli, command.words).params)


def refusal(*, cli: Any, command: Command, version: str) -> str:
    """What is wrong with the arguments by dbt's own definition of them, as a sentence; "" where nothing is.

    dbt of this version would say it too, but only once it has parsed the project. What is wrong with a variable or a
    default is left to dbt.
    """
    click = importlib.import_module("click")
    given = {argument.parameter for argument in command.arguments}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            parent = click.Context(cli, **cli.context_settings)
            _definition(cli, command.words).make_context(command.name, list(command.rest), parent=parent)
    except click.exceptions.NoSuchOption as error:
        return f"dbt {version} has no option {error.option_name} for `dbt {command.name}`"
    except click.exceptions.UsageError as error:
        param = getattr(error, "param", None)
        return str(error.format_message()) if param is None or param.name in given else ""
    except Exception:  # noqa: BLE001 - such as --help
        return ""
    return ""


def is_test(unique_id: str) -> bool:
    """Whether the node is a test, by dbt's unique id."""
    return unique_id.partition(".")[0] in TESTS


def without_tests(*, cli: Any, command: Command, environ: Mapping[str, str]) -> Command:
    """The command without the types of tests. dbt asks no variable for what is on its command line."""
    given = any(argument.parameter == _EXCLUDED for argument in command.arguments)
    by_variable = () if given else tuple(_of_variable(cli, command, parameter=_EXCLUDED, environ=environ).split())
    option = "--exclude-resource-type"
    added = tuple(
        Argument(parameter=_EXCLUDED, option=option, tokens=(f"{option}={one}",)) for one in (*by_variable, *TESTS)
    )
    rest = (*command.rest, *(token for argument in added for token in argument.tokens))
    return replace(command, arguments=(*command.arguments, *added), rest=rest)


def as_command(*, cli: Any, command: Command, words: str) -> Command:
    """Another dbt command with those of the arguments that it has as well."""
    return take_apart(cli=cli, args=(words, *asking(cli=cli, command=command, other=(words,))))


def asking(*, cli: Any, command: Command, other: tuple[str, ...]) -> list[str]:
    """The arguments of `command` that the dbt command of these words understands as well, in its own spelling."""
    parameters = {param.name: param for param in _definition(cli, other).params}
    line: list[str] = []
    for argument in command.arguments:
        param = parameters.get(argument.parameter)
        if param is None or argument.parameter in _NOT_PASSED:
            continue
        known = (*param.opts, *param.secondary_opts)
        # `build --models x` is another spelling of --select, while `ls --models x` is an option of its own.
        head = argument.option if argument.option in known else param.opts[0]
        line += [head + argument.tokens[0][len(argument.option) :], *argument.tokens[1:]]
    return line
