"""Runs whose nodes have a process each end as those of one process: the same nodes, for the same reasons."""

from pathlib import Path
from typing import Any

from tests.ends import OF_A_RUN, shown
from tests.local.desk import Desk

MODES: dict[str, dict[str, Any]] = {"Producer": {}, "PerNode": {"perNode": {"group": "Node"}}}

# They end as others do.
ALIKE = ["inc", "after_mb"]


def test_a_process_for_each_node_ends_as_one_for_all(warm_python: Path, operator: Path, tmp_path: Path) -> None:
    ends = []
    for mode, more in MODES.items():
        folder = tmp_path / mode
        folder.mkdir()
        database = str(folder / "own.duckdb")
        desk = Desk(folder, warm_python, {"DBT_DUCK": database}, operator)
        status = desk.run("own", "torture", mode=mode, retry={"limit": 0}, exclude=ALIKE, **more)
        of_nodes = {one["spec"]["uniqueId"]: shown(one) for one in desk.models("own").values()}
        ends.append(({field: status.get(field) for field in OF_A_RUN}, of_nodes))
        assert {one["kind"] for one in status["attempts"]} == {"Producer", *(["Node"] if mode == "PerNode" else [])}
    assert ends[0] == ends[1]
