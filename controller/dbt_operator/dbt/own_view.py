"""Phase, reason and message of one node from what dbt said of it, before its tests are looked at."""

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt import statuses
from dbt_operator.dbt.blame import Blame, skipped_by_fail_fast, start_hook
from dbt_operator.dbt.bodies import Freshness
from dbt_operator.dbt.excerpts import with_excerpt
from dbt_operator.dbt.node_types import node_type
from dbt_operator.dbt.parsing import DIGEST, FREE_TEXT, NODE_RESULT, RESULT
from dbt_operator.dbt.state import AttemptState, Ending, NodeState

# Texts that come with a result. Others come before it, and the node may still succeed.
_OF_RESULT = frozenset({FREE_TEXT, DIGEST, RESULT, NODE_RESULT})


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Phase and reason with what explains them."""

    phase: NodePhase
    reason: NodeReason | None = None
    message: str = ""
    blocked_by: str | None = None


def own_verdict(*, state: AttemptState, node: NodeState, blame: Blame) -> Verdict:
    """What is to be said of the node itself."""
    match node.phase:
        case NodePhase.SUCCEEDED:
            return _succeeded(node)
        case NodePhase.FAILED:
            return _failed(state, node)
        case NodePhase.SKIPPED:
            return _skipped(state, node, blame)
        case _:
            return _open(state, node)


def _succeeded(node: NodeState) -> Verdict:
    _, reason = statuses.verdict(node.status, resource_type=node.resource_type)
    if reason is NodeReason.SUCCESS and statuses.did_nothing(node.message):
        # dbt before 1.10 has no status of its own for a node that was reused, or that needed nothing.
        reason = NodeReason.REUSED if node_type(node.resource_type).executed else NodeReason.NO_OP
    if node.materialized == "ephemeral" and node.resource_type == "model":
        reason = NodeReason.INLINED
    shown = node.message_authority in _OF_RESULT or reason is NodeReason.WARNED
    message = node.message if shown else ""
    if node.freshness is not None and reason is NodeReason.WARNED:
        stale, limits = node.status == statuses.STALE, node.freshness
        message = message or _how_old(limits, limit=limits.error_after if stale else limits.warn_after)
    elif node.status == statuses.STALE:
        message = message or _TOO_OLD
    return Verdict(phase=NodePhase.SUCCEEDED, reason=reason, message=message)


def _how_old(freshness: Freshness, *, limit: str) -> str:
    """About a source whose newest row is older than the limit."""
    loaded = f"{freshness.max_loaded_at:%Y-%m-%d %H:%M:%S} UTC"
    seconds = int(freshness.age_seconds)
    units = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    size, unit = next((each for each in units if seconds >= 2 * each[0]), units[-1])
    return f"Its newest row is of {loaded}, {seconds // size} {unit} ago; it may be {limit or 'younger'} old."


_TOO_OLD = "The newest row is older than the source's freshness criteria allow."


def _failed(state: AttemptState, node: NodeState) -> Verdict:
    phase, reason = statuses.verdict(node.status, resource_type=node.resource_type)
    if node.stopped:
        # The error is that of the cancelled query. Without another failure it was not cancelled by fail-fast.
        if state.cancel_requested or all(state.nodes[one].cancelled for one in state.failures):
            return Verdict(phase=NodePhase.CANCELLED, reason=NodeReason.CANCELLED, message=_CANCELLED_RUNNING)
        return Verdict(phase=NodePhase.CANCELLED, reason=NodeReason.FAIL_FAST, message=_STOPPED)
    if not statuses.known(node.status):
        text = f"dbt ended it with a status that is not known here: {node.status!r}."
        return Verdict(phase=phase, reason=reason, message=f"{text} {node.message}".rstrip())
    message = with_excerpt(node.message, node.excerpt)
    if node.deadline_seconds is not None:
        reason = NodeReason.DEADLINE_EXCEEDED
        late = f"It took longer than its deadline of {node.deadline_seconds:g} s, and was cancelled."
        message = f"{late}\n{message}".rstrip()
    if not message and reason is NodeReason.STALE and node.freshness is not None:
        message = _how_old(node.freshness, limit=node.freshness.error_after)
    if not message and reason is NodeReason.STALE:
        message = _TOO_OLD
    if node.unexplained and state.closed is not None and state.closed.ending is Ending.LOST:
        message = "dbt said that it failed; what it said of the failure was lost with its pod."
    return Verdict(phase=phase, reason=reason, message=message)


_CANCELLED_RUNNING = "Its query was cancelled."
_STOPPED = "dbt stopped it when another node failed, as fail-fast asks."


def _skipped(state: AttemptState, node: NodeState, blame: Blame) -> Verdict:
    phase = NodePhase.SKIPPED
    if node.status == statuses.STALE or node.blocked_by:
        return _behind_source(state, node)
    if skipped_by_fail_fast(node):
        return Verdict(phase=phase, reason=NodeReason.FAIL_FAST, message=_NOT_STARTED_FAIL_FAST)
    hook = start_hook(state)
    culprit = blame.of(node.unique_id) if node.resource_type != "operation" else None
    if culprit is not None:
        return held_back(culprit)
    if hook is not None:
        return behind_hook(hook)
    if node.from_digest and state.query_cancelled and not state.cancel_requested:
        return Verdict(phase=phase, reason=NodeReason.FAIL_FAST, message=_NOT_STARTED_FAIL_FAST)
    if state.graph is None and any(not one.startswith(("operation.", "source.")) for one in state.failures):
        # dbt skips a node for no other reason than a failure above it; without the graph it is not known which one.
        return Verdict(phase=phase, reason=NodeReason.UPSTREAM_FAILED, message="A node that it needs failed.")
    return Verdict(phase=phase, reason=NodeReason.SKIPPED, message=node.message or "dbt skipped it without saying why.")


def _behind_source(state: AttemptState, node: NodeState) -> Verdict:
    source = state.nodes.get(node.blocked_by)
    reason, message = NodeReason.STALE, f"{node.blocked_by or 'A source that it depends on'} is stale."
    if source is not None and source.status == "runtime error":
        reason, message = NodeReason.UPSTREAM_FAILED, f"Nothing is executed, as {node.blocked_by} could not be read."
    elif node.status != statuses.STALE:
        message = f"Nothing is executed, as {message}"
    return Verdict(phase=NodePhase.SKIPPED, reason=reason, blocked_by=node.blocked_by or None, message=message)


def held_back(culprit: str) -> Verdict:
    """About a node that is not executed because of another one."""
    reason = NodeReason.UPSTREAM_FAILED
    return Verdict(phase=NodePhase.SKIPPED, reason=reason, blocked_by=culprit, message=f"{culprit} failed.")


def behind_hook(hook: str) -> Verdict:
    """About a node that is not executed because a hook at the start failed."""
    message = f"The hook {hook} failed."
    return Verdict(phase=NodePhase.SKIPPED, reason=NodeReason.HOOK_FAILED, blocked_by=hook, message=message)


_NOT_STARTED_FAIL_FAST = "dbt had not started it when another node failed, and stopped as fail-fast asks."


def _open(state: AttemptState, node: NodeState) -> Verdict:
    """A node that dbt has not ended: still open, or left open when its pod ended."""
    if state.closed is None:
        return Verdict(phase=node.phase)
    match state.closed.ending:
        case Ending.CANCELLED:
            message = "It was running" if node.phase is NodePhase.RUNNING else "It had not started"
            message += " when dbt was told to stop."
            return Verdict(phase=NodePhase.CANCELLED, reason=NodeReason.CANCELLED, message=message)
        case Ending.LOST:
            return _lost(node, running=_LOST_RUNNING, pending=_LOST_PENDING)
        case _:
            return _left_open(state, node)


_LOST_RUNNING = "It was running when its pod ended; its outcome is unknown."
_LOST_PENDING = "Its pod ended; it is not known to have started."


def _left_open(state: AttemptState, node: NodeState) -> Verdict:
    """dbt came to its end by itself and never said how this node ended."""
    if node.phase is NodePhase.RUNNING:
        return _lost(node, running="dbt ended without a word about its outcome.", pending="")
    if node.materialized == "ephemeral":
        return Verdict(phase=NodePhase.SKIPPED, reason=NodeReason.INLINED, message="It has no relation of its own.")
    hook = start_hook(state)
    if hook is not None:
        return behind_hook(hook)
    if state.query_cancelled and not state.cancel_requested and state.failures:
        return Verdict(phase=NodePhase.SKIPPED, reason=NodeReason.FAIL_FAST, message=_NOT_STARTED_FAIL_FAST)
    if _executes_nothing(state):
        return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.NO_OP, message="The command executes no nodes.")
    if state.error is not None:
        return _lost(node, running="", pending="dbt ended with an error before it came to it.")
    return _lost(node, running="", pending="dbt ended without a word about it.")


def _executes_nothing(state: AttemptState) -> bool:
    finished = state.finished
    return (
        finished is not None
        and finished.success
        and finished.phase != "execute"
        and not state.executing
        and not state.nothing_selected
        and not finished.results
    )


def _lost(node: NodeState, *, running: str, pending: str) -> Verdict:
    if node.phase is NodePhase.RUNNING:
        message = f"{running} dbt's last word: {node.message}" if node.message else running
        return Verdict(phase=NodePhase.FAILED, reason=NodeReason.LOST, message=message)
    return Verdict(phase=NodePhase.SKIPPED, reason=NodeReason.LOST, message=pending)
