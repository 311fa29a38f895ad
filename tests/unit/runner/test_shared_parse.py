"""What dbt has parsed is there for the next run, on a volume that both have."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dbt_operator.runner.shared_parse import UNUSED_SECONDS, SharedParse
from tests.unit.runner.conftest import Project, Run

SECRET = "hunter2-of-this-test"  # noqa: S105 - it opens nothing
FILES = {
    "dbt_project.yml": "name: small\nversion: '1.0'\nprofile: small\n",
    "profiles.yml": "small: {target: dev, outputs: {dev: {type: duckdb, path: small.duckdb}}}\n",
    "models/a.sql": "select 1 as id",
    "models/b.sql": "select '{{ var('of', 'nothing') }}' as word from {{ ref('a') }}",
}


@pytest.fixture
def make_small(dbt_python: str, archive: Path, warm_python: Path, tmp_path: Path) -> Callable[[], Project]:
    """Makes the same project anew each time, at the same place, as each pod does."""

    def make() -> Project:
        scratch = tmp_path / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        for name, text in FILES.items():
            file = scratch / "project" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Project(python=dbt_python, archive=archive, path=scratch / "project", scratch=scratch, warm=warm_python)

    return make


def _run(project: Project, volume: Path, *dbt: str, options: tuple[str, ...] = (), secret: str = "") -> Run:
    run = project.run(
        *("run", "--quiet", *dbt),
        options=["--shared-parse", str(volume), *options],
        environment={"HIDDEN": secret} if secret else {},
    )
    assert (run.code, run.finished["error"]) == (0, None)
    return run


def _parsed_files(run: Run) -> int:
    count: int = json.loads((run.target / "perf_info.json").read_text())["parsed_path_count"]
    return count


def _kept(volume: Path) -> list[Path]:
    return sorted((volume / "parses").iterdir())


def test_the_next_run_parses_only_what_has_changed(make_small: Callable[[], Project], tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    everything = _parsed_files(_run(make_small(), volume))
    assert everything > len(FILES)
    (kept,) = _kept(volume)
    before = kept.read_bytes()
    run = _run(make_small(), volume)
    assert _parsed_files(run) == 0
    assert set(run.artifacts) >= {"partial_parse.msgpack", "manifest.json"}  # for later attempts, and for the user
    assert kept.read_bytes() == before
    project = make_small()
    project.edit("models/a.sql", "1", "2")
    assert 0 < _parsed_files(_run(project, volume)) < everything
    assert _kept(volume) == [kept]
    assert kept.read_bytes() != before


def test_runs_with_other_variables_do_not_take_each_others_place(
    make_small: Callable[[], Project], tmp_path: Path
) -> None:
    lines = [("--vars", json.dumps({"of": word})) for word in ("east", "west")]
    for parsed in (True, False):
        for line in lines:
            assert (_parsed_files(_run(make_small(), tmp_path / "volume", *line)) > 0) is parsed
    assert len(_kept(tmp_path / "volume")) == len(lines)


def test_what_is_damaged_costs_a_parse_and_is_replaced(make_small: Callable[[], Project], tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    _run(make_small(), volume)
    (kept,) = _kept(volume)
    kept.write_bytes(b"\xc1 no msgpack")
    assert _parsed_files(_run(make_small(), volume)) > 0
    assert _parsed_files(_run(make_small(), volume)) == 0


def test_a_volume_that_cannot_be_written_to_fails_no_run(make_small: Callable[[], Project], tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "parses").write_text("not a folder")
    run = _run(make_small(), volume)
    (warning,) = run.named("RunnerWarning")
    assert warning["message"].startswith("what dbt has parsed is not kept for later runs: ")


def test_what_has_a_secret_in_it_is_not_kept(make_small: Callable[[], Project], tmp_path: Path) -> None:
    project = make_small()
    project.edit("models/a.sql", "select 1", f"select '{SECRET}' as word, 1")
    _run(project, tmp_path / "volume", options=("--secret-env", "HIDDEN"), secret=SECRET)
    assert not (tmp_path / "volume" / "parses").exists()


def test_what_nobody_has_asked_for_in_a_long_time_is_removed(tmp_path: Path) -> None:
    def cache(name: str) -> SharedParse:
        project = tmp_path / name
        (project / "target").mkdir(parents=True, exist_ok=True)
        (project / "dbt_project.yml").write_text(f"name: {name}\n")
        (project / "target" / "partial_parse.msgpack").write_text(name)
        return SharedParse(folder=tmp_path / "volume", project_dir=project, arguments=())

    def keep(name: str) -> None:
        cache(name).keep(target=tmp_path / name / "target", has_secret=lambda _: False)

    for name in ("forgotten", "asked_for"):
        keep(name)
    long_ago = time.time() - UNUSED_SECONDS - 60
    for file in _kept(tmp_path / "volume"):
        os.utime(file, (long_ago, long_ago))
    cache("asked_for").restore(target=tmp_path / "restored")
    keep("new")
    assert {file.read_text() for file in _kept(tmp_path / "volume")} == {"asked_for", "new"}
