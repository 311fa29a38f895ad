"""A dbt without a Python API, which dbt 2 is: its process is run, and read by the same path, live."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import EMPTY, AttemptState
from dbt_operator.dbt.view import NodeView, node_views
from dbt_operator.plan.outcome import PodEnd, conclude, ending_of
from dbt_operator.reconcile.objects import tried
from tests.unit.runner.conftest import PROJECTS, Event, Project, Run
from tests.unit.runner.programs import dbt_2, drivers, script

BROKEN = ("--vars", json.dumps({"broken": True}))
MODEL = "model.everything."
SLOW = "{{ config(materialized='table') }} select sum(sin(i) * cos(i)) as x from range(900000000000) t(i)"


@dataclass(frozen=True, slots=True)
class Installed:
    """A dbt that is a program, and what it needs."""

    name: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)


BOTH = pytest.mark.parametrize(
    "dbt", ["dbt 1", "dbt 2"] if "DBT_OPERATOR_TEST_DBT_1_AS_PROGRAM" in os.environ else ["dbt 2"], indirect=True
)
"""How nodes are shown and executed again is the same for both. dbt 1 takes ten times as long: `make test-versions`."""


@pytest.fixture(scope="module")
def dbt(request: pytest.FixtureRequest, dbt_python: str, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("program")
    if getattr(request, "param", "dbt 2") == "dbt 1":
        return Installed("dbt 1", script(folder / "bin", program=Path(dbt_python).parent / "dbt"))
    python = dbt_2()
    if python is None:
        pytest.skip("there is no dbt 2 here: python -m dev.versions 2")
    return Installed("dbt 2", python.parent, drivers(folder / "drivers", python=python))


@pytest.fixture(scope="module")
def make(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Makes copies of the project, whose pod has a Python without dbt."""

    def copy() -> Project:
        scratch = tmp_path_factory.mktemp("everything")
        shutil.copytree(PROJECTS / "everything", scratch / "project")
        return Project(python=sys.executable, archive=archive, path=scratch / "project", scratch=scratch)

    return copy


def _run(project: Project, dbt: Installed, *line: str, **more: Any) -> Run:
    path = f"{dbt.folder}:/usr/bin:/bin"
    return project.run(*line, environment={**dbt.environment, "PATH": path}, **more)


@dataclass(frozen=True, slots=True)
class Built:
    project: Project
    run: Run


@pytest.fixture(scope="module")
def broken(make: Callable[[], Project], dbt: Installed) -> Built:
    project = make()
    return Built(project, _run(project, dbt, "build", *BROKEN))


def _state(run: Run) -> AttemptState:
    state = fold_lines(state=EMPTY, lines=run.lines)
    return close(state=state, ending=ending_of(state=state, pod=None))


def _views(run: Run) -> dict[str, NodeView]:
    return dict(node_views(state=_state(run)))


@BOTH
def test_each_node_is_what_dbt_wrote_of_it(broken: Built, dbt: Installed) -> None:
    run = broken.run
    nodes = _state(run).nodes
    dbts = {one["unique_id"]: one["status"] for one in run.run_results()["results"]}
    dbts.pop(MODEL + "paid_back", None)  # ephemeral: dbt 2 has results of these
    assert len(dbts) > 20
    assert {one: nodes[one].status for one in dbts} == dbts
    assert {one["unique_id"]: one["status"] for one in run.digest if one["unique_id"] in dbts} == dbts
    assert (run.code, run.finished["success"], run.finished["error"]) == (1, False, None)
    assert run.finished["results"] == len(run.digest)
    agreed, after = (_views(run)[MODEL + name] for name in ("agreed", "after_agreed"))
    assert (agreed.phase, after.phase, after.blocked_by) == (NodePhase.FAILED, NodePhase.SKIPPED, agreed.unique_id)
    assert "contract" in agreed.message
    state = _state(run)
    assert state.dbt_version.startswith(dbt.name.removeprefix("dbt "))
    assert state.adapter == "duckdb"
    # dbt 2 says that it has started what it skips.
    jobs = [(AttemptKind.PRODUCER, "nightly-producer-1")]
    assert tried(after.unique_id, history=History(attempts=(state,)), jobs=jobs) == []


