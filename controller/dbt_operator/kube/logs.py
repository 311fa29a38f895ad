"""Following the log of one container until it has ended and everything it printed was read.

                      ┌──────────────── still running: again, from the last position ────────────────┐
    open the log ──► stream ──► end of stream, cut, or silence ──► ask the pod ──► ended: read the rest ──► Ended
         └── not started yet: again, soon ──┘                          └── gone ──► Ended

The end of a stream says nothing by itself: the API server, the kubelet and every proxy between them end streams of
containers that go on running, and a dead connection may not end at all. Only the pod knows. Repeated lines are
dropped where they can be recognised, and harmless where they can't.

Memory is bounded: a piece of the stream is split, handed over and forgotten before the next one is read. A slow sink
is awaited, which lets TCP hold back the kubelet, which reads from a file: nothing is lost by it.
"""

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from dbt_operator.dbt.lines import LineSplitter
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.containers import ContainerPhase, ContainerState, container_state
from dbt_operator.kube.resources import PODS
from dbt_operator.kube.stamps import Deduplicator, split_stamp
from dbt_operator.metrics import LOG_LINES, LOG_RECONNECTS

if TYPE_CHECKING:  # who only needs to know how a log ends need not import all that the client needs
    from dbt_operator.kube.client import Client

_log = structlog.get_logger(__name__)
_BATCH_LINES = 500
_BATCH_BYTES = 256 * 1024
_MOST_READS = 8  # of the log of a container that has ended
# What the kubelet answers, with a 200, when the container and its log have been removed.
_REMOVED = b"unable to retrieve container logs"

Sink = Callable[[Sequence[bytes], datetime | None], Awaitable[None] | None]
"""Gets lines without their stamps, and the time of the last one: where a later reader may begin."""


class EndReason(StrEnum):
    """Why there is no more to read."""

    TERMINATED = "Terminated"  # the container has ended and its log was read to the end
    POD_GONE = "PodGone"  # the pod does not exist any more; what was not read yet is lost
    UNREADABLE = "Unreadable"  # the container has ended, and its log could not be read to the end


