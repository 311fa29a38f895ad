"""What an image brings along in its environment, and what the runner makes of it."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from dbt_operator.runner import environment
from tests.unit.runner.conftest import Project, Run

NOWHERE = "/proc/nowhere"  # where nobody can make a directory, root included
SEED = ("build", "--select", "s_users")


def _warnings(run: Run) -> list[str]:
    return [warning["message"] for warning in run.named("RunnerWarning")]


def _in_project(project: Project) -> None:
    project.edit("dbt_project.yml", "name: torture", "name: torture\nrequire-dbt-version: ['>=2.5.0', '<3.0.0']")


def _in_package(project: Project) -> None:
    package = project.path / "dbt_packages" / "other"
    package.mkdir(parents=True)
    (package / "dbt_project.yml").write_text("name: other\nversion: '1'\nrequire-dbt-version: '<1.0.0'\n")
    (project.path / "packages.yml").write_text("packages: [{local: dbt_packages/other}]\n")


@pytest.mark.parametrize(("require", "package"), [(_in_project, "torture"), (_in_package, "other")])
def test_a_version_of_dbt_that_the_project_does_not_allow_is_refused_in_dbts_words(
    project: Project, require: object, package: str
) -> None:
    assert callable(require)
    require(project)
    run = project.run(*SEED)
    assert (run.code, run.results) == (2, {})
    assert run.finished["error"]["kind"] == "dbt_not_found"
    assert f"This version of dbt is not supported with the '{package}' package" in run.finished["error"]["message"]


def test_whoever_switches_the_check_of_the_version_off_is_obeyed(project: Project) -> None:
    _in_project(project)
    assert project.run(*SEED, environment={"DBT_VERSION_CHECK": "false"}).code == 0


def test_dbt_writes_a_log_file_only_where_the_project_asks_for_one(project: Project) -> None:
    logs = project.scratch / "logs"
    assert project.run(*SEED, environment={"DBT_LOG_PATH": str(logs)}).code == 0
    assert not (logs / "dbt.log").exists()
    project.edit("dbt_project.yml", "name: torture", "name: torture\nflags: {log_level_file: debug}")
    assert project.run(*SEED, environment={"DBT_LOG_PATH": str(logs)}).code == 0
    assert "s_users" in (logs / "dbt.log").read_text()


@pytest.mark.parametrize("prefix", ["DBT_", "DBT_ENGINE_"])
@pytest.mark.parametrize("name", ["LOG_PATH", "TARGET_PATH"])
def test_a_directory_of_the_image_that_cannot_be_written_to_is_replaced(
    project: Project, prefix: str, name: str
) -> None:
    run = project.run(*SEED, environment={prefix + name: NOWHERE})
    assert (run.code, run.finished["error"]) == (0, None)
    (warning,) = _warnings(run)
    assert warning.startswith(f"DBT_{name} names {NOWHERE}, where dbt cannot write (No such file or directory)")


@pytest.mark.parametrize("prefix", ["DBT_", "DBT_ENGINE_"])
def test_a_directory_that_can_be_written_to_stays_and_may_be_relative(project: Project, prefix: str) -> None:
    without = {} if prefix == "DBT_" else {"DBT_TARGET_PATH": ""}
    run = project.run(*SEED, environment={**without, f"{prefix}TARGET_PATH": "elsewhere/target"})
    assert (run.code, _warnings(run)) == (0, [])
    assert (project.path / "elsewhere" / "target" / "run_results.json").exists()


def test_the_spec_says_where_project_and_profile_are_and_not_the_image(project: Project) -> None:
    names = ("DBT_PROJECT_DIR", "DBT_ENGINE_PROJECT_DIR", "DBT_PROFILES_DIR", "DBT_ENGINE_PROFILES_DIR")
    options = ["--profiles-dir", str(project.path)]
    assert project.run(*SEED, options=options, environment=dict.fromkeys(names, "/")).code == 0


def test_the_image_names_its_own_parse_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # A file where a directory should be stands for a tree that is read-only, in which root can write all the same.
    monkeypatch.setattr(environment, "_obstacle", lambda _: "Read-only file system")
    (tmp_path / "build").mkdir()
    parsed = f"parsed in {tmp_path.resolve()} when the image was built".encode()
    (tmp_path / "build" / environment.PARSE_CACHE).write_bytes(parsed)
    environ = {"HOME": str(tmp_path), "DBT_ENGINE_TARGET_PATH": "build"}
    environment.prepare(environ=environ, project_dir=tmp_path, profiles_dir="", attempt_kind="producer")
    assert "DBT_ENGINE_TARGET_PATH" not in environ
    target = Path(environ["DBT_TARGET_PATH"])
    assert target.is_absolute()
    assert (target / environment.PARSE_CACHE).read_bytes() == parsed


def test_a_parse_cache_of_another_directory_is_not_used(project: Project, tmp_path: Path) -> None:
    """dbt would look for the files of seeds where they were when the cache was made."""
    assert project.run("parse", environment={"DBT_TARGET_PATH": "target"}).code == 0
    assert (project.path / "target" / environment.PARSE_CACHE).is_file()
    moved = replace(project, path=project.path.rename(tmp_path / "moved"))
    run = moved.run(*SEED, environment={"DBT_TARGET_PATH": ""})
    assert (run.code, run.finished["error"]) == (0, None)
    assert run.results


def test_what_lies_in_a_home_that_cannot_be_written_to_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.R_OK and Path(path).exists())
    home = tmp_path / "home"
    for name in (".duckdb/extensions", ".cache/pip", ".dbt"):
        (home / name).mkdir(parents=True)
    (home / ".netrc").write_text("machine warehouse")
    environ = {"HOME": str(home)}
    environment.prepare(environ=environ, project_dir=tmp_path, profiles_dir="", attempt_kind="producer")
    new = Path(environ["HOME"])
    assert new != home
    assert (new / ".netrc").read_text() == "machine warehouse"
    assert (new / ".duckdb" / "extensions").is_dir()
    assert not (new / ".cache").exists()
