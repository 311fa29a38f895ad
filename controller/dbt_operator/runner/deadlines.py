"""Nodes that may take so long and no longer: what they ask of the warehouse is cancelled then, and dbt goes on.

dbt knows nothing of that: it reports the error that the warehouse answers with. Its report is the truth also where the
node ended at the moment of its deadline. Only an error that came after the query was cancelled is marked as the work of
the deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable

from dbt_operator.runner.compiled import FAILURES
from dbt_operator.runner.microbatch import moment
from dbt_operator.runner.output import Line

# A node may have further queries, and between two of them there is nothing to cancel.
_AGAIN_SECONDS = 1.0
_BEGIN, _BATCH, _FINISHED = "NodeCompiling", "LogStartBatch", "NodeFinished"
_RESULTS = frozenset(
    (
        *("LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult"),
        *("LogFunctionResult", "LogFreshnessResult", "LogNodeNoOpResult"),
    )
)
EVENTS = _RESULTS | {_BEGIN, _BATCH, _FINISHED}


@dataclass
class _Watched:
    """A node that is executed. `due`: when it is next to be cancelled, by the clock of this process."""

    due: float
    cancelled: datetime | None = None


class Deadlines:
    """The nodes that have a deadline, and a thread that keeps to it.

    cancel: cancels the queries of a node, and says whether there may have been any; called from that thread.
    """

    def __init__(self, *, cancel: Callable[[str], bool], warn: Callable[[str], None]) -> None:
        self._cancel = cancel
        self._warn = warn
        self._seconds: Mapping[str, float] = {}
        self._watched: dict[str, _Watched] = {}
        self._batched: set[str] = set()
        self._cancelled: dict[str, datetime] = {}
        self._exceeded: dict[str, float] = {}
        self._change = threading.Condition()
        self._over = False

    def watch(self, seconds: Mapping[str, float]) -> None:
        """From now on watch over these nodes, which may take so many seconds."""
        if seconds:
            self._seconds = seconds
            threading.Thread(target=self._keep, name="runner-deadlines", daemon=True).start()

    def saw(self, name: str, unique_id: str) -> None:
        """dbt says so of a node, on one of its threads. Batches of a model have events that look like the model's."""
        if unique_id not in self._seconds:
            return
        with self._change:
            if name == _BEGIN:
                self._watched.setdefault(unique_id, _Watched(due=time.monotonic() + self._seconds[unique_id]))
                self._change.notify()
            elif name == _BATCH:
                self._batched.add(unique_id)
            elif name in _RESULTS or unique_id not in self._batched:
                self._batched.discard(unique_id)
                self._watched.pop(unique_id, None)

    def exceeded(self, unique_id: str, seconds: float) -> None:
        """A node was cancelled for taking longer than this, by somebody else."""
        self._exceeded[unique_id] = seconds

    def over(self) -> None:
        """Nothing is left to watch over."""
        with self._change:
            self._over = True
            self._change.notify()

    def marked(self, data: Line) -> Line:
        """A result of a node, with the seconds of its deadline if it failed for that."""
        unique_id = data["unique_id"]
        cancelled = self._cancelled.get(unique_id)
        if cancelled is not None and unique_id not in self._exceeded:
            ended = data.get("completed_at")
            if data["status"] in FAILURES and (not ended or moment(ended) >= cancelled):
                self._exceeded[unique_id] = self._seconds[unique_id]
        if unique_id not in self._exceeded or data["status"] not in FAILURES:
            return data
        return {**data, "deadline_seconds": self._exceeded[unique_id]}

    def _keep(self) -> None:
        while True:
            with self._change:
                now = time.monotonic()
                late = [one for one, node in self._watched.items() if node.due <= now]
                if self._over:
                    return
                if not late:
                    due = min((node.due for node in self._watched.values()), default=None)
                    self._change.wait(None if due is None else due - now)
                    continue
            for unique_id in late:
                self._end(unique_id)

    def _end(self, unique_id: str) -> None:
        """Cancel what a node asks of the warehouse now; and again after a while, as long as it has not ended."""
        first = unique_id not in self._cancelled
        # Before it is: the result may be printed while this thread waits for the answer of the warehouse.
        self._cancelled.setdefault(unique_id, datetime.now(timezone.utc))
        cancelled = False
        try:
            cancelled = self._cancel(unique_id)
        except Exception as error:  # noqa: BLE001 - a driver's: it is tried again
            if first:
                self._warn(f"the query of {unique_id} was not cancelled at its deadline: {error!r}")
        with self._change:
            node: Any = self._watched.get(unique_id)
            if node is not None:
                node.due = time.monotonic() + _AGAIN_SECONDS
        if first and not cancelled:
            self._cancelled.pop(unique_id, None)
