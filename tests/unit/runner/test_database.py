"""Which file a run is built into, where the warehouse is one, and whether it outlives the pod: of a real dbt."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dbt_operator.runner import database
from tests.unit.runner.conftest import Project, Run

SEEDED = ("build", "--select", "s_users", "stg_users")
ATTACHED_TARGET = pytest.mark.needs("dbt-duckdb", "1.9", "target that is an attached database")
ATTACHED = "      attach: [{path: other.duckdb, alias: other}]\n"


def file_of(run: Run) -> dict[str, Any] | None:
    """What the run says of its file: before it begins with its nodes."""
    names = [event["info"]["name"] for event in run.events]
    told = run.named("DatabaseFile")
    assert len(told) <= 1
    assert not told or names.index("DatabaseFile") < names.index("SelectedNodes")
    return told[0] if told else None


def kept(path: Path | str) -> list[str]:
    return ["--kept-path", str(path)]


def lost(path: Path | str) -> list[str]:
    return ["--lost-path", str(path)]


def test_a_file_that_is_on_no_volume_is_lost_and_named_as_a_whole(project: Project) -> None:
    run = project.run(*SEEDED)
    assert run.finished["success"]
    assert file_of(run) == {"file": str(project.path / "torture.duckdb"), "kept": False}


def test_one_on_a_volume_that_outlives_the_pod_is_kept(project: Project) -> None:
    # What is mounted beside it, or holds a part of its name, is another folder.
    options = [*lost(f"{project.path}/torture"), *kept(project.path)]
    told = file_of(project.run(*SEEDED, options=options))
    assert told == {"file": str(project.path / "torture.duckdb"), "kept": True}


def test_a_database_in_memory_is_lost(project: Project) -> None:
    told = file_of(project.run(*SEEDED, options=kept("/"), environment={"DBT_DUCK": ":memory:"}))
    assert told == {"file": ":memory:", "kept": False}


@pytest.mark.parametrize("where", [pytest.param("target", marks=ATTACHED_TARGET), "model"])
def test_a_database_that_is_attached_counts_where_something_is_built_into_it(project: Project, where: str) -> None:
    (project.path / "volume").mkdir()
    target = "      database: other\n" if where == "target" else ""
    attach = ATTACHED.replace("other.duckdb", "volume/other.duckdb")
    project.edit("profiles.yml", "      type: duckdb\n", f"      type: duckdb\n{attach}{target}")
    if where == "model":
        (project.path / "models" / "lone.sql").write_text("{{ config(database='other') }} select 1 as id")
    select = ("build", "--select", "lone" if where == "model" else "s_users")
    run = project.run(*select, options=kept(project.path / "volume"))
    assert file_of(run) == {"file": str(project.path / "volume" / "other.duckdb"), "kept": True}
    if where == "model":
        both = file_of(project.run("build", "--select", "lone", "s_users", options=kept(project.path / "volume")))
        assert both == {"file": str(project.path / "torture.duckdb"), "kept": False}


def test_where_nothing_is_built_there_is_nothing_to_lose(project: Project) -> None:
    (project.path / "models" / "lone.sql").write_text("select 1 as id")
    (project.path / "tests" / "of_nothing.sql").write_text("select 1 as id where false")
    run = project.run("build", "--select", "of_nothing")
    assert run.finished["success"]
    assert file_of(run) is None


def test_a_secret_in_the_name_of_the_file_is_masked(project: Project) -> None:
    environment = {"DBT_DUCK": "hidden-name.duckdb"}
    run = project.run(*SEEDED, options=["--secret-env", "DBT_DUCK"], environment=environment)
    told = file_of(run)
    assert told is not None
    assert not told["kept"]
    assert "hidden-name" not in told["file"]


def retry(project: Project, producer: Run, *unique_ids: str) -> Run:
    return project.again(producer, unique_ids)


def test_a_retry_whose_file_is_gone_executes_nothing_and_says_so(project: Project) -> None:
    """A volume of the node may be that of another node, and a path may have the name of the pod in it."""
    producer = project.run(*SEEDED, options=kept(project.path))
    (project.path / "torture.duckdb").unlink()
    again = retry(project, producer, "model.torture.stg_users")
    why = f"the database file {project.path}/torture.duckdb, with what was built before, is not there in this pod"
    assert again.finished["error"] == {"kind": "other", "message": why}
    assert not again.results
    assert again.named("DatabaseFile") == [{"file": str(project.path / "torture.duckdb"), "kept": False}]
    # Where nothing of it is needed dbt makes a new one.
    assert retry(project, producer, "seed.torture.s_users", "model.torture.stg_users").finished["success"]
    assert retry(project, producer, "model.torture.stg_users").finished["success"]


# Profiles of DuckDB, the database that a node is in, and where that is; "": in no file of this process.
HERE = os.path.realpath(".")
PROFILES: list[tuple[dict[str, Any], str, str]] = [
    ({"path": "/data/shop.duckdb"}, "shop", "/data/shop.duckdb"),
    ({"path": "shop.duckdb"}, "shop", f"{HERE}/shop.duckdb"),
    ({}, "memory", ":memory:"),
    ({"path": ":memory:"}, "memory", ":memory:"),
    ({"path": "md:shop"}, "shop", ""),
    ({"path": "motherduck:shop?session=1"}, "shop", ""),
    ({"path": ":memory:", "attach": [{"path": "md:shop", "alias": "lake"}]}, "lake", ""),
    ({"path": ":memory:", "attach": [{"path": "md:shop", "alias": "lake"}]}, "memory", ":memory:"),
    ({"path": ":memory:", "attach": [{"path": "/data/shop.duckdb"}]}, "SHOP", "/data/shop.duckdb"),
    ({"attach": [{"path": "dbname=shop host=db", "type": "postgres", "alias": "db"}]}, "db", ""),
    ({"attach": [{"path": "dbname=shop host=db", "options": {"type": "postgres"}, "alias": "db"}]}, "db", ""),
    ({"attach": [{"path": "postgres:dbname=shop", "alias": "db"}]}, "db", ""),
    ({"attach": [{"path": "/data/shop.db", "type": "sqlite", "alias": "db"}]}, "db", "/data/shop.db"),
    ({"attach": [{"path": "sqlite:/data/shop.db", "alias": "db"}]}, "db", "/data/shop.db"),
    ({"attach": [{"path": "s3://bucket/shop.duckdb", "alias": "db"}]}, "db", ""),
    ({"attach": [{"path": "ducklake:/data/lake.ducklake", "alias": "lake"}]}, "lake", "/data/lake.ducklake"),
    ({"attach": [{"path": "ducklake:sqlite:/data/lake.db", "alias": "lake"}]}, "lake", "/data/lake.db"),
    ({"attach": [{"path": "ducklake:postgres:dbname=lake", "alias": "lake"}]}, "lake", ""),
    ({"attach": [{"path": "ducklake:name_of_a_secret", "alias": "lake"}]}, "lake", ""),
    ({"remote": {"host": "db", "port": 5433, "user": "dbt"}, "path": "shop.duckdb"}, "shop", ""),
]
ASK = """
import json, sys
from types import SimpleNamespace
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt_operator.runner import database
for profile, name, _ in json.load(sys.stdin):
    data = {"schema": "main", **profile}
    if name in [one.get("alias") for one in profile.get("attach", ())]:
        data["database"] = name
    data = DuckDBCredentials.__pre_deserialize__(data)
    files = database.files_of(
        nodes=["n"],
        known={"n": {"resource_type": "model", "materialized": "table"}},
        manifest=SimpleNamespace(nodes={"n": SimpleNamespace(database=name, schema="main")}),
        credentials=DuckDBCredentials.from_dict(data),
        mounts=database.Mounts(),
    )
    print(json.dumps([file.path for file in files]))
