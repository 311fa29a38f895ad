"""A project with everything that dbt knows: each node of the operator is what dbt itself wrote of it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.state import EMPTY, AttemptState
from dbt_operator.dbt.view import NodeView, node_views
from dbt_operator.plan.outcome import ending_of
from tests.unit.runner.conftest import PROJECTS, Project, Run
from tests.unit.runner.postgres_server import postgres_server, programs

BROKEN = ("--vars", json.dumps({"broken": True}))
PHASES = {
    **dict.fromkeys(("success", "pass", "warn", "no-op"), NodePhase.SUCCEEDED),
    **dict.fromkeys(("error", "fail", "partial success"), NodePhase.FAILED),
    "skipped": NodePhase.SKIPPED,
}
MODEL = "model.everything."


@pytest.fixture(scope="module")
def everything(
    dbt_python: str, archive: Path, warm_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Project]:
    def make() -> Project:
        scratch = tmp_path_factory.mktemp("everything")
        path = scratch / "project"
        shutil.copytree(PROJECTS / "everything", path)
        return Project(python=dbt_python, archive=archive, path=path, scratch=scratch, warm=warm_python)

    return make


@pytest.fixture(scope="module")
def green(everything: Callable[[], Project]) -> Run:
    return everything().run("build")


@pytest.fixture(scope="module")
def broken(everything: Callable[[], Project]) -> Run:
    return everything().run("build", *BROKEN)


@pytest.fixture(scope="module")
def on_postgres(everything: Callable[[], Project]) -> Iterator[Run]:
    if programs() is None:
        pytest.skip("this machine has no Postgres server")
    with postgres_server() as server:
        yield everything().run("build", *BROKEN, environment={**server, "EVERYTHING_TARGET": "postgres"})


def _state(run: Run) -> AttemptState:
    state = fold_lines(state=EMPTY, lines=run.lines)
    return close(state=state, ending=ending_of(state=state, pod=None))


def _views(run: Run) -> dict[str, NodeView]:
    return dict(node_views(state=_state(run)))


def _dbts(run: Run) -> dict[str, dict[str, Any]]:
    return {result["unique_id"]: result for result in run.run_results()["results"]}


@pytest.mark.parametrize("name", ["green", "broken", "on_postgres"])
def test_each_node_is_what_dbt_wrote_of_it(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    nodes, dbts = _state(run).nodes, _dbts(run)
    assert {one: nodes[one].status for one in dbts} == {one: result["status"] for one, result in dbts.items()}
    assert {one: nodes[one].num_failures for one in dbts} == {one: _failures(result) for one, result in dbts.items()}
    # Of an ephemeral model dbt writes no result, and before 1.9 of a hook.
    silent = {one for one in nodes.keys() - dbts.keys() if not one.startswith("operation.")}
    assert silent == {MODEL + "paid_back"}
    for unique_id, view in _views(run).items():
        if unique_id not in dbts:
            continue
        told = dbts[unique_id]["message"] or ""
        if dbts[unique_id]["status"] not in ("success", "partial success"):  # of batches ours says more
            assert told.strip().startswith(nodes[unique_id].message.rstrip("…")), unique_id
        if view.tests is None or not view.tests.failing:
            assert view.phase is PHASES[dbts[unique_id]["status"]], unique_id
    assert run.finished["success"] is (name == "green")


def _failures(result: dict[str, Any]) -> int | None:
    failures: int | None = result["failures"]
    return failures if result["unique_id"].startswith(("test.", "unit_test.")) else None


def test_what_a_project_can_have_is_there(green: Run) -> None:
    shown = {view.unique_id: view for view in _views(green).values()}
    types = {view.resource_type for view in shown.values()}
    assert types >= {"model", "seed", "snapshot", "test", "unit_test", "operation"}
    assert {shown[f"{MODEL}customers.v{version}"].name for version in (1, 2)} == {"customers"}
    assert shown[MODEL + "in_python"].phase is NodePhase.SUCCEEDED
    assert {view.materialized for view in shown.values()} >= {"table", "view", "incremental", "ephemeral"}
    # Two tests of one name on one model are two tests.
    tests = shown[MODEL + "stg_payments"].tests
    assert tests is not None
    assert (tests.total, tests.passed, tests.warned) == (3, 2, 1)
    # A test of two models is executed once, and counted on each.
    assert [one for one in green.results if "nothing_lost" in one] == ["test.everything.nothing_lost"]


@pytest.mark.needs("dbt-core", "1.11", "functions")
def test_a_function_is_a_node_that_others_read(green: Run, broken: Run) -> None:
    function = "function.everything.doubled"
    view = _views(green)[function]
    assert (view.phase, view.shown, view.resource_type) == (NodePhase.SUCCEEDED, True, "function")
    assert function in green.graph[MODEL + "doubles"]["depends_on"]
    assert _views(broken)[function].phase is NodePhase.SUCCEEDED


@pytest.mark.needs("dbt-core", "1.10", "results of exposures and saved queries")
def test_what_dbt_builds_nothing_for_has_no_place_among_the_nodes(green: Run) -> None:
    views = _views(green)
    nothing = ("exposure.everything.board", "saved_query.everything.paid_by_day")
    assert {one: views[one].shown for one in nothing} == dict.fromkeys(nothing, False)


def test_a_broken_contract_fails_its_model_and_holds_back_what_reads_it(broken: Run) -> None:
    views = _views(broken)
    agreed, after = views[MODEL + "agreed"], views[MODEL + "after_agreed"]
    assert (agreed.phase, after.phase, after.blocked_by) == (NodePhase.FAILED, NodePhase.SKIPPED, agreed.unique_id)
    assert "contract" in agreed.message


def test_a_materialized_view_is_built_where_the_warehouse_has_them(on_postgres: Run, green: Run) -> None:
    view = _views(on_postgres)[MODEL + "refreshed"]
    assert (view.phase, view.materialized) == (NodePhase.SUCCEEDED, "materialized_view")
    assert MODEL + "refreshed" not in _views(green)
