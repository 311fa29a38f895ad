"""Sources that are looked at before a build: what is stale is not built, and is once it is fresh and asked for."""

from typing import Any

import pytest

from tests.local.desk import Desk

CUSTOMERS = "source.shop.raw.customers"
BELOW = {"stg_customers", "customer_ids", "orders_by_customer", "report", "customers_history"}


class TestStaleSources:
    """The runs share what the ones before them have built, so that the order matters."""

    @pytest.fixture(autouse=True)
    def given(self, shop: Desk) -> None:
        self.shop = shop

    def run(self, name: str, **spec: Any) -> dict[str, Any]:
        """The status of a run, once it has ended."""
        return self.shop.run(name, "freshness", **spec)

    def load(self, name: str, *, customers: int) -> None:
        """Load the tables of the sources."""
        hours = {"orders": 0, "customers": customers, "rates": 0}
        operation = {"macro": "load", "args": {"hours": hours}}
        assert self.run(name, command="run-operation", runOperation=operation)["phase"] == "Succeeded"

    def statuses(self, run: str) -> dict[str, dict[str, Any]]:
        return {name: model["status"] for name, model in self.shop.models(run).items()}

    def test_warn_builds_everything_and_shows_how_old_each_source_is(self) -> None:
        self.load("load", customers=100)
        status = self.run("warned", sourceFreshness="Warn")
        assert (status["phase"], status["reason"]) == ("Succeeded", "SucceededWithWarnings")
        nodes = self.statuses("warned")
        assert {node["phase"] for node in nodes.values()} == {"Succeeded"}
        assert {name: nodes[name]["reason"] for name in ("customers", "orders")} == {
            "customers": "Warned",
            "orders": "Success",
        }
        found = nodes["customers"]["freshness"]
        assert (found["status"], found["warnAfter"], found["errorAfter"]) == ("error", "1 hour", "2 days")
        assert status["artifacts"]["sources"] is True

    def test_all_builds_what_has_a_fresh_parent(self) -> None:
        status = self.run("all", sourceFreshness="SkipStale", staleParents="All")
        assert (status["phase"], status["reason"]) == ("Succeeded", "SucceededWithWarnings")
        nodes = self.statuses("all")
        skipped = {name for name, node in nodes.items() if node["phase"] == "Skipped"}
        assert skipped == {"stg_customers", "customer_ids", "customers_history"}

    def test_any_skips_what_depends_on_a_stale_source_and_builds_it_when_asked_once_that_is_fresh(self) -> None:
        status = self.run("any", sourceFreshness="SkipStale")
        assert (status["phase"], status["reason"]) == ("Succeeded", "SucceededWithWarnings")
        assert f"5 nodes and 5 tests were skipped, as {CUSTOMERS} is stale" in status["message"]
        assert status["nodes"]["skipped"] == 5
        nodes = self.statuses("any")
        assert {name for name, node in nodes.items() if node["phase"] == "Skipped"} == BELOW
        assert {(nodes[name]["reason"], nodes[name]["blockedBy"]) for name in BELOW} == {("Stale", CUSTOMERS)}
        self.load("load-again", customers=0)
        self.shop.do("retry", "any")
        status = self.shop.status("any")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded")
        assert status["attempts"][-1]["kind"] == "Resume"
        nodes = self.statuses("any")
        assert {node["phase"] for node in nodes.values()} == {"Succeeded"}
        assert (nodes["customers"]["tries"], nodes["orders"]["tries"], nodes["stg_orders"]["tries"]) == (2, 1, 1)

    def test_fail_builds_nothing(self) -> None:
        self.load("load-old", customers=100)
        status = self.run("failed", sourceFreshness="Fail", command="run")
        assert (status["phase"], status["reason"]) == ("Failed", "SourcesStale")
        nodes = self.statuses("failed")
        assert (nodes.pop("customers")["phase"], nodes.pop("orders")["phase"]) == ("Failed", "Succeeded")
        assert {(node["phase"], node["reason"]) for node in nodes.values()} == {("Skipped", "Stale")}
