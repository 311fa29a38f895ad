"""Sources that are looked at before a build, with a real dbt: what is executed for what was found."""

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api.spec import SourceFreshness, StaleParents
from dbt_operator.runner import freshness
from tests.unit.runner.conftest import PROJECTS, Project, Run

CUSTOMERS, ORDERS, REFUNDS = (f"source.shop.raw.{name}" for name in ("customers", "orders", "refunds"))
FRESH = {"orders": 0, "customers": 0, "rates": 0, "refunds": 0}
ENVIRONMENT = {"SHOP_DUCKDB": "shop.duckdb"}
# What depends on customers, directly or not; and what depends on nothing else.
BELOW = {
    *("stg_customers", "customer_ids", "orders_by_customer", "report", "customers_history", "dashboard"),
    *("source_not_null_raw_customers_id", "not_null_stg_customers_id", "not_null_report_orders", "counts_orders"),
    "relationships_stg_orders_customer__id__ref_stg_customers_",
}
ONLY_BELOW = {
    *("stg_customers", "customer_ids", "customers_history"),
    *("source_not_null_raw_customers_id", "not_null_stg_customers_id"),
}
ABOVE = {"stg_orders", "stg_rates", "revenue", "orders_without_rate", "not_null_stg_orders_id"}


class Shop:
    """A project with sources whose tables are loaded as a test says."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def load(self, **hours: int) -> None:
        """Load the tables anew, with a row of that age each."""
        arguments = json.dumps({"hours": FRESH | hours})
        assert self.project.run("run-operation", "load", "--args", arguments, environment=ENVIRONMENT).code == 0

    def build(self, mode: str, *dbt: str, parents: str = "Any", command: str = "build") -> Run:
        options = ["--source-freshness", mode, "--stale-parents", parents]
        return self.project.run(command, *dbt, options=options, environment=ENVIRONMENT)

    def ask(self, query: str) -> list[Any]:
        """What is in the database."""
        script = (
            f"import duckdb, json; db = duckdb.connect('shop.duckdb'); print(json.dumps(db.sql({query!r}).fetchall()))"
        )
        python, folder = self.project.python, self.project.path
        answer = subprocess.run([python, "-c", script], cwd=folder, check=True, capture_output=True, text=True)
        rows: list[Any] = json.loads(answer.stdout)
        return rows


@pytest.fixture(scope="module")
def make_shop(
    dbt_python: str, archive: Path, warm_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Shop]:
    def copy() -> Shop:
        scratch = tmp_path_factory.mktemp("shop")
        shutil.copytree(PROJECTS / "freshness", scratch / "project")
        path = scratch / "project"
        return Shop(Project(python=dbt_python, archive=archive, path=path, scratch=scratch, warm=warm_python))

    parsed = copy().project.run("parse", environment=ENVIRONMENT).target

    def make() -> Shop:
        made = copy()
        shutil.copytree(parsed, made.project.scratch / "target")
        return made

    return make


@pytest.fixture(scope="module")
def shop(make_shop: Callable[[], Shop]) -> Shop:
    """All is fresh but the customers, who are 100 hours old."""
    made = make_shop()
    made.load(customers=100)
    return made


@pytest.fixture(scope="module")
def skipping(shop: Shop) -> Run:
    return shop.build("SkipStale")


def names(unique_ids: Sequence[str] | set[str]) -> set[str]:
    """dbt's names; a test has a hash after it."""
    ids = (one.split(".") for one in unique_ids)
    return {parts[2] if parts[0] == "test" else parts[-1] for parts in ids}


def held(run: Run) -> dict[str, dict[str, Any]]:
    return {entry["unique_id"]: entry for part in run.named("HeldBack") for entry in part["nodes"]}


def executed(run: Run) -> set[str]:
    """What dbt began, without hooks."""
    begun = (each["node_info"]["unique_id"] for each in run.named("LogStartLine"))
    return {one for one in begun if not one.startswith("operation.")}


