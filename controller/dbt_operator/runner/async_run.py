"""A run with `spec.mode: Async`: dbt renders, then this process, which has no dbt in it, executes the statements.

dbt's own processes are parts of the attempt (`parts`): one before the first node, and one for each batch of nodes that only
dbt can execute. Between them nothing of dbt is in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

from dbt_operator.runner import async_results, error_kinds, graph, parts, rendering
from dbt_operator.runner.compiled import FAILURES, excerpt
from dbt_operator.runner.deadlines import Deadlines
from dbt_operator.runner.executors import Answer, BudgetError, ChangedError, Executor, StatementError, Work, executor
from dbt_operator.runner.given import Given
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.options import Options
from dbt_operator.runner.outcome import INTERRUPTED, Outcome, failed
from dbt_operator.runner.output import Line, Output
from dbt_operator.runner.schedule import Schedule
from dbt_operator.runner.signals import Cancellation
from dbt_operator.runner.translator import Translator, node_result

_LOOK_SECONDS = 0.1
_INLINED: Line = {"status": "success", "message": None, "failures": None, "execution_time": 0.0}
_NOTHING: Line = {"status": "success"}
_FAIL_FAST = "Skipping due to fail_fast"


class PartDiedError(Exception):
    """A process of dbt was killed, which is an end of the whole attempt. `signal`: by which."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"dbt was killed by signal {signal}")
        self.signal = signal


class AsyncInvocations:
    """One run of dbt's processes and of an executor: the same for the session as dbt in its own process."""

    def __init__(
        self,
        *,
        argv: list[str],
        options: Options,
        output: Output,
        translator: Translator,
        masker: Masker,
        cancellation: Cancellation,
        deadlines: Deadlines,
    ) -> None:
        self.phase = "start"
        self.command = ""
        self.invocation_id = ""
        self.manifest: Any = None
        self._argv = argv
        self._options = options
        self._output = output
        self._translator = translator
        self._masker = masker
        self._cancellation = cancellation
        self._deadlines = deadlines

    def run(self) -> Outcome:
        """All parts. Raises: PartDiedError."""
        with tempfile.TemporaryDirectory(prefix="dbt-operator-async-") as folder:
            self._parts = parts.Parts(argv=self._argv, folder=Path(folder), print_line=self._print)
            return asyncio.run(self._run())

    def cancel_queries(self) -> None:
        """Nothing: this process looks for the wish to stop itself, and dbt's cancel theirs."""

    async def _run(self) -> Outcome:
        watch = asyncio.ensure_future(self._stop_when_asked(self._parts.stop))
        try:
            connection: list[Line] = []
            ended = await self._part(parts.RENDER, {}, connection=connection)
            plan = self._parts.folder / rendering.PLAN
            if not plan.exists():
                return outcome_of(ended)
            execution = Execution(
                plan=json.loads(plan.read_text(encoding="utf-8")), run=self, rendered=ended, connection=connection[0]
            )
            watch.cancel()
            watch = asyncio.ensure_future(self._stop_when_asked(execution.stop))
            return await execution.run()
        finally:
            watch.cancel()

    async def _stop_when_asked(self, stop: Callable[[], None]) -> None:
        # The signal's handler may not do much more than remember it.
        while not self._cancellation.requested:
            await asyncio.sleep(_LOOK_SECONDS)
        stop()

    async def _part(
        self, part: str, options: dict[str, str], *, connection: list[Line] | None = None
    ) -> parts.Ended:
        loop = asyncio.get_running_loop()
        ended = await loop.run_in_executor(
            None, lambda: self._parts.run(part, options=options, connection=connection)
        )
        if not ended.said:
            raise PartDiedError(ended.signal)
        said = ended.said
        self.phase, self.invocation_id = said["phase"], said["invocation_id"] or self.invocation_id
        self.command = said["command"] or self.command
        self._translator.known = said["known"] or self._translator.known
        return ended

    def _print(self, line: Line) -> None:
        if line["info"]["name"] == "NodeResult":
            self._translator.results[line["data"]["unique_id"]] = line["data"]
        self._output.line(line)


