"""A run with `spec.mode: Async`: dbt renders, then this process, which has no dbt in it, executes the statements.

dbt's own processes are parts of the attempt (`parts`): one before the first node, and one for each batch of nodes that
only dbt can execute. Between them nothing of dbt is in memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Callable

from dbt_operator.runner import parts, rendering
from dbt_operator.runner.async_reports import Reports
from dbt_operator.runner.execution import Execution
from dbt_operator.runner.options import Options
from dbt_operator.runner.outcome import INTERRUPTED, Outcome
from dbt_operator.runner.output import Line
from dbt_operator.runner.signals import Cancellation

# A signal's handler may not do much more than remember it.
_LOOK_SECONDS = 0.1


class AsyncInvocations:
    """One run of dbt's processes and of an executor: the same for the session as dbt in its own process."""

    def __init__(self, *, argv: list[str], options: Options, reports: Reports, cancellation: Cancellation) -> None:
        self.phase = "start"
        self.command = ""
        self.invocation_id = ""
        self.manifest: Any = None
        self._argv = argv
        self._start = os.getcwd()  # noqa: PTH109 - a text for other processes; dbt's folder is another one later
        self._options = options
        self._reports = reports
        self._cancellation = cancellation

    def run(self) -> Outcome:
        """All parts. Raises: parts.PartDiedError."""
        with tempfile.TemporaryDirectory(prefix="dbt-operator-async-") as folder:
            own = parts.Parts(
                argv=self._argv, start=self._start, folder=Path(folder), print_line=self._reports.passed_on
            )
            return asyncio.run(self._run(own))

    def cancel_queries(self) -> None:
        """Nothing: the wish to stop is looked for here, and each part cancels its own."""

    async def _run(self, own: parts.Parts) -> Outcome:
        watch = asyncio.ensure_future(self._stop_when_asked(own.stop))
        try:
            connection: list[Line] = []
            rendered = await self._part(own, parts.RENDER, {}, connection)
            file = own.folder / rendering.PLAN
            if not file.exists() or rendered.outcome.cancelled or self._cancellation.requested:
                return rendered.outcome if not self._cancellation.requested else INTERRUPTED
            plan = json.loads(file.read_text(encoding="utf-8"))
            self.phase, self.command = "execute", plan["command"]
            execution = Execution(
                plan=plan,
                connection=connection[0],
                options=self._options,
                reports=self._reports,
                folder=own.folder,
                dbt=lambda given: self._part(own, parts.DBT, given, None),
                stop_dbt=own.stop,
            )
            watch.cancel()
            watch = asyncio.ensure_future(self._stop_when_asked(execution.stop))
            executed = await execution.run()
            if self._cancellation.requested:
                return INTERRUPTED
            before = rendered.outcome
            return Outcome(
                exit_code=max(before.exit_code, executed.exit_code),
                kind=executed.kind,
                message=executed.message,
                results=[*(before.results or ()), *(executed.results or ())],
            )
        finally:
            watch.cancel()

    async def _stop_when_asked(self, stop: Callable[[], None]) -> None:
        while not self._cancellation.requested:  # noqa: ASYNC110 - a signal sets it, which can wake no event of a loop
            await asyncio.sleep(_LOOK_SECONDS)
        stop()

    async def _part(
        self, own: parts.Parts, part: str, given: dict[str, str], connection: list[Line] | None
    ) -> parts.Ended:
        loop = asyncio.get_running_loop()
        ended = await loop.run_in_executor(None, lambda: own.run(part, options=given, connection=connection))
        if part == parts.RENDER:
            self.phase, self.command = ended.said["phase"], ended.said["command"]
            self._reports.translator.known = ended.said["known"]
        self.invocation_id = ended.said["invocation_id"] or self.invocation_id
        return ended
