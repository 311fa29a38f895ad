"""Moving the state of one node forward."""

import re
from datetime import datetime

from msgspec.structs import replace

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt import statuses
from dbt_operator.dbt.bodies import (
    BatchReported,
    DigestEntry,
    ExecutedBy,
    HeldNode,
    NodeEnded,
    NodeFacts,
    NodeFinished,
    NodeInfo,
)
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.parsing import DIGEST, FREE_TEXT, name_of, package_of, resource_type_of
from dbt_operator.dbt.state import Batches, NodeState
from dbt_operator.dbt.values import shorten

_SUCCESS = "success"
# Materializations that dbt never runs in batches: there NodeFinished is the node's own end and not a batch's.
_UNBATCHED = frozenset({"table", "view", "ephemeral", "materialized_view"})
# Of a microbatch model dbt says no more than this; what happened in a batch was said on the way.
_NO_DETAIL = re.compile(r"^(?:OK|SUCCESS|ERROR|SKIP(?:PED)?|PARTIAL SUCCESS)(?: \(\d+/\d+\))?$", re.IGNORECASE)


def new_node(unique_id: str, *, graph: Graph | None = None) -> NodeState:
    """A node of which nothing is known but its id, and what the graph has of it."""
    listed = graph.nodes.get(unique_id) if graph is not None else None
    return _named(unique_id) if listed is None else announced(listed, None)


def _named(unique_id: str) -> NodeState:
    return NodeState(
        unique_id=unique_id,
        name=name_of(unique_id),
        resource_type=resource_type_of(unique_id),
        package=package_of(unique_id),
    )


def announced(node: GraphNode, known: NodeState | None) -> NodeState:
    """A node as the graph describes it, with what is known of it already."""
    return replace(
        known or _named(node.unique_id),
        name=node.name,
        resource_type=node.resource_type,
        package=node.package,
        path=node.path or (known.path if known else ""),
        materialized=node.materialized or (known.materialized if known else ""),
        relation=node.relation or (known.relation if known else ""),
        attached_node=node.attached_node or (known.attached_node if known else ""),
    )


def described(node: NodeState, info: NodeInfo) -> NodeState:
    """The node with the gaps of its description filled from an event."""
    if (node.relation or not info.relation) and (node.materialized or not info.materialized) and node.path:
        return node
    fresh = not node.path and not node.materialized and not node.relation
    return replace(
        node,
        name=info.name if fresh and info.name else node.name,
        resource_type=info.resource_type if fresh and info.resource_type else node.resource_type,
        relation=node.relation or info.relation,
        materialized=node.materialized or info.materialized,
        path=node.path or info.path,
    )


def started(node: NodeState, info: NodeInfo, ts: datetime | None) -> NodeState:
    """The node after dbt said that it executes it."""
    if node.phase is NodePhase.PENDING:
        node = replace(node, phase=NodePhase.RUNNING)
    if node.started_at is None and (when := info.started_at or ts) is not None:
        node = replace(node, started_at=when)
    return node


def batch(node: NodeState, body: BatchReported) -> NodeState:
    """The node after what dbt said of one of its batches."""
    known = node.batches or Batches(total=body.total)
    bit = 1 << (body.number - 1)
    if body.status == _SUCCESS:
        known = replace(known, succeeded=known.succeeded | bit)
    elif statuses.failing(body.status):
        known = replace(known, failed=known.failed | bit)
    return replace(node, batches=known)


def finished(node: NodeState, body: NodeFinished, ts: datetime | None) -> NodeState:
    """The node after dbt's debug event of that name.

    Each batch of a microbatch model ends with an event that looks like the model's. So it ends only nodes that dbt
    never runs in batches. For others it adds details, after the model's own result line.
    """
    if body.node.resource_type != "model" or (body.node.materialized or node.materialized) in _UNBATCHED:
        return ended(node, body, ts) if body.status else node
    if not node.phase.terminal or ts is None or node.ended_ts is None or ts < node.ended_ts:
        return node
    return ended(node, body, ts)


