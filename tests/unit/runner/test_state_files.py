"""The artifacts of another run (`--state-dir`): what dbt makes of them, in the first attempt and in later ones."""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dbt_operator.runner import error_kinds
from tests.unit.runner.conftest import Project, Run

FILES = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop, config-version: 2}",
    "profiles.yml": """
shop:
  target: production
  outputs:
    production: {type: duckdb, path: "{{ env_var('DBT_DUCK') }}", schema: production}
    pull: {type: duckdb, path: "{{ env_var('DBT_DUCK') }}", schema: pull}
""",
    "models/raw.sql": "select 'production' as made_in where '{{ target.schema }}' = 'production' union all"
    " select 'pull' where '{{ target.schema }}' = 'pull'",
    "models/staged.sql": "select * from {{ ref('raw') }}",
    "models/report.sql": "select * from {{ ref('staged') }}",
    "models/other.sql": "select 1 as id",
}
SOURCES = """
sources:
  - name: loaded
    schema: main
    tables:
      - name: events
        config: {loaded_at_field: loaded_at, freshness: {warn_after: {count: 1000, period: day}}}
        loaded_at_field: loaded_at
        freshness: {warn_after: {count: 1000, period: day}}
"""
LOAD = (
    "import duckdb, sys; database = duckdb.connect(sys.argv[1]);"
    " database.execute('create table if not exists main.events (loaded_at timestamp)');"
    " database.execute(f\"insert into main.events values ('{sys.argv[2]}')\")"
)
READ = (
    "import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute(f'select made_in from {sys.argv[2]}').fetchone()[0])"
)


@dataclass(frozen=True, slots=True)
class Shop:
    """A project that was built as production, whose artifacts are in `state`."""

    project: Project
    state: Path

    def pull(self, *dbt: str) -> Run:
        """Run a command as a pull request does."""
        return self.project.run(*dbt, "--target=pull", options=self.options)

    def again(self, run: Run, node: str, *dbt: str) -> Run:
        """Execute one node of such a run again."""
        return self.project.again(run, [f"model.shop.{node}"], *dbt, "--target=pull", options=self.options)

    def load(self, day: str) -> None:
        """A row of the source comes."""
        command = [self.project.python, "-c", LOAD, str(self.project.path / "torture.duckdb"), day]
        subprocess.run(command, check=True)

    @property
    def options(self) -> list[str]:
        return ["--state-dir", str(self.state)]

    def made_in(self, table: str) -> str:
        """By which environment what the table has was made."""
        command = [self.project.python, "-c", READ, str(self.project.path / "torture.duckdb"), table]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def production(make_project: Callable[[], Project]) -> Shop:
    """Built once, and never changed."""
    project = make_project()
    shutil.rmtree(project.path)
    shutil.rmtree(project.scratch / "target", ignore_errors=True)
    for name, text in FILES.items():
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        (project.path / name).write_text(text)
    run = project.run("build")
    assert run.code == 0, run.finished["error"]
    state = project.scratch / "state"
    state.mkdir()
    # As the operator keeps them.
    (state / "manifest.json.gz").write_bytes(gzip.compress((run.target / "manifest.json").read_bytes()))
    (state / "run_results.json").write_bytes((run.target / "run_results.json").read_bytes())
    return Shop(project=project, state=state)


@pytest.fixture
def shop(production: Shop, tmp_path: Path) -> Shop:
    """A copy of it."""
    folder = tmp_path / "shop"
    shutil.copytree(production.project.scratch, folder)
    return Shop(project=replace(production.project, path=folder / "project", scratch=folder), state=folder / "state")


def named(run: Run) -> set[str]:
    """The models that were selected."""
    return {unique_id.split(".")[-1] for unique_id in run.selected}


def test_what_was_modified_is_built_and_the_rest_is_read_from_production(shop: Shop) -> None:
    shop.project.edit("models/staged.sql", "*", "made_in")
    run = shop.pull("build", "--select", "state:modified+", "--defer")
    assert named(run) == {"staged", "report"}
    assert run.code == 0
    assert shop.made_in("pull.report") == "production"
    assert run.finished["error"] is None


def test_what_the_run_has_built_before_is_not_taken_from_production(shop: Shop) -> None:
    shop.project.edit("models/staged.sql", "*", "'pull' as made_in")
    line = ("build", "--select", "state:modified+", "--defer", "--favor-state")
    run = shop.pull(*line)
    assert (named(run), shop.made_in("pull.report")) == ({"staged", "report"}, "pull")
    again = shop.again(run, "report", *line)
    assert (named(again), again.finished["error"]) == ({"report"}, None)
    assert shop.made_in("pull.report") == "pull"