@BOTH
def test_the_graph_is_told_before_any_node_starts(broken: Built) -> None:
    names = [event["info"]["name"] for event in broken.run.events]
    assert names.index("SelectedNodes") < names.index("LogStartLine")
    graph = broken.run.graph
    assert graph[MODEL + "after_agreed"]["depends_on"] == [MODEL + "agreed"]
    assert broken.run.selected >= {MODEL + "agreed", "seed.everything.payments", MODEL + "customers.v2"}
    assert graph[MODEL + "agreed"]["materialized"] == "table"
    assert "manifest.json" in broken.run.artifacts


@BOTH
def test_events_come_while_dbt_works(make: Callable[[], Project], dbt: Installed) -> None:
    project = make()
    (project.path / "models" / "slow.sql").write_text(SLOW)
    began = time.monotonic()

    def of_slow(event: Event) -> bool:
        node = event["data"].get("node_info") or {}
        return event["info"]["name"] == "LogStartLine" and node.get("unique_id") == MODEL + "slow"

    run = _run(project, dbt, "build", "--select", "days", "slow", stop_at=of_slow)
    assert (run.code, run.finished["cancelled"], run.finished["error"]["kind"]) == (2, True, "interrupted")
    assert time.monotonic() - began < 300  # its query would take days
    assert _state(run).nodes[MODEL + "slow"].phase is not NodePhase.SUCCEEDED


@BOTH
def test_a_retry_executes_exactly_the_nodes_of_its_list(broken: Built, dbt: Installed) -> None:
    wanted = {MODEL + "agreed", MODEL + "customers.v2", "seed.everything.payments"}
    tests = {one for one in broken.run.selected if "payments_are_added" in one or "unique_payments" in one}
    assert len(tests) == 2
    environment = {**dbt.environment, "PATH": f"{dbt.folder}:/usr/bin:/bin"}
    again = broken.project.again(broken.run, sorted(wanted | tests), "build", environment=environment)
    assert again.finished["error"] is None
    assert again.selected == wanted | tests
    executed = {one["unique_id"] for one in again.digest if not one["unique_id"].startswith("operation.")}
    assert executed == wanted | tests
    assert {again.results[one]["status"] for one in wanted} == {"success"}


def test_a_list_with_a_node_that_is_gone_executes_nothing(broken: Built, dbt: Installed) -> None:
    environment = {**dbt.environment, "PATH": f"{dbt.folder}:/usr/bin:/bin"}
    again = broken.project.again(broken.run, [MODEL + "gone"], "build", environment=environment)
    assert (again.code, again.finished["error"]["kind"]) == (2, "selector")
    assert MODEL + "gone" in again.finished["error"]["message"]
    assert not again.results


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("models/bad.sql", "select * from {{ ref('nowhere') }}", "nowhere"),
        ("models/bad.yml", "models: [", "bad.yml"),
    ],
)
def test_what_cannot_be_parsed_is_a_sentence(
    make: Callable[[], Project], dbt: Installed, file: str, text: str, said: str
) -> None:
    project = make()
    (project.path / file).write_text(text)
    run = _run(project, dbt, "build")
    outcome = conclude(state=_state(run), pod=PodEnd(kind="Error", exit_code=run.code))
    assert (run.code, outcome.phase) == (2, RunPhase.FAILED)
    assert said in outcome.message
    assert "Traceback" not in outcome.message


def test_an_option_that_dbt_does_not_know_is_named(make: Callable[[], Project], dbt: Installed) -> None:
    run = _run(make(), dbt, "build", "--no-such-option")
    outcome = conclude(state=_state(run), pod=PodEnd(kind="Error", exit_code=run.code))
    assert outcome.phase is RunPhase.FAILED
    assert "--no-such-option" in outcome.message


def test_commands_without_nodes_end_with_what_they_were_asked_for(broken: Built, dbt: Installed) -> None:
    listed = _run(broken.project, dbt, "ls", "--select", "days", "--output", "name")
    assert (listed.code, listed.finished["success"], listed.finished["command"]) == (0, True, "ls")
    assert "output.txt" in listed.artifacts
    parsed = _run(broken.project, dbt, "parse")
    assert (parsed.code, parsed.finished["command"], parsed.results) == (0, "parse", {})


def test_what_needs_a_python_api_is_refused_by_name(broken: Built, dbt: Installed) -> None:
    run = _run(broken.project, dbt, "build", options=["--without-tests"])
    assert (run.code, run.finished["error"]["kind"]) == (2, "usage")
    assert "spec.tests" in run.finished["error"]["message"]
