"""How long runs are kept after their end: their time to live, and how many of a kind there may be.

It says which run may be deleted now. Then the loop of the run is started. It looks at the run again, and deletes it
unless a retry was asked for meanwhile.
"""

import asyncio
import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dbt_operator.api import names
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.api.strict import INT32
from dbt_operator.reconcile.defaults import TTL
from dbt_operator.reconcile.run_key import RunKey, key_of

# After a run should have been deleted, until that is seen to: the clock may have been set back.
_AGAIN = 60.0
# A limit may be set where thousands of runs are kept already: so many are deleted at once, and the next ones later.
_AT_ONCE, _PAUSE = 20, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimit:
    """How many ended runs are kept of those in a namespace that have the same value of a label; None: all of them.

    Runs without the label are not counted. A run that was cancelled counts as failed.
    """

    label: str = ""
    succeeded: int | None = None
    failed: int | None = None

    def of(self, phase: RunPhase | None) -> int | None:
        """The limit for runs that have ended so."""
        return self.succeeded if phase is RunPhase.SUCCEEDED else self.failed


@dataclass(frozen=True, slots=True)
class _Group:
    """Ended runs of which only the newest are kept."""

    namespace: str
    value: str
    limit: int
    succeeded: bool


_Ended = tuple[datetime, RunKey]


@dataclass(slots=True)
class Retention:
    """Knows of each ended run when it may be deleted.

    `default_ttl`: the time to live of runs that do not say one, nor have one from their namespace. `now`: seconds
    since the epoch, by the API server's clock. `due` is called with a run that may be deleted, and again
    later while it is still there.
    """

    now: Callable[[], float]
    default_ttl: timedelta | None = None
    limit: HistoryLimit = field(default_factory=HistoryLimit)
    due: Callable[[RunKey], None] = lambda _: None
    _groups: dict[_Group, list[_Ended]] = field(default_factory=dict)  # the newest last
    _placed: dict[RunKey, tuple[_Group, _Ended]] = field(default_factory=dict)
    _expiries: dict[RunKey, float] = field(default_factory=dict)  # when the time to live of each is over
    _times: dict[RunKey, float] = field(default_factory=dict)  # when each is looked at next
    _queue: list[tuple[float, RunKey]] = field(
        default_factory=list
    )  # the same as a heap; older entries are passed over
    _rest_until: float = 0.0
    _timer: asyncio.TimerHandle | None = None
    _stopped: bool = False

    def observed(self, run: Mapping[str, Any], status: DbtRunStatus) -> None:
        """The watch has shown a run."""
        key, ended = key_of(run), status.completion_time
        if ended is None or not rests(run, status) or "deletionTimestamp" in run["metadata"]:
            # Whether a retry that is asked for is possible is not known here: the time to live goes on.
            self._leave_group(key)
        else:
            self._join_group(key, run, status)
        self._expiries.pop(key, None)
        if ended is not None and status.ended and "deletionTimestamp" not in run["metadata"]:
            ttl = self._own_ttl(run)
            if ttl is not None:
                self._expiries[key] = (ended + ttl).timestamp()
        self._look_at(key)

    def forget(self, key: RunKey) -> None:
        """The run is gone."""
        self._leave_group(key)
        self._expiries.pop(key, None)
        self._times.pop(key, None)

    def ttl(self, run: Mapping[str, Any], *, ended_at: datetime | None, asked: bool = False) -> timedelta | None:
        """How long the run is kept after its end; None: for ever.

        ended_at: when it has ended, as who asks knows it. asked: it is asked for a retry.
        """
        key = key_of(run)
        if not asked and self._surplus(key) and self._placed[key][1] == (ended_at, key):
            return timedelta()
        return self._own_ttl(run)

    def _own_ttl(self, run: Mapping[str, Any]) -> timedelta | None:
        taken = ((run.get("status") or {}).get("defaults") or {}).get("namespace") or {}
        given = (ttl_of(run["spec"]), ttl_of(taken), self.default_ttl)
        return next((ttl for ttl in given if ttl is not None), None)

    def stop(self) -> None:
        """Nothing is to be deleted any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    # groups

    def _join_group(self, key: RunKey, run: Mapping[str, Any], status: DbtRunStatus) -> None:
        value = (run["metadata"].get("labels") or {}).get(self.limit.label)
        limit = self.limit.of(status.phase)
        if value is None or limit is None or status.completion_time is None:
            self._leave_group(key)
            return
        group = _Group(key.namespace, value, limit, succeeded=status.phase is RunPhase.SUCCEEDED)
        entry = (status.completion_time, key)
        if self._placed.get(key) == (group, entry):
            return
        self._leave_group(key)
        self._placed[key] = group, entry
        ended = self._groups.setdefault(group, [])
        insort(ended, entry)
        if len(ended) > limit:
            self._look_at(ended[len(ended) - limit - 1][1])  # the newest of those that are not kept

    def _leave_group(self, key: RunKey) -> None:
        placed = self._placed.pop(key, None)
        if placed is not None:
            group, entry = placed
            ended = self._groups[group]
            del ended[bisect_left(ended, entry)]
            if not ended:
                del self._groups[group]

    def _surplus(self, key: RunKey) -> bool:
        if key not in self._placed:
            return False
        group, entry = self._placed[key]
        ended = self._groups[group]
        return bisect_left(ended, entry) < len(ended) - group.limit

    # one timer for all

    def _look_at(self, key: RunKey) -> None:
        """Look at the run when it may be deleted, as far as that is known now."""
        at = 0.0 if self._surplus(key) else self._expiries.get(key)
        if at is None:
            self._times.pop(key, None)
        else:
            self._look_later(key, at)
            self._set_timer()

    def _look_later(self, key: RunKey, at: float) -> None:
        if self._times.get(key) != at:
            self._times[key] = at
            heapq.heappush(self._queue, (at, key))
        if len(self._queue) > 2 * len(self._times) + 100:  # most of them are older entries
            self._queue = [(at, key) for key, at in self._times.items()]
            heapq.heapify(self._queue)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue and not self._stopped:
            seconds = max(self._queue[0][0], self._rest_until) - self.now()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._ring)

    def _ring(self) -> None:
        now, deleted = self.now(), 0
        while self._queue and self._queue[0][0] <= now and deleted < _AT_ONCE:
            at, key = heapq.heappop(self._queue)
            if self._times.get(key) != at:
                continue
            if self._surplus(key) or self._expiries.get(key, now + 1) <= now:
                self._look_later(key, now + _AGAIN)
                self.due(key)
                deleted += 1
            else:
                self._look_at(key)
        self._rest_until = now + _PAUSE if deleted == _AT_ONCE else 0.0
        self._set_timer()


def ttl_of(fields: Mapping[str, Any]) -> timedelta | None:
    """The time to live that these fields of a spec give. Of a run that failed for its defaults they may be anything."""
    seconds = fields.get(TTL)
    return timedelta(seconds=seconds) if isinstance(seconds, int) and 0 <= seconds <= INT32 else None


def rests(run: Mapping[str, Any], status: DbtRunStatus) -> bool:
    """Whether nothing is left to do for the run: it has ended, and nobody asks for a retry."""
    token = names.retry_token(run["metadata"])
    return status.ended and (token is None or token == status.handled_retry)