def test_production_is_preferred_only_where_that_is_asked_for(shop: Shop) -> None:
    assert shop.pull("run", "--select", "raw").code == 0
    line = ("run", "--select", "staged", "--defer")
    run = shop.pull(*line)
    assert shop.made_in("pull.staged") == "pull"
    shop.pull(*line, "--favor-state")
    assert shop.made_in("pull.staged") == "production"
    shop.again(run, "staged", *line)
    assert shop.made_in("pull.staged") == "pull"
    shop.again(run, "staged", *line, "--favor-state")
    assert shop.made_in("pull.staged") == "production"


def test_what_failed_in_the_other_run_is_selected(shop: Shop) -> None:
    results = json.loads((shop.state / "run_results.json").read_text())
    for result in results["results"]:
        result["status"] = "error" if result["unique_id"] == "model.shop.staged" else "success"
    (shop.state / "run_results.json").write_text(json.dumps(results))
    assert named(shop.pull("run", "--select", "result:error+", "--defer")) == {"staged", "report"}


def test_clone_needs_nothing_else(shop: Shop) -> None:
    run = shop.pull("clone")
    assert (run.code, named(run)) == (0, {"raw", "staged", "report", "other"})
    assert shop.made_in("pull.report") == "production"


def of_schema(schema: str, **fields: object) -> bytes:
    """An artifact of this schema."""
    return json.dumps(
        {"metadata": {"dbt_schema_version": f"https://schemas.getdbt.com/dbt/{schema}.json"}, **fields}
    ).encode()


def test_what_reads_sources_with_newer_rows_is_built(shop: Shop) -> None:
    (shop.project.path / "models" / "loaded.sql").write_text("select * from {{ source('loaded', 'events') }}")
    (shop.project.path / "models" / "sources.yml").write_text(SOURCES)
    shop.load("2026-11-27")
    assert shop.project.run("source", "freshness").code == 0
    (shop.state / "sources.json").write_bytes((shop.project.scratch / "target" / "sources.json").read_bytes())
    line = ("build", "--select", "source_status:fresher+", "--exclude", "other")
    run = shop.pull(*line)
    assert (run.code, run.selected, "sources.json" in run.artifacts) == (0, set(), True)
    shop.load("2026-11-28")
    run = shop.pull(*line)
    assert (run.code, named(run)) == (0, {"loaded"})
    assert shop.again(run, "loaded", *line).finished["error"] is None
    (shop.state / "sources.json").unlink()
    run = shop.pull(*line)
    assert run.finished["error"]["kind"] == error_kinds.STATE
    assert "No previous state comparison freshness results in sources.json" in run.finished["error"]["message"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is none of manifest.json, run_results.json, sources.json .*, but nothing"),
        ({"readme.md": b"hello"}, "there is none of .* but readme.md"),
        ({"manifest.json": b"{"}, "manifest.json is no JSON"),
        ({"manifest.json": b"[]"}, "manifest.json is no artifact of dbt, as it has no metadata.dbt_schema_version"),
        ({"manifest.json.gz": b"no gzip"}, "manifest.json cannot be read"),
        ({"run_results.json.gz": gzip.compress(b"x" * 100)[:-9]}, "run_results.json cannot be read"),
        (
            {"manifest.json": of_schema("catalog/v1")},
            r"manifest.json is another artifact of dbt \(https://schemas.getdbt.com/dbt/catalog/v1.json\)",
        ),
        (
            {"manifest.json": of_schema("manifest/v1")},
            "Expected a schema version of .*manifest/v",
        ),
        (
            {"manifest.json": of_schema("manifest/v99")},
            "Expected a schema version of .*manifest/v",
        ),
        (
            {"run_results.json": of_schema("run-results/v6", results=[], elapsed_time=0, args={})},
            "Could not find manifest in --state path",
        ),
    ],
)
def test_artifacts_that_cannot_be_used_are_named(
    production: Shop, files: dict[str, bytes], said: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    run = replace(production, state=tmp_path).pull("build", "--defer")
    assert run.finished["error"]["kind"] == error_kinds.STATE
    assert re.search(said, run.finished["error"]["message"])
    assert run.results == {}
