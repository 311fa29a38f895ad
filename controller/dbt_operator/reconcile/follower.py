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
from dbt_operator.plan.attempt import LogFacts
from dbt_operator.plan.facts import PodFacts
from dbt_operator.reconcile.backend import Backend


@dataclass(slots=True)
class Follower:
    """Follows the log of one pod and folds it. `changed` is called after each batch and at the end.

    `caught_up` turns true when everything printed before the follower began has been folded. Until then the state is
    that of a moment in the past: a controller that was started anew reads the log from its beginning, and must not
    write on the way what was true an hour ago. While the log cannot be read, what is known of the attempt is what was
    stored of it, and nothing else of the run waits for more.
    """

    backend: Backend
    pod: PodFacts
    changed: Callable[[], None]
    state: AttemptState = EMPTY
    caught_up: bool = False
    stalled: str | None = None  # why the log cannot be read at present
    position: datetime | None = None
    artifacts: list[Artifact] = field(default_factory=list)  # files that are complete and wait to be stored
    _collector: Collector = field(default_factory=Collector)
    _end: Ended | None = None
    _task: asyncio.Task[None] | None = field(default=None)

    def start(self) -> None:
        """Begin to follow, once."""
        self._task = asyncio.create_task(self._run(), name=f"log {self.pod.name}")

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
        return replace(
            facts, read=True, stalled=None, incomplete=end.reason is EndReason.POD_GONE, unreadable=unreadable
        )

    async def _run(self) -> None:
        try:
            self._end = await self.backend.follow_log(
                self.pod, sink=self._read, caught_up=self._now_live, stalled=self._now_stalled
            )
        finally:
            self.changed()  # also when following failed: the loop then finds the error
        self.caught_up = True
        self.changed()

    def _read(self, lines: Sequence[bytes], position: datetime | None) -> None:
        self.artifacts += self._collector.take(lines)
        before = self.state.ignored
        self.state = fold_lines(state=self.state, lines=lines)
        LOG_LINES.labels(outcome="ignored").inc(self.state.ignored - before)
        self.position = position
        self.changed()

    @property
    def live(self) -> bool:
        """Whether what is known is of the present, as far as it can be."""
        return self.caught_up or self.stalled is not None

    def _now_stalled(self, error: str | None) -> None:
        self.stalled = error
        self.changed()

    def _now_live(self) -> None:
        self.caught_up = True
        self.changed()