"""


@ATTACHED_TARGET
def test_the_paths_that_duckdb_has(dbt_python: str, archive: Path) -> None:
    asked = subprocess.run(
        [dbt_python, "-c", ASK],
        input=json.dumps(PROFILES),
        env={"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    assert found == [[path] if path else [] for _, _, path in PROFILES]


# SQLite's adapter is not installed here; these are the fields of its credentials.


def files_of_sqlite(mounts: database.Mounts, *, schema: str = "main", **paths: str) -> set[tuple[str, bool]]:
    """What is told of a seed in this schema. `paths`: of the schemas that the profile names."""
    found = database.files_of(
        nodes=["seed.shop.raw"],
        known={"seed.shop.raw": {"resource_type": "seed", "materialized": "seed"}},
        manifest=SimpleNamespace(nodes={"seed.shop.raw": SimpleNamespace(database="database", schema=schema)}),
        credentials=SimpleNamespace(type="sqlite", schemas_and_paths=paths, schema_directory="/scratch"),
        mounts=mounts,
    )
    return {(file.path, file.kept) for file in found}


@pytest.mark.parametrize(
    ("schema", "file"),
    [("main", ("/data/main.db", True)), ("etl", ("/etl.db", False)), ("new", ("/scratch/new.db", False))],
)
def test_sqlite_has_a_file_for_each_schema(schema: str, file: tuple[str, bool]) -> None:
    mounts = database.Mounts(kept=("/data/",))
    assert files_of_sqlite(mounts, schema=schema, main="/data/main.db", etl="/etl.db") == {file}


def test_of_two_volumes_one_in_the_other_the_inner_one_counts() -> None:
    inner_lost = database.Mounts(kept=("/data",), lost=("/data/tmp",))
    assert files_of_sqlite(inner_lost, main="/data/tmp/shop.db") == {("/data/tmp/shop.db", False)}
    assert files_of_sqlite(inner_lost, main="/data/temporary.db") == {("/data/temporary.db", True)}
    inner_kept = database.Mounts(kept=("/tmp/volume",), lost=("/tmp",))  # noqa: S108 - paths in a pod
    assert files_of_sqlite(inner_kept, main="/tmp/volume/shop.db") == {("/tmp/volume/shop.db", True)}  # noqa: S108 - as above
    # A database for the whole pod: the volume is all there is.
    assert files_of_sqlite(database.Mounts(kept=("/",)), main="/shop.db") == {("/shop.db", True)}


def test_a_link_lies_where_it_leads_to(tmp_path: Path) -> None:
    volume, pod = tmp_path / "volume", tmp_path / "pod"
    volume.mkdir()
    pod.mkdir()
    (volume / "shop.db").symlink_to(pod / "shop.db")
    (pod / "data").symlink_to(volume)
    mounts = database.Mounts(kept=(str(pod / "data"),))  # a mount that is reached by a link, too
    assert files_of_sqlite(mounts, main=str(volume / "shop.db")) == {(str(pod / "shop.db"), False)}
    assert files_of_sqlite(mounts, main=str(pod / "data" / "other.db")) == {(str(volume / "other.db"), True)}


def test_other_warehouses_are_no_files() -> None:
    known = {"n": {"resource_type": "model", "materialized": "table"}}
    credentials = SimpleNamespace(type="postgres", host="db")
    mounts = database.Mounts()
    assert not database.files_of(nodes=["n"], known=known, manifest=None, credentials=credentials, mounts=mounts)
