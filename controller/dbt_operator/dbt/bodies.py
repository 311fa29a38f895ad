"""The contents of the events that matter: one type for each."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from dbt_operator.api.commands import Command, Mode, WhenTested
from dbt_operator.dbt.graph import GraphNode


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an event."""


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """dbt's node_info: which node an event is about."""

    unique_id: str
    name: str = ""
    resource_type: str = ""
    status: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    relation: str = ""
    materialized: str = ""
    path: str = ""


class NodeBody(Body, frozen=True, kw_only=True):
    """Something about one node."""

    node: NodeInfo


class NodeMentioned(NodeBody, frozen=True):
    """dbt has reached the node; it may still skip it."""


class NodeStarted(NodeBody, frozen=True):
    """dbt executes the node."""


class BatchReported(NodeBody, frozen=True, kw_only=True):
    """dbt begins with a batch of a microbatch model, or has ended it. `status`: "" at its begin.

    `number`: counted from 1 among the `total` batches that this attempt executes.
    """

    number: int
    total: int
    status: str = ""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a node's execution beside its status."""

    execution_seconds: float | None = None
    rows_affected: int | None = None
    bytes_processed: int | None = None
    bytes_billed: int | None = None
    slot_milliseconds: int | None = None
    cache_hit: bool | None = None
    job_id: str = ""
    num_failures: int | None = None
    attached_node: str = ""
    excerpt: str = ""  # the lines of its query around the error
    deadline_seconds: float | None = None  # how long it was allowed to take, where it was cancelled for taking longer


class NodeEnded(NodeBody, frozen=True, kw_only=True):
    """dbt has ended the node: `status` is the worst status in the event."""

    status: str
    message: str = ""
    facts: NodeFacts = NodeFacts()
    authority: int = 1


class NodeFinished(NodeEnded, frozen=True, kw_only=True):
    """dbt's debug event of that name: rich, but a batch of a microbatch model looks the same as the model."""


class NodeMessage(Body, frozen=True, kw_only=True):
    """A text about a node. `authority` says which text wins when there are several."""

    unique_id: str
    message: str
    authority: int


class QueryCancelled(Body, frozen=True, kw_only=True):
    """dbt cancelled the connection of this name, which is the unique_id of the node that uses it."""

    connection: str


class CancelRequested(Body, frozen=True):
    """Somebody asked the process to stop."""


class Version(Body, frozen=True, kw_only=True):
    """dbt's first event."""

    dbt_version: str
    runner: bool = False


class Adapter(Body, frozen=True, kw_only=True):
    """The adapter that dbt loaded."""

    name: str
    version: str


class Concurrency(Body, frozen=True, kw_only=True):
    """dbt begins to execute."""

    nodes: int | None
    threads: int | None
    target: str


class NoMatch(Body, frozen=True, kw_only=True):
    """A part of the selection matches nothing; `final` when therefore nothing at all is executed."""

    criterion: str
    final: bool


class FatalError(Body, frozen=True, kw_only=True):
    """An error that ended the invocation."""

    message: str
    kind: str = ""
    interrupted: bool = False


class Complaint(Body, frozen=True, kw_only=True):
    """An error about no node in particular, which may or may not have ended the invocation."""

    message: str


class Summary(Body, frozen=True, kw_only=True):
    """dbt's EndOfRunSummary."""

    interrupted: bool
    errors: int


class Stats(Body, frozen=True, kw_only=True):
    """dbt's own counts at the end of a command, hooks and tests included."""

    passed: int = 0
    warned: int = 0
    errors: int = 0
    skipped: int = 0
    total: int = 0


class CommandDone(Body, frozen=True, kw_only=True):
    """The command ended by itself; `success` is None where the event does not say."""

    success: bool | None


class CommandStarted(Body, frozen=True, kw_only=True):
    """The project is parsed, and the command itself begins; None: it is one that no run is of."""

    command: Command | None


