"""The lines that our runner prints, as bytes."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from dbt_operator.runner.graph import graph_nodes
from tests.simulation.project import Node, Project

_encode = msgspec.json.Encoder().encode

STATUS = {
    "compile": "error",
    "partial": "partial success",
    "lost": "error",
    "late": "error",
    "aged": "stale",
    "old": "error",
    "unread": "runtime error",
}
_MESSAGES = {
    "error": "Database Error in model\n  relation{own} does not exist",
    "compile": "Compilation Error in model\n  'nothing' is undefined",
    "partial": "PARTIAL SUCCESS (2/3)",
    "lost": 'Database Error\n  connection to server at "db" failed: Connection refused',
    "late": "Database Error\n  server closed the connection unexpectedly",  # cancelled at its deadline
    "unread": "Database Error in source\n  relation{own} does not exist",
    "fail": "Got 3 results, configured to fail if != 0",
    "cancelled": "Runtime Error\n  INTERRUPT Error: Interrupted!",
}
_LOG_NAMES = {
    "test": "LogTestResult",
    "unit_test": "LogTestResult",
    "seed": "LogSeedResult",
    "snapshot": "LogSnapshotResult",
}


def event(seq: int, ts: datetime, name: str, data: Mapping[str, Any], *, level: str = "info", who: str = "i") -> bytes:
    """One event in dbt's envelope."""
    info = {"name": name, "level": level, "ts": ts, "invocation_id": who, "code": "", "msg": "", "thread": "MainThread"}
    return _encode({"seq": seq, "info": info, "data": data})


def described(node: Node) -> dict[str, Any]:
    """A node as SelectedNodes lists it."""
    return {
        "unique_id": node.unique_id,
        "name": node.name.partition(".")[0],
        "resource_type": node.kind,
        "package": "p",
        "path": f"{node.folder}/{node.name}.sql",
        "tags": [node.folder] if node.folder else [],
        "materialized": node.materialized,
        "relation": None,
        "depends_on": list(node.parents),
        "fqn": ["p", node.name],
        "attached_node": node.attached,
        "overrides": list(node.overrides),
    }


def listed(project: Project, chosen: Iterable[str]) -> list[dict[str, Any]]:
    """The nodes of SelectedNodes, as the runner itself finds them."""
    known = {one: described(node) for one, node in project.nodes.items()}
    return graph_nodes(known=known, chosen=chosen)


def node_info(node: Node, status: str) -> dict[str, Any]:
    """dbt's node_info."""
    return {
        "unique_id": node.unique_id,
        "node_name": node.name,
        "resource_type": node.kind,
        "node_status": status,
        "materialized": node.materialized,
    }


def started(node: Node) -> tuple[str, dict[str, Any]]:
    """dbt begins with a node."""
    return "LogStartLine", {"node_info": node_info(node, "started"), "index": 1, "total": 1}


def logged(node: Node, ending: str) -> tuple[str, dict[str, Any], str]:
    """dbt's own line about the end of a node."""
    status = STATUS.get(ending, ending)
    level = "error" if status in ("error", "fail") else "info"
    if node.kind in ("test", "unit_test"):
        data = {
            "node_info": node_info(node, status),
            "status": status,
            "attached_node": node.attached,
            "num_failures": failures(ending),
        }
        return "LogTestResult", data, level
    said = "OK" if status == "success" else status
    return _LOG_NAMES.get(node.kind, "LogModelResult"), {"node_info": node_info(node, status), "status": said}, level


def result(node: Node, ending: str, *, began: datetime | None, ended: datetime) -> tuple[str, dict[str, Any]]:
    """The runner's NodeResult."""
    return "NodeResult", {
        "unique_id": node.unique_id,
        "resource_type": node.kind,
        "name": node.name,
        "status": STATUS.get(ending, ending),
        "message": message(node.unique_id, ending),
        "num_failures": failures(ending),
        "execution_time": 0.5,
        "started_at": began,
        "completed_at": ended,
        **deadline(ending),
    }


def entry(unique_id: str, ending: str) -> dict[str, Any]:
    """A result in the runner's digest of all."""
    fast = ending == "skipped fast"
    return {
        "unique_id": unique_id,
        "status": {"skipped fast": "skipped", "cancelled": "error"}.get(ending) or STATUS.get(ending, ending),
        "execution_time": 0.5,
        "failures": failures(ending),
        "message": "Skipping due to fail_fast" if fast else message(unique_id, ending),
        **deadline(ending),
    }


def deadline(ending: str) -> dict[str, Any]:
    """What the runner says of a node that was cancelled at its deadline."""
    return {"deadline_seconds": 30} if ending == "late" else {}


def failures(ending: str) -> int | None:
    """How many rows a test found that ended so."""
    return {"fail": 3, "pass": 0, "warn": 1}.get(ending)


def message(unique_id: str, ending: str) -> str:
    """dbt's text about such a result. Some nodes fail for a cause of their own, others for the same one."""
    own = f" {unique_id}" if sum(unique_id.encode()) % 3 else ""
    return _MESSAGES.get(ending, "OK" if ending == "success" else "").format(own=own)
