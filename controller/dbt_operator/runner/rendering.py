"""The first part of a run with `spec.mode: Async`: which nodes are executed without dbt, and by which statements.

What it finds goes to the process that executes them (`async_run`) through files on the pod's own disk; the arguments
with which dbt connects, as there may be a password among them, through a pipe.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbt_operator.runner import async_nodes, graph, recording, waits
from dbt_operator.runner.output import Line

PLAN = "plan.json"
# Of spec.async, by adapter.
_OF_ALL = ("maxInFlight", "compiledSql")
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "postgres": _OF_ALL,
    "bigquery": (
        *_OF_ALL,
        *("priority", "maximumBytesBilled", "jobTimeoutSeconds", "location", "submissionsPerSecond"),
    ),
}
DBT, ASYNC, INLINED = "dbt", "Async", "inlined"


def first_look(*, manifest: Any, nodes: frozenset[str], adapter: Any) -> dict[str, str]:
    """Why each of the nodes is executed by dbt, by what the manifest says; "" where it may be executed without."""
    hooks = graph.hooks(manifest=manifest)
    if any(hooks.values()):
        return dict.fromkeys(nodes, "the project has on-run-start or on-run-end hooks, which belong to one dbt command")
    unknown = recording.unknown_connection(adapter)
    if unknown:
        return dict.fromkeys(nodes, unknown)
    return _refusals(manifest, nodes, adapter_type=adapter.type())


def unfit(*, adapter_type: str, settings: Line) -> str:
    """Why nothing of this can be, as a sentence; "" where it can."""
    if adapter_type not in recording.WAYS:
        return f"spec.mode is Async, which is for {' and '.join(sorted(recording.WAYS))}, and not for {adapter_type}"
    others = [f"spec.async.{name}" for name in settings if name not in SETTINGS[adapter_type]]
    return f"{' and '.join(others)}: there is no such thing with {adapter_type}" if others else ""


def plan(
    *,
    manifest: Any,
    known: Mapping[str, Line],
    reasons: Mapping[str, str],
    recorder: recording.Recorder,
    results: list[Line],
    adapter: Any,
    tests_first: bool,
    deadlines: Mapping[str, float],
) -> Line:
    """What is to be executed how: each node with what it waits for, and with its statements or the reason for dbt."""
    flags = importlib.import_module("dbt.flags").get_flags()
    reasons = {**reasons, **_late_refusals(manifest, reasons, flags=flags, adapter_type=adapter.type())}
    answers = {result["unique_id"]: result for result in results}
    order = waits.waits(known=known, chosen=reasons, tests_first=tests_first)
    nodes = {}
    for unique_id in sorted(reasons):
        if known[unique_id]["materialized"] == "ephemeral":
            # It is part of the text of others: there is nothing to do for it but to wait.
            info = {**manifest.nodes[unique_id].node_info, "meta": {}}
            nodes[unique_id] = {"executor": INLINED, "reason": "", "waits": sorted(order[unique_id]), "info": info}
            continue
        seen = recorder.recordings.get(unique_id)
        reason = reasons[unique_id] or _not_recorded(seen, answers.get(unique_id))
        work: Line = {} if reason or seen is None else _work(manifest.nodes[unique_id], seen)
        work.update(executor=DBT if reason else ASYNC, reason=reason, waits=sorted(order[unique_id]))
        work["deadline"] = deadlines.get(unique_id)
        nodes[unique_id] = work
    config = adapter.config
    return {
        "nodes": nodes,
        "adapter": adapter.type(),
        "warn_error": _warn_error(flags),
        "concurrency": {
            "num_threads": config.threads,
            "target_name": config.target_name,
            "node_count": len(nodes),
        },
    }


def told(reasons: Mapping[str, str]) -> list[Line]:
    """Nodes that dbt executes, as they are told."""
    return [{"unique_id": one, "executor": DBT, "reason": reason} for one, reason in sorted(reasons.items())]


def connection(*, recorder: recording.Recorder, adapter: Any) -> Line:
    """How to connect as dbt does; with secrets."""
    return recording.CONNECTIONS[adapter.type()](recorder, adapter)


def leave(plan: Line, *, folder: Path, connection: Line, descriptor: int) -> None:
    """Hand the plan over. Raises: OSError."""
    (folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")
    with os.fdopen(descriptor, "w", encoding="utf-8") as pipe:
        json.dump(connection, pipe)


def _refusals(
    manifest: Any, nodes: frozenset[str], *, adapter_type: str, store_failures: bool = False
) -> dict[str, str]:
    name = manifest.metadata.project_name
    kinds = ("table", "view", "test")
    found = {one: manifest.find_materialization_macro_by_name(name, one, adapter_type) for one in kinds}
    tested = (manifest.unit_tests[one].depends_on.nodes[:1] for one in nodes if one in manifest.unit_tests)
    project = async_nodes.Project(
        packages={one: macro.package_name for one, macro in found.items() if macro is not None},
        unit_tested=frozenset(model for models in tested for model in models),
        store_failures=store_failures,
    )
    there = [manifest.nodes[one] for one in sorted(nodes) if one in manifest.nodes]
    others = {one: f"it is a {one.partition('.')[0].replace('_', ' ')}" for one in nodes if one not in manifest.nodes}
    return {**others, **async_nodes.refusals(nodes=there, project=project)}


def _late_refusals(manifest: Any, reasons: Mapping[str, str], *, flags: Any, adapter_type: str) -> dict[str, str]:
    """What is refused because of an option that dbt has only taken with its command."""
    if not getattr(flags, "STORE_FAILURES", False):
        return {}
    again = _refusals(manifest, frozenset(reasons), adapter_type=adapter_type, store_failures=True)
    return {one: reason for one, reason in again.items() if reason and not reasons[one]}


def _not_recorded(seen: recording.Recording | None, answer: Line | None) -> str:
    """Why there are no statements of the node to execute; "" where there are, and it is known which the main one is."""
    if seen is None or answer is None:
        return "dbt has not rendered it"
    if seen.refused:
        return seen.refused
    if seen.is_test:
        return "" if seen.main is not None else f"dbt could not render it: {_first_line(answer)}"
    place = recording.place_of(answer)
    if answer["status"] != "success" or place is None:
        return f"dbt could not render it: {_first_line(answer)}"
    seen.main = place
    return ""


def _first_line(answer: Line) -> str:
    lines = [line.strip() for line in str(answer["message"] or answer["status"]).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]


def _work(node: Any, seen: recording.Recording) -> Line:
    config = node.config
    return {
        "kind": str(getattr(node.resource_type, "value", node.resource_type)),
        "name": node.name,
        "path": node.original_file_path,
        "materialized": str(config.materialized),
        "info": {**node.node_info, "meta": {}},
        "compiled_code": node.compiled_code,
        "compiled_path": getattr(node, "build_path", None) or getattr(node, "compiled_path", None),
        "statements": seen.statements,
        "main": seen.main,
        "expects": seen.expects,
        **(
            {}
            if not seen.is_test
            else {key: _text(getattr(config, key)) for key in ("severity", "warn_if", "error_if")}
        ),
    }


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


def _warn_error(flags: Any) -> bool:
    """Whether a test that warns has failed, as dbt decides it."""
    options = getattr(flags, "WARN_ERROR_OPTIONS", None)
    return bool(flags.WARN_ERROR or (options is not None and options.includes("LogTestResult")))
