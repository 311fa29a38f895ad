"""A run of each other command, one after the other, on one database that outlives their pods."""

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import Api
from tests.conftest import Kubectl, new_namespace
from tests.e2e.conftest import Cluster, folder_of_the_node, phases, project


@pytest.fixture(scope="class")
def commands(kubectl: Kubectl, api: Api) -> Iterator[tuple[Cluster, dict[str, Any]]]:
    """A namespace with a pod template that has a volume, for all tests of the class."""
    with new_namespace(api) as namespace:
        cluster = Cluster(kubectl=kubectl, api=api, namespace=namespace)
        with folder_of_the_node(namespace) as template:
            yield cluster, template


class TestEveryCommand:
    """The runs share what the ones before them have built, so that the order matters."""

    @pytest.fixture(autouse=True)
    def given(self, commands: tuple[Cluster, dict[str, Any]]) -> None:
        self.cluster, self.template = commands

    def run(self, command: str, *, name: str = "", **spec: Any) -> dict[str, Any]:
        """The status of a run of the command, once it has ended."""
        name = name or command
        spec = project("commands") | {"podTemplate": self.template} | spec
        self.cluster.create_run(name, single_attempt=False, command=command, **spec)
        return self.cluster.wait_for_end(name)

    def models(self, run: str) -> dict[str, dict[str, Any]]:
        found = self.cluster.objects("dbtmodels", labels=f"dbt-operator.io/run={run}")
        return {item["spec"]["name"]: item for item in found}

    def file(self, config_map: str, key: str) -> str:
        """A file that is kept of a run."""
        (found,) = (each for each in self.cluster.objects("configmaps") if each["metadata"]["name"] == config_map)
        return gzip.decompress(base64.b64decode(found["binaryData"][key])).decode()

    def test_seed_and_snapshot_show_what_they_load_and_take(self) -> None:
        status = self.run("seed")
        assert (status["phase"], status["message"]) == ("Succeeded", "1 node succeeded.")
        (seed,) = self.models("seed").values()
        assert (seed["spec"]["resourceType"], seed["status"]["rowsAffected"]) == ("seed", 2)
        status = self.run("snapshot")
        assert (status["phase"], status["message"]) == ("Succeeded", "1 node succeeded.")
        assert phases(self.models("snapshot")) == {"events_history": "Succeeded"}

    def test_an_operation_calls_the_macro_and_one_that_fails_is_not_repeated(self) -> None:
        operation = {"macro": "remember", "args": {"what": 'this "and" that', "times": 2}}
        status = self.run("run-operation", runOperation=operation)
        assert (status["phase"], status["message"]) == ("Succeeded", "dbt run-operation ended successfully.")
        assert "calls: 2" in self.cluster.log("run-operation")
        assert (self.models("run-operation"), status.get("output")) == ({}, None)
        status = self.run("run-operation", name="fails", runOperation={"macro": "give_up"})
        assert (status["phase"], status["reason"], len(status["attempts"])) == ("Failed", "DbtError", 1)
        assert status["message"].startswith("dbt run-operation failed: ")
        assert "there is nothing to do here" in status["message"]

    def test_source_freshness_says_how_old_each_source_is(self) -> None:
        status = self.run("source-freshness", retry={"limit": 0})
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed")
        assert status["message"].startswith("2 of 3 nodes failed: ")
        sources = self.models("source-freshness")
        assert phases(sources) == {"late": "Succeeded", "stale": "Failed", "missing": "Failed"}
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
        written = json.loads(self.file("source-freshness-artifacts", "sources.json.gz"))["results"]
        assert {each["unique_id"]: each["status"] for each in written} == {
            "source.commands.raw.late": "warn",
            "source.commands.raw.stale": "error",
        }

    def test_what_commands_print_or_write_is_kept(self) -> None:
        status = self.run("ls", select=["+report"], args=["--output=json", "--output-keys", "name", "resource_type"])
        assert status["output"] == {"configMap": "ls-output", "files": ["output.txt.gz"]}
        lines = [json.loads(line) for line in self.file("ls-output", "output.txt.gz").splitlines()]
        assert {"name": "report", "resource_type": "model"} in lines
        self.run("show", args=["--inline", "select 1 as one", "--output=json"])
        assert '"one": 1' in self.file("show-output", "output.txt.gz")
        self.run("compile", select=["orders"])
        assert "select 1 as id" in self.file("compile-output", "output.txt.gz")
        results = json.loads(self.file("compile-artifacts", "run_results.json.gz"))["results"]
        compiled = {each["unique_id"]: each["compiled_code"] for each in results}
        assert compiled["model.commands.orders"].strip().endswith("select 1 as id")
        status = self.run("docs")
        assert status["output"]["files"] == ["catalog.json.gz", "index.html.gz"]
        assert "seed.commands.raw_events" in json.loads(self.file("docs-output", "catalog.json.gz"))["nodes"]
        assert "<html" in self.file("docs-output", "index.html.gz")
        manifest = json.loads(self.file("docs-artifacts", "manifest.json.gz"))
        assert "model.commands.report" in manifest["nodes"]
        status = self.run("parse")
        assert (status["phase"], status["artifacts"]["manifest"]) == ("Succeeded", True)
        assert not any(self.models(name) for name in ("ls", "show", "compile", "docs", "parse"))

    def test_clone_shows_what_it_clones(self) -> None:
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "state"},
                "binaryData": {
                    "manifest.json": base64.b64encode(
                        self.file("parse-artifacts", "manifest.json.gz").encode()
                    ).decode()
                },
            }
        )
        pod = self.template["spec"]
        (dbt,) = pod["containers"]
        state = {"name": "state", "mountPath": "/state"}
        template = {
            "spec": pod
            | {
                "volumes": [*pod["volumes"], {"name": "state", "configMap": {"name": "state"}}],
                "containers": [
                    dbt
                    | {
                        "volumeMounts": [*dbt["volumeMounts"], state],
                        "env": [{"name": "DBT_STATE", "value": "/state"}],
                    }
                ],
            }
        }
        status = self.run(
            "clone",
            podTemplate=template,
            profile={"inProject": True, "target": "copy"},
            resourceTypes=["seed", "snapshot"],
        )
        assert (status["phase"], status["message"]) == ("Succeeded", "2 nodes succeeded.")
        assert phases(self.models("clone")) == {"raw_events": "Succeeded", "events_history": "Succeeded"}
        assert all(each["status"]["tries"] == 1 for each in self.models("clone").values())

    def test_a_flag_that_dbt_does_not_have_is_named_with_its_version_before_anything_is_done(self) -> None:
        status = self.run("seed", name="misspelt", args=["--no-introspekt"])
        assert (status["phase"], status["reason"]) == ("Failed", "UsageError")
        assert "has no option --no-introspekt for `dbt seed`" in status["message"]
