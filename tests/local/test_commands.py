"""A run of each other command, one after the other, on one database."""

import json
from typing import Any

import pytest

from tests.local.desk import Desk


class TestEveryCommand:
    """The runs share what the ones before them have built, so that the order matters."""

    @pytest.fixture(autouse=True)
    def given(self, shop: Desk) -> None:
        self.shop = shop

    def run(self, command: str, *, name: str = "", **spec: Any) -> dict[str, Any]:
        """The status of a run of the command, once it has ended."""
        return self.shop.run(name or command, "commands", command=command, **spec)

    def test_seed_and_snapshot_show_what_they_load_and_take(self) -> None:
        status = self.run("seed")
        assert (status["phase"], status["message"]) == ("Succeeded", "1 node succeeded.")
        (seed,) = self.shop.models("seed").values()
        assert (seed["spec"]["resourceType"], seed["status"]["rowsAffected"]) == ("seed", 2)
        status = self.run("snapshot")
        assert (status["phase"], status["message"]) == ("Succeeded", "1 node succeeded.")
        assert self.shop.phases("snapshot") == {"events_history": "Succeeded"}

    def test_an_operation_calls_the_macro_and_one_that_fails_is_not_repeated(self) -> None:
        operation = {"macro": "remember", "args": {"what": 'this "and" that', "times": 2}}
        status = self.run("run-operation", runOperation=operation)
        assert (status["phase"], status["message"]) == ("Succeeded", "dbt run-operation ended successfully.")
        assert "calls: 2" in self.shop.log("run-operation")
        assert (self.shop.models("run-operation"), status.get("output")) == ({}, None)
        status = self.run("run-operation", name="fails", runOperation={"macro": "give_up"})
        assert (status["phase"], status["reason"], len(status["attempts"])) == ("Failed", "DbtError", 1)
        assert status["message"].startswith("dbt run-operation failed: ")
        assert "there is nothing to do here" in status["message"]

    def test_source_freshness_says_how_old_each_source_is(self) -> None:
        status = self.run("source-freshness", retry={"limit": 0})
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed")
        assert status["message"].startswith("2 of 3 nodes failed: ")
        sources = self.shop.models("source-freshness")
        assert self.shop.phases("source-freshness") == {"late": "Succeeded", "stale": "Failed", "missing": "Failed"}
        assert {name: each["status"]["reason"] for name, each in sources.items()} == {
            "late": "Warned",
            "stale": "Stale",
            "missing": "Error",
        }
        late, stale = sources["late"]["status"]["freshness"], sources["stale"]["status"]["freshness"]
        assert (late["status"], late["maxLoadedAt"], late["warnAfter"]) == ("warn", "2026-01-02T00:00:00Z", "1 hour")
        assert (stale["status"], stale["errorAfter"]) == ("error", "1 hour")
        assert stale["ageSeconds"] > 3600
        assert "freshness" not in sources["missing"]["status"]
        assert status["artifacts"] == {
            "configMap": "source-freshness-artifacts",
            "runResults": False,
            "manifest": True,
            "sources": True,
        }
        written = json.loads(self.shop.kept("source-freshness-artifacts", "sources.json.gz"))["results"]
        assert {each["unique_id"]: each["status"] for each in written} == {
            "source.commands.raw.late": "warn",
            "source.commands.raw.stale": "error",
        }

    def test_what_commands_print_or_write_is_kept(self) -> None:
        status = self.run("ls", select=["+report"], args=["--output=json", "--output-keys", "name", "resource_type"])
        assert status["output"] == {"configMap": "ls-output", "files": ["output.txt.gz"]}
        lines = [json.loads(line) for line in self.shop.kept("ls-output", "output.txt.gz").splitlines()]
        assert {"name": "report", "resource_type": "model"} in lines
        self.run("show", args=["--inline", "select 1 as one", "--output=json"])
        assert '"one": 1' in self.shop.kept("show-output", "output.txt.gz")
        self.run("compile", select=["orders"])
        assert "select 1 as id" in self.shop.kept("compile-output", "output.txt.gz")
        results = json.loads(self.shop.kept("compile-artifacts", "run_results.json.gz"))["results"]
        compiled = {each["unique_id"]: each["compiled_code"] for each in results}
        assert compiled["model.commands.orders"].strip().endswith("select 1 as id")
        status = self.run("parse")
        assert (status["phase"], status["artifacts"]["manifest"]) == ("Succeeded", True)
        assert not any(self.shop.models(name) for name in ("ls", "show", "compile", "parse"))

    def test_clone_shows_what_it_clones(self) -> None:
        # Not by spec.state: dbt has a variable for it.
        container = {"name": "dbt", "env": [{"name": "DBT_STATE", "value": str(self.shop.place.artifacts("parse"))}]}
        status = self.run(
            "clone",
            podTemplate={"spec": {"containers": [container]}},
            profile={"inProject": True, "target": "copy"},
            resourceTypes=["seed", "snapshot"],
        )
        assert (status["phase"], status["message"]) == ("Succeeded", "2 nodes succeeded.")
        assert self.shop.phases("clone") == {"raw_events": "Succeeded", "events_history": "Succeeded"}
        assert all(each["status"]["tries"] == 1 for each in self.shop.models("clone").values())

    def test_a_flag_that_dbt_does_not_have_is_named_with_its_version_before_anything_is_done(self) -> None:
        status = self.run("seed", name="misspelt", args=["--no-introspekt"])
        assert (status["phase"], status["reason"]) == ("Failed", "UsageError")
        assert "has no option --no-introspekt for `dbt seed`" in status["message"]
