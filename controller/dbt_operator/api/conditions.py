"""The conditions of a DbtRun.

`Succeeded` is the single truth; the others say the same in the words that tools wait for: `Complete` and `Failed`
those of a Job, `Reconciling` and `Stalled` those of kstatus, which are only there while they hold. Each says what it
means itself. What happened to the run is said once, in `status.message`.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reason_table import about
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.values import Value


class ConditionType(StrEnum):
    """The conditions that the operator sets."""

    SUCCEEDED = "Succeeded"
    COMPLETE = "Complete"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Value, frozen=True, kw_only=True):
    """A condition as all of Kubernetes has them. `type` is open: others may add conditions of their own."""

    type: Annotated[str, Meta(max_length=316)]
    status: ConditionStatus
    observed_generation: int | None = None
    last_transition_time: datetime
    reason: Annotated[str, Meta(max_length=1024)]
    message: Annotated[str, Meta(max_length=2048)]


_MEANING = {
    (ConditionType.SUCCEEDED, ConditionStatus.UNKNOWN): "The run has not ended.",
    (ConditionType.SUCCEEDED, ConditionStatus.TRUE): "The run has succeeded.",
    (ConditionType.SUCCEEDED, ConditionStatus.FALSE): "The run has not succeeded.",
    (ConditionType.COMPLETE, ConditionStatus.TRUE): "The run has succeeded.",
    (ConditionType.FAILED, ConditionStatus.TRUE): "The run has failed or was cancelled.",
    (ConditionType.SUSPENDED, ConditionStatus.TRUE): "The run rests because spec.suspend is set.",
    (
        ConditionType.RECONCILING,
        ConditionStatus.TRUE,
    ): "The operator is at work on the run.",
    (ConditionType.STALLED, ConditionStatus.TRUE): "Nothing more happens until a person acts; status.message says why.",
}


def set_condition(
    conditions: Iterable[Condition],
    *,
    type: str,  # noqa: A002 - the name of the field
    status: ConditionStatus,
    reason: str,
    message: str,
    now: datetime,
    observed_generation: int,
) -> tuple[Condition, ...]:
    """The conditions with this one set. `lastTransitionTime` moves only when the status of the condition changes."""
    present = {condition.type: condition for condition in conditions}
    old = present.get(type)
    present[type] = Condition(
        type=type,
        status=status,
        observed_generation=observed_generation,
        last_transition_time=old.last_transition_time if old is not None and old.status is status else now,
        reason=reason,
        message=message,
    )
    return tuple(present.values())


def run_conditions(
    *, phase: RunPhase, reason: RunReason, now: datetime, generation: int, previous: Iterable[Condition]
) -> tuple[Condition, ...]:
    """All conditions of a run in this phase. Conditions of `previous` that the operator does not know are kept."""
    previous = tuple(previous)
    wanted = _statuses(phase=phase, reason=reason)
    known = frozenset(ConditionType)
    conditions = tuple(old for old in previous if old.type not in known or old.type in wanted)
    for kind, status in wanted.items():
        conditions = set_condition(
            conditions,
            type=kind.value,
            status=status,
            reason=reason.value,
            message=_MEANING[kind, status],
            now=now,
            observed_generation=generation,
        )
    return conditions


def _statuses(*, phase: RunPhase, reason: RunReason) -> dict[ConditionType, ConditionStatus]:
    if phase is RunPhase.SUCCEEDED:
        return {ConditionType.SUCCEEDED: ConditionStatus.TRUE, ConditionType.COMPLETE: ConditionStatus.TRUE}
    if phase.terminal:
        # Stalled as well: without it, tools that know only kstatus would take a failed run for a finished one.
        return {
            ConditionType.SUCCEEDED: ConditionStatus.FALSE,
            ConditionType.FAILED: ConditionStatus.TRUE,
            ConditionType.STALLED: ConditionStatus.TRUE,
        }
    if phase is RunPhase.SUSPENDED:
        # Not Reconciling: nothing happens, and nothing is wrong.
        return {ConditionType.SUCCEEDED: ConditionStatus.UNKNOWN, ConditionType.SUSPENDED: ConditionStatus.TRUE}
    # kstatus looks at Reconciling before Stalled, so that only one of them may stand there.
    progress = ConditionType.STALLED if about(reason).needs_a_person else ConditionType.RECONCILING
    return {ConditionType.SUCCEEDED: ConditionStatus.UNKNOWN, progress: ConditionStatus.TRUE}
