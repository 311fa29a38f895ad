"""What the status writer sends when: its whole policy, without a clock, a loop or a network. Pure.

Of every object only the newest wanted status is kept. It is due
- at once, when it is the first terminal one;
- `settle_interval` after the change, when it is another one: what ends before nobody would have seen, and has one write
  less;
- `lazy_interval` after the change, when the change is a lazy one (counts that are not urgent);
- of these last two never before `quiet_interval` has passed since the last write.
What is due waits for a token of the one bucket that all writes share, terminal statuses first, then the rest, creations
and lazy changes last, and these only while more than `_RESERVE` of a full bucket is left: a thousand new objects do not
stand in the way of what dbt says meanwhile. Among equals runs take turns, and within a run what fell due first goes
first: a run of ten thousand nodes does not keep a small one waiting. An object is never written twice at the same time,
so the newest state arrives last. Creating an object inherits the priority of the status that waits for it.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.kube.merge_patch import difference, uncertain, without_nulls
from dbt_operator.kube.resources import Object, Resource


@dataclass(frozen=True, slots=True)
class Key:
    """An object as a run sees it: one of the same name in another run's time is another object."""

    run: str
    resource: Resource
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as the server has shown it."""

    uid: str
    version: str
    status: Mapping[str, Any]

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> "Seen":
        """What matters here of an object."""
        metadata = obj["metadata"]
        return cls(metadata["uid"], metadata["resourceVersion"], obj.get("status") or {})


@dataclass(frozen=True, slots=True)
class Creation:
    """An object to be created."""

    manifest: Mapping[str, Any]
    owner_uid: str


class Rank(IntEnum):
    """Who goes first when there are not enough tokens for all."""

    TERMINAL = 0
    NORMAL = 1
    BACKGROUND = 2


@dataclass(slots=True, eq=False)
class Entry:
    """What is known and wanted of one object. Only the queue touches it."""

    stored: Object = field(default_factory=dict)
    stored_terminal: bool = False
    wanted: Object | None = None
    terminal: bool = False
    lazy: bool = False
    uid: str | None = None
    version: str | None = None
    creation: Creation | None = None
    gone: bool = False  # deleted, or never to be created: nothing is sent any more
    rejected: Object | None = None  # the server refused exactly this: it is not sent again
    busy: bool = False
    sending: Object | None = None  # the state that is on its way
    failures: int = 0
    last_sent: float = -math.inf
    changed_at: float = -math.inf
    not_before: float = -math.inf
    hurried: bool = False
    due: float = math.inf  # as scheduled, with `rank` and `ticket`
    rank: Rank = Rank.BACKGROUND
    ticket: int = -1  # of the valid place in the queue; older places are skipped

    @property
    def dirty(self) -> bool:
        """Whether there is something to send."""
        if self.gone:
            return False
        return self.creation is not None or (
            self.wanted is not None and self.wanted not in (self.stored, self.rejected)
        )

    @property
    def unsent(self) -> bool:
        """Whether there is something to send that is not on its way either."""
        return self.dirty and not (self.busy and self.wanted == self.sending)


@dataclass(frozen=True, slots=True)
class Work:
    """One request to make. Its outcome must be reported to the queue."""

    key: Key
    creation: Creation | None
    patch: Object
    state: Object
    terminal: bool
    lazy: bool
    uid: str | None
    version: str | None
    failures: int
    entry: Entry


class Turns:
    """What is due of one rank: the runs take turns, and each has its own in the order in which it fell due.

    valid: whether a place still counts; the others fall out once their turn comes.
    """

    def __init__(self, valid: Callable[[int, Key], bool]) -> None:
        self._valid = valid
        self._runs: dict[str, deque[tuple[int, Key]]] = {}  # in the order of their turns

    def add(self, ticket: int, key: Key) -> None:
        """The last one of its run."""
        self._runs.setdefault(key.run, deque()).append((ticket, key))

    def waits(self) -> bool:
        """Whether there is anything."""
        while self._runs:
            run, places = next(iter(self._runs.items()))
            while places and not self._valid(*places[0]):
                places.popleft()
            if places:
                return True
            del self._runs[run]
        return False

    def take(self) -> Key:
        """The next one, where there is one; the run that it belongs to is the last one then."""
        run = next(iter(self._runs))
        places = self._runs.pop(run)
        _, key = places.popleft()
        if places:
            self._runs[run] = places
        return key


_TERMINAL = frozenset(phase.value for phase in (*NodePhase, *RunPhase) if phase.terminal)
_RESERVE = 0.5
_ONE = 1 - 1e-6  # a token, up to what adding up fractions of it loses


class StatusQueue:
    """The states that are not stored yet. Every method takes the time as `now`, in seconds of any one clock."""

    def __init__(
        self, *, rate: float, burst: int, settle_interval: float, quiet_interval: float, lazy_interval: float
    ) -> None:
        self._rate, self._burst = rate, burst
        self._settle_interval, self._lazy_interval = settle_interval, lazy_interval
        self._quiet_interval = quiet_interval
        self._tokens, self._refilled_at = float(burst), -math.inf
        self._paused_until = -math.inf
        self._entries: dict[Key, Entry] = {}
        self._open: dict[str, dict[Key, None]] = {}  # in the order in which something was wanted
        self._keys: dict[str, set[Key]] = {}
        self._tickets = itertools.count()
        self._timers: list[tuple[float, int, Key]] = []
        self._ready = {rank: Turns(self._valid) for rank in Rank}  # the first to go first

    def submit(self, *, key: Key, status: Mapping[str, Any], terminal: bool, lazy: bool, now: float) -> None:
        """Want this status of an object; replaces one that has not been sent."""
        entry = self._entry(key)
        if entry.gone:
            return
        if not entry.unsent:
            entry.changed_at, entry.lazy = now, True
        entry.wanted, entry.terminal = without_nulls(status), terminal
        entry.lazy = entry.lazy and lazy  # one urgent change among lazy ones makes them all urgent
        self._schedule(key, entry, now)

    def submit_creation(self, *, key: Key, creation: Creation, now: float) -> None:
        """Want an object; its statuses wait for it."""
        entry = self._entry(key)
        entry.creation, entry.gone = creation, False
        self._schedule(key, entry, now)

    def known(self, *, key: Key, seen: Seen, now: float) -> None:
        """The object exists, and this is what is stored."""
        entry = self._entry(key)
        if entry.busy:
            return  # the answer to what is on its way says it better
        entry.creation, entry.gone = None, False
        _note(entry, seen)
        self._schedule(key, entry, now)

    def written(self, *, key: Key, patch: Mapping[str, Any], seen: Seen, now: float) -> None:
        """A part of the status was written beside the queue: it belongs to what is wanted from now on."""
        entry = self._entry(key)
        if entry.wanted is not None:
            entry.wanted = without_nulls({**entry.wanted, **patch})
        self.known(key=key, seen=seen, now=now)

    def next(self, *, now: float) -> Work | None:
        """The next request that may be made now; it counts as being made."""
        self._advance(now)
        self._refill(now)
        rank = self._first()
        if rank is None or self._tokens < self._price(rank) or now < self._paused_until:
            return None
        key = self._ready[rank].take()
        entry = self._entries[key]
        self._tokens -= 1
        entry.busy, entry.last_sent, entry.due, entry.ticket = True, now, math.inf, -1
        wanted = entry.wanted if entry.wanted is not None else entry.stored
        patch = {} if entry.creation else difference(old=entry.stored, new=wanted)
        entry.sending = None if entry.creation else wanted
        return Work(
            key,
            creation=entry.creation,
            patch=patch,
            state=wanted,
            terminal=entry.terminal,
            lazy=entry.lazy,
            uid=entry.uid,
            version=entry.version,
            failures=entry.failures,
            entry=entry,
        )

    def wake_at(self, *, now: float) -> float | None:
        """When `next` may have something, None when that is up to the next change."""
        self._advance(now)
        rank = self._first()
        if rank is None:
            return self._timers[0][0] if self._timers else None
        self._refill(now)
        missing = self._price(rank) - self._tokens
        token_at = now if missing <= 0 else now + (missing + 1 - _ONE) / self._rate
        return max(now, self._paused_until, token_at)

    def done(self, *, work: Work, version: str | None, now: float) -> None:
        """The status was stored; the object has this version now."""
        entry = work.entry
        entry.version = version
        entry.stored, entry.stored_terminal, entry.failures = work.state, work.terminal, 0
        entry.hurried = False
        self._release(work, now)

    def created(self, *, work: Work, seen: Seen, now: float) -> None:
        """The object exists now (one that was adopted may have a status)."""
        entry = work.entry
        entry.creation, entry.failures, entry.last_sent = None, 0, -math.inf
        _note(entry, seen)
        self._release(work, now)

    def retry(self, *, work: Work, delay: float, unknown: bool, now: float) -> None:
        """It failed (or may have succeeded, when `unknown`): again after a delay, with what is wanted by then."""
        entry = work.entry
        entry.failures += 1
        entry.lazy = entry.lazy and work.lazy
        entry.not_before = now + delay
        if unknown:
            entry.stored = uncertain(old=entry.stored, patch=work.patch)
        self._release(work, now)

    def resync(self, *, work: Work, seen: Seen, delay: float, now: float) -> None:
        """It conflicted with what somebody else has written; this is what is stored."""
        _note(work.entry, seen)
        self.retry(work=work, delay=delay, unknown=False, now=now)

    def reject(self, *, work: Work, now: float) -> None:
        """The server will never accept this: wait for another status; for ever, if it refused the object itself."""
        work.entry.rejected, work.entry.gone = work.state, work.creation is not None
        self._release(work, now)

    def gone(self, *, work: Work, now: float) -> None:
        """The object does not exist any more."""
        work.entry.gone = True
        self._release(work, now)

    def pause(self, *, until: float) -> None:
        """The server asks all of us to wait."""
        self._paused_until = max(self._paused_until, until)

    def hurry(self, *, run: str | None, now: float) -> None:
        """Whatever waits of a run (None: of all) only to be merged with later changes is due now."""
        for key in [key for name, keys in self._open.items() if run in (None, name) for key in keys]:
            self._entries[key].hurried = True
            self._schedule(key, self._entries[key], now)

    def pending(self, *, run: str | None) -> int:
        """How many objects of a run (None: of all) have something to be sent, or on its way."""
        if run is not None:
            return len(self._open.get(run, ()))
        return sum(len(keys) for keys in self._open.values())

    def open_names(self) -> list[str]:
        """The names of the objects that have something to be sent, or on its way."""
        return sorted(key.name for keys in self._open.values() for key in keys)

    def forget(self, *, run: str) -> None:
        """Drop all that concerns a run."""
        for key in self._keys.pop(run, ()):
            del self._entries[key]
        self._open.pop(run, None)

    def _entry(self, key: Key) -> Entry:
        if key not in self._entries:
            self._entries[key] = Entry()
            self._keys.setdefault(key.run, set()).add(key)
        return self._entries[key]

    def _release(self, work: Work, now: float) -> None:
        work.entry.busy = False
        if self._entries.get(work.key) is work.entry:  # else the run was forgotten in the meantime
            self._schedule(work.key, work.entry, now)

    def _schedule(self, key: Key, entry: Entry, now: float) -> None:
        if not (entry.busy or entry.dirty):
            entry.due, entry.ticket = math.inf, -1
            keys = self._open.get(key.run, {})
            keys.pop(key, None)
            if not keys:
                self._open.pop(key.run, None)
            return
        self._open.setdefault(key.run, {})[key] = None
        if entry.busy:
            return
        due, rank = max(self._due(entry, now), entry.not_before), _rank(entry)
        if entry.ticket >= 0 and entry.due <= due and entry.rank <= rank:
            return  # it has a place already, and a newer status does not lose it
        entry.due, entry.rank, entry.ticket = due, rank, next(self._tickets)
        heapq.heappush(self._timers, (due, entry.ticket, key))

    def _due(self, entry: Entry, now: float) -> float:
        if entry.creation is not None or entry.hurried or (entry.terminal and not entry.stored_terminal):
            return now
        after = self._lazy_interval if entry.lazy else self._settle_interval
        return max(now, entry.last_sent + self._quiet_interval, entry.changed_at + after)

    def _advance(self, now: float) -> None:
        # Places that lost their ticket (a better one was given, or the run is forgotten) fall out here.
        while self._timers and (self._timers[0][0] <= now or not self._valid(*self._timers[0][1:])):
            _, ticket, key = heapq.heappop(self._timers)
            if self._valid(ticket, key):
                self._ready[self._entries[key].rank].add(ticket, key)

    def _first(self) -> Rank | None:
        """The rank of what goes next."""
        return next((rank for rank, turns in self._ready.items() if turns.waits()), None)

    def _valid(self, ticket: int, key: Key) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.ticket == ticket

    def _price(self, rank: Rank) -> float:
        """How many tokens there have to be for what has this rank, though it takes one."""
        reserve = self._burst * _RESERVE if rank is Rank.BACKGROUND else 0
        return _ONE + min(reserve, self._burst - 1)

    def _refill(self, now: float) -> None:
        passed = now - self._refilled_at
        self._tokens = min(float(self._burst), self._tokens + max(0.0, passed) * self._rate)
        self._refilled_at = max(now, self._refilled_at)


def _note(entry: Entry, seen: Seen) -> None:
    before, entry.stored = entry.stored, without_nulls(seen.status)
    entry.uid, entry.version = seen.uid, seen.version
    entry.stored_terminal = seen.status.get("phase") in _TERMINAL
    if entry.stored_terminal and not entry.terminal and entry.stored != before:
        # Two controllers live at once for a moment when a pod is replaced. What ended stays ended: the other one has
        # read more of the log than we have, and nobody would write its state again.
        entry.wanted = None


def _rank(entry: Entry) -> Rank:
    wants = entry.wanted is not None and entry.wanted != entry.stored
    if wants and entry.terminal and not entry.stored_terminal:
        return Rank.TERMINAL
    return Rank.NORMAL if wants and not entry.lazy else Rank.BACKGROUND
