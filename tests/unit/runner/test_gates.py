"""What a node waits for by our reading of the graph is what it waits for in dbt's own, whatever is selected of it.

dbt makes edges from tests to what is built from the tested nodes for `build` only (`BuildTask.compile_manifest`).
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dbt_operator.api.commands import Command
from dbt_operator.dbt.graph import Graph, GraphNode
from tests.unit.runner.conftest import PROJECTS

pytestmark = pytest.mark.needs("dbt-core", "1.10", "arguments of tests")

CONTROLLER = Path(__file__).resolve().parents[3] / "controller"
SELECTIONS = {
    "all": [],
    "the ends": ["raw", "leaf", "last"],
    "tests of what is not selected": ["resource_type:test", "leaf", "joined"],
    "a test alone, and what is below": ["not_null_eph_id", "unique_stg_id", "wide", "last"],
    "tests of several nodes": ["agree", "test_name:relationships", "joined", "last"],
    "below a source": ["source:ext.events+"],
    "no ephemeral models": ["mid", "wide", "on_lonely", "last", "unique_lonely_eph_id", "not_null_eph_of_two_id"],
    "a model with its unit test": ["wide", "stg"],
}
TYPES = {command.value: sorted(command.rules.executes) for command in Command}
# Runs with the Python that has dbt: what the runner prints of each selection, and the edges of dbt's own graph.
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[3])
from dbt.cli.main import dbtRunner
from dbt.compilation import Linker
from dbt.graph import Graph
from dbt_operator.runner import graph

manifest = dbtRunner().invoke(["parse", "--quiet", "--no-write-json"]).result
commands = json.loads(sys.argv[2])
whole = {}
for command, types in commands.items():
    linker = Linker()
    linker.link_graph(manifest)
    if command == "build":
        linker.add_test_edges(manifest)
    whole[command] = Graph(linker.graph)
known = graph.known_nodes(manifest=manifest)
found = {}
for name, select in json.loads(sys.argv[1]).items():
    line = ["ls", "--quiet", "--output", "json", "--output-keys", "unique_id", "--no-write-json"]
    line += ["--select", *select] if select else []
    chosen = set(graph.selected_ids(listed=dbtRunner(manifest=manifest).invoke(line).result))
    for command, types in commands.items():
        executed = {one for one in chosen if one.split(".")[0] in types}
        edges = [edge for edge in whole[command].get_subset_graph(executed).graph.edges()]
        nodes = graph.graph_nodes(known=known, chosen=executed)
        found[f"{command} {name}"] = {"nodes": nodes, "edges": edges}
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(warm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    done = subprocess.run(
        [warm_python, "-c", PROGRAM, json.dumps(SELECTIONS), json.dumps(TYPES), str(CONTROLLER)],
        cwd=PROJECTS / "gates",
        env={
            "PATH": os.environ["PATH"],
            "DBT_TARGET_PATH": str(tmp_path_factory.mktemp("target")),
            "DBT_LOG_PATH": str(tmp_path_factory.mktemp("logs")),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    answer: Mapping[str, Any] = json.loads(line.removeprefix("FOUND "))
    return answer


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("command", [each for each in Command if each.rules.executes and each.rules.parents_first])
def test_what_is_ahead_of_each_node_is_what_dbt_executes_before_it(
    found: Mapping[str, Any], command: Command, name: str
) -> None:
    told = found[f"{command.value} {name}"]
    graph = Graph.of(msgspec.convert(told["nodes"], list[GraphNode]), command=command)
    assert {graph.nodes[one].resource_type for one in graph.executables()} <= command.rules.executes
    edges: dict[str, set[str]] = {one: set() for one in graph.executables()}
    for ahead, one in told["edges"]:
        if one in edges:  # an exposure is none: dbt has nothing to do for it
            edges[one].add(ahead)
    # dbt's graph knows nothing of when it executes unit tests: right before their model.
    ours = {one: set(graph.order.gates(one)) for one in graph.executables() if not one.startswith("unit_test.")}
    plain = {one: {each for each in gates if not each.startswith("unit_test.")} for one, gates in ours.items()}
    assert {one: _above(one, plain) for one in plain} == {one: _above(one, edges) for one in plain}


def _above(unique_id: str, edges: Mapping[str, set[str]]) -> set[str]:
    above: set[str] = set()
    waiting = [unique_id]
    while waiting:
        new = edges[waiting.pop()] - above
        above |= new
        waiting += new
    return above
