"""The fields of a spec that are dbt's flags, as the real dbt takes them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api.commands import Command
from dbt_operator.api.flags import FLAGS, OWNED
from dbt_operator.api.spec import parse_run_spec
from dbt_operator.pods.dbt_arguments import dbt_arguments
from tests.unit.runner.conftest import Project, Run

SPEC = {"image": "dbt", "project": {"image": {"path": "/dbt"}}, "profile": {"inProject": True}}
SCHEMAS = """
import duckdb, json, sys
rows = duckdb.connect(sys.argv[1]).execute("select table_schema || '.' || table_name from information_schema.tables")
print(json.dumps([row[0] for row in rows.fetchall()]))
"""
OPTIONS = """
import json
from dbt.cli.main import cli
def walk(command, words):
    for name, each in getattr(command, "commands", {}).items():
        yield from walk(each, [*words, name])
    if not hasattr(command, "commands"):
        yield " ".join(words), [name for param in command.params for name in (*param.opts, *param.secondary_opts)]
print(json.dumps(dict(walk(cli, []))))
"""


@pytest.fixture(scope="module")
def built(make_project: Callable[[], Project]) -> Project:
    """A project whose seeds and models are there."""
    project = make_project()
    for name, other in (("with_its_parent", "stg_users"), ("with_another", "test_fails")):
        both = "select 1 as id from {{ ref('ok_model') }}, {{ ref('other') }} where false".replace("other", other)
        (project.path / "tests" / f"{name}.sql").write_text(both)
    project.run("build", "--exclude", "resource_type:test", "resource_type:unit_test")
    return project


def run(project: Project, **fields: Any) -> Run:
    """A run with these fields of its spec."""
    return project.run(*dbt_arguments(parse_run_spec(SPEC | fields)))


def words(selected: set[str]) -> set[str]:
    """The types of the nodes."""
    return {one.partition(".")[0] for one in selected}


def test_dbt_has_each_flag_for_the_commands_that_the_table_says_or_is_too_old_for_it(warm_python: Path) -> None:
    answer = subprocess.run([warm_python, "-c", OPTIONS], check=True, capture_output=True, text=True)
    options: dict[str, list[str]] = json.loads(answer.stdout)
    ever = {option for each in options.values() for option in each}
    for flag in FLAGS:
        for command in flag.commands if flag.option in ever else ():
            # `test` has types of nodes since dbt 1.9, `snapshot` is empty since 1.10.
            late = (flag.field, command) in {
                ("resourceTypes", Command.TEST),
                ("excludeResourceTypes", Command.TEST),
                ("empty", Command.SNAPSHOT),
            }
            assert late or flag.option in options[command.rules.words], (flag.field, command)
        assert not flag.negative or flag.negative in options["build"]
    # dbt has these: what is refused by a name of no meaning would be in nobody's way, and keep nothing out.
    later = {"--help", "--sample", "--event-time-start", "--event-time-end"}
    assert {option for option in ever if option.startswith("--")} >= OWNED.keys() - later


@pytest.mark.parametrize(
    ("fields", "types"),
    [
        ({"resourceTypes": ["model"]}, {"model"}),
        ({"resourceTypes": ["seed", "test"]}, {"seed", "test"}),
        ({"excludeResourceTypes": ["model", "snapshot", "unit_test", "exposure"]}, {"seed", "test"}),
    ],
)
def test_only_nodes_of_certain_types_are_selected(built: Project, fields: dict[str, Any], types: set[str]) -> None:
    assert words(run(built, select=["+ok_model", "snap_users", "test_warns"], **fields).selected) == types


@pytest.mark.parametrize(
    ("value", "count"),
    # Three tests read ok_model alone, one its parent too, and one a model beside it.
    [("eager", 5), ("buildable", 4), ("cautious", 3), ("empty", 0)],
)
def test_which_tests_come_along_is_dbts_decision(built: Project, value: str, count: int) -> None:
    found = run(built, select=["ok_model"], indirectSelection=value)
    tests = {one for one in found.selected if one.startswith("test.")}
    assert tests == {each["unique_id"] for each in found.digest if each["unique_id"].startswith("test.")}
    assert len(tests) == count


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "warn"),
        ({"warnError": True}, "fail"),
        ({"warnErrorOptions": {"error": ["LogTestResult"]}}, "fail"),
        ({"warnErrorOptions": {"error": ["all"], "warn": ["LogTestResult"]}}, "warn"),
        ({"warnErrorOptions": {"silence": ["LogTestResult"]}}, "warn"),
    ],
)
def test_which_warnings_are_errors(built: Project, fields: dict[str, Any], status: str) -> None:
    found = run(built, command="test", select=["test_warns"], **fields)
    assert {each["status"] for each in found.results.values() if each["resource_type"] == "test"} == {status}
    assert found.code == (0 if status == "warn" else 1)


def test_rows_that_a_test_finds_are_stored(built: Project) -> None:
    run(built, command="test", select=["test_fails"], storeFailures=True)
    file = str(built.path / "torture.duckdb")
    tables = subprocess.run([built.python, "-c", SCHEMAS, file], check=True, capture_output=True, text=True)
    assert "main_dbt_test__audit.not_null_test_fails_name" in json.loads(tables.stdout)


def test_nothing_is_read_where_only_the_sql_is_to_be_tried(built: Project) -> None:
    found = run(built, command="run", select=["ok_model"], empty=True)
    assert found.results["model.torture.ok_model"]["status"] == "success"
    shown = run(built, command="show", args=["--inline", "select count(*) as n from {{ ref('ok_model') }}"])
    assert "| 0 |" in " ".join(text for _, text in shown.output)
    run(built, command="run", select=["ok_model"])


@pytest.mark.needs("dbt-core", "1.9", "microbatch models")
def test_microbatch_models_are_built_for_a_time_that_is_given(built: Project) -> None:
    found = run(built, command="run", select=["mb_model"], eventTimeStart="2026-11-17", eventTimeEnd="2026-11-19")
    (window,) = (each["window"] for each in found.named("Microbatch") if each.get("window"))
    assert (window[0][0][:10], window[-1][1][:10]) == ("2026-11-17", "2026-11-19")


@pytest.mark.needs("dbt-core", "1.10", "--sample")
def test_a_sample_is_one_of_dbts_own(built: Project) -> None:
    found = run(built, command="run", select=["mb_model"], sample="1 day")
    assert found.finished["error"] is None
    wrong = run(built, command="run", select=["mb_model"], sample="some days")
    assert wrong.finished["error"]["kind"] == "usage"
    assert "--sample" in wrong.finished["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"command": "build", "args": ["--no-such-thing"]}, "--no-such-thing"),
        ({"command": "seed", "args": ["--inline", "select 1"]}, "--inline"),
        ({"command": "docs", "args": ["--statik"]}, "--statik"),
    ],
)
def test_an_option_that_dbt_does_not_have_is_named_with_its_version_before_it_parses(
    built: Project, fields: dict[str, Any], option: str
) -> None:
    found = run(built, **fields)
    (started,) = found.named("RunnerStarted")
    error, words_ = found.finished["error"], parse_run_spec(SPEC | fields).command.rules.words
    assert error == {
        "kind": "usage",
        "message": f"dbt {started['dbt_version']} has no option {option} for `dbt {words_}`",
    }
    assert found.finished["phase"] == "start"


def test_a_flag_that_came_later_is_named_by_a_dbt_that_is_too_old(built: Project) -> None:
    found = run(built, command="run", sample="1 day")
    (started,) = found.named("RunnerStarted")
    version = started["dbt_version"]
    if version.startswith(("1.8.", "1.9.")):
        assert found.finished["error"]["message"] == f"dbt {version} has no option --sample for `dbt run`"
    else:
        assert found.finished["error"] is None


def test_a_value_that_dbt_does_not_take_is_said_before_it_parses(built: Project) -> None:
    found = run(built, command="ls", args=["--output=xml"])
    assert (found.finished["error"]["kind"], found.finished["phase"]) == ("usage", "start")
    assert "'xml' is not one of" in found.finished["error"]["message"]


def test_an_attempt_at_certain_nodes_takes_the_same_flags(built: Project) -> None:
    producer = run(built, command="test", select=["test_warns"], warnError=True)
    (unique_id,) = (one for one in producer.selected if one.startswith("test."))
    spec = parse_run_spec(SPEC | {"command": "test", "select": ["test_warns"], "warnError": True})
    again = built.again(producer, [unique_id], *dbt_arguments(spec, selection=False))
    assert again.results[unique_id]["status"] == "fail"
    assert "UnableToPartialParse" not in [event["info"]["name"] for event in again.events]
