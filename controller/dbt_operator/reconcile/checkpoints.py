"""When checkpoints of live attempts are stored: now and then, while their logs say something."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from dbt_operator.kube.api_error import ApiError
from dbt_operator.plan.attempt import Recorded
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.follower import Follower
from dbt_operator.reconcile.records import Records

_log = structlog.get_logger(__name__)

_PAUSE = timedelta(seconds=5)  # what dbt says within it may be lost with the operator and the log
_SOON = timedelta(seconds=1)  # the same for what all later attempts have to keep to, such as the project's commit
_BYTES_A_SECOND = 10 * 1024  # beyond that pause: what is large is stored less often
_PATIENCE = 2.0  # seconds: the run's loop waits for it


@dataclass(slots=True)
class Checkpoints:
    """Stores the checkpoints of one run. One that cannot be stored is only told of: another one follows."""

    backend: Backend
    records: Records
    _since: dict[int, datetime] = field(default_factory=dict)  # the last try, or the first look
    _sizes: dict[int, int] = field(default_factory=dict)  # in bytes

    async def store(self, record: Recorded, follower: Follower, *, last: bool = False) -> datetime | None:
        """Store how far the log was read, if that is due. Returns when it will be, if there is something to store.

        `last`: it is due now, as the process is told to stop.
        """
        index, now = record.decision.index, self.backend.now()
        due = self._since.setdefault(index, now) + self._pause(record, follower)
        if not _news(record, follower):
            return None
        if now < due and not last:
            return due
        try:
            async with asyncio.timeout(_PATIENCE):
                self._sizes[index] = await self.records.checkpoint(index, follower.checkpoint())
        except (ApiError, TimeoutError) as error:
            _log.warning("a checkpoint is not stored", job=record.decision.name, error=str(error))
            due = self.backend.now() + _PAUSE
        self._since[index] = self.backend.now()
        return due if due > now else None

    def _pause(self, record: Recorded, follower: Follower) -> timedelta:
        stored = record.checkpoint.state.found if record.checkpoint is not None else {}
        pause = _PAUSE if follower.state.found == stored else _SOON
        # Also for what is too large to be stored: it would be packed in vain each time.
        return pause + timedelta(seconds=self._sizes.get(record.decision.index, 0) / _BYTES_A_SECOND)


def _news(record: Recorded, follower: Follower) -> bool:
    """Whether the follower knows something of this attempt that is not stored."""
    before, state = record.checkpoint, follower.state
    if record.release is None or record.release.pod != follower.pod.uid or follower.ended or not state.events:
        return False
    return before is None or not (before.state is state or before.further_than(state) or before.state == state)