def test_the_options_are_those_of_the_spec() -> None:
    assert set(freshness.MODES) == {each.value for each in SourceFreshness} - {"Ignore"}
    assert set(freshness.STALE_PARENTS) == {each.value for each in StaleParents}


def test_what_depends_on_a_stale_source_is_not_executed_and_everything_else_is(skipping: Run) -> None:
    assert names(set(held(skipping))) == BELOW
    assert {(each["blocked_by"], each["status"]) for each in held(skipping).values()} == {(CUSTOMERS, "stale")}
    assert names(executed(skipping)) == ABOVE | {"source_not_null_raw_orders_id", "orders", "customers"}
    assert (skipping.code, skipping.finished["success"]) == (0, True)


def test_how_old_each_source_is_is_told_before_anything_is_executed(skipping: Run) -> None:
    found = {each["unique_id"]: each for each in skipping.named("Freshness")}
    assert {one: (each["status"], each["warn_after"], each["error_after"]) for one, each in found.items()} == {
        ORDERS: ("pass", "1 hour", "2 days"),
        CUSTOMERS: ("error", "1 hour", "2 days"),
    }
    assert round(found[CUSTOMERS]["age_seconds"] / 3600) == 100
    assert {one: skipping.results[one]["status"] for one in (ORDERS, CUSTOMERS)} == {ORDERS: "pass", CUSTOMERS: "stale"}
    order = [each["info"]["name"] for each in skipping.events]
    assert order.index("Freshness") < order.index("HeldBack") < order.index("CommandStarted")
    assert order.count("HeldBack") == 1


def test_all_that_was_selected_is_in_the_record_and_nothing_twice(skipping: Run) -> None:
    told = [each["unique_id"] for each in skipping.digest if not each["unique_id"].startswith("operation.")]
    assert len(told) == len(set(told))
    assert set(told) == skipping.selected
    statuses = {each["unique_id"]: each["status"] for each in skipping.digest}
    assert {one for one, status in statuses.items() if status == "stale"} == {*held(skipping), CUSTOMERS}


def test_hooks_run_once_as_the_sources_are_looked_at_without_them(make_shop: Callable[[], Shop]) -> None:
    shop = make_shop()
    shop.load()
    run = shop.build("Warn", "--select", "stg_orders")
    assert len(run.named("Freshness")) == 1
    assert sorted(shop.ask("select at_the from hook_log")) == [["end"], ["start"]]


def test_one_fresh_parent_is_enough_where_all_have_to_be_stale(make_shop: Callable[[], Shop]) -> None:
    shop = make_shop()
    shop.load()
    assert shop.build("Warn").code == 0
    shop.load(customers=100)
    run = shop.build("SkipStale", parents="All")
    assert names(set(held(run))) == ONLY_BELOW
    # They read stg_customers as the build before has left it.
    assert {"report", "relationships_stg_orders_customer__id__ref_stg_customers_"} <= names(executed(run))
    assert (run.code, run.finished["success"]) == (0, True)


