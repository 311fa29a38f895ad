"""The calls of dbt, in order: parse, list, and the user's command with what was parsed."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from dataclasses import dataclass, field
from typing import Any

from dbt_operator.runner import errors, graph
from dbt_operator.runner.arguments import GRAPH_COMMANDS, Command, asking, take_apart
from dbt_operator.runner.events import Callback, Translator
from dbt_operator.runner.output import Line, Output
from dbt_operator.runner.results import results_of
from dbt_operator.runner.signals import Cancellation


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    exit_code: int
    cancelled: bool = False
    kind: str = ""
    message: str = ""
    results: list[Line] | None = field(default=None)


def failed(*, kind: str, message: str) -> Outcome:
    """The end of a run that an exception ended."""
    return Outcome(exit_code=2, cancelled=kind == errors.INTERRUPTED, kind=kind, message=message)


INTERRUPTED = failed(kind=errors.INTERRUPTED, message="dbt was interrupted")


class Invocations:
    """One run of dbt in this process: `phase` is how far it came, `invocation_id` that of the latest invocation."""

    def __init__(
        self, *, output: Output, callback: Callback, translator: Translator, cancellation: Cancellation
    ) -> None:
        self.phase = "start"
        self.invocation_id = ""
        self._output = output
        self._callback = callback
        self._translator = translator
        self._cancellation = cancellation
        self._runner: Any = None

    def run(self, *, args: tuple[str, ...]) -> Outcome:
        """Do what the arguments say, with dbt. Raises: KeyboardInterrupt, where it came between two calls of dbt."""
        with self._cancellation.interruptible():
            dbt = importlib.import_module("dbt.cli.main")
        self._runner = dbt.dbtRunner
        command = take_apart(cli=dbt.cli, args=args)
        manifest: Any = None
        if command.name in GRAPH_COMMANDS and command.known:
            self.phase = "parse"
            parsed = self._invoke(
                ["parse", "--log-level", "none", *asking(cli=dbt.cli, command=command, other="parse")]
            )
            # The command would parse the same files with the same arguments, and fail in the same way.
            if parsed.exception is not None:
                return self._failure(parsed.exception)
            manifest = parsed.result
            self._tell_graph(dbt, command, manifest)
        self.phase = "execute" if manifest is not None else "start"
        self._callback.follow(chatty=command.name not in GRAPH_COMMANDS, completed=self._cancellation.ended)
        return self._outcome(self._invoke(command.line(quiet=True), manifest=manifest))

    def cancel_queries(self) -> None:
        """Cancel what runs in the warehouse now, as dbt does when interrupted. Called from a thread of its own."""
        factory = getattr(sys.modules.get("dbt.adapters.factory"), "FACTORY", None)
        try:
            for adapter in list(getattr(factory, "adapters", {}).values()):
                if adapter.is_cancelable():
                    with adapter.connection_named("dbt-operator-cancel"):
                        adapter.cancel_open_connections()
        except Exception as error:  # noqa: BLE001 - a driver's: it was worth the attempt
            self._output.event("RunnerWarning", {"message": f"queries were not cancelled: {error!r}"}, level="warn")

    def _outcome(self, result: Any) -> Outcome:
        if self._callback.executing:
            self.phase = "execute"
        if result.exception is not None:
            return self._failure(result.exception)
        self.phase = "execute"
        return Outcome(exit_code=0 if result.success else 1, results=results_of(result.result))

    def _failure(self, error: BaseException) -> Outcome:
        # dbt may end with another exception than the interrupt that broke off what it was doing.
        if isinstance(error, KeyboardInterrupt) or self._cancellation.requested:
            return INTERRUPTED
        return failed(kind=errors.kind_of(error=error, phase=self.phase), message=errors.message_of(error))

    def _invoke(self, line: list[str], *, manifest: Any = None) -> Any:
        result: Any = None
        try:
            with self._cancellation.interruptible():
                result = self._runner(manifest=manifest, callbacks=[self._callback]).invoke(line)
        except KeyboardInterrupt:
            # One that came when dbt had just returned changes nothing.
            if result is None:
                raise
        finally:
            self.invocation_id = self._callback.invocation_id or self.invocation_id
            self._output.invocation_id = self.invocation_id
        return result

    def _tell_graph(self, dbt: Any, command: Command, manifest: Any) -> None:
        """Print SelectedNodes. Whatever goes wrong here, the command itself is given its chance."""
        self.phase = "list"
        question = ["ls", "--log-level", "none", "--output", "json", "--output-keys", "unique_id"]
        try:
            known = graph.known_nodes(manifest=manifest)
            self._translator.known = known
            # A selector that does not exist makes the command itself fail too, which then says so: not twice.
            self._callback.follow(listening=False)
            question += asking(cli=dbt.cli, command=command, other="ls")
            # dbt 1.8 prints the list besides returning it.
            with contextlib.redirect_stdout(io.StringIO()):
                listed = self._invoke(question, manifest=manifest)
            if isinstance(listed.exception, KeyboardInterrupt):
                raise listed.exception
            if not listed.success:
                return
            selected = graph.selected_ids(listed=listed.result or ())
            nodes = graph.graph_nodes(known=known, selected=selected, types=GRAPH_COMMANDS[command.name])
            for part in graph.parts(items=nodes, key="nodes", split=graph.split_node):
                self._output.event("SelectedNodes", part)
        except Exception as error:  # noqa: BLE001 - a mistake here must not fail a run that would have succeeded
            self._output.event("RunnerWarning", {"message": f"the graph is not known: {error!r}"}, level="warn")
