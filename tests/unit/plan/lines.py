"""A short log of the runner: a seed and a model that reads it."""

import json
from typing import Any

SEED, MODEL = "seed.shop.raw", "model.shop.orders"


def line(seq: int, name: str, /, **data: Any) -> bytes:
    """One event in the envelope."""
    info = {
        "name": name,
        "level": "info",
        "ts": f"2026-11-20T03:00:{seq:02}.000000Z",
        "invocation_id": "i-1",
        "msg": "",
    }
    return json.dumps({"seq": seq, "info": info, "data": data}).encode()


def _node(unique_id: str, *parents: str) -> dict[str, Any]:
    kind, package, name = unique_id.split(".")
    return {
        "unique_id": unique_id,
        "name": name,
        "resource_type": kind,
        "package": package,
        "path": f"{name}.sql",
        "materialized": "table",
        "relation": f'"main"."{name}"',
        "tags": [],
        "depends_on": list(parents),
        "fqn": [package, name],
    }


def _started(seq: int, unique_id: str) -> bytes:
    info = {"unique_id": unique_id, "node_name": unique_id.split(".")[2], "resource_type": unique_id.split(".")[0]}
    return line(seq, "LogStartLine", node_info={**info, "node_status": "started"}, index=1, total=2)


def _result(seq: int, unique_id: str, status: str, message: str = "OK") -> bytes:
    kind, _, name = unique_id.split(".")
    return line(
        *(seq, "NodeResult"),
        unique_id=unique_id,
        resource_type=kind,
        name=name,
        status=status,
        message=message,
        execution_time=0.5,
        started_at="2026-11-20T03:00:00.000000Z",
        completed_at="2026-11-20T03:00:01.000000Z",
    )


BEGINNING = [
    line(1, "RunnerStarted", format=1, runner_version="0.1.0", python="3.12.0", attempt="producer-1", run_uid="u"),
    line(2, "MainReportVersion", version="=1.11.16", log_version=3),
]
GRAPH = [*BEGINNING, line(3, "SelectedNodes", part=1, parts=1, total=2, nodes=[_node(SEED), _node(MODEL, SEED)])]
EXECUTING = [*GRAPH, line(4, "ConcurrencyLine", num_threads=4, target_name="dev", node_count=2), _started(5, SEED)]


def finished(seq: int, *, exit_code: int, results: dict[str, str], cancelled: bool = False) -> list[bytes]:
    """The record at the end."""
    entries = [
        {"unique_id": k, "status": v, "execution_time": 0.5, "failures": None, "message": ""}
        for k, v in results.items()
    ]
    return [
        line(seq, "RunResults", part=1, parts=1, total=len(entries), results=entries),
        line(
            *(seq + 1, "RunFinished"),
            exit_code=exit_code,
            success=exit_code == 0,
            cancelled=cancelled,
            invocation_id="i-1",
            error=None,
            phase="execute",
            results=len(entries),
            peak_memory_bytes=1,
            elapsed_seconds=1.0,
            dropped=0,
        ),
    ]


GREEN_LOG = [
    *EXECUTING,
    _result(6, SEED, "success"),
    _started(7, MODEL),
    _result(8, MODEL, "success"),
    *finished(9, exit_code=0, results={SEED: "success", MODEL: "success"}),
]
RED_LOG = [
    *EXECUTING,
    _result(6, SEED, "error", "Database Error: boom"),
    *finished(7, exit_code=1, results={SEED: "error", MODEL: "skipped"}),
]
CANCELLED_LOG = [
    *EXECUTING,
    line(6, "CancelRequested", signal="SIGTERM"),
    *finished(7, exit_code=2, results={}, cancelled=True),
]
