"""Telling what an attempt executes, and into which file, before it does: Hooks, SelectedNodes and DatabaseFile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbt_operator.runner import database, graph
from dbt_operator.runner.arguments import AFTER_ALL, LIST, PER_NODE, TESTS, Command
from dbt_operator.runner.options import Options
from dbt_operator.runner.output import Output
from dbt_operator.runner.overrides import parse_overrides, with_overrides
from dbt_operator.runner.queries import loaded_adapters
from dbt_operator.runner.translator import Translator


class Announcer:
    """What the manifest and `ls` say of the nodes, as the operator reads it."""

    def __init__(self, *, options: Options, output: Output, translator: Translator) -> None:
        self.overrides = parse_overrides(options.overrides)
        self._options = options
        self._output = output
        self._translator = translator

    def learn(self, manifest: Any) -> None:
        """Keep what the manifest knows of each node, and tell its hooks."""
        known = graph.known_nodes(manifest=manifest)
        self._translator.known = with_overrides(known=known, overrides=self.overrides)
        self._output.event("Hooks", graph.hooks(manifest=manifest))

    def runnable(self, command: Command, selected: Iterable[str]) -> frozenset[str]:
        """Those of the selected nodes that the command executes, or lists for another stage of the run."""
        rules = command.rules._replace(unit_tests_with_model=False) if self.tests_later else command.rules
        return graph.runnable(known=self._translator.known, selected=selected, rules=rules)

    def selected(self, command: Command, chosen: frozenset[str]) -> None:
        """Print SelectedNodes."""
        nodes = graph.graph_nodes(known=self._translator.known, chosen=chosen)
        for part in graph.parts(items=nodes, key="nodes", split=graph.split_node):
            tests = {"tests": AFTER_ALL} if self.tests_later else {}
            mode = {"mode": PER_NODE} if self._options.stage == LIST else {}
            self._output.event("SelectedNodes", {**part, "command": command.name, **tests, **mode})

    def check_database(self, manifest: Any, chosen: frozenset[str]) -> None:
        """Print which file the nodes are built into. Raises: database.DatabaseGoneError, see there."""
        read = graph.relations_read(known=self._translator.known, chosen=chosen) - chosen
        try:
            database.check_there(self.files_of(manifest, read))
        except database.DatabaseGoneError as error:
            # It is on no volume that this pod shares with the one before it, whatever its mounts look like.
            self.report_database([database.DatabaseFile(path=error.path, kept=False)])
            raise
        self.report_database(self.files_of(manifest, chosen))

    def report_database(self, files: Iterable[database.DatabaseFile]) -> None:
        """Print which file the nodes are built into, if they are."""
        file = database.worst(files)
        if file is not None:
            self._output.event("DatabaseFile", {"file": file.path, "kept": file.kept})

    def files_of(self, manifest: Any, nodes: frozenset[str]) -> frozenset[database.DatabaseFile]:
        """The database files that these nodes are built into; none where that cannot be told."""
        mounts = database.Mounts(kept=self._options.kept_paths, lost=self._options.lost_paths)
        known = self._translator.known
        try:
            credentials = next((adapter.config.credentials for adapter in loaded_adapters()), None)
            return database.files_of(
                nodes=nodes, known=known, manifest=manifest, credentials=credentials, mounts=mounts
            )
        except Exception as error:  # noqa: BLE001 - an adapter of another version: no reason to fail this attempt
            message = f"where the database is was not found out: {error!r}"
            self._output.event("RunnerWarning", {"message": message}, level="warn")
            return frozenset()

    @property
    def tests_later(self) -> bool:
        """Whether tests are listed that another stage of the run executes."""
        first = self._options.stage == "build" and not self._options.nodes
        return first or self._options.tests_after_all

    def later(self, unique_id: str) -> bool:
        """Whether another attempt executes this node, of those that are listed."""
        of_tests = self._translator.known[unique_id]["resource_type"] in TESTS
        return self._options.stage == LIST or (self.tests_later and of_tests)
