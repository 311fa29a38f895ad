"""dbt's flags that have a field of their own in the spec of a DbtRun: the one table of them, and the fields' types."""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator
from pydantic.alias_generators import to_snake

from dbt_operator.api.commands import Command, CommandRules, Mode, WhenTested
from dbt_operator.api.state_source import StateSource
from dbt_operator.api.strict import DbtName, Meant, Selection, StrictModel, shown


class Flag(NamedTuple):
    """One flag. `commands`: those that dbt has it for, and that it changes anything of.

    selects: it says which nodes are selected, so that an attempt at certain nodes goes without it. All others are the
        same for every attempt of a run: dbt throws its parse cache away when one of them differs.
    negative: what dbt has for the field's false; "" where it has nothing.
    """

    field: str
    option: str
    commands: frozenset[Command]
    selects: bool = False
    negative: str = ""


_ALL = frozenset(Command)
_SELECTING = _ALL - {Command.PARSE, Command.RUN_OPERATION}
_EXECUTING = frozenset(command for command in Command if command.rules.executes)
_BUILDING = frozenset({Command.BUILD, Command.RUN})
_OF_TYPES = frozenset({Command.BUILD, Command.TEST, Command.CLONE, Command.LS})
# Those whose nodes may read a relation of another environment. Seeds read none, and `clone` always looks there.
_READING = frozenset(
    {Command.BUILD, Command.RUN, Command.TEST, Command.SNAPSHOT, Command.COMPILE, Command.DOCS, Command.SHOW}
)
_ALL_ANEW = frozenset({Command.BUILD, Command.RUN, Command.SEED, Command.CLONE, Command.COMPILE, Command.SHOW})

FLAGS = (
    Flag("select", "--select", _SELECTING, selects=True),
    Flag("exclude", "--exclude", _SELECTING, selects=True),
    Flag("selector", "--selector", _SELECTING, selects=True),
    Flag("resourceTypes", "--resource-type", _OF_TYPES, selects=True),
    Flag("excludeResourceTypes", "--exclude-resource-type", _OF_TYPES, selects=True),
    Flag(
        "indirectSelection",
        "--indirect-selection",
        frozenset({Command.BUILD, Command.TEST, Command.LS, Command.COMPILE, Command.DOCS, Command.SHOW}),
        selects=True,
    ),
    Flag("vars", "--vars", _ALL),
    Flag("fullRefresh", "--full-refresh", _ALL_ANEW),
    Flag("failFast", "--fail-fast", _EXECUTING, negative="--no-fail-fast"),
    Flag("warnError", "--warn-error", _ALL),
    Flag("warnErrorOptions", "--warn-error-options", _ALL),
    Flag("threads", "--threads", _ALL - {Command.LS}),
    Flag("sample", "--sample", _BUILDING),
    Flag("empty", "--empty", _BUILDING | {Command.SNAPSHOT, Command.COMPILE}),
    Flag("eventTimeStart", "--event-time-start", _BUILDING),
    Flag("eventTimeEnd", "--event-time-end", _BUILDING),
    Flag("defer", "--defer", _READING, negative="--no-defer"),
    Flag("favorState", "--favor-state", _READING),
    Flag("storeFailures", "--store-failures", frozenset({Command.BUILD, Command.TEST})),
)

_NAMED = tuple((flag, to_snake(flag.field)) for flag in FLAGS)
_COMPARING = ("state:", "result:", "source_status:")

# Options without a field here that belong to the operator, or to another part of the spec.
OWNED = {
    "--profile": "spec.profile",
    "--target": "spec.profile",
    "--profiles-dir": "spec.profile",
    "--project-dir": "spec.project",
    "--args": "spec.runOperation",
    "--state": "spec.state",
    "--models": "spec.select",
    "--model": "spec.select",
    "--resource-types": "spec.resourceTypes",
    "--exclude-resource-types": "spec.excludeResourceTypes",
    **{flag.option: f"spec.{flag.field}" for flag in FLAGS},
    **{flag.negative: f"spec.{flag.field}" for flag in FLAGS if flag.negative},
    "--no-empty": "spec.empty",
    "--no-favor-state": "spec.favorState",
    **dict.fromkeys(
        (
            *("--target-path", "--log-path", "--log-format", "--log-format-file", "--log-level", "--log-level-file"),
            *("--quiet", "--no-quiet", "--debug", "--no-debug", "--print", "--no-print"),
            *("--write-json", "--no-write-json", "--record-timing-info", "--single-threaded", "--no-single-threaded"),
            *("--help", "--version"),
        ),
        "",
    ),
}


def _free(argument: str) -> str:
    """Whether an item of `args` is a value, or an option that nobody else has a say in."""
    name = argument.partition("=")[0]
    if name.startswith("-") and not name.startswith("--"):
        raise ValueError(f"{shown(name)} has to be written as dbt's long option, such as --no-introspect")
    if name in OWNED:
        where = f"take {OWNED[name]}" if OWNED[name] else "it belongs to the operator"
        raise ValueError(f"{name} cannot be among them: {where}")
    if name == "--":
        raise ValueError("-- cannot be among them: dbt's options end with the last of these arguments")
    return argument