class Execution:
    """From the plan to the results of all nodes."""

    def __init__(self, *, plan: Line, run: AsyncInvocations, rendered: parts.Ended, connection: Line) -> None:
        self._run = run
        self._nodes: dict[str, Line] = plan["nodes"]
        self._plan = plan
        self._rendered = rendered
        self._connection = connection
        by_dbt = [one for one, node in self._nodes.items() if node["executor"] == rendering.DBT]
        self._schedule = Schedule(waits={one: node["waits"] for one, node in self._nodes.items()}, by_dbt=by_dbt)
        self._settings: Line = json.loads(run._options.async_settings or "{}")
        self._given = Given(run._options.nodes)
        self._executor: Executor | None = None
        self._results: dict[str, Line] = {}
        self._running: dict[asyncio.Task[Any], str] = {}
        self._batch: asyncio.Task[Any] | None = None
        self._stopped = False
        self._failed: Outcome | None = None
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Begin nothing more, and have what runs cancelled."""
        self._stopped = True
        self._run._parts.stop()
        self._changed.set()

    async def run(self) -> Outcome:
        """Execute all nodes, each as soon as what it waits for is done."""
        run = self._run
        run.phase, run.command = "execute", self._plan["command"]
        run._output.event("CommandStarted", {"command": run.command})
        self._tell_executors(self._nodes)
        run._output.event("ConcurrencyLine", self._plan["concurrency"])
        try:
            self._executor = executor(
                adapter=self._plan["adapter"],
                connection=self._connection,
                settings=self._settings,
                run_uid=run._options.run_uid,
            )
            limit = int(self._settings.get("maxInFlight") or self._executor.limit)
            while not self._done():
                self._begin(limit)
                if not self._running and self._batch is None:
                    break
                await self._wait()
        finally:
            if self._executor is not None:
                await self._executor.close()
        return self._outcome()

    def _done(self) -> bool:
        over = self._stopped or self._failed is not None
        return over and not self._running and self._batch is None

    def _begin(self, limit: int) -> None:
        if self._stopped or self._failed is not None:
            return
        for one in self._schedule.ready(most=limit - len(self._running)):
            self._running[asyncio.ensure_future(self._execute(one))] = one
        if self._batch is None:
            batch = self._schedule.batch()
            if batch:
                self._batch = asyncio.ensure_future(self._execute_batch(batch))

    async def _wait(self) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        batch = [self._batch] if self._batch is not None else []
        done, _ = await asyncio.wait({changed, *self._running, *batch}, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if changed in done:
            self._changed.clear()
            await self._cancel_all()
        for task in done - {changed}:
            self._running.pop(task, None)
            if task is self._batch:
                self._batch = None
            task.result()

    async def _cancel_all(self) -> None:
        """Ask for the end of all that runs; how it has ended is told by the tasks."""
        assert self._executor is not None
        await asyncio.gather(*(self._executor.cancel(one) for one in self._running.values()))

    # -- without dbt

    async def _execute(self, unique_id: str) -> None:
        node = self._nodes[unique_id]
        began, clock = _now(), time.monotonic()
        if node["executor"] == rendering.INLINED:
            self._report(node["info"], {"unique_id": unique_id, **_INLINED})
            return
        info = {**node["info"], "node_status": "started", "node_started_at": began, "node_finished_at": ""}
        self._run._output.event("LogStartLine", {"description": f"{node['kind']} {node['name']}", "node_info": info})
        try:
            result = await self._answered(unique_id, node)
        except ChangedError as error:
            node.update(executor=rendering.DBT, reason=str(error))
            self._tell_executors({unique_id: node})
            self._schedule.give_to_dbt(unique_id)
            return
        except BudgetError as error:
            self._fail(failed(kind=error_kinds.OTHER, message=str(error)))
            result = {"status": "error", "message": str(error), "failures": None}
        if self._stopped and result["status"] == "error":
            # The error is that of the cancelling, and the node's fate is open, as with dbt.
            self._run._output.event("LogCancelLine", {"conn_name": unique_id})
            return
        result.update(
            unique_id=unique_id,
            execution_time=time.monotonic() - clock,
            compiled_code=node["compiled_code"],
            timing=[{"started_at": began, "completed_at": _now()}],
        )
        self._report(info, result, deadline=result.pop("deadline", None), query=result.pop("query", ""))

    async def _answered(self, unique_id: str, node: Line) -> Line:
        assert self._executor is not None
        work = Work(
            unique_id=unique_id,
            statements=tuple(node["statements"]),
            main=node["main"],
            expects=tuple(node["expects"]),
            fetches=node["kind"] == "test",
        )
        deadline = node.get("deadline")
        task = asyncio.ensure_future(self._executor.execute(work))
        late = False
        if deadline is not None:
            _, waiting = await asyncio.wait({task}, timeout=deadline)
            late = bool(waiting)
            while waiting:
                # Between two statements there is nothing to cancel.
                await self._executor.cancel(unique_id)
                _, waiting = await asyncio.wait({task}, timeout=1.0)
        try:
            answer: Answer = await task
            return async_results.success(node, answer, warn_error=self._plan["warn_error"])
        except StatementError as error:
            found = async_results.failure(node, error)
            found["query"] = str(work.statements[error.at].get("sql", ""))
            if late:
                found["deadline"] = deadline
            return found

    def _report(self, info: Line, result: Line, *, deadline: float | None = None, query: str = "") -> None:
        run = self._run
        unique_id = result["unique_id"]
        if deadline is not None:
            run._deadlines.exceeded(unique_id, deadline)
        known = run._translator.known.get(unique_id, {})
        data = run._deadlines.marked(node_result(node=info, result=result, known=known, masker=run._masker))
        if query and data["status"] in FAILURES:
            lines = excerpt(query=query, message=str(result["message"] or ""), masker=run._masker)
            data.update({"excerpt": lines} if lines else {})
        run._translator.results[unique_id] = data
        run._output.event("NodeResult", data)
        self._ended(unique_id, result)

    def _ended(self, unique_id: str, result: Line) -> None:
        self._results[unique_id] = result
        for skipped in self._schedule.ended(unique_id, result["status"]):
            self._skip(skipped, None)
        if self._plan["fail_fast"] and result["status"] in FAILURES and not self._stopped:
            self.stop()

    def _skip(self, unique_id: str, message: str | None) -> None:
        run = self._run
        known = run._translator.known[unique_id]
        info = {
            "unique_id": unique_id,
            "node_name": known["name"],
            "resource_type": known["resource_type"],
            "materialized": known["materialized"],
            "node_status": "skipped",
        }
        result: Line = {"unique_id": unique_id, "status": "skipped", "message": message, "execution_time": 0.0}
        self._results[unique_id] = {**result, "failures": None}
        run._output.event("SkippingDetails", {"resource_type": known["resource_type"], "node_info": info})
        data = node_result(node=info, result=result, known=known, masker=run._masker)
        run._translator.results[unique_id] = data
        run._output.event("NodeResult", data)

    # -- by dbt

    async def _execute_batch(self, batch: list[str]) -> None:
        file = self._given.write(batch, folder=self._run._parts.folder)
        options = {
            "--nodes": str(file),
            "--parse-cache": "",
            "--source-freshness": "",
            "--stale-parents": "",
            "--microbatch-end": self._plan["microbatch_end"],
        }
        ended = await self._run._part(parts.DBT, options)
        self._run.phase = "execute"
        found = {result["unique_id"]: result for result in ended.outcome["results"] or ()}
        self._results.update(found)
        if ended.outcome["kind"]:
            self._fail(outcome_of(ended))
            return
        for one in batch:
            # Of what dbt has nothing to do for it has no result.
            for skipped in self._schedule.ended(one, found.get(one, _NOTHING)["status"]):
                self._skip(skipped, None)
        if self._stopped:
            return
        if self._plan["fail_fast"] and ended.outcome["exit_code"]:
            self.stop()

    def _fail(self, outcome: Outcome) -> None:
        self._failed = self._failed or outcome

    # -- all of it

    def _tell_executors(self, nodes: dict[str, Line]) -> None:
        told = [
            {"unique_id": one, "executor": node["executor"], **({"reason": node["reason"]} if node["reason"] else {})}
            for one, node in nodes.items()
            if node["executor"] != rendering.INLINED
        ]
        for part in graph.parts(items=told, key="nodes"):
            self._run._output.event("Executors", part)

    def _outcome(self) -> Outcome:
        before = self._rendered.outcome
        if self._run._cancellation.requested:
            return INTERRUPTED
        if self._plan["fail_fast"] and self._stopped:
            for one in self._nodes:
                if one not in self._results:
                    self._skip(one, _FAIL_FAST)
        elif self._schedule.left and self._failed is None:
            message = f"nothing is left that could be executed, but {len(self._schedule.left)} nodes still wait"
            return failed(kind=error_kinds.OTHER, message=message)
        inlined = {one for one, node in self._nodes.items() if node["executor"] == rendering.INLINED}
        own = [result for one, result in self._results.items() if one not in inlined or result["status"] != "success"]
        results = [*(before["results"] or ()), *own]
        bad = any(result["status"] in FAILURES for result in self._results.values())
        code = before["exit_code"] or int(bad)
        if self._failed is not None:
            failure = self._failed
            return Outcome(exit_code=2, cancelled=False, kind=failure.kind, message=failure.message, results=results)
        return Outcome(exit_code=code, results=results)


def outcome_of(ended: parts.Ended) -> Outcome:
    """What a part has ended with, as the end of the attempt."""
    with contextlib.suppress(KeyError):
        return Outcome(**ended.outcome)
    raise PartDiedError(ended.signal)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
