"""What an attempt executes of microbatch models: the batches of the run's first attempt that are left.

By itself dbt would divide the time before its present start into batches. On another day these are other batches.
"""

from collections.abc import Iterable, Sequence

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.state import Periods
from dbt_operator.plan.attempt import Assessment, Left

_BY_DBT = frozenset({NodePhase.SUCCEEDED, NodePhase.FAILED})


def end_of(assessments: Iterable[Assessment]) -> str | None:
    """Until when microbatch models are executed, as the first attempt has said that came so far."""
    for each in assessments:
        if each.state.microbatch.end:
            return each.state.microbatch.end
        if each.state.nodes and each.state.graph is None and each.attempt.started is not None:
            # It has executed nodes, and its log was rotated away before it was read: dbt began a moment later.
            return each.attempt.started.isoformat()
    return None


def left_of(assessments: Sequence[Assessment], nodes: Iterable[str]) -> tuple[Left, ...]:
    """What is left of those of the nodes that are microbatch models and have begun."""
    states = [each.state for each in assessments]
    begun = {unique_id for state in states for unique_id in state.microbatch.windows}
    return tuple(_left(assessments, unique_id) for unique_id in sorted(begun.intersection(nodes)))


def _left(assessments: Sequence[Assessment], unique_id: str) -> Left:
    first: Periods = ()
    left: Periods = ()
    for state in (each.state for each in assessments):
        window, node = state.microbatch.windows.get(unique_id, ()), state.nodes.get(unique_id)
        first = first or window
        if unique_id in state.microbatch.left:
            left = state.microbatch.left[unique_id]
        elif node is not None and node.phase in _BY_DBT:
            # All batches have succeeded, or all have failed. What builds the model again builds all of it.
            left = first
        elif window:
            left = window  # the attempt was lost before it had come to an end of this
    return Left(unique_id, left, incremental=left != first)
