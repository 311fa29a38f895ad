"""What is printed of nodes that are executed without dbt: the same as dbt's events and the runner's of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from dbt_operator.runner import graph
from dbt_operator.runner.compiled import FAILURES, excerpt
from dbt_operator.runner.deadlines import Deadlines
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.output import Line, Output
from dbt_operator.runner.translator import Translator, node_result


@dataclass(frozen=True)
class Reports:
    """The lines of one attempt."""

    output: Output
    translator: Translator
    masker: Masker
    deadlines: Deadlines

    def executors(self, nodes: Iterable[Line]) -> None:
        """What executes which nodes."""
        for part in graph.parts(items=nodes, key="nodes"):
            self.output.event("Executors", part)

    def begun(self, node: Line) -> Line:
        """A node begins; returns what is said of it from now on."""
        info = {**node["info"], "node_status": "started", "node_started_at": now(), "node_finished_at": ""}
        self.output.event("LogStartLine", {"description": f"{node['kind']} {node['name']}", "node_info": info})
        return info

    def ended(self, info: Line, result: Line, *, deadline: float | None = None, query: str = "") -> None:
        """A node has ended. deadline: for which it was cancelled. query: in which an error names a line."""
        unique_id = result["unique_id"]
        if deadline is not None:
            self.deadlines.exceeded(unique_id, deadline)
        data = self.deadlines.marked(self._data(info, result))
        if query and data["status"] in FAILURES:
            lines = excerpt(query=query, message=str(result["message"] or ""), masker=self.masker)
            data.update({"excerpt": lines} if lines else {})
        self._tell(data)

    def cancelled(self, unique_id: str) -> None:
        """What a node asks of the warehouse was cancelled, as dbt says it."""
        self.output.event("LogCancelLine", {"conn_name": unique_id})

    def skipped(self, unique_id: str, message: str | None) -> Line:
        """A node is skipped; returns its result."""
        known = self.translator.known[unique_id]
        info = {
            "unique_id": unique_id,
            "node_name": known["name"],
            "resource_type": known["resource_type"],
            "materialized": known["materialized"],
            "node_status": "skipped",
        }
        result: Line = {"unique_id": unique_id, "status": "skipped", "message": message, "execution_time": 0.0}
        self.output.event("SkippingDetails", {"resource_type": known["resource_type"], "node_info": info})
        self._tell(self._data(info, result))
        return {**result, "failures": None}

    def passed_on(self, line: Line) -> None:
        """A line of a part of the attempt."""
        if line["info"]["name"] == "NodeResult":
            self.translator.results[line["data"]["unique_id"]] = line["data"]
        self.output.line(line)

    def _data(self, info: Line, result: Line) -> Line:
        known = self.translator.known.get(result["unique_id"], {})
        return node_result(node=info, result=result, known=known, masker=self.masker)

    def _tell(self, data: Line) -> None:
        self.translator.results[data["unique_id"]] = data
        self.output.event("NodeResult", data)


def now() -> str:
    """The present, as dbt writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
