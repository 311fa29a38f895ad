"""Runs that are given the artifacts of another run: what they build, and what they read from where it is built."""

import base64
from typing import Any, ClassVar

import pytest

from dbt_operator.kube.resources import CONFIG_MAPS
from tests.archives import config_map, packed
from tests.local.desk import Desk

MAIN = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop, config-version: 2}",
    "profiles.yml": """
shop:
  target: production
  outputs:
    production: {type: duckdb, path: "{{ env_var('SHOP_DUCKDB') }}", schema: production}
    pull: {type: duckdb, path: "{{ env_var('SHOP_DUCKDB') }}", schema: pull}
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


class TestState:
    """The runs share what the ones before them have built, so that the order matters."""

    artifacts: ClassVar[dict[str, str]]  # of the run in production, which does not last

    @pytest.fixture(autouse=True)
    def given(self, shop: Desk) -> None:
        self.shop = shop

    def run(self, name: str, *others: dict[str, Any], project: str = "pull", **spec: Any) -> dict[str, Any]:
        """The status of a run of the changed project, or of that in production, once it has ended."""
        files = MAIN if project == "main" else PULL
        archive = {"configMapRef": {"name": project, "key": "shop.tgz"}}
        fields: dict[str, Any] = {
            "project": {"archive": archive},
            "profile": {"inProject": True, "target": "production" if project == "main" else "pull"},
            "retry": {"limit": 0},
        }
        source = config_map(project, {"shop.tgz": packed(files)})
        return self.shop.run(name, "", source, *others, **(fields | spec))

    def made_in(self, table: str) -> str:
        """In which environment what a table has was made, by a run that looks."""
        name = f"look-at-{table.replace('.', '-').replace('_', '-')}"
        self.run(name, command="run-operation", runOperation={"macro": "made_in", "args": {"where": table}})
        return self.shop.log(name).partition(f"{table} was made in ")[2].split('"')[0].split("\\")[0]

    def test_only_what_was_modified_is_built(self) -> None:
        assert self.run("production", project="main")["phase"] == "Succeeded"
        status = self.run("slim", select=["state:modified+"], defer=True, state={"runRef": {"name": "production"}})
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed")
        assert status["state"] == {"run": "production"}
        assert self.shop.phases("slim") == {"staged": "Failed", "report": "Skipped"}

    def test_a_retry_has_the_same_artifacts_although_their_run_is_gone(self) -> None:
        type(self).artifacts = self.shop.find(CONFIG_MAPS, "production-artifacts")["binaryData"]
        self.shop.do("delete", "production")
        self.shop.do("retry", "slim")
        status = self.shop.status("slim")
        assert (status["phase"], status["retries"]) == ("Succeeded", 1), status["message"]
        assert self.shop.phases("slim") == {"staged": "Succeeded", "report": "Succeeded"}
        assert self.made_in("pull.report") == "production"

    def test_artifacts_of_elsewhere_serve_as_well(self) -> None:
        kept = config_map("kept", self.artifacts)
        of_config_map = {"artifactsFrom": {"configMapRef": {"name": "kept"}}}
        status = self.run("cloned", kept, command="clone", select=["other"], state=of_config_map)
        assert (status["phase"], status["state"]) == ("Succeeded", {"configMap": "kept"}), status["message"]
        files = {f"state/{key}": base64.b64decode(data) for key, data in self.artifacts.items()}
        archive = {"configMapRef": {"name": "archive", "key": "state.tgz"}, "path": "state"}
        status = self.run(
            "listed",
            config_map("archive", {"state.tgz": packed(files)}),
            command="ls",
            select=["state:modified"],
            state={"artifactsFrom": {"archive": archive}},
        )
        assert status["phase"] == "Succeeded", status["message"]
        assert status["state"]["digest"].startswith("sha256:")
        volume = {"source": {"hostPath": {"path": str(self.shop.place.artifacts("slim"))}}}
        status = self.run("volume", select=["result:success,report"], state={"artifactsFrom": {"volume": volume}})
        assert (status["phase"], status.get("state")) == ("Succeeded", None), status["message"]

    def test_artifacts_that_are_not_there_are_named(self) -> None:
        status = self.run("early", defer=True, state={"runRef": {"name": "production"}})
        assert (status["phase"], status["reason"]) == ("Failed", "StateUnavailable")
        assert status["message"].startswith("There is no DbtRun production")
        assert status["message"].endswith(", which spec.state.runRef names.")
        archive = {"configMapRef": {"name": "pull", "key": "shop.tgz"}}
        status = self.run("no-artifacts", state={"artifactsFrom": {"archive": archive}})
        assert (status["phase"], status["reason"]) == ("Failed", "StateUnavailable")
        assert status["message"].startswith("There is none of manifest.json, run_results.json, sources.json in the top")
