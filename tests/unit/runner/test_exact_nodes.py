"""A retry executes exactly the nodes of its list, with what the producer's parse left."""

import gzip
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbt_operator.runner import environment, selection
from tests.unit.runner.conftest import Project, Run

INSERT = "insert into audit_log values (now(), 'first')"
GUARDED = "{% if env_var('DBT_OPERATOR_ATTEMPT_KIND') == 'producer' %}" + INSERT + "{% endif %}"
CREATE = "create table if not exists audit_log (ts timestamp, what varchar)"
AUDITED = """
import duckdb, sys
database = duckdb.connect(sys.argv[1])  # older versions close it with the last reference
print(*(row[0] for row in database.sql("select what from audit_log").fetchall()))
"""
SCHEMA = f"""
models:
  - name: ver
    latest_version: 2
    versions: [{{v: 1}}, {{v: 2}}]
    columns: [{{name: id, data_tests: [unique]}}]
  - name: folder
    columns:
      - name: id
        data_tests:
          - not_null: {{name: "a,name,with,commas"}}
          - unique: {{name: "{"x" * 200}"}}
"""
# The names are also those of a directory and of the package, and a version of a model is not the model.
WANTED = frozenset(
    (
        "model.torture.folder",
        "model.torture.torture",
        "model.torture.ver.v1",
        "model.torture.eph",
        "model.torture.ok_model",
        "unit_test.torture.ok_model.ut_upper_ok",
        "seed.torture.s_users",
        "snapshot.torture.snap_users",
        "test.torture.singular",
        "test.torture.unique_ver_v1_id.db19f0eaf8",
    )
)


@dataclass(frozen=True, slots=True)
class Attempted:
    """A project, and its producer that has ended."""

    project: Project
    run: Run
    wanted: frozenset[str]


@pytest.fixture(scope="module")
def attempted(make_project: Callable[[], Project]) -> Attempted:
    project = make_project()
    models = project.path / "models"
    (models / "folder").mkdir()
    for name in ("folder", "folder/inside", "torture", "ver_v1", "ver_v2"):
        (models / f"{name}.sql").write_text("select 1 as id")
    (models / "names.yml").write_text(SCHEMA)
    (project.path / "selectors.yml").write_text("selectors: [{name: d, default: true, definition: 'fqn:ok_model'}]")
    # The table has to be there before the guarded hook.
    project.edit("dbt_project.yml", "on-run-start:", f'on-run-start:\n  - "{CREATE}"\n  - "{GUARDED}"')
    project.edit("dbt_project.yml", "(now(), 'end')", "(now(), '{{ invocation_id }}')")
    run = project.run("build", "--select", "fqn:*", "--exclude", "bad_sql+")
    named = frozenset(one for one in run.selected if "commas" in one or "xxx" in one)
    assert len(named) == 2
    return Attempted(project=project, run=run, wanted=WANTED | named)


@pytest.fixture(scope="module")
def retry(attempted: Attempted) -> Run:
    """With a selection of its own that does not count, and a state that does: the one to defer to."""
    state = str(attempted.run.target)
    command = ("build", "--select", "inside", "--exclude", "folder", "--defer", "--state", state)
    return attempted.project.again(attempted.run, sorted(attempted.wanted), *command)


