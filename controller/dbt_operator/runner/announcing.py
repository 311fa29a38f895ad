"""Telling which nodes an attempt executes, before it does: the events Hooks and SelectedNodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbt_operator.runner import graph
from dbt_operator.runner.arguments import AFTER_ALL, Command
from dbt_operator.runner.options import Options
from dbt_operator.runner.output import Output
from dbt_operator.runner.overrides import parse_overrides, with_overrides
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
            self._output.event("SelectedNodes", {**part, "command": command.name, **tests})

    @property
    def tests_later(self) -> bool:
        """Whether tests are listed that another stage of the run executes."""
        return self._options.stage == "build" and not self._options.nodes
