"""The phases of the two resources.

A phase is the short word of a printer column. It is derived from what was observed and never the only place
where a fact is stored: the reason beside it says why.
"""

from enum import StrEnum


class NodePhase(StrEnum):
    """Phase of a node: the `status.phase` of a DbtModel, and of a test in a list of tests."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        """Whether dbt is done with the node within its attempt."""
        return self not in (NodePhase.PENDING, NodePhase.RUNNING)


class RunPhase(StrEnum):
    """Phase of a DbtRun."""

    PENDING = "Pending"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    RETRYING = "Retrying"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the run has ended; an ended run never changes its phase again."""
        return self in (RunPhase.SUCCEEDED, RunPhase.FAILED, RunPhase.CANCELLED)