@dataclass(frozen=True, slots=True)
class Ended:
    """How following a log ended."""

    reason: EndReason
    exit_code: int | None = None  # None: unknown, or the container never ran
    container_reason: str = ""  # Kubernetes' word: Completed, Error, OOMKilled, Evicted …
    message: str = ""
    finished_at: datetime | None = None
    position: datetime | None = None
    lines: int = 0
    dropped: int = 0  # lines over the splitter's limit
    reconnects: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the reader waits for what, in seconds."""

    silence: float = 60.0  # a stream silent for so long is given up, and the pod asked
    first: float = 0.1  # between attempts, growing …
    longest: float = 1.5  # … to this, while the stream ends early without a reason
    share: float = 0.1  # while the container has not started: this part of the time waited so far, within these two
    longest_after_error: float = 5.0
    ask: float = 2.0  # while the container has not started: between questions to the pod
    give_up: float = 30.0  # of failing to read the log of a container that has ended; of one that runs it is told then


async def follow(
    *,
    client: "Client",
    namespace: str,
    pod: str,
    container: str,
    sink: Sink,
    since: datetime | None = None,
    pod_uid: str | None = None,
    caught_up: Callable[[], None] | None = None,
    stalled: Callable[[str | None], None] | None = None,
    patience: Patience | None = None,
) -> Ended:
    """Hand all that the container prints, or has printed since a time, to the sink; return when there will be no more.

    Lines of the second of `since` may have been delivered before. An exception of the sink ends it and is raised.
    `caught_up` is called once the sink has everything that was printed before the reader began; `stalled` with why the
    log of a container that may go on cannot be read for long, and with None when it can be again.
    """
    return await LogReader(
        client=client, namespace=namespace, pod=pod, container=container, sink=sink,
        since=since, pod_uid=pod_uid, caught_up=caught_up, stalled=stalled, patience=patience or Patience(),
    ).run()  # fmt: skip


class LogReader:
    """One followed log; see `follow`."""

    def __init__(
        self,
        *,
        client: "Client",
        namespace: str,
        pod: str,
        container: str,
        sink: Sink,
        since: datetime | None,
        pod_uid: str | None,
        caught_up: Callable[[], None] | None,
        stalled: Callable[[str | None], None] | None,
        patience: Patience,
    ) -> None:
        self._client, self._namespace, self._pod, self._container = client, namespace, pod, container
        self._sink, self._since, self._pod_uid, self._patience = sink, since, pod_uid, patience
        self._caught_up = caught_up
        self._troubles = _Troubles(stalled, patience)
        self._dedup = Deduplicator()
        self._lines = self._dropped = self._reconnects = 0
        self._followed = False  # a stream was opened before, so that another one is a reconnect
        self._removed = b""

    async def run(self) -> Ended:
        """Follow until the container has ended, then read what is left."""
        pace, asked = _Pace(self._patience), 0.0
        if self._pod_uid is not None and await self._ask_pod() is None:
            return self._ended(EndReason.POD_GONE)  # before a line of another pod of this name is read
        while True:
            before, began = self._lines, time.monotonic()
            error = await self._read(follow=self._caught_up is None)
            self._troubles.read(error, began=began)
            if self._now_caught_up(error):
                continue
            waiting = error is not None and _not_started(error)
            if not waiting or time.monotonic() - asked >= self._patience.ask:
                asked = time.monotonic()
                state = await self._ask_pod()
                if state is None:
                    return self._ended(EndReason.POD_GONE)
                if state.phase is ContainerPhase.ENDED:
                    return await self._finish(state)
                waiting = waiting or state.phase is ContainerPhase.WAITING
            if waiting:
                await asyncio.sleep(pace.not_started())
            elif self._lines > before or time.monotonic() - began > self._patience.longest:
                pace.reset()  # cut, or silent for long, in the middle of the work: go on at once
            else:
                await asyncio.sleep(pace.fruitless(failed=error is not None))

    def _now_caught_up(self, error: ApiError | None) -> bool:
        """Whether what was printed before we began is read just now.

        A log that is followed does not say where the past ends. Who wants to know gets the past first, by a read
        without following: that one ends where the log ends at its moment.
        """
        if self._caught_up is None or not (error is None or _not_started(error)):
            return False
        self._caught_up()
        self._caught_up = None
        return True

    async def _finish(self, state: ContainerState) -> Ended:
        """The container has ended: read from the last position to the end of the file, which now stays where it is.

        Where the connection between the API server and the kubelet breaks, the answer ends as if it were whole. So the
        end of the file is where another read brings nothing more; a log of which that cannot be told, as its lines
        cannot be told apart, is not read for ever.
        """
        deadline = time.monotonic() + self._patience.give_up
        delay, reads = self._patience.first, 0
        while True:
            before = self._lines
            error = await self._read(follow=False, final=True)
            if self._removed:
                return self._ended(EndReason.UNREADABLE, state, message=self._removed.decode(errors="replace"))
            if error is None:
                reads += 1
                if (reads > 1 and self._lines == before) or reads == _MOST_READS:
                    return self._ended(EndReason.TERMINATED, state)
                if reads == 1:
                    continue
            elif _not_started(error) and state.exit_code is None:
                return self._ended(EndReason.TERMINATED, state)  # it ended before it had begun: there is no log
            elif await self._ask_pod() is None:
                return self._ended(EndReason.POD_GONE, state)
            elif time.monotonic() >= deadline:
                return self._ended(EndReason.UNREADABLE, state, message=str(error))
            await asyncio.sleep(delay)
            delay = min(delay * 1.6, self._patience.longest_after_error)

    async def _read(self, *, follow: bool, final: bool = False) -> ApiError | None:
        """Read one stream to its end; the error that ended it, if one did. `final`: the container prints no more."""
        splitter = LineSplitter()
        self._dedup.reconnected()
        self._removed = b""
        fresh_before, reopened = self._lines, self._followed
        try:
            async with self._client.open_log(
                namespace=self._namespace,
                pod=self._pod,
                container=self._container,
                since=self._dedup.position or self._since,
                follow=follow,
                read_timeout=self._patience.silence,
            ) as pieces:
                self._followed = self._followed or follow
                if follow:
                    self._troubles.opened()
                async for piece in pieces:
                    await self._deliver(splitter.feed(piece))
            if final and (rest := splitter.flush()) is not None:
                await self._deliver([rest])  # a last line without its newline: now it is certain that none will come
        except ApiError as error:
            return error
        finally:
            self._account(splitter.dropped)
            if follow and reopened and self._lines > fresh_before:
                self._reconnects += 1
                LOG_RECONNECTS.inc()
        return None

    async def _deliver(self, raws: list[bytes]) -> None:
        raws = self._dedup.fresh(raws)
        for batch in _batches(raws):
            lines = []
            for raw in batch:
                stamp, line = split_stamp(raw)
                if not stamp and line.startswith(_REMOVED):
                    self._removed = line[:300]
                lines.append(line)
            self._dedup.delivered(batch)
            result = self._sink(lines, self._dedup.position)
            if inspect.isawaitable(result):
                await result
            self._lines += len(lines)
            LOG_LINES.labels(outcome="read").inc(len(lines))
            # A stream that always has data ready would otherwise keep the event loop to itself.
            await asyncio.sleep(0)

    async def _ask_pod(self) -> ContainerState | None:
        """The container's state, None when the pod is gone. Without an answer: running, as far as we know."""
        try:
            pod = await self._client.find(resource=PODS, namespace=self._namespace, name=self._pod)
        except ApiError as error:
            _log.warning("could not read a pod", namespace=self._namespace, pod=self._pod, error=str(error))
            return ContainerState(ContainerPhase.RUNNING)
        if pod is None or (self._pod_uid is not None and pod["metadata"]["uid"] != self._pod_uid):
            return None
        return container_state(pod=pod, container=self._container)

    def _account(self, dropped: int) -> None:
        self._dropped += dropped
        LOG_LINES.labels(outcome="oversize").inc(dropped)
        LOG_LINES.labels(outcome="repeated").inc(self._dedup.repeated)
        self._dedup.repeated = 0

    def _ended(self, reason: EndReason, state: ContainerState | None = None, *, message: str = "") -> Ended:
        return Ended(
            reason=reason,
            exit_code=state.exit_code if state else None,
            container_reason=state.reason if state else "",
            message=message or (state.message if state else ""),
            finished_at=state.finished_at if state else None,
            position=self._dedup.position,
            lines=self._lines,
            dropped=self._dropped,
            reconnects=self._reconnects,
        )


