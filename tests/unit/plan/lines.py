"""Logs of the runner: a short one of a seed and a model that reads it, and one that grows as a test tells it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

SEED, MODEL = "seed.shop.raw", "model.shop.orders"


def line(seq: int, name: str, /, **data: Any) -> bytes:
    """One event in the envelope."""
    return _event(seq, name, data, ts=f"2026-11-20T03:00:{seq:02}.000000Z")


def _event(seq: int, name: str, data: Mapping[str, Any], *, ts: str, level: str = "info", said: str = "") -> bytes:
    info = {"name": name, "level": level, "ts": ts, "invocation_id": "i-1", "msg": said}
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


def started(seq: int, unique_id: str) -> bytes:
    """dbt begins with a node."""
    info = {"unique_id": unique_id, "node_name": unique_id.split(".")[2], "resource_type": unique_id.split(".")[0]}
    return line(seq, "LogStartLine", node_info={**info, "node_status": "started"}, index=1, total=2)


def result(seq: int, unique_id: str, status: str, message: str = "OK") -> bytes:
    """How a node has ended."""
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
EXECUTING = [*GRAPH, line(4, "ConcurrencyLine", num_threads=4, target_name="dev", node_count=2), started(5, SEED)]


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
    result(6, SEED, "success"),
    started(7, MODEL),
    result(8, MODEL, "success"),
    *finished(9, exit_code=0, results={SEED: "success", MODEL: "success"}),
]
RED_LOG = [
    *EXECUTING,
    result(6, SEED, "error", "Database Error: boom"),
    *finished(7, exit_code=1, results={SEED: "error", MODEL: "skipped"}),
]
CANCELLED_LOG = [
    *EXECUTING,
    line(6, "CancelRequested", signal="SIGTERM"),
    *finished(7, exit_code=2, results={}, cancelled=True),
]


_PAGE = 20  # nodes that fit a line


class Log:
    """What the runner of one attempt prints."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.results: dict[str, str] = {}

    def add(self, name: str, data: Mapping[str, Any], *, level: str = "info", said: str = "", at: datetime) -> None:
        """One event."""
        seq = len(self.lines) + 1
        self.lines.append(_event(seq, name, data, ts=_time(at), level=level, said=said))

    def begins(self, *, at: datetime) -> None:
        """The runner has started."""
        self.add("RunnerStarted", {"format": 1, "runner_version": "0.1.0", "python": "3.12.0"}, at=at)
        self.add("MainReportVersion", {"version": "=1.11.16", "log_version": 3}, at=at)

    def lists(
        self,
        nodes: Sequence[Mapping[str, Any]],
        *,
        command: str = "build",
        tests: str = "",
        mode: str = "",
        adapter: str,
        end_hooks: int | None,
        at: datetime,
    ) -> None:
        """dbt has loaded the project."""
        self.add("AdapterRegistered", {"adapter_name": adapter, "adapter_version": "=1.11.0"}, at=at)
        pages = [nodes[start : start + _PAGE] for start in range(0, max(len(nodes), 1), _PAGE)]
        for part, page in enumerate(pages, start=1):
            data = {"part": part, "parts": len(pages), "total": len(nodes), "nodes": page, "command": command}
            data |= {name: said for name, said in (("tests", tests), ("mode", mode)) if said}
            self.add("SelectedNodes", data, at=at)
        if end_hooks is not None:
            self.add("Hooks", {"on_run_start": 0, "on_run_end": end_hooks}, at=at)

    def executes(self, count: int, *, at: datetime) -> None:
        """dbt begins to execute so many nodes."""
        self.add("ConcurrencyLine", {"num_threads": 4, "target_name": "dev", "node_count": count}, at=at)

    def starts(self, unique_id: str, *, at: datetime) -> None:
        """dbt begins with a node."""
        kind, *_, name = unique_id.split(".")
        info = {"unique_id": unique_id, "node_name": name, "resource_type": kind, "node_status": "started"}
        self.add("LogStartLine", {"node_info": info, "index": 1, "total": 1}, at=at)

    def cancels(self, unique_id: str, *, at: datetime) -> None:
        """dbt cancels the query of a node."""
        self.add("LogCancelLine", {"conn_name": unique_id}, at=at)

    def ends(self, unique_id: str, status: str, message: str = "", *, at: datetime, **fields: object) -> None:
        """dbt says how a node has ended; `fields` are further ones of its result."""
        kind, *_, name = unique_id.split(".")
        times = {} if status == "skipped" else {"started_at": _time(at), "completed_at": _time(at)}
        said = {"unique_id": unique_id, "resource_type": kind, "name": name, "status": status, "message": message}
        self.add("NodeResult", {**said, **times, "execution_time": 0.5, **fields}, at=at)
        self.results[unique_id] = status

    def finishes(
        self, exit_code: int, *, cancelled: bool = False, error: Mapping[str, str] | None = None, at: datetime
    ) -> None:
        """The record at the end."""
        entries = [{"unique_id": one, "status": status} for one, status in self.results.items()]
        self.add("RunResults", {"part": 1, "parts": 1, "total": len(entries), "results": entries}, at=at)
        record = {
            "exit_code": exit_code,
            "success": exit_code == 0,
            "cancelled": cancelled,
            "invocation_id": "i-1",
            "error": error,
            "phase": "execute",
            "results": len(entries),
            "peak_memory_bytes": 1,
            "elapsed_seconds": 1.0,
            "dropped": 0,
        }
        self.add("RunFinished", record, at=at)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def failing(statuses: Iterable[str]) -> bool:
    """Whether dbt ends with exit code 1 after such results."""
    return any(status in ("error", "fail", "runtime error", "partial success") for status in statuses)
