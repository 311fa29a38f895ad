"""Where nodes and tests of a real run are shown, from what dbt selects to what a user sees."""

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.state import EMPTY
from dbt_operator.dbt.view import NodeView, node_counts, node_views
from dbt_operator.plan.outcome import ending_of
from tests.unit.runner.conftest import Project, Run

YAML = """
models:
  - name: eph
    columns: [{name: id, data_tests: [not_null]}]
exposures:
  - {name: board, type: dashboard, owner: {email: a@example.com}, depends_on: [ref('uses_eph')]}
"""


@pytest.fixture
def tested(project: Project) -> Project:
    """The torture project with a test of an ephemeral model, one of nothing, and an exposure."""
    (project.path / "models" / "more.yml").write_text(YAML)
    (project.path / "tests" / "of_nothing.sql").write_text("select 1 as id")
    return project


def _shown(run: Run) -> dict[str, NodeView]:
    state = fold_lines(state=EMPTY, lines=run.lines)
    views = node_views(state=close(state=state, ending=ending_of(state=state, pod=None)))
    found = {view.name: view for view in views.values() if view.shown}
    assert node_counts(views=views).total == len(found)
    return found


def test_a_run_of_tests_only_shows_what_they_are_about(tested: Project) -> None:
    run = tested.run("build", "--select", "singular", "not_null_test_fails_name", "not_null_eph_id", "of_nothing")
    selected = {node["name"]: node.get("selected", True) for node in run.graph.values()}
    assert selected == {
        **dict.fromkeys(("singular", "not_null_test_fails_name", "not_null_eph_id", "of_nothing"), True),
        **dict.fromkeys(("ok_model", "test_fails", "eph"), False),
    }
    shown = _shown(run)
    assert {name: view.reason for name, view in shown.items()} == {
        # None of these was ever built, so that the tests of them cannot be executed.
        **dict.fromkeys(("ok_model", "test_fails"), NodeReason.TESTS_FAILED),
        "eph": NodeReason.INLINED,
        "of_nothing": NodeReason.TESTS_FAILED,
    }
    assert shown["of_nothing"].message.startswith("Got 1 result")


@pytest.mark.needs("dbt-core", "1.10", "results of exposures")
def test_an_ephemeral_model_is_shown_for_its_tests_and_an_exposure_not_at_all(tested: Project) -> None:
    run = tested.run("build", "--select", "+uses_eph+", "--exclude", "of_nothing")
    assert run.results["exposure.torture.board"]["status"] == "no-op"
    shown = _shown(run)
    assert "board" not in shown
    assert (shown["eph"].phase, shown["eph"].reason) == (NodePhase.SUCCEEDED, NodeReason.INLINED)
    assert shown["eph"].tests is not None
    assert (shown["eph"].tests.passed, shown["eph"].tests.total) == (1, 1)


def test_a_unit_test_without_its_model_is_not_executed_by_a_build_and_so_not_shown(project: Project) -> None:
    run = project.run("build", "--select", "+stg_users", "resource_type:unit_test")
    assert not [one for one in run.graph if one.startswith("unit_test.")]
    assert run.finished["success"]
