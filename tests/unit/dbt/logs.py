"""The recorded logs, and logs of the runner written by hand."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dbt_operator.dbt.fold import EMPTY, close, fold_lines
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.plan.outcome import ending_of

LOGS = Path(__file__).resolve().parents[2] / "logs"
RECORDED = sorted(path.name for path in LOGS.glob("*.jsonl"))


def recorded(name: str) -> list[bytes]:
    """The lines of a recorded log."""
    return (LOGS / name).read_bytes().splitlines()


def events(lines: Iterable[bytes], name: str) -> list[dict[str, Any]]:
    """The data of the events of this name, read without the code under test."""
    documents = [json.loads(line) for line in lines]
    return [document["data"] for document in documents if document["info"]["name"] == name]


def folded(lines: Iterable[bytes]) -> AttemptState:
    """The state after these lines."""
    return fold_lines(state=EMPTY, lines=lines)


def closed(lines: Iterable[bytes], *, ending: Ending | None = None) -> AttemptState:
    """The state after these lines and the end of the pod."""
    state = folded(lines)
    return close(state=state, ending=ending or ending_of(state=state, pod=None))


def core_line(name: str, data: dict[str, Any], *, level: str = "info", second: float = 0.0, **info: Any) -> bytes:
    """A line of the dbt command line."""
    envelope = {
        "name": name,
        "level": level,
        "invocation_id": "11111111-1111-4111-8111-111111111111",
        "ts": f"2026-11-20T17:00:{second:09.6f}Z",
        "thread": "Thread-1 (worker)",
        **info,
    }
    return json.dumps({"data": data, "info": envelope}).encode()


def node_info(unique_id: str, **fields: Any) -> dict[str, Any]:
    """dbt's node_info."""
    resource_type, *_, name = unique_id.split(".")
    return {
        "unique_id": unique_id,
        "resource_type": resource_type,
        "node_name": name,
        "materialized": "table" if resource_type == "model" else resource_type,
        **fields,
    }


class RunnerLog:
    """A log as the runner prints it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.add("RunnerStarted", {"format": 1, "runner_version": "0.1.0", "dbt_version": "1.12.6"})

    def add(self, name: str, data: dict[str, Any], *, level: str = "info", said: str = "") -> "RunnerLog":
        seq = len(self.lines) + 1
        info = {
            "name": name,
            "level": level,
            "ts": f"2026-11-20T17:{seq // 60:02d}:{seq % 60:02d}.000000Z",
            "invocation_id": "22222222-2222-4222-8222-222222222222",
            "code": "",
            "msg": said,
            "thread": "MainThread",
        }
        self.lines.append(json.dumps({"seq": seq, "info": info, "data": data}).encode())
        return self

    def select(self, *nodes: dict[str, Any], parts: int = 1) -> "RunnerLog":
        pages = [list(nodes[start::parts]) for start in range(parts)]
        for at, page in enumerate(pages, start=1):
            self.add("SelectedNodes", {"part": at, "parts": parts, "total": len(nodes), "nodes": page})
        return self.add("ConcurrencyLine", {"node_count": len(nodes), "num_threads": 4, "target_name": "dev"})

    def start(self, *unique_ids: str) -> "RunnerLog":
        for unique_id in unique_ids:
            self.add("LogStartLine", {"node_info": node_info(unique_id, node_status="started")})
        return self

    def end(self, unique_id: str, status: str = "success", **fields: Any) -> "RunnerLog":
        resource_type, *_, name = unique_id.split(".")
        data = {"unique_id": unique_id, "resource_type": resource_type, "name": name, "status": status, **fields}
        return self.add("NodeResult", data)

    def run(self, unique_id: str, status: str = "success", **fields: Any) -> "RunnerLog":
        return self.start(unique_id).end(unique_id, status, **fields)

    def digest(self, results: dict[str, str], *, parts: int = 1, **messages: str) -> "RunnerLog":
        entries = [
            {"unique_id": unique_id, "status": status, "message": messages.get(unique_id.split(".")[-1], "")}
            for unique_id, status in results.items()
        ]
        for at in range(parts):
            data = {"part": at + 1, "parts": parts, "total": len(entries), "results": entries[at::parts]}
            self.add("RunResults", data)
        return self

    def finish(self, exit_code: int = 0, **fields: Any) -> "RunnerLog":
        data = {
            "exit_code": exit_code,
            "success": exit_code == 0,
            "cancelled": False,
            "invocation_id": "22222222-2222-4222-8222-222222222222",
            "error": None,
            "phase": "execute",
            "peak_memory_bytes": 1000,
            "dropped": 0,
            **fields,
        }
        return self.add("RunFinished", data)

    @property
    def state(self) -> AttemptState:
        return folded(self.lines)

    @property
    def closed(self) -> AttemptState:
        return closed(self.lines)


def model(name: str, *parents: str, **fields: Any) -> dict[str, Any]:
    """A model of SelectedNodes."""
    return _node("model", name, parents, {"materialized": "table", "relation": f'"db"."main"."{name}"', **fields})


def seed(name: str) -> dict[str, Any]:
    return _node("seed", name, (), {"materialized": "seed"})


def ephemeral(name: str, *parents: str, **fields: Any) -> dict[str, Any]:
    return _node("model", name, parents, {"materialized": "ephemeral", **fields})


def data_test(name: str, *parents: str, **fields: Any) -> dict[str, Any]:
    return _node("test", name, parents, {"severity": "ERROR", **fields})


def unit_test(name: str, tested: str) -> dict[str, Any]:
    node = _node("unit_test", name, (tested,), {})
    return {**node, "unique_id": f"unit_test.shop.{tested.split('.')[-1]}.{name}"}


def _node(resource_type: str, name: str, parents: tuple[str, ...], fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "unique_id": f"{resource_type}.shop.{name}",
        "name": name,
        "resource_type": resource_type,
        "package": "shop",
        "path": f"{resource_type}s/{name}.sql",
        "depends_on": [parent if "." in parent else f"model.shop.{parent}" for parent in parents],
        "fqn": ["shop", name],
        **fields,
    }
