"""What one attempt has reported so far: immutable values that the fold moves forward."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import compress
from operator import eq, is_not
from typing import Literal

import msgspec

from dbt_operator.api.commands import Command
from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.bodies import DigestEntry, Freshness, HeldNode, Stats
from dbt_operator.dbt.graph import Graph, GraphNode

Source = Literal["runner", "core", "fusion"]


class Ending(StrEnum):
    """How the container of an attempt ended."""

    COMPLETED = "Completed"  # the process ended by itself
    LOST = "Lost"  # a crash, a kill, or unknown
    CANCELLED = "Cancelled"  # somebody asked for it


class Batches(msgspec.Struct, frozen=True, kw_only=True):
    """How far an attempt has come with the batches of a microbatch model: a bit for each, by its number."""

    total: int
    succeeded: int = 0
    failed: int = 0


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """What dbt reported of a node itself, whatever its tests or parents did."""

    unique_id: str
    name: str = ""
    resource_type: str = ""
    phase: NodePhase = NodePhase.PENDING
    status: str = ""  # dbt's own, "" while it has not ended
    message: str = ""
    message_authority: int = -1
    message_ts: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ended_ts: datetime | None = None  # of the event that ended it
    execution_seconds: float | None = None
    rows_affected: int | None = None
    bytes_processed: int | None = None
    bytes_billed: int | None = None
    slot_milliseconds: int | None = None
    cache_hit: bool | None = None
    job_id: str = ""
    num_failures: int | None = None
    attached_node: str = ""
    freshness: Freshness | None = None  # of a source
    batches: Batches | None = None  # of a microbatch model
    excerpt: str = ""  # the lines of its query around the one that its message names
    deadline_seconds: float | None = None  # that it was cancelled for, where it failed by that
    relation: str = ""
    materialized: str = ""
    package: str = ""
    path: str = ""
    executor: str = ""  # of a run with the mode Async: what executes it
    executor_reason: str = ""  # why that is dbt
    blocked_by: str = ""  # the source for which the runner has not had it executed
    cancelled_ts: datetime | None = None
    cancel_seen: bool = False
    from_digest: bool = False

    @property
    def cancelled(self) -> bool:
        """Whether dbt cancelled the node's query. It also cancels an idle connection, which has the name of the node
        that used it last: a node that had ended before was not cancelled."""
        if not self.cancel_seen:
            return False
        return self.ended_ts is None or self.cancelled_ts is None or self.cancelled_ts <= self.ended_ts

    @property
    def stopped(self) -> bool:
        """Whether it failed only because dbt cancelled its query."""
        return self.cancelled and self.status == "error"

    @property
    def unreported(self) -> "NodeState":
        """The node as before anything was reported of it."""
        return NodeState(**{name: getattr(self, name) for name in _DESCRIPTION})

    @property
    def unexplained(self) -> bool:
        """Whether it failed and the text is missing: dbt's own line has none, the runner's line comes after it."""
        return self.phase is NodePhase.FAILED and self.status == "error" and not self.message


_DESCRIPTION = ("unique_id", "name", "resource_type", "attached_node", "relation", "materialized", "package", "path")


class RunError(msgspec.Struct, frozen=True, kw_only=True):
    """An error that ended the whole invocation."""

    kind: str
    message: str


Periods = tuple[tuple[str, str], ...]
"""Periods of time, by their begin and end as dbt writes them: ISO 8601."""


class Microbatch(msgspec.Struct, frozen=True, kw_only=True):
    """What microbatch models execute, by their unique ids."""

    end: str = ""  # of the time that dbt divides into batches by default
    windows: Mapping[str, Periods] = {}  # what a model has begun to execute
    left: Mapping[str, Periods] = {}  # what failed of it, where other batches have succeeded


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The runner's record. `complete`: every part of the digest of all results arrived too."""

    exit_code: int | None
    success: bool
    cancelled: bool
    peak_memory_bytes: int | None
    phase: str
    results: int | None
    complete: bool = False


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """The container has ended and its log is read to the end."""

    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptState:
    """Everything known of one attempt. Two states are equal when they say the same, however many lines it took."""

    source: Source | None = None
    invocation_id: str = ""
    dbt_version: str = ""
    adapter: str = ""
    adapter_version: str = ""
    target: str = ""
    command: Command | None = None  # once it has begun; None as well: it is not known
    threads: int | None = None
    expected: int | None = None
    graph: Graph | None = None
    graph_parts: Mapping[int, tuple[GraphNode, ...]] = field(default_factory=dict)
    nodes: Mapping[str, NodeState] = field(default_factory=dict)
    attached: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # tests by node, from the results of tests
    failures: frozenset[str] = frozenset()  # nodes that ended badly themselves
    executing: bool = False
    cancel_requested: bool = False
    cancel_ts: datetime | None = None  # when the runner was told to stop
    query_cancelled: bool = False
    nothing_selected: bool = False
    unmatched: tuple[str, ...] = ()
    error: RunError | None = None
    omitted: Mapping[str, str] = field(default_factory=dict)  # why, by the name of a file of dbt's that is not kept
    complaints: tuple[str, ...] = ()  # errors about no node, in their order; the command may go on after them
    stats: Stats | None = None
    summary_errors: int | None = None
    command_success: bool | None = None
    done: bool = False  # the last event of a command was seen
    held_parts: Mapping[int, tuple[HeldNode, ...]] = field(default_factory=dict)
    looked: bool = False  # the sources were looked at, and what is not executed because of them is decided
    digest_parts: Mapping[int, tuple[DigestEntry, ...]] = field(default_factory=dict)
    digest_total: int | None = None
    digest_complete: bool = False
    finished: Finished | None = None
    microbatch: Microbatch = field(default_factory=Microbatch)
    end_hooks: int | None = None  # on-run-end hooks of the project and its packages
    pod_database: str = ""  # the file that nodes are built into, or ":memory:", where it is gone with the pod
    job_ids_of: str = ""  # the program whose ids BigQuery's jobs have, where the runner cannot give them its own
    deadlines_ignored: str = ""  # the adapter, where nodes have deadlines and their queries cannot be cancelled
    found: Mapping[str, str] = field(default_factory=dict)  # what the steps before dbt have found out, see `dbt.found`
    peak_memory_bytes: int | None = None  # the most memory that the process has had in use so far
    closed: Closed | None = None
    last_ts: datetime | None = None
    events: int = field(default=0, compare=False)
    ignored: int = field(default=0, compare=False)

    @property
    def without_nodes(self) -> Command | None:
        """The command, if it is one that executes no nodes: only of itself it is known how it ended."""
        return self.command if self.command is not None and not self.command.rules.executes else None

    @property
    def looked_at_sources(self) -> bool:
        """Whether it was decided what is not executed because of sources, before anything was executed."""
        # 2: it was interrupted, or failed, perhaps while it looked at them.
        finished = self.finished is not None and self.finished.exit_code in (0, 1)
        return self.looked or self.command is not None or finished

    @property
    def dbt_ended(self) -> bool:
        """Whether the log says that the process came to its end by itself."""
        if self.finished is not None:
            return True
        if self.source == "runner":
            return False
        return self.done or self.stats is not None or self.error is not None or self.nothing_selected


EMPTY = AttemptState()


def changed_nodes(old: Mapping[str, NodeState], new: Mapping[str, NodeState]) -> list[str]:
    """The nodes that are another value than before, or are gone."""
    if old is new:
        return []
    # The fold keeps the order of the nodes and adds new ones at the end. So one pass without look-ups finds the changes
    # among thousands of nodes. Other states are compared key by key.
    if len(old) <= len(new) and all(map(eq, old, new)):
        return [*compress(new, map(is_not, old.values(), new.values())), *list(new)[len(old) :]]
    changed = [unique_id for unique_id, node in new.items() if old.get(unique_id) is not node]
    return [*changed, *(unique_id for unique_id in old if unique_id not in new)]