class _Troubles:
    """Tells when a log cannot be read for long, and when it can be again."""

    def __init__(self, report: Callable[[str | None], None] | None, patience: Patience) -> None:
        self._report = report or (lambda _: None)
        self._patience = patience
        self._opened = False
        self._since: float | None = None  # when the first read began of those that have failed in a row
        self._reported = False

    def opened(self) -> None:
        """A stream that may last is there: that it breaks, or falls silent, is no failure to read the log."""
        self._opened = True
        self._over()

    def read(self, error: ApiError | None, *, began: float) -> None:
        """A read that began then has ended so."""
        opened, self._opened = self._opened, False
        if error is None or opened or _not_started(error):
            self._over()
            return
        self._since = began if self._since is None else self._since
        if not self._reported and time.monotonic() - self._since >= self._patience.give_up:
            self._reported = True
            self._report(str(error))

    def _over(self) -> None:
        self._since = None
        if self._reported:
            self._reported = False
            self._report(None)


class _Pace:
    """How long to sleep before the next attempt."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._began = time.monotonic()
        self._delay = patience.first

    def reset(self) -> None:
        """The last attempt was a good one."""
        self._delay = self._patience.first

    def not_started(self) -> float:
        """The container has not started. The wait is proportional: the first lines of a quick one come quickly."""
        waited = (time.monotonic() - self._began) * self._patience.share
        return min(max(waited, self._patience.first), self._patience.longest)

    def fruitless(self, *, failed: bool) -> float:
        """The attempt brought nothing: the kubelet has not told yet that the container ended, or reading fails."""
        longest = self._patience.longest_after_error if failed else self._patience.longest
        self._delay = min(self._delay * 1.6, longest)
        return self._delay * random.uniform(0.6, 1.0)  # noqa: S311  # jitter, no secret


def _not_started(error: ApiError) -> bool:
    # "container … is waiting to start: ContainerCreating", "pod … does not have a host assigned"
    return error.status == 400


def _batches(raws: list[bytes]) -> list[list[bytes]]:
    batches: list[list[bytes]] = []
    size = _BATCH_BYTES
    for raw in raws:
        if size >= _BATCH_BYTES or len(batches[-1]) >= _BATCH_LINES:
            batches.append([])
            size = 0
        batches[-1].append(raw)
        size += len(raw)
    return batches
