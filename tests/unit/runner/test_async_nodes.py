"""Which nodes may be executed without dbt."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dbt_operator.runner.async_nodes import Project, refusal, refusals

DBTS = Project(packages={"table": "dbt", "view": "dbt_bigquery", "test": "dbt"})


def node(
    name: str = "orders", *, kind: str = "model", language: str = "sql", reads: tuple[str, ...] = (), **config: Any
) -> SimpleNamespace:
    given: dict[str, Any] = {
        "materialized": "table" if kind == "model" else kind,
        "pre_hook": [],
        "post_hook": [],
        "grants": {},
        "persist_docs": {},
        "contract": SimpleNamespace(enforced=False),
        "_extra": {},
        **config,
    }
    return SimpleNamespace(
        unique_id=f"{kind}.shop.{name}",
        resource_type=kind,
        language=language,
        config=SimpleNamespace(**given),
        depends_on=SimpleNamespace(nodes=list(reads)),
    )


@pytest.mark.parametrize(
    "simple",
    [
        node(),
        node(materialized="view"),
        node(persist_docs={"relation": False, "columns": False}),
        node(_extra={"partition_by": {"field": "day"}, "grant_access_to": []}),
        node(kind="test", store_failures=None, store_failures_as=None),
        node(kind="test", store_failures=False, store_failures_as="ephemeral"),
    ],
)
def test_a_simple_node_needs_no_dbt(simple: Any) -> None:
    assert refusal(node=simple, project=DBTS) == ""


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (node(kind="seed"), "it is a seed"),
        (node(kind="snapshot"), "it is a snapshot"),
        (node(kind="saved_query"), "it is a saved query"),
        (node(materialized="incremental"), "it is materialized as incremental"),
        (node(materialized="materialized_view"), "it is materialized as materialized_view"),
        (node(language="python"), "it is written in python"),
        (node(pre_hook=["select 1"]), "it has a pre-hook"),
        (node(post_hook=["select 1"]), "it has a post-hook"),
        (node(grants={"select": ["somebody"]}), "it has grants"),
        (node(_extra={"grant_access_to": [{"dataset": "d"}]}), "it is an authorized view (grant_access_to)"),
        (node(persist_docs={"columns": True}), "its descriptions are kept in the warehouse (persist_docs)"),
        (node(contract=SimpleNamespace(enforced=True)), "it has a contract"),
        (node(kind="test", store_failures=True, store_failures_as="table"), "it stores the rows that it finds"),
        (node(kind="test", store_failures=None, store_failures_as="view"), "it stores the rows that it finds"),
    ],
)
def test_what_is_not_simple_is_dbts_for_a_reason(refused: Any, reason: str) -> None:
    assert refusal(node=refused, project=DBTS) == reason


def test_a_materialization_of_another_package_is_dbts() -> None:
    own = DBTS._replace(packages={"table": "shop"})
    assert refusal(node=node(), project=own) == "the materialization table is not dbt's own but that of shop"
    other = DBTS._replace(packages={"table": "dbt_utils"})
    assert refusal(node=node(), project=other).endswith("that of dbt_utils")


def test_a_model_with_unit_tests_is_dbts_as_they_are_executed_right_before_it() -> None:
    tested = DBTS._replace(unit_tested=frozenset({"model.shop.orders"}))
    assert refusal(node=node(), project=tested) == "its unit tests are executed right before it"
    assert refusal(node=node("others"), project=tested) == ""


def test_tests_store_what_they_find_where_the_command_says_so() -> None:
    storing = DBTS._replace(store_failures=True)
    silent = node(kind="test", store_failures=None, store_failures_as=None)
    assert refusal(node=silent, project=storing) == "it stores the rows that it finds"
    assert refusal(node=node(kind="test", store_failures=False, store_failures_as=None), project=storing) == ""


def test_a_test_goes_with_what_it_tests_where_all_of_that_is_dbts() -> None:
    seed, model = node("raw", kind="seed"), node()
    of_seed = node("raw_ok", kind="test", reads=("seed.shop.raw",))
    of_both = node("both_ok", kind="test", reads=("seed.shop.raw", "model.shop.orders"))
    found = refusals(nodes=[seed, model, of_seed, of_both], project=DBTS)
    assert found["test.shop.raw_ok"] == "it tests what dbt executes"
    assert found["test.shop.both_ok"] == ""


# What dbt's own materializations of tables, views and tests look at: refused where it says anything, or part of the
# statements that are recorded.
REFUSED = {"grants", "persist_docs", "grant_access_to", "contract"}
RECORDED = {
    *("indexes", "sql_header", "unlogged", "limit", "fail_calc", "warn_if", "error_if", "store_failures"),
    *("store_failures_as", "full_refresh", "where"),
}


def test_dbts_own_materializations_look_at_nothing_that_is_not_known_here(dbt_python: str) -> None:
    ask = "import dbt.adapters.postgres as own, pathlib; print(pathlib.Path(own.__file__).parents[2])"
    root = Path(subprocess.run([dbt_python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    shared = root / "include/global_project/macros"
    if not shared.exists():
        shared = next(root.glob("**/global_project/macros"))
    places = [
        shared / "materializations/models/table.sql",
        shared / "materializations/models/view.sql",
        shared / "materializations/tests",
        *(root / "include/postgres/macros").glob("adapters.sql"),
    ]
    files = [file for place in places for file in ([place] if place.is_file() else place.glob("*.sql"))]
    assert len(files) >= 4
    read = {name for file in files for name in re.findall(r"config\.(?:get|require)\(['\"](\w+)", file.read_text())}
    assert {"grants", "fail_calc", "sql_header"} <= read
    # Unit tests and what is materialized in another way have files of their own in these folders.
    assert read - REFUSED - RECORDED <= {"expected_rows", "expected_sql"}
