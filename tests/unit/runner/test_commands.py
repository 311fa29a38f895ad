"""The commands that a run can be of: what dbt executes for each is what the tables say, at first and in retries."""

import gzip
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from dbt_operator.api.commands import Command
from dbt_operator.api.phases import RunPhase
from dbt_operator.dbt import artifacts
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.sources_file import sources_file
from dbt_operator.dbt.state import EMPTY, Ending
from dbt_operator.plan.outcome import PodEnd, conclude
from dbt_operator.runner.arguments import COMMANDS
from dbt_operator.runner.invocation import PRINTED
from tests.unit.runner.conftest import Project, Run

UNIT_TEST = "unit_test.torture.ok_model.ut_upper_ok"
FAILING = "test.torture.not_null_test_fails_name.1eb6c457d7"


@dataclass(frozen=True, slots=True)
class Built:
    """A project whose models are there, and how it was built."""

    project: Project
    run: Run


@pytest.fixture(scope="module")
def built(make_project: Callable[[], Project]) -> Built:
    project = make_project()
    project.run("build", "--exclude", "resource_type:test", "resource_type:unit_test")
    return Built(project=project, run=project.run("test"))


def _executed(run: Run) -> set[str]:
    """The nodes that dbt has results of."""
    return {result["unique_id"] for result in run.digest if not result["unique_id"].startswith("operation.")}


def test_the_runner_and_the_operator_agree_on_what_each_command_executes() -> None:
    assert set(COMMANDS) == {command.rules.words for command in Command}
    for command in Command:
        rules = COMMANDS[command.rules.words]
        assert rules.types == command.rules.executes
        assert rules.unit_tests_with_model is command.rules.tests_hold_back
        assert set(rules.files) <= artifacts.FOR_USER
    assert PRINTED in artifacts.ASKED_FOR


def test_run_executes_models_and_says_so(built: Built) -> None:
    run = built.project.run("run")
    assert {part["command"] for part in run.named("SelectedNodes")} == {"run"}
    assert {one.partition(".")[0] for one in run.selected} == {"model"}
    assert _executed(run) == run.selected - {"model.torture.eph"}


def test_test_executes_tests_and_lists_the_nodes_that_they_test(built: Built) -> None:
    run = built.run
    assert {part["command"] for part in run.named("SelectedNodes")} == {"test"}
    assert {one.partition(".")[0] for one in run.selected} == {"test", "unit_test"}
    assert _executed(run) == run.selected
    for test in run.selected:
        assert set(run.graph[test]["depends_on"]) <= run.graph.keys()
    assert run.graph["model.torture.ok_model"]["selected"] is False
    assert run.results[FAILING]["status"] == "fail"


@pytest.mark.parametrize("again", [{FAILING}, {UNIT_TEST}, {FAILING, UNIT_TEST}])
def test_a_retry_of_test_executes_just_these(built: Built, again: set[str]) -> None:
    run = built.project.again(built.run, sorted(again), "test")
    assert run.finished["error"] is None
    assert run.selected == again
    assert _executed(run) == again


def test_a_retry_of_run_executes_just_the_model(built: Built) -> None:
    run = built.project.again(built.run, ["model.torture.ok_model"], "run")
    assert run.selected == {"model.torture.ok_model"}
    assert run.results["model.torture.ok_model"]["status"] == "success"


@pytest.mark.parametrize(
    "command",
    ["seed", pytest.param("snapshot", marks=pytest.mark.needs("dbt-core", "1.9", "snapshots in YAML"))],
)
def test_a_retry_executes_one_node_of_the_command(built: Built, command: str) -> None:
    run = built.project.run(command)
    assert {one.partition(".")[0] for one in run.selected} == {command}
    assert _executed(run) == run.selected
    (first, *_) = sorted(run.selected)
    again = built.project.again(run, [first], command)
    assert (again.selected, again.results[first]["status"]) == ({first}, "success")


# With its freshness where dbt 1.8 looks for it, and later ones do as well.
SOURCES = """
sources:
  - name: ext
    schema: main
    loaded_at_field: "cast(ts as timestamp)"
    freshness: {warn_after: {count: 1, period: hour}, error_after: {count: 2, period: day}}
    tables: [{name: s_events}, {name: s_missing}, {name: s_users, freshness: null}]
"""


def test_a_source_is_looked_at_by_itself_and_what_dbt_found_is_told(built: Built) -> None:
    file = built.project.path / "models" / "ext.yml"
    file.write_text(SOURCES)
    line = ("source", "freshness", "--select", "source:ext")
    run = built.project.run(*line)
    events, missing = "source.torture.ext.s_events", "source.torture.ext.s_missing"
    assert run.selected == _executed(run) == {events, missing}  # and none without freshness
    assert (run.results[events]["status"], run.results[missing]["status"]) == ("error", "runtime error")
    (found,) = run.named("Freshness")
    assert (found["unique_id"], found["warn_after"], found["error_after"]) == (events, "1 hour", "2 days")
    written = json.loads((run.target / "sources.json").read_text())["results"]
    (dbts,) = (each for each in written if each["unique_id"] == events)
    assert found["max_loaded_at"][:19] == dbts["max_loaded_at"][:19]
    assert found["age_seconds"] == round(dbts["max_loaded_at_time_ago_in_s"], 3)
    again = built.project.again(run, [missing], *line)
    assert (again.selected, _executed(again)) == ({missing}, {missing})
    file.unlink()
    ours = _sources_of(run)
    (kept,) = _read_by_dbt(built.project, ours)
    assert kept == {**dbts, "timing": [], "thread_id": "", "adapter_response": {}} | {
        key: kept[key] for key in ("execution_time", "max_loaded_at_time_ago_in_s")
    }


