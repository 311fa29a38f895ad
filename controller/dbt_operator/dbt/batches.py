"""How far a run has come with the batches of a microbatch model, over all of its attempts."""

from collections.abc import Iterable

import msgspec

from dbt_operator.dbt.state import AttemptState


class BatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The batches of a model. Those that are in neither number run, wait, or were skipped for another batch."""

    total: int
    succeeded: int
    failed: int


def batch_counts(unique_id: str, *, attempts: Iterable[AttemptState]) -> BatchCounts | None:
    """The batches of this node as the last attempt that came to them has left them; None where none has any.

    A later attempt executes all of them, or those that were left: then the others had succeeded before.
    """
    found: BatchCounts | None = None
    for state in attempts:
        node = state.nodes.get(unique_id)
        own = node.batches if node is not None else None
        if own is None:
            continue
        total = max(own.total, found.total if found is not None else 0)
        succeeded = (own.succeeded & ~own.failed).bit_count()
        found = BatchCounts(total=total, succeeded=total - own.total + succeeded, failed=own.failed.bit_count())
    return found