class GraphPart(Body, frozen=True, kw_only=True):
    """A part of the runner's SelectedNodes."""

    part: int
    parts: int
    nodes: tuple[GraphNode, ...]
    command: Command = Command.BUILD
    tests: WhenTested = WhenTested.BUILD
    mode: Mode = Mode.PRODUCER


class DigestEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One result of the runner's RunResults."""

    unique_id: str
    status: str
    message: str = ""
    execution_seconds: float | None = None
    num_failures: int | None = None
    deadline_seconds: float | None = None


class DigestPart(Body, frozen=True, kw_only=True):
    """A part of the runner's RunResults."""

    part: int
    parts: int
    total: int
    results: tuple[DigestEntry, ...]


class ExecutedBy(msgspec.Struct, frozen=True, kw_only=True):
    """What executes a node of a run with the mode Async, and why dbt where it is that."""

    unique_id: str
    executor: str
    reason: str = ""


class Executors(Body, frozen=True, kw_only=True):
    """What executes which of the nodes. A node may be given to dbt later, and is not taken from it."""

    nodes: tuple[ExecutedBy, ...]


class DeadlinesIgnored(Body, frozen=True, kw_only=True):
    """Nodes have deadlines, and dbt cannot cancel the queries of one node with this adapter."""

    adapter: str


class JobIdsUnknown(Body, frozen=True, kw_only=True):
    """The jobs of the warehouse keep the ids that this program gives them, which are others in each attempt."""

    program: str


class Hooks(Body, frozen=True, kw_only=True):
    """How many on-run-end hooks the project and its packages have."""

    on_run_end: int


class Microbatch(Body, frozen=True, kw_only=True):
    """Of all microbatch models the end of their time; or of one of them what it begins to execute, or what is left."""

    end: str = ""
    unique_id: str = ""
    window: tuple[tuple[str, str], ...] = ()
    left: tuple[tuple[str, str], ...] = ()


class DatabaseFile(Body, frozen=True, kw_only=True):
    """The file that the nodes are built into. `kept`: it outlives the pod."""

    file: str
    kept: bool


class Found(Body, frozen=True, kw_only=True):
    """What the steps before dbt have found out, by its name: see `dbt.found`."""

    found: Mapping[str, str]


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """How old the newest row of a source is, and how old it may be in dbt's words, such as 12 hours; "": any age."""

    max_loaded_at: datetime
    snapshotted_at: datetime
    age_seconds: float
    status: str = ""  # dbt's own word
    warn_after: str = ""
    error_after: str = ""


class FreshnessFound(Body, frozen=True, kw_only=True):
    """dbt has looked at a source."""

    unique_id: str
    freshness: Freshness


class HeldNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is not executed because of a source, which is stale or could not be read.

    status: "stale" where that is no failure of the run, else "skipped".
    """

    unique_id: str
    blocked_by: str
    status: str


class HeldBack(Body, frozen=True, kw_only=True):
    """A part of the decision, after the runner has looked at the sources, on what it does not execute."""

    part: int
    parts: int
    nodes: tuple[HeldNode, ...]


class MemoryPeak(Body, frozen=True, kw_only=True):
    """The most memory that the process has had in use so far."""

    peak_memory_bytes: int


class ArtifactPart(Body, frozen=True, kw_only=True):
    """A part, counted from 0, of a file of dbt's. `size` and `sha256` are those of the whole gzip'd file."""

    name: str
    part: int
    parts: int
    size: int
    sha256: str
    data: str  # base64


class ArtifactOmitted(Body, frozen=True, kw_only=True):
    """A file of dbt's that is not printed. `reason`: TooLarge, or Secret where it has one in it."""

    name: str
    reason: str = ""


class RunnerFinished(Body, frozen=True, kw_only=True):
    """The runner's last event."""

    exit_code: int | None
    success: bool
    cancelled: bool
    invocation_id: str
    error: FatalError | None
    phase: str
    command: Command | None = None  # None: it did not begin
    results: int | None
    peak_memory_bytes: int | None