READER = """
import json, sys
from dbt.artifacts.schemas.freshness import FreshnessExecutionResultArtifact
read = FreshnessExecutionResultArtifact.read_and_check_versions(sys.argv[1])
print(json.dumps(read.to_dict(omit_none=False)["results"]))
"""


def _sources_of(run: Run) -> bytes:
    """sources.json as it is kept of a run."""
    now = datetime(2026, 11, 20, tzinfo=UTC)
    nodes = fold_lines(state=EMPTY, lines=run.lines).nodes.values()
    made = sources_file(nodes, dbt_version="1.11.16", invocation_id="i", started_at=now, completed_at=now)
    assert made is not None
    return gzip.decompress(made)


def _read_by_dbt(project: Project, document: bytes) -> list[dict[str, Any]]:
    file = project.scratch / "kept.json"
    file.write_bytes(document)
    answer = subprocess.run([project.python, "-c", READER, str(file)], check=True, capture_output=True, text=True)
    results: list[dict[str, Any]] = json.loads(answer.stdout)
    return results


def test_clone_shows_each_node_and_holds_none_back(built: Built) -> None:
    state = built.project.scratch / "state"
    state.mkdir()
    (state / "manifest.json").write_bytes((built.project.scratch / "target" / "manifest.json").read_bytes())
    built.project.edit(
        "profiles.yml", "outputs:", "outputs:\n    copy: {type: duckdb, path: torture.duckdb, schema: copy}"
    )
    line = ["clone", "--target=copy", "--state", str(state), "--select", "stg_users", "ok_model", "eph", "s_users"]
    run = built.project.run(*line)
    assert {one.partition(".")[0] for one in run.selected} == {"model", "seed"}
    relations = run.selected - {"model.torture.eph"}
    assert {one: run.results[one]["status"] for one in relations} == dict.fromkeys(relations, "success")
    begun = [each["node_info"]["unique_id"] for each in run.named("NodeExecuting")]
    assert set(begun) >= relations
    again = built.project.again(run, ["model.torture.ok_model"], *line)
    assert (again.selected, again.finished["error"]) == ({"model.torture.ok_model"}, None)


WITHOUT_NODES = {
    "compile": [],
    "docs": ["--empty-catalog"],
    "ls": [],
    "parse": [],
    "show": ["--inline", "select 1 as one"],
    "run-operation": ["hello"],
}


@pytest.mark.parametrize("name", WITHOUT_NODES)
def test_a_command_without_nodes_tells_of_none_and_ends_with_its_name(built: Built, name: str) -> None:
    words = Command(name).rules.words
    run = built.project.run(*words.split(), *WITHOUT_NODES[name])
    assert (run.code, run.finished["success"], run.finished["command"]) == (0, True, words)
    assert [each["command"] for each in run.named("CommandStarted")] == [words]
    assert (run.graph, run.results, run.digest) == ({}, {}, [])


def test_what_is_asked_for_is_printed_as_files(built: Built) -> None:
    listed = built.project.run("ls", "--select", "ok_model", "--output", "name")
    assert b"ok_model" in gzip.decompress(listed.artifacts["output.txt"]).splitlines()
    shown = built.project.run("show", "--inline", "select 41 + 1 as answer")
    assert b"42" in gzip.decompress(shown.artifacts["output.txt"])
    compiled = built.project.run("compile", "--select", "ok_model")
    assert b"upper(name)" in gzip.decompress(compiled.artifacts["output.txt"])
    results = json.loads(gzip.decompress(compiled.artifacts["run_results.json"]))["results"]
    assert "upper(name)" in {each["unique_id"]: each["compiled_code"] for each in results}["model.torture.ok_model"]
    docs = built.project.run("docs", "generate", "--select", "ok_model")
    assert b"<html" in gzip.decompress(docs.artifacts["index.html"])
    assert json.loads(gzip.decompress(docs.artifacts["catalog.json"]))["nodes"].keys() == {"model.torture.ok_model"}


def test_a_secret_that_a_command_prints_is_masked_in_what_is_kept(built: Built) -> None:
    run = built.project.run(
        *("show", "--inline", "select 'hunter2-hunter2' as word"),
        options=["--secret-env", "PASSWORD"],
        environment={"PASSWORD": "hunter2-hunter2"},
    )
    assert b"hunter2" not in b"".join(run.lines)
    assert b"*****" in gzip.decompress(run.artifacts["output.txt"])


def test_a_secret_that_is_the_word_for_a_command_hides_it_from_nobody(built: Built) -> None:
    run = built.project.run(
        *("source", "freshness"), options=["--secret-env", "PASSWORD"], environment={"PASSWORD": "freshness"}
    )
    said = [run.finished, *run.named("CommandStarted"), *run.named("SelectedNodes")]
    assert {each["command"] for each in said} == {"source freshness"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["run-operation", "failing"], "macro failed"),
        (["run-operation", "no_such_macro"], "no_such_macro"),
        (["show", "--inline", "select no_column"], "no_column"),
        (["compile", "--vars={badjinja: true}"], "this_is_undefined_fn"),
        (["docs", "generate", "--vars={badjinja: true}"], "this_is_undefined_fn"),
    ],
)
def test_what_fails_in_a_command_without_nodes_is_told_and_no_node_of_it(
    built: Built, line: list[str], message: str
) -> None:
    run = built.project.run(*line)
    assert run.code in (1, 2)
    state = close(state=fold_lines(state=EMPTY, lines=run.lines), ending=Ending.COMPLETED)
    assert not state.nodes
    outcome = conclude(state=state, pod=PodEnd(kind="Error", exit_code=run.code))
    assert outcome.phase is RunPhase.FAILED
    assert message in outcome.message
