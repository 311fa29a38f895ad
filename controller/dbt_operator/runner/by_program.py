"""A run of a dbt that has no Python API, as dbt 2 has none: its processes, in order, and what is read of their logs.

They are asked the same as the Python API of dbt 1: to list what the command selects, and to execute it. What a node is
stands in the manifest.json that they write.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dbt_operator.runner import bigquery, error_kinds, selection, state_files
from dbt_operator.runner.announcing import Announcer
from dbt_operator.runner.arguments import COMMANDS, LIST, Argument, Command
from dbt_operator.runner.artifacts import Artifacts
from dbt_operator.runner.as_attributes import Manifest
from dbt_operator.runner.invocation import PRINTED
from dbt_operator.runner.options import Options
from dbt_operator.runner.outcome import INTERRUPTED, Outcome, failed
from dbt_operator.runner.output import Line, Output, plain
from dbt_operator.runner.overrides import deadlines
from dbt_operator.runner.program import Ended, Program
from dbt_operator.runner.translator import Callback, Translator

_DRAIN_SECONDS = 10.0
_SHORT = {"s": "select", "m": "select", "t": "target", "f": "full_refresh", "x": "fail_fast"}
_SAME = {"models": "select", "model": "select"}
_OWN = frozenset(("log_format", "log_level", "debug", "quiet", "output", "output_keys", "help", "version"))
# The events by which dbt says what it was asked for. dbt 2 lists and shows by the first.
_ANSWERS = frozenset(("PrintEvent", "ListCmdOut", "ShowNode", "CompiledNode"))
# Databases that are one file, or one process's memory.
_FILES = frozenset(("duckdb", "sqlite"))


class ProgramInvocations:
    """One run of a program `dbt`: `phase` is how far it came, `invocation_id` that of the latest invocation."""

    def __init__(
        self,
        *,
        program: Program,
        options: Options,
        output: Output,
        artifacts: Artifacts,
        callback: Callback,
        translator: Translator,
    ) -> None:
        self.phase = "start"
        self.command = ""  # in dbt's words, once it has begun
        self.invocation_id = ""
        self.manifest: Any = None
        self._program = program
        self._options = options
        self._output = output
        self._artifacts = artifacts
        self._callback = callback
        self._translator = translator
        self._announcer = Announcer(options=options, output=output, translator=translator)

    def run(self) -> Outcome:
        """Do what the arguments say, with dbt."""
        try:
            args = (*self._options.dbt_args, *state_files.arguments(self._options.state_dir))
        except (state_files.StateError, OSError) as error:
            return failed(kind=error_kinds.STATE, message=str(error))
        command = by_form(args)
        if self._options.nodes and not command.rules.types:
            return failed(kind=error_kinds.USAGE, message=f"no command that executes nodes of a list: {command.name!r}")
        wanted = {
            "mode": self._options.stage in (LIST, "execute"),
            "tests": self._options.stage or self._options.without_tests,
            "sourceFreshness": self._options.source_freshness,
            "mode: Async": self._options.executor,
        }
        for field in (field for field, given in wanted.items() if given):
            return failed(kind=error_kinds.USAGE, message=f"spec.{field} needs a dbt with a Python API, which is dbt 1")
        return self._run_nodes(command) if command.rules.types else self._execute(command)

    def cancel_queries(self) -> None:
        """Nothing: the program does that itself, once it is asked to end."""

    def _run_nodes(self, command: Command) -> Outcome:
        self.phase = "parse"
        listed = self._list(command)
        if isinstance(listed, Outcome):
            return listed
        try:
            document = json.loads((_target() / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return failed(kind=error_kinds.OTHER, message=f"dbt has left no manifest.json that can be read: {error}")
        self.manifest = Manifest(document)
        self._artifacts.start(files=[_target() / "manifest.json"])
        self.phase = "list"
        self._announcer.learn(self.manifest)
        # dbt 2 has no such event. By the adapter it is decided whether two attempts may be at work at once.
        adapter = {"adapter_name": self.manifest.adapter_type, "adapter_version": ""}
        self._output.event("AdapterRegistered", adapter)
        if self._options.nodes:
            try:
                command, listed = self._exactly(command)
            except selection.SelectionError as error:
                return failed(kind=error_kinds.SELECTOR, message=str(error))
        chosen = self._announcer.runnable(command, listed)
        self._report_database()
        self._report_job_ids()
        self._announcer.selected(command, chosen)
        self._report_deadlines(chosen)
        return self._execute(command)

    def _list(self, command: Command) -> list[str] | Outcome:
        """The unique ids of what the command selects, or why dbt cannot tell."""
        known = self._program.options(("ls",)) - _OWN
        asked = [token for each in command.arguments if each.parameter in known for token in each.tokens]
        question = ["ls", "--output", "json", "--output-keys", "unique_id", "--log-format", "json", *asked]
        lines: list[str] = []
        ended = self._invoke(question, listening=False, lines=lines)
        if ended.interrupted:
            return INTERRUPTED
        if ended.code != 0:
            return self._failure(ended)
        return list(_unique_ids([*ended.answers, *lines]))

    def _exactly(self, command: Command) -> tuple[Command, list[str]]:
        """The command that executes just the nodes of the list. Raises: selection.SelectionError."""
        wanted = frozenset(selection.read_nodes(file=self._options.nodes))
        known = self._translator.known
        selection.check_known(wanted=wanted, known=known)
        if command.rules.unit_tests_with_model:
            selection.check_unit_tests(wanted=wanted, known=known)
        options = self._program.options(command.words)
        exact = selection.selected_by(
            command=command,
            state=selection.write_state(unique_ids=wanted),
            value=lambda parameter: _value(command, parameter),
            knows=lambda parameter: parameter in options,
        )
        listed = self._list(exact)
        if isinstance(listed, Outcome):
            raise selection.SelectionError(f"dbt cannot list the nodes to execute: {listed.message}")
        selection.check_selected(wanted=wanted, selected=self._announcer.runnable(exact, listed))
        return exact, listed

    def _execute(self, command: Command) -> Outcome:
        self.phase = "execute" if command.rules.types else "start"
        rules = command.rules
        self.command = command.name
        self._output.event("CommandStarted", {"command": command.name})
        self._output.drain(timeout=_DRAIN_SECONDS)
        self._translator.begin(nodes=bool(rules.types), begins=rules.begins)
        # dbt 1 tells the result of a node at this level only.
        level = ["--log-level", "debug"] if rules.types and not self._is_dbt_2 else []
        line = [*command.words, "--log-format", "json", *level, *command.rest]
        said: list[str] = []
        ended = self._invoke(line, listening=True, begins=rules.begins, chatty=not rules.types, lines=said)
        if rules.printed:
            self._artifacts.add_text(name=PRINTED, text="\n".join(ended.answers or said))
        if rules.files:
            self._artifacts.start(files=[_target() / name for name in rules.files])
        return self._outcome(ended, nodes=bool(rules.types))

    def _outcome(self, ended: Ended, *, nodes: bool) -> Outcome:
        if ended.interrupted:
            return INTERRUPTED
        results = self._results() if nodes else []
        if ended.code != 0 and not results and not (nodes and self._translator.results):
            return self._failure(ended)
        self.phase = "execute"
        return Outcome(exit_code=0 if ended.code == 0 else 1, results=results)

    def _failure(self, ended: Ended) -> Outcome:
        message = ended.message
        kind = error_kinds.kind_of_text(message)
        fallback = error_kinds.PARSE if self.phase == "parse" else error_kinds.OTHER
        return failed(kind=kind or fallback, message=message)

    def _invoke(
        self,
        line: list[str],
        *,
        listening: bool,
        begins: str = "",
        chatty: bool = False,
        lines: list[str],
    ) -> Ended:
        """Run dbt; `lines` gets what it was asked for, where it says that in events."""
        self._callback.follow(listening=listening, chatty=chatty, begins=begins)

        def take(message: Any) -> None:
            if message.info.name in _ANSWERS:
                lines.append(plain(str(message.info.msg)))
            self._callback(message)

        try:
            return self._program.run(line, take=take, aloud=listening)
        finally:
            self.invocation_id = self._callback.invocation_id or self.invocation_id
            self._output.invocation_id = self.invocation_id

    @property
    def _is_dbt_2(self) -> bool:
        version = self.manifest.version if self.manifest is not None else ""
        return not version.startswith("1.")

    def _results(self) -> list[Line] | None:
        """The results that dbt has written; None where it has written none of this invocation."""
        try:
            document = json.loads((_target() / "run_results.json").read_text(encoding="utf-8"))
            if document["metadata"]["invocation_id"] != self.invocation_id:
                return None
            known = self._translator.known
            # dbt 2 has results of what it writes into the text of other nodes.
            return [
                result
                for result in document["results"]
                if known.get(result["unique_id"], {}).get("materialized") != "ephemeral"
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _report_database(self) -> None:
        """What is built into a file that no volume of this pod keeps is gone with the pod."""
        if self.manifest.adapter_type in _FILES and not self._options.kept_paths:
            name = f"the database of {self.manifest.adapter_type}"
            self._output.event("DatabaseFile", {"file": name, "kept": False})

    def _report_job_ids(self) -> None:
        """A program asks BigQuery for its jobs by itself."""
        if self.manifest.adapter_type == bigquery.ADAPTER:
            self._output.event("JobIdsUnknown", {"program": f"dbt {self.manifest.version}"}, level="warn")

    def _report_deadlines(self, chosen: Iterable[str]) -> None:
        nodes = [self._translator.known[one] for one in chosen]
        seconds = deadlines(nodes=nodes, overrides=self._announcer.overrides)
        if seconds:
            data = {"adapter_name": self.manifest.adapter_type, "nodes": len(seconds)}
            self._output.event("DeadlinesIgnored", data, level="warn")


def by_form(args: tuple[str, ...]) -> Command:
    """The command line by its form alone: what does not begin like an option is a value of the one before."""
    words = next((known for size in (2, 1) if " ".join(known := args[:size]) in COMMANDS), ())
    groups: list[list[str]] = []
    for token in args[len(words) :]:
        if token.startswith("-") or not groups:
            groups.append([token])
        else:
            groups[-1].append(token)
    arguments = tuple(
        Argument(parameter=_parameter(tokens[0]), option=tokens[0].partition("=")[0], tokens=tuple(tokens))
        for tokens in groups
    )
    return Command(words=tuple(words), rest=tuple(args[len(words) :]), arguments=arguments, known=bool(words))


def _parameter(token: str) -> str:
    if not token.startswith("--"):
        return _SHORT.get(token[1:2], "")
    name = token[2:].partition("=")[0].replace("-", "_")
    return _SAME.get(name, name)


def _value(command: Command, parameter: str) -> str:
    """The value of an option of one value: as written on the command line, else in the variable that dbt reads."""
    for argument in reversed(command.arguments):
        if argument.parameter == parameter:
            _, _, attached = argument.tokens[0].partition("=")
            return attached or "".join(argument.tokens[1:2])
    return os.environ.get(f"DBT_{parameter.upper()}", "")


def _unique_ids(lines: Iterable[str]) -> Iterable[str]:
    for line in (line for text in lines for line in text.splitlines()):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            yield str(json.loads(line)["unique_id"])


def _target() -> Path:
    return Path(os.environ.get("DBT_TARGET_PATH") or "target").absolute()
