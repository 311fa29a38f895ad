"""The spec of a DbtRun as the operator reads it.

The apiserver has checked every object against the CRD before the operator sees it. It is checked here again because a
CRD and an operator of different versions may meet, and a field that this operator does not know must not be dropped
silently: the user asked for something.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    PlainValidator,
    StringConstraints,
    ValidationError,
    model_validator,
)

from dbt_operator.api.environment import Environment, ParseCache
from dbt_operator.api.flags import DbtFlags
from dbt_operator.api.problems import InvalidSpec, Path, in_the_run, sentence_of
from dbt_operator.api.profile import Profile
from dbt_operator.api.project import Project
from dbt_operator.api.strict import EXACT, INT32, LocalObject, Meant, Name, StrictModel

PodTemplate = dict[str, JsonValue]
"""A part of a pod. It is kept as it is: what may stand in it is decided where it is merged into a pod."""
_LABEL = r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


class Producer(StrictModel):
    """Of the attempt that runs the whole command, and of those that take up its work."""

    start_deadline_seconds: Annotated[int, Field(ge=1, le=INT32)] = 300
    max_restarts: Annotated[int, Field(ge=0, le=100)] = 3
    pod_template: PodTemplate = Field(default_factory=dict)


class RetryReason(StrEnum):
    """A way to fail that is answered with a retry."""

    ERROR = "Error"
    TESTS_FAILED = "TestsFailed"
    COMPILE_ERROR = "CompileError"
    PARTIAL_SUCCESS = "PartialSuccess"
    CONNECTION_FAILED = "ConnectionFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"


class Downstream(StrEnum):
    """How what a failed node had blocked is executed once its retry has succeeded."""

    TOGETHER = "Together"
    PER_NODE = "PerNode"


class Group(StrEnum):
    """Which nodes are executed by one pod, where not one pod executes all."""

    NODE = "Node"
    TAG = "Tag"
    PATH = "Path"


class PerNode(StrictModel):
    """Of a run that executes each node in a pod of its own."""

    parallelism: Annotated[int, Field(ge=1, le=100)] = 10
    group: Annotated[Group, Field(strict=False)] = Group.NODE


class ConcurrencyPolicy(StrEnum):
    """Whether an attempt may run while another one does."""

    AUTO = "Auto"
    ALLOW = "Allow"
    FORBID = "Forbid"


DURATION = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
DURATION_LIMIT = 16  # characters
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_LONGEST = timedelta(hours=24)


def _duration(value: object) -> timedelta:
    """A duration as Go writes it, such as 10s or 1h30m."""
    if not isinstance(value, str) or not 0 < len(value) <= DURATION_LIMIT or not re.fullmatch(DURATION, value):
        raise ValueError("it has to be a duration such as 10s, 5m or 1h30m")
    # As a number first: what fits the text may be far more than a timedelta can hold.
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([hms])", value))
    if seconds > _LONGEST.total_seconds():
        raise ValueError("it can be 24h at most")
    return timedelta(seconds=seconds)


Duration = Annotated[timedelta, PlainValidator(_duration)]


class Backoff(StrictModel):
    """How long a failed node waits for its retry."""

    duration: Duration = timedelta(seconds=10)
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    max: Duration = timedelta(minutes=5)

    def pause(self, count: int) -> timedelta:
        """The pause before the retry number `count`, from 1; none before a retry that is not one of the limit, 0."""
        grown = self.duration.total_seconds() * min(self.factor ** (count - 1), 1e9) if count else 0.0
        return timedelta(seconds=min(grown, self.max.total_seconds()))


RetryLimit = Annotated[int, Field(ge=0, le=20)]
RetryReasons = Annotated[tuple[Annotated[RetryReason, Field(strict=False)], ...], Field(strict=False, max_length=6)]


class NodeRetry(StrictModel):
    """What is done about certain nodes when they fail, as far as it is another thing than for all nodes."""

    limit: RetryLimit | None = None
    reasons: RetryReasons | None = None
    backoff: Backoff | None = None


class Retry(StrictModel):
    """What is done about nodes that fail."""

    limit: RetryLimit = 1
    reasons: RetryReasons = (RetryReason.ERROR,)
    backoff: Backoff = Backoff()
    downstream: Annotated[Downstream, Field(strict=False)] = Downstream.TOGETHER
    parallelism: Annotated[int, Field(ge=1, le=20)] = 5
    together: Annotated[int, Field(ge=1, le=1000)] = 20
    concurrency_policy: Annotated[ConcurrencyPolicy, Field(strict=False)] = ConcurrencyPolicy.AUTO
    pod_template: PodTemplate = Field(default_factory=dict)

    def under(self, over: NodeRetry) -> "Retry":
        """The same with what is said of certain nodes laid on it, field by field."""
        given = {name: getattr(over, name) for name in over.model_fields_set if getattr(over, name) is not None}
        if over.backoff is not None:
            fields = {name: getattr(over.backoff, name) for name in over.backoff.model_fields_set}
            given["backoff"] = self.backoff.model_copy(update=fields)
        return self.model_copy(update=given)


class ResourceType(StrEnum):
    """A type of nodes, in dbt's word for it."""

    MODEL = "model"
    SEED = "seed"
    SNAPSHOT = "snapshot"
    FUNCTION = "function"
    TEST = "test"
    UNIT_TEST = "unit_test"
    SOURCE = "source"


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Criterion(StrictModel):
    """Nodes of which all of this is true. In a pattern `*`, `?` and `[…]` mean what they mean for names of files."""

    name: Pattern | None = None
    tag: Pattern | None = None
    package: Pattern | None = None
    path: Pattern | None = None
    resource_type: Annotated[ResourceType, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("it needs at least one of name, tag, package, path and resourceType")
        return self


def _some(criteria: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
    # Not as a limit of the length: what is wrong with a criterion would be told a second time by that.
    if not criteria:
        raise ValueError("it needs at least one criterion")
    return criteria


class NodeOverride(StrictModel):
    """What is another thing for some nodes than for all. A later one has precedence over those before it."""

    select: Annotated[tuple[Criterion, ...], Field(strict=False, max_length=20), AfterValidator(_some)]
    pod_template: PodTemplate = Field(default_factory=dict)
    retry: NodeRetry | None = None
    active_deadline_seconds: Annotated[int, Field(ge=1, le=INT32)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set - {"select"}:
            raise ValueError(
                "it says nothing about the nodes that it selects: give it podTemplate, retry or activeDeadlineSeconds"
            )
        return self


class Supersedes(StrictModel):
    """Which older runs end when this one comes: those with its value of this label."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=_LABEL)]


class Deps(StrEnum):
    """Whether dbt installs packages of the project that are not installed."""

    AUTO = "Auto"
    NEVER = "Never"


class SourceFreshness(StrEnum):
    """What is done about sources that are stale."""

    IGNORE = "Ignore"
    WARN = "Warn"
    SKIP_STALE = "SkipStale"
    FAIL = "Fail"


class StaleParents(StrEnum):
    """How much of what a node reads has to be stale for it to be skipped."""

    ANY = "Any"
    ALL = "All"


class CompiledSql(StrictModel):
    """Where the statements that are executed without dbt are kept."""

    object_storage: Annotated[
        str,
        StringConstraints(max_length=1024, pattern=r"^(gs|s3)://[A-Za-z0-9][A-Za-z0-9._-]*(/\S*)?$"),
        Meant("a bucket, with or without a folder in it: gs://bucket/folder or s3://bucket/folder"),
    ]


class Async(StrictModel):
    """How nodes are executed without dbt, with the mode Async."""

    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] | None = None
    compiled_sql: CompiledSql | None = None
    # Of BigQuery alone.
    priority: Literal["INTERACTIVE", "BATCH"] | None = None
    maximum_bytes_billed: Annotated[int, Field(ge=1, le=EXACT)] | None = None
    job_timeout_seconds: Annotated[int, Field(ge=1, le=21_600)] | None = None
    location: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")] | None = None
    submissions_per_second: Annotated[int, Field(ge=1, le=1000)] | None = None


Image = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$"),
    Meant("the name of an image: it has a blank"),
]


class DbtRunSpec(DbtFlags):
    """What a DbtRun asks for. The CRD says what each field means."""

    project: Project
    profile: Profile
    environment: Environment = Environment()
    image: Image | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    # Strict mode would want a tuple, which JSON does not have.
    image_pull_secrets: Annotated[tuple[LocalObject, ...], Field(strict=False, max_length=20)] = ()
    service_account_name: Name | None = None
    # A default of a namespace may meet any command: those that do not look at sources ignore it.
    source_freshness: Annotated[SourceFreshness, Field(strict=False)] = SourceFreshness.IGNORE
    stale_parents: Annotated[StaleParents, Field(strict=False)] = StaleParents.ANY
    # A word of Python.
    async_: Annotated[Async, Field(alias="async")] = Async()
    deps: Annotated[Deps, Field(strict=False)] = Deps.AUTO
    parse_cache: ParseCache | None = None
    pod_template: PodTemplate = Field(default_factory=dict)
    producer: Producer = Producer()
    per_node: PerNode = PerNode()
    retry: Retry = Retry()
    nodes: Annotated[tuple[NodeOverride, ...], Field(strict=False, max_length=50)] = ()
    active_deadline_seconds: Annotated[int, Field(ge=1, le=INT32)] | None = None
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=INT32)] | None = None
    supersedes: Supersedes | None = None
    suspend: bool = False
    cancel: bool = False

    @model_validator(mode="after")
    def _an_image(self) -> Self:
        if self.image is None and self.environment.virtualenv is None:
            raise ValueError("image is required, as no defaults give it and there is no environment")
        if self.image is None and self.project.image is not None:
            raise ValueError("image is required, as the project is a part of it")
        return self


OF_EACH_RUN = frozenset({"command", "select", "exclude", "selector", "fullRefresh", "supersedes", "suspend", "cancel"})
"""Fields that each run says itself: what it executes, and wishes about it. All others may have defaults."""


def parse_run_spec(raw: Mapping[str, Any], *, called: Callable[[Path], str] = in_the_run) -> DbtRunSpec:
    """The spec of a DbtRun from the object's `spec`, with its defaults.

    called: what to call a field, for whoever has written it.
    Raises: InvalidSpec with one sentence that names the field.
    """
    try:
        return DbtRunSpec.model_validate(raw, by_name=False)
    except ValidationError as error:
        raise InvalidSpec(sentence_of(error, called=called)) from error
