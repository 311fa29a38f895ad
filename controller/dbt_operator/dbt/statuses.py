"""The statuses with which dbt ends a node, and what they mean here.

Success is a closed list: a status of a later dbt that is not in it is never shown as a success.
"""

import re

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.node_types import TEST_TYPES

_SUCCEEDED = {
    "success": NodeReason.SUCCESS,
    "pass": NodeReason.SUCCESS,
    "warn": NodeReason.WARNED,
    "no-op": NodeReason.NO_OP,
    "reused": NodeReason.REUSED,
}
_SKIPPED = frozenset({"skipped", "skip"})
# The runner's word, where dbt says "error" of a source that is too old and the run does not fail for that: of the
# source, and of what is not executed because of it.
STALE = "stale"
HELD_BACK = frozenset({STALE, "skipped"})
# What the dbt State plugin says of a success that it has taken from an earlier run, alone or with "(within tolerance)".
_NOTHING_DONE = re.compile(r"^(?:NO-OP|CLONE)(?: \(.*\))?$")
_FAILED = {
    "error": NodeReason.ERROR,
    "fail": NodeReason.ERROR,
    "runtime error": NodeReason.ERROR,
    "partial success": NodeReason.PARTIAL_SUCCESS,
}
# node_info of an event that ends a node may still hold the status of the moment before.
_UNDECIDED = frozenset({"", "none", "started", "compiling", "executing", "running", "queued", "pending"})
# From harmless to harmful: when two fields of one event disagree, the worse one is believed.
_ORDER = (
    "no-op", "success", "pass", "reused", "warn", STALE, "skip", "skipped",
    "partial success", "runtime error", "fail", "error",
)  # fmt: skip
_SEVERITY = {normal: rank for rank, normal in enumerate(_ORDER)}
_UNKNOWN = len(_ORDER)


def normal(text: str) -> str:
    """A status as it is compared."""
    return text.strip().lower()


def known(text: str) -> bool:
    """Whether this is a final status of dbt's."""
    return normal(text) in _SEVERITY


def undecided(text: str) -> bool:
    """Whether this status does not say how the node ended."""
    return normal(text) in _UNDECIDED


def did_nothing(message: str) -> bool:
    """Whether this text of a successful result says that nothing was executed for it."""
    return _NOTHING_DONE.match(message.strip()) is not None


def failing(text: str) -> bool:
    """Whether this status is a failure."""
    return normal(text) in _FAILED


def worst(*candidates: str) -> str:
    """The worst of the statuses that say something; an unknown one is worse than any known one; "" when none does."""
    votes = [normal(candidate) for candidate in candidates if not undecided(candidate)]
    return max(votes, key=lambda vote: _SEVERITY.get(vote, _UNKNOWN), default="")


def verdict(status: str, *, resource_type: str = "") -> tuple[NodePhase, NodeReason]:
    """Phase and reason of a node that ended with this status."""
    status = normal(status)
    if status in _SUCCEEDED:
        return NodePhase.SUCCEEDED, _SUCCEEDED[status]
    if status in _SKIPPED:
        return NodePhase.SKIPPED, NodeReason.SKIPPED
    if status == STALE:
        warned = (NodePhase.SUCCEEDED, NodeReason.WARNED)
        return warned if resource_type == "source" else (NodePhase.SKIPPED, NodeReason.STALE)
    if resource_type in TEST_TYPES and status == "fail":
        return NodePhase.FAILED, NodeReason.TESTS_FAILED
    if resource_type == "source" and status == "error":
        # "older than error_after". When the check itself breaks dbt says "runtime error".
        return NodePhase.FAILED, NodeReason.STALE
    return NodePhase.FAILED, _FAILED.get(status, NodeReason.ERROR)