def _audited(attempted: Attempted) -> list[str]:
    database = attempted.project.path / attempted.project.environment()["DBT_DUCK"]
    done = subprocess.run(
        [attempted.project.python, "-c", AUDITED, database], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.needs("dbt-core", "1.9", "snapshots in YAML")
def test_exactly_the_listed_nodes_are_selected_and_executed(attempted: Attempted, retry: Run) -> None:
    assert retry.finished["error"] is None
    assert retry.selected == attempted.wanted
    executed = {unique_id for unique_id in retry.results if not unique_id.startswith("operation.")}
    assert executed == attempted.wanted
    assert {retry.results[unique_id]["status"] for unique_id in executed} <= {"success", "pass"}


def _parsed_files(run: Run) -> int:
    count: int = json.loads((run.target / "perf_info.json").read_text())["parsed_path_count"]
    return count


def test_what_the_producer_parsed_is_not_parsed_again(attempted: Attempted, retry: Run) -> None:
    assert _parsed_files(attempted.run) > 0
    assert _parsed_files(retry) == 0


@pytest.mark.needs("dbt-core", "1.9", "snapshots in YAML")
def test_hooks_are_counted_and_can_tell_a_retry_from_the_producer(attempted: Attempted, retry: Run) -> None:
    for run in (attempted.run, retry):
        assert run.named("Hooks") == [{"on_run_start": 4, "on_run_end": 2}]
    audited = _audited(attempted)
    assert audited.count("first") == 1
    assert retry.finished["invocation_id"] in audited


def test_a_retry_that_parses_nothing_new_prints_no_files(attempted: Attempted, retry: Run) -> None:
    assert set(attempted.run.parsed) == {"partial_parse.msgpack", "manifest.json"}
    assert retry.parsed == {}


def test_target_directory_of_the_command_line_gets_the_parse_cache(attempted: Attempted) -> None:
    target = attempted.project.path / "elsewhere"
    run = attempted.project.again(attempted.run, ["seed.torture.s_users"], "seed", "--target-path", "elsewhere")
    assert set(run.results) == {"seed.torture.s_users", *(one for one in run.results if one.startswith("operation."))}
    assert run.named("UnableToPartialParse") == []
    assert (target / environment.PARSE_CACHE).exists()


def test_node_that_is_gone_is_named(attempted: Attempted) -> None:
    run = attempted.project.again(attempted.run, ["model.torture.gone", "seed.torture.s_users"])
    assert run.code == 2
    assert run.finished["error"]["kind"] == "selector"
    assert "model.torture.gone" in run.finished["error"]["message"]
    assert run.results == {}


def test_node_that_the_command_does_not_execute_is_named(attempted: Attempted) -> None:
    run = attempted.project.again(attempted.run, ["seed.torture.s_users"], "test")
    assert (run.code, run.finished["error"]["kind"]) == (2, "selector")
    assert "seed.torture.s_users" in run.finished["error"]["message"]
    assert run.results == {}


def test_command_without_nodes_cannot_execute_a_list(attempted: Attempted) -> None:
    run = attempted.project.again(attempted.run, ["seed.torture.s_users"], "run-operation", "hello")
    assert (run.code, run.finished["error"]["kind"]) == (2, "usage")


def test_parse_cache_that_the_image_brings_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "target").mkdir()
    parsed = f"parsed in {tmp_path.resolve()} when the image was built".encode()
    (tmp_path / "target" / "partial_parse.msgpack").write_bytes(parsed)
    environ = {"HOME": str(tmp_path)}
    assert environment.prepare(environ=environ, project_dir=tmp_path, profiles_dir="", attempt_kind="producer") == []
    target = Path(environ["DBT_TARGET_PATH"])
    assert target != tmp_path / "target"  # which may be read-only
    assert (target / "partial_parse.msgpack").read_bytes() == parsed


def test_damaged_parse_cache_costs_a_parse_only(attempted: Attempted) -> None:
    cache = attempted.project.scratch / "damaged.gz"
    cache.write_bytes(gzip.compress(b"\xc1 no msgpack"))
    run = attempted.project.run("seed", "--select", "s_users", options=["--parse-cache", str(cache)])
    assert (run.code, run.finished["error"]) == (0, None)
    # The producer's own was there before, and would have held.
    assert _parsed_files(run) > 0


# Named, as what is compressed has the present time in it: each worker would see other tests.
@pytest.mark.parametrize(
    "content",
    [None, b"", b"not compressed", gzip.compress(b"cut off" * 1000)[:-9]],
    ids=["missing", "empty", "not compressed", "cut off"],
)
def test_parse_cache_that_cannot_be_unpacked_leaves_what_is_there(tmp_path: Path, content: bytes | None) -> None:
    source, target = tmp_path / "cache.gz", tmp_path / "target"
    if content is not None:
        source.write_bytes(content)
    target.mkdir()
    (target / environment.PARSE_CACHE).write_bytes(b"of the project")
    environment.unpack_parse_cache(source=source, target=target)
    assert (target / environment.PARSE_CACHE).read_bytes() == b"of the project"


@pytest.mark.parametrize(
    "content",
    [None, b"[]", gzip.compress(b"{"), gzip.compress(b'["model.a.b"]'), gzip.compress(b"[]")[:-2]],
    ids=["missing", "not compressed", "no json", "no nodes", "cut off"],
)
def test_list_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "nodes.json.gz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(selection.SelectionError, match="cannot be read"):
        selection.read_nodes(file=str(file))


def test_unit_test_without_its_model_is_refused() -> None:
    known = {
        "model.a.m": {"resource_type": "model", "depends_on": []},
        "model.a.given": {"resource_type": "model", "depends_on": []},
        "unit_test.a.m.u": {"resource_type": "unit_test", "depends_on": ["model.a.m", "model.a.given"]},
    }
    selection.check_unit_tests(wanted=frozenset(("model.a.m", "unit_test.a.m.u")), known=known)
    with pytest.raises(selection.SelectionError, match=r"unit_test\.a\.m\.u"):
        selection.check_unit_tests(wanted=frozenset(("model.a.given", "unit_test.a.m.u")), known=known)


def test_anything_selected_besides_is_refused() -> None:
    selection.check_selected(wanted=frozenset(("a", "b")), selected=frozenset(("a", "b")))
    with pytest.raises(selection.SelectionError, match="also execute: b, c, d and 1 more"):
        selection.check_selected(wanted=frozenset("a"), selected=frozenset("abcde"))
