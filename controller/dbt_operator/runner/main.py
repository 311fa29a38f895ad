"""The order of things: signals, interpreter, output, environment, dbt, record."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NoReturn

from dbt_operator import __version__
from dbt_operator.runner import (
    compiled,
    environment,
    error_kinds,
    graph,
    interpreter,
    parts,
    results,
    steps,
    venv_place,
)
from dbt_operator.runner.artifacts import Artifacts
from dbt_operator.runner.as_attributes import as_line
from dbt_operator.runner.async_reports import Reports
from dbt_operator.runner.async_run import AsyncInvocations
from dbt_operator.runner.bigquery import Jobs
from dbt_operator.runner.by_program import ProgramInvocations
from dbt_operator.runner.capture import Capture
from dbt_operator.runner.deadlines import Deadlines
from dbt_operator.runner.deps import Packages
from dbt_operator.runner.invocation import Invocations
from dbt_operator.runner.kept_sql import KeptSql
from dbt_operator.runner.masking import Masker, secret_values
from dbt_operator.runner.memory import MemoryWatch
from dbt_operator.runner.options import Options, parse_options
from dbt_operator.runner.outcome import INTERRUPTED, Outcome, failed
from dbt_operator.runner.output import Line, Output
from dbt_operator.runner.program import Program
from dbt_operator.runner.queries import cancel_queries_of, loaded_adapters
from dbt_operator.runner.signals import Cancellation, leave
from dbt_operator.runner.translator import Callback, Translator, converter

FORMAT = 1
_FLUSH_SECONDS = 10.0
# A run that was told to stop has little time left, and its files were printed long ago unless it came right after them.
_CANCELLED_SECONDS = 1.0


def main() -> NoReturn:
    """The program: never returns."""
    steps.run_if_asked(sys.argv[1:])
    began = time.monotonic()
    cancellation = Cancellation()
    cancellation.install()
    options = parse_options(argv=sys.argv[1:])
    interpreter.continue_in_dbts_interpreter(environment=options.environment)
    session = Session(options=options, cancellation=cancellation, began=began)
    outcome = session.run()
    leave(code=outcome.exit_code, cancelled=outcome.cancelled)


class Session:
    """One run from RunnerStarted to RunFinished."""

    def __init__(self, *, options: Options, cancellation: Cancellation, began: float) -> None:
        self._options = options
        self._cancellation = cancellation
        self._began = began
        self._masker = Masker(
            values=secret_values(names=options.secret_env, files=_secret_files(options), environ=os.environ)
        )
        # Chosen by what the image has: a dbt that can be imported, or one that is a program.
        self._program = interpreter.program()
        self._to_line: Callable[[Any], Line] = as_line
        self._capture = Capture(emit=self._emit_output, masker=self._masker)
        queries = compiled.Queries()
        self._deadlines = Deadlines(cancel=self._cancel_queries_of, warn=self._warn)
        self._translator = Translator(
            convert=self._convert,
            speak=self._capture.text,
            masker=self._masker,
            queries=queries,
            deadlines=self._deadlines,
        )
        self._output = Output(fd=self._capture.redirect(), masker=self._masker, translate=self._translator.lines)
        self._callback = Callback(put=self._output.message, warn=self._warn, queries=queries, deadlines=self._deadlines)
        self._artifacts = Artifacts(output=self._output, masker=self._masker)
        self._memory = MemoryWatch(report=self._report_memory)
        # Of the parts of such an attempt this process is none: dbt is imported in theirs.
        self._apart = bool(options.executor) and not options.part
        self._invocations = self._choose()
        self._finishing = threading.Lock()

    def _choose(self) -> Invocations | ProgramInvocations | AsyncInvocations:
        if self._program:
            return self._by_program()
        return self._in_parts() if self._apart else self._by_python()

    def _in_parts(self) -> AsyncInvocations:
        reports = Reports(
            output=self._output, translator=self._translator, masker=self._masker, deadlines=self._deadlines
        )
        return AsyncInvocations(argv=sys.argv, options=self._options, reports=reports, cancellation=self._cancellation)

    def _by_python(self) -> Invocations:
        return Invocations(
            options=self._options,
            output=self._output,
            artifacts=self._artifacts,
            packages=Packages(options=self._options, environ=os.environ, masker=self._masker),
            callback=self._callback,
            translator=self._translator,
            cancellation=self._cancellation,
            deadlines=self._deadlines,
            jobs=Jobs(
                run_uid=self._options.run_uid,
                labels={
                    "run": self._options.run,
                    "namespace": self._options.namespace,
                    "attempt": self._options.attempt,
                },
                stopped=lambda: bool(self._cancellation.requested),
                report=self._output.event,
                warn=self._warn,
            ),
            kept_sql=KeptSql(
                options=self._options, masker=self._masker, stopped=lambda: bool(self._cancellation.requested)
            ),
        )

    def _by_program(self) -> ProgramInvocations:
        return ProgramInvocations(
            program=Program(path=self._program, cancellation=self._cancellation, speak=self._capture.text),
            options=self._options,
            output=self._output,
            artifacts=self._artifacts,
            callback=self._callback,
            translator=self._translator,
        )

    def run(self) -> Outcome:
        """Everything after the descriptors are ours. Ends with RunFinished whatever happens."""
        self._start()
        try:
            outcome = self._drive()
        except KeyboardInterrupt:
            outcome = INTERRUPTED
        except parts.PartDiedError as died:
            if died.signal:
                # As dbt in this process would have ended: without a record.
                os._exit(128 + died.signal)
            outcome = failed(kind=error_kinds.OTHER, message="a process of dbt has ended without saying how")
        except Exception as error:  # noqa: BLE001 - the last line is printed whatever happens
            # A mistake of ours, or an image too strange: the record has to be written all the same.
            outcome = failed(kind=error_kinds.OTHER, message=f"{type(error).__name__}: {error}")
        return self._finish(outcome)

    def _start(self) -> None:
        options = self._options
        self._output.event(
            "RunnerStarted",
            {
                "format": FORMAT,
                "runner_version": __version__,
                "python": platform.python_version(),
                "attempt": options.attempt,
                "run_uid": options.run_uid,
                "dbt_version": interpreter.dbt_version(),
            },
        )
        self._output.start()
        self._capture.start()
        if options.part:
            parts.end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
        self._cancellation.start(
            announce=self._announce,
            cancel_queries=self._invocations.cancel_queries,
            give_up=self._give_up,
            grace_seconds=options.grace_seconds,
        )

    def _drive(self) -> Outcome:
        options = self._options
        if options.found:
            # By these something is decided, and no step writes a secret there.
            self._output.event("Found", steps.found_in(options.found), masked=False)
        unusable = self._unusable_dbt()
        if unusable:
            return failed(kind=error_kinds.NOT_FOUND, message=unusable)
        if not options.dbt_args:
            return failed(kind=error_kinds.USAGE, message="no dbt command was given")
        if options.project_dir:
            try:
                # dbt looks for profiles.yml, .env files and relative paths of databases from where it was started.
                os.chdir(options.project_dir)
            except OSError as error:
                return failed(kind=error_kinds.PROJECT, message=f"the project directory cannot be used: {error}")
        for problem in environment.prepare(
            environ=os.environ,
            project_dir=Path.cwd(),
            profiles_dir=options.profiles_dir,
            attempt_kind=options.attempt_kind,
        ):
            self._warn(problem)
        if options.environment:
            venv_place.read_place(options.environment).keep()
        self._memory.start()
        return self._invocations.run()

    def _unusable_dbt(self) -> str:
        if self._options.environment and not interpreter.in_environment(self._options.environment):
            return f"the environment that was made for dbt cannot be used by {sys.executable}"
        if self._program:
            return ""
        version = interpreter.dbt_version()
        if not version:
            where = f"for {sys.executable} or behind a `dbt` on PATH"
            return f"no dbt-core was found {where}: the image has no dbt"
        if not interpreter.supported(version):
            return f"dbt-core {version} is too old: 1.8 or newer is needed"
        if self._apart:
            return ""
        try:
            # What an import makes stays, so there is no garbage to look for, then or later.
            gc.disable()
            with self._cancellation.interruptible():
                importlib.import_module("dbt.cli.main")
                self._to_line = converter()
        except ImportError as error:
            return f"dbt-core {version} cannot be imported by {sys.executable}: {error}"
        finally:
            gc.freeze()
            gc.enable()
        return ""

    def _finish(self, outcome: Outcome) -> Outcome:
        # Main thread and watchdog may both come here, and the last line is printed once.
        if not self._finishing.acquire(blocking=False):
            threading.Event().wait()
        self._cancellation.over()
        self._deadlines.over()
        self._memory.stop()
        self._capture.stop(timeout=1.0)
        # What dbt has said last is a result yet.
        self._output.drain(timeout=_FLUSH_SECONDS)
        known, reported = self._translator.known, self._translator.results
        found = outcome.results
        if found is None:
            ephemeral = {unique_id for unique_id, node in known.items() if node["materialized"] == "ephemeral"}
            found = [result for result in reported.values() if result["unique_id"] not in ephemeral]
        if self._invocations.manifest is not None:
            hooks = graph.hooks_by_kind(manifest=self._invocations.manifest)
            found = results.with_hooks(results=found, reported=reported, hooks=hooks)
        if not self._options.part:
            self._keep_compiled(found)
        self._artifacts.finish(timeout=_CANCELLED_SECONDS if outcome.cancelled else _FLUSH_SECONDS)
        for late in results.late_results(results=found, reported=reported, known=known, masker=self._masker):
            self._output.event("NodeResult", self._deadlines.marked(late))
        for each in found:
            if each.get("freshness"):
                self._output.event("Freshness", {"unique_id": each["unique_id"], **each["freshness"]})
        if self._options.part:
            self._leave(outcome, found)
            return outcome
        entries = [self._deadlines.marked(one) for one in results.digest_entries(results=found, masker=self._masker)]
        for part in graph.parts(items=entries, key="results"):
            # The digest is about just these bytes.
            self._output.event("RunResults", part, masked=False)
        self._output.finish("RunFinished", self._record(outcome, entries), timeout=_FLUSH_SECONDS)
        return outcome

    def _leave(self, outcome: Outcome, found: list[Line]) -> None:
        """The end of a part: the record is that of the whole attempt."""
        by_id = dict(compiled_of(compiled.codes(results=found, manifest=self._invocations.manifest)))
        results = [{**self._deadlines.marked(one), "compiled_code": by_id.get(one["unique_id"])} for one in found]
        ended = {
            "outcome": {**dataclasses.asdict(outcome), "results": None if outcome.results is None else results},
            "phase": self._invocations.phase,
            "command": self._invocations.command,
            "invocation_id": self._invocations.invocation_id,
            "known": self._translator.known if self._options.part == parts.RENDER else {},
        }
        parts.leave(ended, folder=self._options.part_folder)
        self._output.finish("PartFinished", {}, timeout=_FLUSH_SECONDS)

    def _keep_compiled(self, found: list[Line]) -> None:
        try:
            codes = compiled.codes(results=found, manifest=self._invocations.manifest)
            if codes:
                content = compiled.content(found=codes, masker=self._masker)
                self._artifacts.add(name=compiled.FILE, content=content)
        except Exception as error:  # noqa: BLE001 - it is for the user: no reason to fail this attempt
            self._warn(f"the compiled code is not kept: {error!r}")

    def _record(self, outcome: Outcome, entries: list[Line]) -> Line:
        message = self._masker.cut(outcome.message, limit=error_kinds.MESSAGE_LENGTH)
        return {
            "exit_code": outcome.exit_code,
            "success": outcome.exit_code == 0,
            "cancelled": outcome.cancelled,
            "command": self._invocations.command,
            "invocation_id": self._invocations.invocation_id,
            "error": {"kind": outcome.kind, "message": message} if outcome.kind else None,
            "phase": self._invocations.phase,
            "results": len(entries),
            "digest": results.digest(entries=entries),
            "peak_memory_bytes": results.peak_memory_bytes(parts=self._apart),
            "elapsed_seconds": round(time.monotonic() - self._began, 3),
            "dropped": self._output.dropped + self._translator.dropped,
            "dropped_output_bytes": self._capture.dropped_bytes,
        }

    def _give_up(self) -> NoReturn:
        # dbt waits for its threads, and one of them waits for a warehouse that does not answer: what is known is
        # written while there is time, since Kubernetes will not wait.
        outcome = self._finish(INTERRUPTED)
        os._exit(outcome.exit_code)

    def _report_memory(self, peak: int) -> None:
        self._output.event("MemoryPeak", {"peak_memory_bytes": peak})

    def _cancel_queries_of(self, unique_id: str) -> bool:
        return any(cancel_queries_of(unique_id, adapter=adapter) for adapter in loaded_adapters())

    def _convert(self, message: object) -> Line:
        return self._to_line(message)

    def _announce(self, signal_name: str) -> None:
        self._output.event("CancelRequested", {"signal": signal_name})

    def _warn(self, message: str) -> None:
        self._output.event("RunnerWarning", {"message": message}, level="warn")

    def _emit_output(self, stream: str, text: str) -> None:
        self._output.event("Output", {"stream": stream, "text": text}, masked=False)


def compiled_of(codes: list[tuple[Line, str]]) -> Iterator[tuple[str, str]]:
    """The compiled code by unique id."""
    for result, code in codes:
        yield result["unique_id"], code


def _secret_files(options: Options) -> list[str]:
    # Profiles hold passwords whoever brought them.
    directories = [Path(name) for name in (options.profiles_dir, options.project_dir) if name]
    return [*options.secret_files, *(str(directory / "profiles.yml") for directory in directories)]
