"""The statuses of both resources, and the spec of a DbtModel. The CRDs say what each field means."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from dbt_operator.api.commands import Stage
from dbt_operator.api.conditions import Condition
from dbt_operator.api.phases import AttemptKind, AttemptPhase, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.values import Value

UniqueId = Annotated[str, Meta(max_length=1024)]
NodeName = Annotated[str, Meta(max_length=1024)]
NodeMessage = Annotated[str, Meta(max_length=1024)]
RunMessage = Annotated[str, Meta(max_length=2048)]
ObjectName = Annotated[str, Meta(max_length=253)]
Relation = Annotated[str, Meta(max_length=4096)]
ShortText = Annotated[str, Meta(max_length=64)]
Column = Annotated[str, Meta(max_length=32)]
Token = Annotated[str, Meta(max_length=253)]  # of a retry that a person asked for


class Severity(StrEnum):
    """What it means when a test finds something. dbt accepts any case, and so does this."""

    ERROR = "ERROR"
    WARN = "WARN"

    @classmethod
    def _missing_(cls, value: object) -> "Severity | None":
        return next((member for member in cls if isinstance(value, str) and member.value == value.upper()), None)


class Counts(Value, frozen=True, kw_only=True):
    """How many nodes, or tests, of a run are in which state. Zeros are written too: they are facts."""

    total: int = 0
    pending: int = 0
    running: int = 0
    succeeded: int = 0
    warned: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    @property
    def good(self) -> int:
        """How many ended without failure."""
        return self.succeeded + self.warned


class NodeCounts(Counts, frozen=True, kw_only=True):
    """Of nodes. `reused`: None where none was."""

    reused: int | None = None

    @property
    def good(self) -> int:
        """How many ended without failure."""
        return self.succeeded + self.warned + (self.reused or 0)


class RunFailure(Value, frozen=True, kw_only=True):
    """A node or test that failed. `first_message`: of its first failure in the run, where that is another one.

    `relation`: with the rows that a test found, where it keeps them.
    """

    unique_id: UniqueId
    name: NodeName
    message: NodeMessage
    first_message: NodeMessage | None = None
    relation: Relation | None = None


class DbtInfo(Value, frozen=True, kw_only=True):
    """The dbt that runs. `on_run_end_hooks`: how many the project has, with its packages.

    `pod_database`: the file, or ":memory:", that nodes are built into and that is gone with its pod; None: it is not.
    """

    version: ShortText | None = None
    adapter: ShortText | None = None
    adapter_version: ShortText | None = None
    target: Annotated[str, Meta(max_length=253)] | None = None
    invocation_id: ShortText | None = None
    on_run_end_hooks: int | None = None
    pod_database: Annotated[str, Meta(max_length=4096)] | None = None


class RunProject(Value, frozen=True, kw_only=True):
    """What the project of the run is, where it was fetched. `revision` follows from the others."""

    revision: Column
    commit: ShortText | None = None
    digest: Annotated[str, Meta(max_length=71)] | None = None


class RunState(Value, frozen=True, kw_only=True):
    """Whose artifacts the run was given: those of a run, a copy of a ConfigMap, or those in an archive."""

    run: ObjectName | None = None
    config_map: ObjectName | None = None
    digest: Annotated[str, Meta(max_length=71)] | None = None


class RunAttempt(Value, frozen=True, kw_only=True):
    """A Job of a run."""

    name: ObjectName
    kind: AttemptKind
    state: AttemptPhase
    reason: RunReason | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    pod: ObjectName | None = None
    exit_code: int | None = None
    log_time: Annotated[str, Meta(max_length=40)] | None = None  # text, as the kubelet counts nanoseconds
    nodes: int | None = None  # how many it was to execute; None: all
    stage: Stage | None = None  # of a run that has stages


class RunArtifacts(Value, frozen=True, kw_only=True):
    """Where dbt's artifacts of the whole run are kept."""

    config_map: ObjectName
    run_results: bool = True  # false: there is only a manifest so far
    manifest: bool = False
    sources: bool | None = None  # None: false


class RunDefaults(Value, frozen=True, kw_only=True):
    """What the run is given where its spec is silent, as it was when the run started.

    `problem`: why it could not be read; then the run is given nothing, and fails.
    """

    operator: dict[str, Any] | None = None
    namespace: dict[str, Any] | None = None
    problem: RunMessage | None = None


class RunOutput(Value, frozen=True, kw_only=True):
    """Where that is kept which the command was asked for: what it printed, or the files of the documentation."""

    config_map: ObjectName
    files: Annotated[tuple[ObjectName, ...], Meta(max_length=10)] = ()


