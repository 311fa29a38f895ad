"""The one writer of all objects: of every object the newest state, within one limit for the whole operator.

`queue.py` decides what is sent when; here it is sent, and the server's answers are turned into what the queue
understands. Nothing is given up that may still succeed: a status is wanted until a newer one replaces it, its object
is gone, or the server says that it will never take it.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from dbt_operator.kube.api_error import NETWORK, ApiError, NameConflictError
from dbt_operator.kube.objects import Objects
from dbt_operator.kube.queue import Creation, Key, Seen, StatusQueue, Work
from dbt_operator.kube.resources import Resource
from dbt_operator.metrics import EVENT_LAG, STATUS_PATCHES

_log = structlog.get_logger(__name__)


class ForgottenError(Exception):
    """The run was deleted while somebody waited for one of its objects."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something the writer could not do, for the run's own status. `final`: it will not try again."""

    run: str
    resource: Resource
    namespace: str
    name: str
    error: ApiError | NameConflictError
    final: bool


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts."""

    first: float = 0.25
    longest: float = 5.0  # what a dead operator had not stored yet may be executed again: do not sleep past an outage
    slow: float = 30.0  # after an answer that only a person can change: missing rights, a full quota
    overload: float = 1.0  # after a 429 that does not say how long

    def delay(self, *, failures: int) -> float:
        """Growing, with jitter, so that what failed together does not come back together."""
        grown: float = self.first * 2 ** min(failures, 10)
        return min(self.longest, grown) * random.uniform(0.7, 1.0)  # noqa: S311  # jitter, no secret


class StatusWriter:
    """Writes statuses, and creates the objects that have them."""

    def __init__(
        self,
        *,
        client: Objects,
        max_per_second: float = 50.0,
        burst: int = 100,
        concurrency: int = 16,
        settle_interval: float = 0.2,
        quiet_interval: float = 0.5,
        lazy_interval: float = 2.0,
        backoff: Backoff | None = None,
        on_problem: Callable[[Problem], None] | None = None,
    ) -> None:
        self._client, self._concurrency = client, concurrency
        self._backoff, self.on_problem = backoff or Backoff(), on_problem
        self._queue = StatusQueue(
            rate=max_per_second,
            burst=burst,
            settle_interval=settle_interval,
            quiet_interval=quiet_interval,
            lazy_interval=lazy_interval,
        )
        self._waiters: dict[Key, list[asyncio.Future[bool]]] = {}
        self._wake, self._progress = asyncio.Event(), asyncio.Event()
        self._event_times: dict[Key, datetime] = {}  # of the oldest news that is not stored yet
        self._busy, self._closing = 0, False

    def submit(
        self,
        *,
        run: str,
        resource: Resource,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        terminal: bool = False,
        lazy: bool = False,
        event_time: datetime | None = None,
    ) -> None:
        """Want this whole status of an object of a run (its uid). Fields that are None or missing are cleared.

        `event_time` is when dbt said what the status shows, for the metric of the lag.
        """
        key = Key(run, resource, namespace, name)
        if event_time is not None:
            self._event_times.setdefault(key, event_time)
        self._queue.submit(key=key, status=status, terminal=terminal, lazy=lazy, now=_now())
        self._wake.set()

    async def store(
        self, *, run: str, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any], version: str = ""
    ) -> None:
        """Write a part of a status at once, and wait for it. What else is wanted of the object stays so.

        version: only onto this resource version; empty: whichever is there.
        Raises: ApiError.
        """
        body = {"status": patch} | ({"metadata": {"resourceVersion": version}} if version else {})
        stored = await self._client.patch(
            resource=resource, namespace=namespace, name=name, patch=body, subresource="status"
        )
        key = Key(run, resource, namespace, name)
        self._queue.written(key=key, patch=patch, seen=Seen.of(stored), now=_now())
        self._wake.set()

    def submit_create(self, *, run: str, resource: Resource, manifest: Mapping[str, Any], owner_uid: str) -> None:
        """Want an object to exist; one that exists is adopted when it has this owner. Failures go to `on_problem`."""
        key = _key_of(run, resource, manifest)
        self._queue.submit_creation(key=key, creation=Creation(manifest, owner_uid), now=_now())
        self._wake.set()

    async def ensure(self, *, run: str, resource: Resource, manifest: Mapping[str, Any], owner_uid: str) -> bool:
        """Like submit_create, and wait for it: True when it is new. Raises what made it impossible."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(_key_of(run, resource, manifest), []).append(waiter)
        self.submit_create(run=run, resource=resource, manifest=manifest, owner_uid=owner_uid)
        return await waiter

    def known(
        self,
        *,
        run: str,
        resource: Resource,
        obj: Mapping[str, Any],
    ) -> None:
        """Tell what is stored already (after a restart), so that it is not written again."""
        self._queue.known(key=_key_of(run, resource, obj), seen=Seen.of(obj), now=_now())
        self._wake.set()

    def forget(self, *, run: str) -> None:
        """Drop all that is queued for a run."""
        self._queue.forget(run=run)
        for key in [key for key in self._event_times if key.run == run]:
            del self._event_times[key]
        for key in [key for key in self._waiters if key.run == run]:
            self._resolve(key, error=ForgottenError(f"run {run} is gone"))
        self._progress.set()

    def pending(self, *, run: str | None = None) -> int:
        """How many objects of a run (None: of all) have something to be sent, or on its way."""
        return self._queue.pending(run=run)

    async def flush(self, *, run: str | None = None, within: float) -> bool:
        """Send all that waits of a run (None: of all); whether everything was stored in that time."""
        self._queue.hurry(run=run, now=_now())
        self._wake.set()
        try:
            async with asyncio.timeout(within):
                while self._queue.pending(run=run):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Send until closed. An error that is not the server's is a defect: it ends the writer, and is raised."""
        async with asyncio.TaskGroup() as group:
            while not self._closing:
                self._wake.clear()
                now = _now()
                while self._busy < self._concurrency and (work := self._queue.next(now=now)) is not None:
                    self._busy += 1
                    group.create_task(self._perform(work))
                at = self._queue.wake_at(now=now) if self._busy < self._concurrency else None
                await _wait(self._wake, None if at is None else at - now)

    async def close(self, *, within: float = 10.0) -> bool:
        """Send what is left, then stop; whether everything was stored."""
        complete = await self.flush(within=within)
        if not complete:
            _log.warning("statuses were left behind", objects=self._queue.open_names()[:20])
        self._closing = True
        self._wake.set()
        return complete

    async def _perform(self, work: Work) -> None:
        code = "200"
        try:
            if work.creation is not None:
                await self._create(work, work.creation)
            else:
                await self._write(work)
        except ApiError as error:
            code = str(error.status)
            await self._failed(work, error)
        except NameConflictError as error:
            code = "409"
            if error.stale:
                self._queue.retry(work=work, delay=self._delay(work), unknown=False, now=_now())
            else:
                self._give_up(work, error)
        finally:
            STATUS_PATCHES.labels(kind=work.key.resource.kind, code=code).inc()
            self._busy -= 1
            self._wake.set()
            self._progress.set()

    async def _create(self, work: Work, creation: Creation) -> None:
        found, new = await self._client.create_or_adopt(
            resource=work.key.resource, manifest=creation.manifest, owner_uid=creation.owner_uid, retry=False
        )
        self._queue.created(work=work, seen=Seen.of(found), now=_now())
        self._resolve(work.key, created=new)

    async def _write(self, work: Work) -> None:
        key = work.key
        patch: dict[str, Any] = {"status": work.patch}
        if work.version is not None:
            # So that an object of the same name that a later run has created is never written to: the server refuses a
            # version that is not the stored one. (It checks a uid in a patch too, but not in one of a custom
            # resource's status.) Whoever else has changed the object costs us one more round.
            patch["metadata"] = {"resourceVersion": work.version}
        stored = await self._client.patch(
            resource=key.resource,
            namespace=key.namespace,
            name=key.name,
            patch=patch,
            subresource="status",
            retry=False,
        )
        self._queue.done(work=work, version=stored["metadata"]["resourceVersion"], now=_now())
        event_time = self._event_times.pop(key, None)
        if event_time is not None:
            EVENT_LAG.observe(max(0.0, (datetime.now(UTC) - event_time).total_seconds()))

    async def _failed(self, work: Work, error: ApiError) -> None:
        now = _now()
        if error.status == 429:
            self._queue.pause(until=now + (error.retry_after or self._backoff.overload))
            self._queue.retry(work=work, delay=0.0, unknown=False, now=now)
        elif error.too_large or error.invalid or error.denied:
            self._give_up(work, error)
        elif error.not_found or error.namespace_terminating:
            self._queue.gone(work=work, now=now)
            self._resolve(work.key, error=error)
        elif error.conflict and work.creation is None:
            await self._resync(work)
        elif error.transient:
            unknown = error.status == NETWORK or error.status >= 500
            self._queue.retry(work=work, delay=self._delay(work), unknown=unknown, now=now)
        else:
            self._report(work, error, final=False)
            self._queue.retry(work=work, delay=self._backoff.slow, unknown=False, now=now)

    async def _resync(self, work: Work) -> None:
        key = work.key
        try:
            found = await self._client.find(resource=key.resource, namespace=key.namespace, name=key.name)
        except ApiError:
            self._queue.retry(work=work, delay=self._delay(work), unknown=True, now=_now())
            return
        now = _now()
        if found is None or (work.uid is not None and found["metadata"]["uid"] != work.uid):
            self._queue.gone(work=work, now=now)
        else:
            delay = self._delay(work) if work.failures else 0.0
            self._queue.resync(work=work, seen=Seen.of(found), delay=delay, now=now)

    def _give_up(self, work: Work, error: ApiError | NameConflictError) -> None:
        self._report(work, error, final=True)
        self._queue.reject(work=work, now=_now())
        self._resolve(work.key, error=error)

    def _report(self, work: Work, error: ApiError | NameConflictError, *, final: bool) -> None:
        key = work.key
        verb = "create" if work.creation is not None else "write the status of"
        _log.warning(
            f"could not {verb} an object", kind=key.resource.kind, name=key.name, final=final, error=str(error)
        )
        if self.on_problem is not None:
            self.on_problem(Problem(key.run, key.resource, key.namespace, key.name, error, final))

    def _resolve(self, key: Key, *, created: bool = False, error: Exception | None = None) -> None:
        for waiter in self._waiters.pop(key, []):
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(created)
            else:
                waiter.set_exception(error)

    def _delay(self, work: Work) -> float:
        return self._backoff.delay(failures=work.failures)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _key_of(run: str, resource: Resource, manifest: Mapping[str, Any]) -> Key:
    metadata = manifest["metadata"]
    return Key(run, resource, metadata["namespace"], metadata["name"])


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    if seconds is not None and seconds <= 0:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
