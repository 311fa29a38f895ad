"""The phases of the two resources.

A phase is the short word of a printer column. It is derived from what was observed and never the only place
where a fact is stored: the reason beside it says why.
"""

from dbt_operator.api.open_enum import OpenEnum


class NodePhase(OpenEnum):
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


class RunPhase(OpenEnum):
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
        """Whether the run has ended. It stays so unless a person asks for a retry."""
        return self in (RunPhase.SUCCEEDED, RunPhase.FAILED, RunPhase.CANCELLED)


class AttemptKind(OpenEnum):
    """What an attempt, that is a Job of a run, is for."""

    PRODUCER = "Producer"  # runs the whole dbt command
    NODE = "Node"  # executes nodes for the first time, where not one attempt executes all
    RETRY = "Retry"  # executes nodes again that failed
    RESUME = "Resume"  # goes on with what is left


class AttemptPhase(OpenEnum):
    """Where an attempt is: `status.attempts[].state` of a DbtRun."""

    PENDING = "Pending"  # its container has not started
    RUNNING = "Running"  # dbt is at work, or the last of its log is being read
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"  # dbt ended with failures, or could not be started
    LOST = "Lost"  # the pod ended without a word from dbt
    CANCELLED = "Cancelled"