class DbtRunStatus(Value, frozen=True, kw_only=True):
    """The status of a DbtRun. `progress` follows from other fields and is filled in here."""

    KEEP_LAST: ClassVar[frozenset[str]] = frozenset({"attempts"})

    phase: RunPhase | None = None
    reason: RunReason | None = None
    message: RunMessage | None = None
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=20)] = ()
    observed_generation: int | None = None
    start_time: datetime | None = None
    defaults: RunDefaults | None = None
    completion_time: datetime | None = None
    duration: Column | None = None
    progress: Column | None = None
    nodes: NodeCounts | None = None
    tests: Counts | None = None
    failures: Annotated[tuple[RunFailure, ...], Meta(max_length=20)] = ()
    project: RunProject | None = None
    state: RunState | None = None
    dbt: DbtInfo | None = None
    peak_memory_bytes: int | None = None
    retries: int | None = None  # attempts after the first; in a run with stages, after the first of each
    handled_retry: Token | None = None
    artifacts: RunArtifacts | None = None
    output: RunOutput | None = None
    attempts: Annotated[tuple[RunAttempt, ...], Meta(max_length=50)] = ()

    @property
    def ended(self) -> bool:
        """Whether the run has ended. Of a phase that a later version has added, the time of the end tells."""
        if self.phase is None or self.phase.known:
            return self.phase is not None and self.phase.terminal
        return self.completion_time is not None

    def __post_init__(self) -> None:
        if self.nodes is not None and self.nodes.total:
            ended = self.nodes.total - self.nodes.pending - self.nodes.running
            self._derive("progress", f"{ended}/{self.nodes.total}")


class ModelTest(Value, frozen=True, kw_only=True):
    """A test of a node, as dbt described it. `depends_on`: what a data test reads besides the node."""

    unique_id: UniqueId
    name: NodeName
    severity: Severity | None = None
    warn_if: ShortText | None = None
    error_if: ShortText | None = None
    depends_on: Annotated[tuple[UniqueId, ...], Meta(max_length=20)] = ()


class DbtModelSpec(Value, frozen=True, kw_only=True):
    """What a node is. It never changes."""

    run_name: ObjectName
    unique_id: UniqueId
    name: NodeName
    resource_type: ShortText
    selected: bool | None = None  # None: true
    package: Annotated[str, Meta(max_length=1024)] | None = None
    path: Annotated[str, Meta(max_length=4096)] | None = None
    materialized: Annotated[str, Meta(max_length=253)] | None = None
    relation: Relation | None = None
    tags: Annotated[tuple[Annotated[str, Meta(max_length=1024)], ...], Meta(max_length=200)] = ()
    depends_on: Annotated[tuple[UniqueId, ...], Meta(max_length=5000)] = ()
    tests: Annotated[tuple[ModelTest, ...], Meta(max_length=1000)] = ()


class ListedTest(Value, frozen=True, kw_only=True):
    """A test that did not pass. `job`: of the attempt that executed it. `relation`: with the rows that it found."""

    unique_id: UniqueId
    name: NodeName
    message: NodeMessage | None = None
    failures: int | None = None
    relation: Relation | None = None
    finished_at: datetime | None = None
    job: ObjectName | None = None


class ModelTests(Value, frozen=True, kw_only=True):
    """The results of the tests of a node. `summary` follows from the counts and is filled in here."""

    total: int
    passed: int
    warned: int
    failed: int
    errored: int
    skipped: int
    summary: Column = ""
    failing: Annotated[tuple[ListedTest, ...], Meta(max_length=20)] = ()
    warning: Annotated[tuple[ListedTest, ...], Meta(max_length=20)] = ()

    def __post_init__(self) -> None:
        self._derive("summary", f"{self.passed}/{self.total}")


class SourceFreshness(Value, frozen=True, kw_only=True):
    """How old the newest row of a source is, and how old it may be in dbt's words. `status`: dbt's."""

    status: ShortText
    max_loaded_at: datetime
    snapshotted_at: datetime
    age_seconds: int
    warn_after: ShortText | None = None
    error_after: ShortText | None = None


class ModelBatches(Value, frozen=True, kw_only=True):
    """The batches of a microbatch model, over all attempts. `summary` follows from the counts and is filled in here."""

    total: int
    succeeded: int
    failed: int
    summary: Column = ""

    def __post_init__(self) -> None:
        self._derive("summary", f"{self.succeeded}/{self.total}")


class ModelAttempt(Value, frozen=True, kw_only=True):
    """One execution of a node."""

    kind: AttemptKind
    job: ObjectName
    phase: NodePhase
    message: NodeMessage | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class DbtModelStatus(Value, frozen=True, kw_only=True):
    """The status of a DbtModel."""

    KEEP_LAST: ClassVar[frozenset[str]] = frozenset({"attempts"})

    phase: NodePhase = NodePhase.PENDING
    reason: NodeReason | None = None
    message: NodeMessage | None = None
    blocked_by: UniqueId | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    execution_seconds: float | None = None
    rows_affected: int | None = None
    bytes_processed: int | None = None
    bytes_billed: int | None = None
    slot_milliseconds: int | None = None
    cache_hit: bool | None = None
    job_id: Annotated[str, Meta(max_length=1024)] | None = None
    executor: Annotated[str, Meta(max_length=32)] | None = None
    executor_reason: Annotated[str, Meta(max_length=400)] | None = None
    freshness: SourceFreshness | None = None
    batches: ModelBatches | None = None
    tests: ModelTests | None = None
    tries: int | None = None
    handled_retry: Token | None = None
    attempts: Annotated[tuple[ModelAttempt, ...], Meta(max_length=5)] = ()

    def __post_init__(self) -> None:
        if self.execution_seconds is not None:
            # As precise as dbt's own output. kubectl prints the number as it is stored.
            self._derive("execution_seconds", round(self.execution_seconds, 2))