class RunOperation(StrictModel):
    """What `dbt run-operation` calls."""

    macro: DbtName
    args: Annotated[dict[str, JsonValue], Field(max_length=500)] = Field(default_factory=dict)


Text = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Warnings = Annotated[tuple[Text, ...], Field(strict=False, max_length=200)]
ResourceType = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^[a-z_]+$"), Meant("a type of nodes, such as model or unit_test")
]
Argument = Annotated[str, StringConstraints(min_length=1, max_length=16384), AfterValidator(_free)]


class WarnErrorOptions(StrictModel):
    """Which of dbt's warnings are errors, which of these are not, and which are not even said.

    The only entry "all" of `error` means each of them.
    """

    error: Warnings = ()
    warn: Warnings = ()
    silence: Warnings = ()


class DbtFlags(StrictModel):
    """The command and its flags: a part of the spec of a DbtRun. The CRD says what each field means."""

    command: Annotated[Command, Field(strict=False)] = Command.BUILD
    tests: Annotated[WhenTested, Field(strict=False)] = WhenTested.BUILD
    mode: Annotated[Mode, Field(strict=False)] = Mode.PRODUCER
    run_operation: RunOperation | None = None
    # Strict mode would want tuples, which JSON does not have.
    select: Annotated[tuple[Selection, ...], Field(strict=False, max_length=1000)] = ()
    exclude: Annotated[tuple[Selection, ...], Field(strict=False, max_length=1000)] = ()
    selector: DbtName | None = None
    resource_types: Annotated[tuple[ResourceType, ...], Field(strict=False, max_length=20)] = ()
    exclude_resource_types: Annotated[tuple[ResourceType, ...], Field(strict=False, max_length=20)] = ()
    indirect_selection: Literal["eager", "cautious", "buildable", "empty"] | None = None
    vars: Annotated[dict[str, JsonValue], Field(max_length=500)] = Field(default_factory=dict)
    full_refresh: bool = False
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    fail_fast: bool | None = None
    warn_error: bool | None = None
    warn_error_options: WarnErrorOptions | None = None
    sample: Text | None = None
    empty: bool | None = None
    event_time_start: Text | None = None
    event_time_end: Text | None = None
    defer: bool | None = None
    favor_state: bool | None = None
    store_failures: bool | None = None
    state: StateSource | None = None
    args: Annotated[tuple[Argument, ...], Field(strict=False, max_length=100)] = ()

    @property
    def rules(self) -> CommandRules:
        """What the run does."""
        return self.command.rules_for(self.tests, self.mode)

    @property
    def flags(self) -> Iterator[tuple[Flag, object]]:
        """The flags that are given, with their values, in the order of the table."""
        for flag, name in _NAMED:
            value = getattr(self, name)
            if value or (value is False and flag.negative):
                yield flag, value

    @property
    def compares(self) -> bool:
        """Whether the selection compares with the artifacts of another run; of a selector that is not known here."""
        if self.state is None:
            return False
        return self.selector is not None or any(method in each for each in self.select for method in _COMPARING)

    @model_validator(mode="after")
    def _one_selection(self) -> Self:
        if self.selector is not None and (self.select or self.exclude):
            raise ValueError("selector cannot be combined with select or exclude")
        return self

    @model_validator(mode="after")
    def _one_way_of_warnings(self) -> Self:
        if self.warn_error and self.warn_error_options is not None:
            raise ValueError("warnError cannot be combined with warnErrorOptions")
        return self

    @model_validator(mode="after")
    def _state_to_defer_to(self) -> Self:
        if self.state is not None and self.command not in _SELECTING:
            raise ValueError(f"state is of no use to dbt {self.command.rules.words}")
        if self.defer and self.state is None:
            raise ValueError("defer needs state, which says whose artifacts dbt defers to")
        if self.favor_state and not self.defer:
            raise ValueError("favorState needs defer: it says what dbt prefers when it defers")
        return self

    @model_validator(mode="after")
    def _flags_of_the_command(self) -> Self:
        words = self.command.rules.words
        if self.tests not in self.command.choices:
            raise ValueError(f"tests cannot be {self.tests} for dbt {words}")
        if self.mode not in self.command.modes:
            raise ValueError(
                f"mode cannot be {self.mode} for dbt {words}, which executes no nodes that depend on others"
            )
        for flag, _ in self.flags:
            if self.command not in flag.commands:
                raise ValueError(f"{flag.field} is no option of dbt {words}")
        if (self.run_operation is not None) != (self.command is Command.RUN_OPERATION):
            raise ValueError("runOperation is for the command run-operation, which needs it")
        return self
