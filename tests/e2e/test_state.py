"""Runs that are given the artifacts of another run: what they build, and what they read from where it is built."""

import base64
import io
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.api import Api
from tests.conftest import Kubectl, new_namespace
from tests.e2e.conftest import JAFFLE_SHOP_IMAGE, Cluster, folder_of_the_node, phases

MAIN = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop, config-version: 2}",
    "profiles.yml": """
shop:
  target: production
  outputs:
    production: {type: duckdb, path: /data/shop.duckdb, schema: production}
    pull: {type: duckdb, path: /data/shop.duckdb, schema: pull}
""",
    "macros/macros.sql": "{% macro made_in(where) %}{% set found = run_query('select made_in from ' ~ where) %}"
    "{{ log(where ~ ' was made in ' ~ found.columns[0].values()[0], info=true) }}{% endmacro %}",
    "models/raw.sql": "select '{{ target.schema }}' as made_in",
    "models/staged.sql": "select * from {{ ref('raw') }}",
    "models/report.sql": "select * from {{ ref('staged') }}",
    "models/other.sql": "select 1 as id",
}
# The table is there after the first try, in which the model fails.
FLAKY = """
{{ config(materialized='table') }}
{% if execute and not adapter.get_relation(target.database, 'main', 'tried') %}
  {% do run_query("create table main.tried as select 1 as id; commit; begin") %}
  select no_such_column
{% else %}
  select made_in, 'pull' as changed_in from {{ ref('raw') }}
{% endif %}
"""
PULL = MAIN | {"models/staged.sql": FLAKY}


def packed(files: Mapping[str, str | bytes]) -> str:
    """A .tgz with these files, for the binaryData of a ConfigMap."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def config_map(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": dict(files)}


@pytest.fixture(scope="class")
def shop(kubectl: Kubectl, api: Api) -> Iterator[tuple[Cluster, dict[str, Any]]]:
    """A namespace in which production was built."""
    with new_namespace(api) as namespace, folder_of_the_node(namespace) as template:
        cluster = Cluster(kubectl=kubectl, api=api, namespace=namespace)
        for name, files in (("main", MAIN), ("pull", PULL)):
            cluster.apply(config_map(name, {"shop.tgz": packed(files)}))
        run(cluster, template, "production", "main")
        assert cluster.wait_for_end("production")["phase"] == "Succeeded"
        yield cluster, template


def run(cluster: Cluster, template: dict[str, Any], name: str, project: str, **spec: Any) -> None:
    """Create a run of one of the two projects."""
    fields: dict[str, Any] = {
        "image": JAFFLE_SHOP_IMAGE,
        "project": {"archive": {"configMapRef": {"name": project, "key": "shop.tgz"}}},
        "profile": {"inProject": True, "target": "production" if project == "main" else "pull"},
        "podTemplate": template,
        "retry": {"limit": 0},
    }
    cluster.create_run(name, **(fields | spec))


class TestState:
    """The runs share what the ones before them have built, so that the order matters."""

    @pytest.fixture(autouse=True)
    def given(self, shop: tuple[Cluster, dict[str, Any]]) -> None:
        self.cluster, self.template = shop

    def run(self, name: str, **spec: Any) -> dict[str, Any]:
        """The status of a run of the changed project, once it has ended."""
        run(self.cluster, self.template, name, "pull", **spec)
        return self.cluster.wait_for_end(name)

    def models(self, name: str) -> dict[str, str]:
        """The phases of the nodes of a run."""
        found = self.cluster.objects("dbtmodels", labels=f"dbt-operator.io/run={name}")
        return phases({item["spec"]["name"]: item for item in found})

    def made_in(self, table: str) -> str:
        """In which environment what a table has was made, by a run that looks."""
        name = f"look-at-{table.replace('.', '-').replace('_', '-')}"
        operation = {"macro": "made_in", "args": {"where": table}}
        self.run(name, command="run-operation", runOperation=operation, state=None, defer=None)
        return self.cluster.log(name).partition(f"{table} was made in ")[2].split('"')[0].split("\\")[0]

    def test_only_what_was_modified_is_built(self) -> None:
        status = self.run("slim", select=["state:modified+"], defer=True, state={"runRef": {"name": "production"}})
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed")
        assert status["state"] == {"run": "production"}
        assert self.models("slim") == {"staged": "Failed", "report": "Skipped"}

    def test_a_retry_has_the_same_artifacts_although_their_run_is_gone(self) -> None:
        artifacts = self.cluster.api.get("configmaps", "production-artifacts", namespace=self.cluster.namespace)
        self.cluster.apply(config_map("kept", artifacts["binaryData"]))
        files = {f"state/{key}": base64.b64decode(data) for key, data in artifacts["binaryData"].items()}
        self.cluster.apply(config_map("archive", {"state.tgz": packed(files)}))
        self.cluster.kubectl("delete", "dbtrun", "production", "-n", self.cluster.namespace, "--wait")
        self.cluster.kubectl("annotate", "dbtrun", "slim", "-n", self.cluster.namespace, "dbt-operator.io/retry=1")
        self.cluster.until("its retry", lambda: self.cluster.run("slim")["status"].get("handledRetry") == "1")
        status = self.cluster.wait_for_end("slim")
        assert (status["phase"], status["retries"]) == ("Succeeded", 1), status["message"]
        assert self.models("slim") == {"staged": "Succeeded", "report": "Succeeded"}
        assert self.made_in("pull.report") == "production"

    def test_artifacts_of_elsewhere_serve_as_well(self) -> None:
        of_config_map = {"artifactsFrom": {"configMapRef": {"name": "kept"}}}
        status = self.run("cloned", command="clone", select=["other"], state=of_config_map)
        assert (status["phase"], status["state"]) == ("Succeeded", {"configMap": "kept"}), status["message"]
        archive = {"configMapRef": {"name": "archive", "key": "state.tgz"}, "path": "state"}
        status = self.run(
            "listed", command="ls", select=["state:modified"], state={"artifactsFrom": {"archive": archive}}
        )
        assert status["phase"] == "Succeeded", status["message"]
        assert status["state"]["digest"].startswith("sha256:")
        volume = {"source": {"configMap": {"name": "kept"}}}
        status = self.run("volume", select=["result:success,raw"], state={"artifactsFrom": {"volume": volume}})
        assert (status["phase"], status.get("state")) == ("Succeeded", None), status["message"]

    def test_artifacts_that_are_not_there_are_named(self) -> None:
        status = self.run("early", defer=True, state={"runRef": {"name": "production"}})
        assert (status["phase"], status["reason"]) == ("Failed", "StateUnavailable")
        where = f"in namespace {self.cluster.namespace}"
        assert status["message"] == f"There is no DbtRun production {where}, which spec.state.runRef names."
        archive = {"configMapRef": {"name": "main", "key": "shop.tgz"}}
        status = self.run("no-artifacts", state={"artifactsFrom": {"archive": archive}})
        assert (status["phase"], status["reason"]) == ("Failed", "StateUnavailable")
        assert status["message"].startswith("There is none of manifest.json, run_results.json, sources.json in the top")
