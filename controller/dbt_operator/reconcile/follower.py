"""One followed log: lines in, the state of the attempt out."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from dbt_operator.dbt.artifacts import Artifact, Collector
from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY, AttemptState
from dbt_operator.kube.logs import Ended, EndReason
from dbt_operator.metrics import LOG_LINES
from dbt_operator.plan.attempt import Checkpoint, LogFacts
from dbt_operator.plan.facts import PodFacts
from dbt_operator.reconcile.backend import Backend


@dataclass(slots=True)
class Follower:
    """Follows the log of one pod and folds it. `changed` is called after each batch and at the end.

    `state` and `position`: those of the checkpoint from which reading goes on; it begins with the log without one.
    """

    backend: Backend
    pod: PodFacts
    changed: Callable[[], None]
    state: AttemptState = EMPTY
    position: datetime | None = None
    stalled: str | None = None  # why the log cannot be read at present
    artifacts: list[Artifact] = field(default_factory=list)  # files that are complete and wait to be stored
    _collector: Collector = field(default_factory=Collector)
    _since: datetime | None = None  # where reading has begun
    _stored: datetime | None = None  # a position: all files that begin before it are stored
    _present: asyncio.Event = field(default_factory=asyncio.Event)
    _end: Ended | None = None
    _task: asyncio.Task[None] | None = field(default=None)

    def start(self) -> None:
        """Begin to follow, once."""
        self._since = self._stored = self.position
        self._task = asyncio.create_task(self._run(), name=f"log {self.pod.name}")

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to read."""
        return self._end is not None

    async def caught_up(self) -> None:
        """Wait until all is folded that was printed before now, or as much of it as can be read at present."""
        await self._present.wait()

    async def stop(self) -> None:
        """Stop following; what was read stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def facts(self) -> LogFacts:
        """What has been read so far. Raises what ended the follower, if that was a defect."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        end, facts = self._end, LogFacts(state=self.state, position=self.position, stalled=self.stalled)
        if end is None:
            return facts
        unreadable = end.message if end.reason is EndReason.UNREADABLE else None
        if end.reason is EndReason.TERMINATED and self._since is not None and not end.lines:
            unreadable = "it was rotated away"  # the line of that time would have come again
        return replace(
            facts, read=True, stalled=None, incomplete=end.reason is EndReason.POD_GONE, unreadable=unreadable
        )

    def checkpoint(self) -> Checkpoint:
        """How far the log was read. From the position on lines have the files that are not yet stored."""
        self._note_stored()
        return Checkpoint(state=self.state, position=self._stored)

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Another controller has stored this; it may have read more."""
        if checkpoint.further_than(self.state):
            self.state = checkpoint.state

    async def _run(self) -> None:
        try:
            self._end = await self.backend.follow_log(
                self.pod, since=self._since, sink=self._read, caught_up=self._present.set, stalled=self._now_stalled
            )
        finally:
            self._present.set()
            self.changed()  # also when following failed: the loop then finds the error

    def _read(self, lines: Sequence[bytes], position: datetime | None) -> None:
        self._note_stored()
        self.artifacts += self._collector.take(lines)
        before = self.state.ignored
        self.state = fold_lines(state=self.state, lines=lines)
        LOG_LINES.labels(outcome="ignored").inc(self.state.ignored - before)
        self.position = position
        self.changed()

    def _note_stored(self) -> None:
        if not self.artifacts and not self._collector.held:
            self._stored = self.position

    def _now_stalled(self, error: str | None) -> None:
        self.stalled = error
        self._present.set()
        self.changed()