WAYS = {
    "select": ["--select", "+report", "stg_rates"],
    "exclude": ["--exclude", "revenue", "stg_rates"],
    "selector": ["--selector", "reports"],
    "types": ["--resource-type", "model"],
    "indirect": ["--select", "stg_orders", "stg_customers", "--indirect-selection", "cautious"],
    "tables between": ["--select", "report", "stg_orders", "--resource-type", "model"],
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_same_with_every_way_of_selecting(shop: Shop, way: str) -> None:
    (shop.project.path / "selectors.yml").write_text("selectors: [{name: reports, definition: '+report'}]")
    run = shop.build("SkipStale", *WAYS[way])
    nodes = {one for one in run.selected if not one.startswith("source.")}
    expected = {one for one in nodes if names([one]) <= BELOW}
    if way == "tables between":
        expected = set()  # what is not selected between report and the customers stays as it is
    assert set(held(run)) == expected
    ephemeral = {"model.shop.customer_ids"}
    begun = {one for one in executed(run) if not one.startswith("source.")}
    assert begun | ephemeral == (nodes - expected) | ephemeral


def test_run_and_snapshot_look_at_the_sources_too(shop: Shop) -> None:
    run = shop.build("SkipStale", command="run")
    assert names(executed(run)) == {"stg_orders", "stg_rates", "revenue", "orders", "customers"}
    run = shop.build("SkipStale", command="snapshot")
    assert (names(executed(run)), run.code) == ({"customers"}, 0)
    assert [each["command"] for each in run.named("CommandStarted")] == []  # nothing is left to execute


def test_with_fail_nothing_is_executed_not_even_hooks(make_shop: Callable[[], Shop]) -> None:
    shop = make_shop()
    shop.load(customers=100)
    run = shop.build("Fail")
    assert executed(run) == {ORDERS, CUSTOMERS}
    nodes = {one for one in run.selected if not one.startswith("source.")}
    assert {one: each["status"] for one, each in held(run).items()} == dict.fromkeys(nodes, "skipped")
    assert {each["blocked_by"] for each in held(run).values()} == {CUSTOMERS}
    assert (run.code, run.results[CUSTOMERS]["status"]) == (1, "error")
    assert shop.ask("select table_name from information_schema.tables where table_name = 'hook_log'") == []
    shop.load(customers=30)  # that is a warning
    run = shop.build("Fail", "--select", "+report", "+revenue")
    assert (run.code, held(run), run.results[CUSTOMERS]["status"]) == (0, {}, "warn")


def test_a_source_that_cannot_be_read_is_an_error_and_not_stale(make_shop: Callable[[], Shop]) -> None:
    shop = make_shop()
    shop.load()
    line = ("--vars", "{refunds: true}", "--select", "stg_refunds", "stg_orders")
    for mode in ("Warn", "SkipStale"):
        run = shop.build(mode, *line)
        assert run.results[REFUNDS]["status"] == "runtime error"
        assert "no_such_column" in run.results[REFUNDS]["message"]
        assert {"model.shop.stg_refunds", "model.shop.stg_orders"} <= executed(run)
        assert (run.code, held(run), run.finished["error"]) == (1, {}, None)
    run = shop.build("Fail", *line)
    assert {one for one in executed(run) if not one.startswith("source.")} == set()
    assert {each["blocked_by"] for each in held(run).values()} == {REFUNDS}


def test_another_attempt_looks_at_no_source_but_those_of_its_list(make_shop: Callable[[], Shop]) -> None:
    shop = make_shop()
    shop.load(customers=100)
    first = shop.build("SkipStale", "--select", "+report")

    def again(*unique_ids: str) -> Run:
        wanted = shop.project.scratch / "nodes.json.gz"
        wanted.unlink(missing_ok=True)
        return shop.project.again(
            first,
            unique_ids,
            "build",
            environment=ENVIRONMENT,
            options=["--source-freshness=SkipStale", "--stale-parents=Any"],
        )

    alone = again("model.shop.stg_customers")
    assert (executed(alone), alone.named("Freshness"), held(alone)) == ({"model.shop.stg_customers"}, [], {})
    still = again(CUSTOMERS, "model.shop.stg_customers")
    assert executed(still) == {CUSTOMERS}
    assert set(held(still)) == {"model.shop.stg_customers"}
    shop.load()
    wanted = {CUSTOMERS, *(one for one in held(first) if not one.startswith("exposure."))}
    fresh = again(*sorted(wanted))
    assert fresh.selected == wanted
    assert (fresh.code, held(fresh), fresh.results[CUSTOMERS]["status"]) == (0, {}, "pass")
    only = again(CUSTOMERS)
    assert (only.code, executed(only), only.selected) == (0, {CUSTOMERS}, {CUSTOMERS})
    shop.project.edit("models/sources.yml", "- name: customers\n", "- name: customers\n        freshness: null\n")
    without = again(CUSTOMERS, "model.shop.stg_customers")
    assert (without.code, without.results[CUSTOMERS]["status"]) == (0, "no-op")
    assert executed(without) == {"model.shop.stg_customers"}


def test_an_attempt_decides_also_on_nodes_that_it_does_not_execute(make_shop: Callable[[], Shop]) -> None:
    shop = make_shop()
    shop.load(customers=100)
    first = shop.build("Warn", "--select", "+report")
    tests = {one for one in first.selected if one.startswith("test.")}
    others = shop.project.scratch / "others.json.gz"
    gone = "test.shop.gone.1"
    others.write_bytes(gzip.compress(json.dumps([{"unique_id": one} for one in {*tests, gone}]).encode()))
    run = shop.project.again(
        first,
        [CUSTOMERS, ORDERS, "model.shop.stg_customers", "model.shop.stg_orders"],
        environment=ENVIRONMENT,
        options=["--stage=build", "--source-freshness=SkipStale", f"--decides-on={others}", "--kept-path=/"],
    )
    # Nothing in the list reads report, which stays as it is.
    below = {one for one in tests if names([one]) <= BELOW - {"not_null_report_orders"}}
    assert set(held(run)) == {"model.shop.stg_customers", *below}
    assert (run.code, executed(run)) == (0, {CUSTOMERS, ORDERS, "model.shop.stg_orders"})
    assert tests - below


# The rules by themselves.


def node(unique_id: str, *parents: str, materialized: str = "table", **fields: Any) -> dict[str, Any]:
    resource_type = unique_id.partition(".")[0]
    return {"resource_type": resource_type, "materialized": materialized, "depends_on": list(parents), **fields}


KNOWN = {
    "source.a": node("source.a", freshness=True),
    "source.b": node("source.b", freshness=True),
    "source.c": node("source.c", freshness=False),
    "model.view": node("model.view", "source.a", materialized="view"),
    "model.inner": node("model.inner", "model.view", materialized="ephemeral"),
    "model.table": node("model.table", "source.a"),
    "model.both": node("model.both", "source.a", "source.b"),
    "model.half": node("model.half", "source.a", "source.c"),
    "model.end": node("model.end", "model.both", "model.inner"),
    "test.both": node("test.both", "model.both", "model.half", attached_node="model.both"),
    "test.half": node("test.half", "model.half", "model.both", attached_node="model.half"),
    "unit_test.end": node("unit_test.end", "model.end", "model.both"),
}


def below(nodes: set[str], *stale: str, parents: str) -> set[str]:
    statuses = {one: "stale" if one in stale else "pass" for one in ("source.a", "source.b")}
    return set(freshness.held_back(known=KNOWN, nodes=nodes, statuses=statuses, mode="SkipStale", parents=parents))


def test_the_sources_of_nodes_are_those_that_they_read_also_through_what_has_no_data() -> None:
    def sources(*nodes: str) -> set[str]:
        return set(freshness.sources_of(known=KNOWN, nodes=nodes))

    assert sources("model.end") == {"source.a"}  # by way of two models that are not selected
    assert sources("model.both", "model.end") == {"source.a", "source.b"}
    assert sources("model.half") == {"source.a"}  # the other one has no freshness
    assert sources("test.both") == set()  # it reads tables that are not selected


def test_any_stale_parent_or_only_all_of_them() -> None:
    nodes = {one for one in KNOWN if not one.startswith("source.")}
    assert below(nodes, "source.a", parents="Any") == nodes
    everything_of_a = {"model.view", "model.inner", "model.table"}
    assert below(nodes, "source.a", parents="All") == everything_of_a
    both = below(nodes, "source.a", "source.b", parents="All")
    # A test goes with the node that it is attached to, a unit test with its model; what reads a source without
    # freshness has a parent that is not stale.
    assert both == everything_of_a | {"model.both", "model.end", "test.both", "unit_test.end"}


def test_what_is_not_selected_and_has_no_data_of_its_own_passes_staleness_on() -> None:
    assert below({"model.end"}, "source.a", parents="Any") == {"model.end"}
    assert below({"model.end"}, "source.b", parents="Any") == set()  # model.both is a table that stays as it is
    assert below({"model.end"}, "source.a", parents="All") == set()