def ended(node: NodeState, body: NodeEnded, ts: datetime | None) -> NodeState:
    """The node after dbt reported how it ended. The first such report counts; later ones fill gaps."""
    if not node.phase.terminal:
        phase, _ = statuses.verdict(body.status, resource_type=node.resource_type)
        node = replace(node, phase=phase, status=statuses.normal(body.status), ended_ts=ts)
    elif ts is not None and (node.ended_ts is None or ts < node.ended_ts):
        node = replace(node, ended_ts=ts)
    if node.phase is NodePhase.SKIPPED:
        return with_message(node, body.message, authority=body.authority, ts=ts)
    node = replace(
        node,
        started_at=node.started_at or body.node.started_at,
        finished_at=node.finished_at or body.node.finished_at or ts,
    )
    return with_message(with_facts(node, body.facts), body.message, authority=body.authority, ts=ts)


def with_facts(node: NodeState, facts: NodeFacts) -> NodeState:
    """The node with the gaps among its figures filled."""
    return replace(
        node,
        execution_seconds=facts.execution_seconds if node.execution_seconds is None else node.execution_seconds,
        rows_affected=facts.rows_affected if node.rows_affected is None else node.rows_affected,
        bytes_processed=facts.bytes_processed if node.bytes_processed is None else node.bytes_processed,
        bytes_billed=facts.bytes_billed if node.bytes_billed is None else node.bytes_billed,
        slot_milliseconds=facts.slot_milliseconds if node.slot_milliseconds is None else node.slot_milliseconds,
        cache_hit=facts.cache_hit if node.cache_hit is None else node.cache_hit,
        job_id=node.job_id or facts.job_id,
        num_failures=facts.num_failures if node.num_failures is None else node.num_failures,
        attached_node=node.attached_node or facts.attached_node,
        excerpt=node.excerpt or facts.excerpt,
        deadline_seconds=facts.deadline_seconds if node.deadline_seconds is None else node.deadline_seconds,
    )


def with_message(node: NodeState, message: str, *, authority: int, ts: datetime | None) -> NodeState:
    """The node with this text, if it has more authority than the present one, or the same and is older."""
    message = message.strip()
    if _NO_DETAIL.match(message):
        authority = FREE_TEXT
    if not message or authority < node.message_authority:
        return node
    if authority == node.message_authority and not (ts and node.message_ts and ts < node.message_ts):
        return node
    return replace(node, message=shorten(message), message_authority=authority, message_ts=ts)


def cancelled(node: NodeState, ts: datetime | None) -> NodeState:
    """The node after dbt cancelled the connection that has its name."""
    if node.cancel_seen and (ts is None or (node.cancelled_ts is not None and ts >= node.cancelled_ts)):
        return node
    return replace(node, cancel_seen=True, cancelled_ts=ts)


def executed_by(node: NodeState, told: ExecutedBy) -> NodeState:
    """The node after the runner said what executes it. Once that is dbt it stays so."""
    if node.executor == "dbt" or not told.executor:
        return node
    return replace(node, executor=told.executor, executor_reason=told.reason)


def held_back(node: NodeState, held: HeldNode, ts: datetime | None) -> NodeState:
    """The node after the runner decided not to have it executed because of a source."""
    if node.phase.terminal and node.status not in statuses.HELD_BACK:
        return node
    return replace(
        node,
        phase=NodePhase.SKIPPED,
        status=held.status,
        ended_ts=node.ended_ts or ts,
        blocked_by=held.blocked_by,
    )


def recorded(node: NodeState, entry: DigestEntry) -> NodeState:
    """The node after the runner's digest. If that calls a node failed which the log called successful, it wins."""
    overruled = node.phase is NodePhase.SUCCEEDED and (
        statuses.failing(entry.status) or not statuses.known(entry.status)
    )
    if node.phase.terminal and not overruled:
        # dbt 2 says only there what a test has found.
        return node if node.message else with_message(node, entry.message, authority=DIGEST, ts=None)
    phase, _ = statuses.verdict(entry.status, resource_type=node.resource_type)
    node = replace(node, phase=phase, status=entry.status, from_digest=True)
    if overruled:
        node = replace(node, message="", message_authority=-1, message_ts=None)
    facts = NodeFacts(
        execution_seconds=entry.execution_seconds,
        num_failures=entry.num_failures,
        deadline_seconds=entry.deadline_seconds,
    )
    node = with_facts(node, facts)
    return with_message(node, entry.message, authority=DIGEST, ts=None)
