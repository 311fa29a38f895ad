"""From the plan of a run with `spec.mode: Async` to the results of its nodes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, Callable

from dbt_operator.runner import async_results, error_kinds, executors, parts
from dbt_operator.runner.async_reports import Reports, now
from dbt_operator.runner.executors import BudgetError, ChangedError, Executor, StatementError, Work
from dbt_operator.runner.given import Given
from dbt_operator.runner.options import Options
from dbt_operator.runner.outcome import Outcome, failed
from dbt_operator.runner.output import Line
from dbt_operator.runner.rendering import DBT, INLINED
from dbt_operator.runner.schedule import FAILURES, Schedule

_FAIL_FAST = "Skipping due to fail_fast"
# Of what dbt has nothing to do for it has no result.
_NOTHING: Line = {"status": "success", "message": None, "failures": None, "execution_time": 0.0}
# Between two statements of a node there is nothing to cancel.
_AGAIN_SECONDS = 1.0


class Execution:
    """Executes each node as soon as what it waits for is done: without dbt, or in a batch by dbt.

    dbt: executes the nodes of a file, by the options of a part. stop_dbt: has that end early, for ever.
    """

    def __init__(
        self,
        *,
        plan: Line,
        connection: Line,
        options: Options,
        reports: Reports,
        folder: Path,
        dbt: Callable[[dict[str, str]], Awaitable[parts.Ended]],
        stop_dbt: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._nodes: dict[str, Line] = plan["nodes"]
        self._reports = reports
        self._folder = folder
        self._dbt = dbt
        self._stop_dbt = stop_dbt
        self._given = Given(options.nodes)
        settings: Line = json.loads(options.async_settings or "{}")
        self._executor: Executor = executors.executor(
            adapter=plan["adapter"],
            connection=connection,
            settings=settings,
            context=executors.Context(
                run_uid=options.run_uid,
                run=options.run,
                namespace=options.namespace,
                attempt=options.attempt,
                began_in=lambda one: self._given.began_in(one) or options.began_in,
                report=reports.output.event,
                billed_before=options.billed_before,
            ),
        )
        self._limit = int(settings.get("maxInFlight") or self._executor.limit)
        self._schedule = Schedule(
            waits={one: node["waits"] for one, node in self._nodes.items()},
            by_dbt=[one for one, node in self._nodes.items() if node["executor"] == DBT],
        )
        self._results: dict[str, Line] = {}
        self._running: dict[asyncio.Task[None], str] = {}
        self._batch: asyncio.Task[None] | None = None
        # Who has ended says so: to wait for hundreds of tasks by asyncio's own means costs time for each of them, each
        # time that one has ended.
        self._over: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._failed: Outcome | None = None

    def stop(self) -> None:
        """Begin nothing more, and have what runs cancelled."""
        self._stop_dbt()
        self._stopping.set()

    async def run(self) -> Outcome:
        """Execute all nodes."""
        self._reports.output.event("CommandStarted", {"command": self._plan["command"]})
        self._tell_executors(self._nodes)
        self._reports.output.event("ConcurrencyLine", self._plan["concurrency"])
        stopping = asyncio.ensure_future(self._cancel_when_stopped())
        try:
            self._begin()
            while self._running or self._batch is not None:
                self._take(await self._over.get())
                while not self._over.empty():
                    self._take(self._over.get_nowait())
                self._begin()
        finally:
            stopping.cancel()
            await self._executor.close()
        return self._outcome()

    def _begin(self) -> None:
        if self._stopping.is_set() or self._failed is not None:
            return
        for one in self._schedule.ready(most=self._limit - len(self._running)):
            self._running[self._begun(self._execute(one))] = one
        batch = self._schedule.batch() if self._batch is None else []
        if batch:
            self._batch = self._begun(self._execute_batch(batch))

    def _begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._over.put_nowait)
        return task

    def _take(self, task: asyncio.Task[None]) -> None:
        """Something has ended. Raises: what it has raised."""
        self._running.pop(task, None)
        self._batch = None if task is self._batch else self._batch
        task.result()

    async def _cancel_when_stopped(self) -> None:
        """Ask for the end of all that runs, again and again; how it has ended is told by the tasks."""
        await self._stopping.wait()
        while True:
            await asyncio.gather(*(self._executor.cancel(one) for one in self._running.values()))
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _execute(self, unique_id: str) -> None:
        node = self._nodes[unique_id]
        if node["executor"] == INLINED:
            self._end(node["info"], {"unique_id": unique_id, **_NOTHING})
            return
        info = self._reports.begun(node)
        clock = time.monotonic()
        deadline, query = None, ""
        try:
            result, deadline, query = await self._answered(unique_id, node)
        except ChangedError as error:
            node.update(executor=DBT, reason=str(error))
            self._tell_executors({unique_id: node})
            self._schedule.give_to_dbt(unique_id)
            return
        except BudgetError as error:
            self._failed = self._failed or failed(kind=error_kinds.OTHER, message=str(error))
            result = {"status": "error", "message": str(error), "failures": None}
        if self._stopping.is_set() and result["status"] == "error":
            # The error is that of the cancelling: the node is open, as it is where dbt cancels its query.
            self._reports.cancelled(unique_id)
            return
        times = {"started_at": info["node_started_at"], "completed_at": now()}
        result.update(
            unique_id=unique_id,
            execution_time=time.monotonic() - clock,
            compiled_code=node["compiled_code"],
            timing=[times],
        )
        self._end(info, result, deadline=deadline, query=query)

    async def _answered(self, unique_id: str, node: Line) -> tuple[Line, float | None, str]:
        """The result of a node, the deadline for which it was cancelled, and the query that has failed."""
        work = Work(
            unique_id=unique_id,
            statements=tuple(node["statements"]),
            main=node["main"],
            expects=tuple(node["expects"]),
            fetches=node["kind"] == "test",
        )
        deadline: float | None = node.get("deadline")
        task = asyncio.ensure_future(self._executor.execute(work))
        _, waiting = await asyncio.wait({task}, timeout=deadline)
        late = bool(waiting)
        while waiting:
            await self._executor.cancel(unique_id)
            _, waiting = await asyncio.wait({task}, timeout=_AGAIN_SECONDS)
        try:
            return async_results.success(node, await task, warn_error=self._plan["warn_error"]), None, ""
        except StatementError as error:
            query = str(work.statements[error.at].get("sql", ""))
            return async_results.failure(node, error), deadline if late else None, query

    def _end(self, info: Line, result: Line, **more: Any) -> None:
        self._reports.ended(info, result, **more)
        self._results[result["unique_id"]] = result
        self._follow(result["unique_id"], result["status"])

    def _follow(self, unique_id: str, status: str) -> None:
        """What follows from the end of a node for others."""
        for one in self._schedule.ended(unique_id, status):
            self._results[one] = self._reports.skipped(one, None)
        if self._plan["fail_fast"] and status in FAILURES:
            self.stop()

    async def _execute_batch(self, batch: list[str]) -> None:
        file = self._given.write(batch, folder=self._folder)
        options = {
            "--nodes": str(file),
            # Of what is asked of the attempt the first part has done these.
            "--parse-cache": "",
            "--source-freshness": "",
            "--stale-parents": "",
            "--microbatch-end": self._plan["microbatch_end"],
        }
        ended = await self._dbt(options)
        found = {result["unique_id"]: result for result in ended.outcome.results or ()}
        self._results.update(found)
        if ended.outcome.kind:
            self._failed = self._failed or ended.outcome
            return
        for one in batch:
            self._follow(one, found.get(one, _NOTHING)["status"])

    def _tell_executors(self, nodes: dict[str, Line]) -> None:
        self._reports.executors(
            {"unique_id": one, "executor": node["executor"], **({"reason": node["reason"]} if node["reason"] else {})}
            for one, node in nodes.items()
            if node["executor"] != INLINED
        )

    def _outcome(self) -> Outcome:
        if self._plan["fail_fast"] and self._stopping.is_set():
            for one in self._nodes.keys() - self._results.keys():
                self._results[one] = self._reports.skipped(one, _FAIL_FAST)
        inlined = {one for one, node in self._nodes.items() if node["executor"] == INLINED}
        # dbt has no results of what is a part of others.
        results = [one for one in self._results.values() if one["unique_id"] not in inlined]
        if self._failed is not None:
            return Outcome(exit_code=2, kind=self._failed.kind, message=self._failed.message, results=results)
        left = self._schedule.left
        if left and not self._stopping.is_set():
            message = f"nothing is left that could be executed, but {len(left)} nodes still wait, such as {left[0]}"
            return failed(kind=error_kinds.OTHER, message=message)
        return Outcome(exit_code=int(any(one["status"] in FAILURES for one in results)), results=results)
