"""Nodes that are executed without dbt end as they do with it: the same project both ways, on a real Postgres."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runner.conftest import PROJECTS, Project, Run
from tests.unit.runner.postgres_server import postgres_server, programs

ASYNC = ["--executor=Async"]
BROKEN = ("build", "--vars", "{break: true}")

# By the name of the node: why dbt executes it. What is not here is executed without.
REASONS = {
    "agreed": "it has a contract",
    "asked": "it asks the warehouse for something while it is compiled",
    "below_tested": "it is materialized as incremental",
    "described": "its descriptions are kept in the warehouse (persist_docs)",
    "doubles": "it is a unit test",
    "granted": "it has grants",
    "history": "it is materialized as incremental",
    "hooked": "it has a post-hook",
    "kept": "it is a snapshot",
    "looked": "it looks for the relation async.report, which may be built before it",
    "not_null_history_name": "it tests what dbt executes",
    "not_null_totals_amount": "it stores the rows that it finds",
    "proven": "its unit tests are executed right before it",
    "raw_customers": "it is a seed",
    "special": "it is materialized as special",
    "totals": "its materialization needs the result of a query",  # dbt creates an index by run_query
}
WITHOUT_DBT = {
    *("orders", "report", "top", "of_history", "broken", "below_broken", "tested", "not_null_tested_id"),
    *("joined_report_", "not_null_totals_customer", "unique_totals_customer", "unique_totals_amount"),
    "accepted_values_totals_amount__1",
}


class Shop:
    """The project, and the server that it is built in."""

    def __init__(self, project: Project, server: dict[str, str]) -> None:
        self.project = project
        self._server = server

    def environment(self, schema: str, **more: str) -> dict[str, str]:
        target = self.project.scratch / f"target-{schema}"
        return {**self._server, "SHOP_SCHEMA": schema, "DBT_TARGET_PATH": str(target), **more}

    def run(self, schema: str, *dbt: str, options: list[str] | None = None, **more: Any) -> Run:
        environment = self.environment(schema, **more.pop("environment", {}))
        return self.project.run(*dbt, options=options or [], environment=environment, **more)

    def ask(self, sql: str) -> list[list[Any]]:
        """What the database answers."""
        program = (
            "import json, psycopg2, sys; found = psycopg2.connect('').cursor(); found.execute(sys.argv[1]);"
            "print(json.dumps(found.fetchall(), default=str))"
        )
        line = [str(self.project.warm), "-c", program, sql]
        environment = {**os.environ, **self._server}
        answer = subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout
        rows: list[list[Any]] = json.loads(answer)
        return rows

    def relations(self, schema: str) -> dict[str, tuple[str, str]]:
        """What is in the schema: the kind of each relation, and the hash of its rows, without columns of times."""
        # ruff: noqa: S608 - the names are the test's own
        tables = f"select table_name, table_type from information_schema.tables where table_schema = '{schema}'"
        columns = f"select table_name, column_name from information_schema.columns where table_schema = '{schema}'"
        wanted = [(table, column) for table, column in self.ask(columns) if not column.startswith("dbt_")]
        queries = []
        for table, kind in self.ask(tables):
            row = ", ".join(sorted(f'"{column}"' for of, column in wanted if of == table))
            hashed = f"md5(string_agg(row({row})::text, ',' order by row({row})::text))"
            queries.append(f"select '{table}', '{kind}', {hashed} from {schema}.\"{table}\"")
        return {table: (kind, rows) for table, kind, rows in self.ask(" union all ".join(queries))}


@pytest.fixture(scope="module")
def shop(dbt_python: str, warm_python: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    if programs() is None:
        pytest.skip("there is no Postgres on this machine")
    scratch = tmp_path_factory.mktemp("shop")
    path = Path(shutil.copytree(PROJECTS / "async", scratch / "project"))
    with postgres_server() as server:
        yield Shop(Project(python=dbt_python, archive=archive, path=path, scratch=scratch, warm=warm_python), server)


@pytest.fixture(scope="module")
def by_dbt(shop: Shop) -> Run:
    """A run with a model and a test that fail, and after it one of the same nodes when all is there already."""
    shop.run("plain", *BROKEN)
    return shop.run("plain", *BROKEN)


@pytest.fixture(scope="module")
def without(shop: Shop) -> Run:
    """The same without dbt."""
    shop.run("async", *BROKEN, options=ASYNC)
    return shop.run("async", *BROKEN, options=ASYNC)


def name(unique_id: str) -> str:
    kind, *parts = unique_id.split(".")
    return parts[1] if kind != "unit_test" else parts[2]


def told(run: Run) -> dict[str, tuple[str, str]]:
    return {
        name(node["unique_id"]): (node["executor"], node.get("reason", ""))
        for part in run.named("Executors")
        for node in part["nodes"]
    }


def ends(run: Run, schema: str) -> dict[str, tuple[Any, ...]]:
    """What a user sees of each node, without what is another one each time."""
    fields = ("status", "rows_affected", "num_failures", "relation", "materialized", "attached_node")
    return {
        unique_id: (
            *(str(result[field]).replace(schema, "SCHEMA") for field in fields),
            result["message"].replace(schema, "SCHEMA"),
        )
        for unique_id, result in run.results.items()
    }


def test_each_node_ends_as_with_dbt(by_dbt: Run, without: Run) -> None:
    assert ends(without, "async") == ends(by_dbt, "plain")
    statuses = {name(unique_id): result["status"] for unique_id, result in without.results.items()}
    assert statuses["broken"] == "error"
    assert (statuses["below_broken"], statuses["below_tested"]) == ("skipped", "skipped")
    assert (statuses["not_null_tested_id"], statuses["accepted_values_totals_amount__1"]) == ("fail", "warn")


def test_the_record_is_that_of_one_command(by_dbt: Run, without: Run) -> None:
    assert {one["unique_id"]: one["status"] for one in without.digest} == {
        one["unique_id"]: one["status"] for one in by_dbt.digest
    }
    same = ("exit_code", "success", "cancelled", "command", "error", "phase", "results")
    assert {field: without.finished[field] for field in same} == {field: by_dbt.finished[field] for field in same}
    assert [event["seq"] for event in without.events] == list(range(1, len(without.events) + 1))
    for once in ("RunnerStarted", "RunFinished", "CommandStarted", "Hooks", "MainReportVersion"):
        assert len(without.named(once)) == 1, once
    assert without.graph == by_dbt.graph | {
        one: {**node, "relation": node["relation"] and node["relation"].replace("plain", "async")}
        for one, node in by_dbt.graph.items()
    }
    assert without.artifacts.keys() == by_dbt.artifacts.keys()


def test_the_warehouse_has_the_same_relations_with_the_same_rows(shop: Shop, by_dbt: Run, without: Run) -> None:
    assert by_dbt.results.keys() == without.results.keys()
    assert shop.relations("async") == shop.relations("plain")


def test_what_is_not_simple_is_executed_by_dbt_and_the_reason_is_told(without: Run) -> None:
    seen = told(without)
    assert {one for one, (executor, _) in seen.items() if executor == "Async"} == WITHOUT_DBT
    assert {one: reason for one, (executor, reason) in seen.items() if executor == "dbt"} == REASONS


def test_hooks_of_the_project_belong_to_one_command_so_all_of_it_is_dbts(shop: Shop) -> None:
    file = shop.project.path / "dbt_project.yml"
    before = file.read_text()
    file.write_text(before + "on-run-end: ['create table if not exists {{ target.schema }}.ended as select 1 as id']\n")
    try:
        run = shop.run("hooks", "build", "--select", "orders", options=ASYNC)
    finally:
        file.write_text(before)
    assert run.finished["success"]
    assert told(run) == {
        "orders": ("dbt", "the project has on-run-start or on-run-end hooks, which belong to one dbt command")
    }
    assert shop.ask("select count(*) from hooks.ended") == [[1]]


def test_a_relation_that_is_another_one_meanwhile_is_left_to_dbt(shop: Shop) -> None:
    header = "{% call set_sql_header(config) %} create table changing.late as select 0 as id; {% endcall %}"
    first = shop.project.path / "models" / "first.sql"
    first.write_text("{{ config(materialized='table') }} " + header + " select 1 as id")
    (shop.project.path / "models" / "late.sql").write_text("select * from {{ ref('first') }}")
    run = shop.run("changing", "build", "--select", "first", "late", options=ASYNC)
    told_last = {name(node["unique_id"]): node for part in run.named("Executors") for node in part["nodes"]}
    assert told_last["first"]["executor"] == "Async"
    assert told_last["late"]["executor"] == "dbt"
    assert told_last["late"]["reason"] == "changing.late was not there when it was rendered, and is table now"
    assert run.results["model.shop.late"]["status"] == "success"
    assert shop.ask("select id from changing.late") == [[1]]


def _running(shop: Shop) -> int:
    (count,) = shop.ask(
        "select count(*) from pg_stat_activity where query ilike '%pg_sleep(60)%' and pid <> pg_backend_pid()"
    )[0]
    return int(count)


def test_a_run_that_is_told_to_stop_cancels_what_it_has_submitted(shop: Shop) -> None:
    for number in range(6):
        text = "{{ config(materialized='table') }} select pg_sleep(60)::text as x"
        (shop.project.path / "models" / f"sleeps{number}.sql").write_text(text)
    selection = ("run", "--select", "sleeps*")
    begun = [0]

    def all_begun(event: dict[str, Any]) -> bool:
        begun[0] += event["info"]["name"] == "LogStartLine"
        return begun[0] == 3

    run = shop.run("sleeping", *selection, options=[*ASYNC, '--async-settings={"maxInFlight": 3}'], stop_at=all_begun)
    assert run.finished["cancelled"]
    assert run.finished["error"]["kind"] == "interrupted"
    assert len(run.named("LogStartLine")) == len(run.named("LogCancelLine")) == 3  # maxInFlight
    assert run.results == {}
    assert _running(shop) == 0


def test_a_node_has_a_deadline_without_dbt_too(shop: Shop) -> None:
    item = {"select": [{"name": "sleeps0"}], "activeDeadlineSeconds": 1}
    options = [*ASYNC, f"--overrides={json.dumps([item])}"]
    run = shop.run("late", "run", "--select", "sleeps0", "orders", options=options)
    result = run.results["model.shop.sleeps0"]
    assert (result["status"], result["deadline_seconds"]) == ("error", 1)
    assert "canceling statement due to user request" in result["message"]
    assert run.results["model.shop.orders"]["status"] == "success"


def test_fail_fast_cancels_the_others(shop: Shop) -> None:
    selection = ("build", "--select", "agreed", "broken", "sleeps1", "--fail-fast", "--vars", "{break: true}")
    run = shop.run("fast", *selection, options=ASYNC)
    assert run.finished["exit_code"] == 1
    ends = {one["unique_id"]: (one["status"], one["message"]) for one in run.digest}
    assert ends["model.shop.broken"][0] == "error"
    assert ends["model.shop.sleeps1"] == ("skipped", "Skipping due to fail_fast")
    assert _running(shop) == 0


def test_the_process_of_dbt_ends_with_the_attempt(shop: Shop) -> None:
    """Killed in the middle, the attempt leaves no process that goes on."""
    sleeps = "{{ config(materialized='incremental') }} select pg_sleep(60)::text as x"
    (shop.project.path / "models" / "by_dbt.sql").write_text(sleeps)
    line = [str(shop.project.warm), *shop.project.command("run", "--select", "by_dbt", "orders", options=ASYNC)[1:]]
    environment = {**shop.project.environment(), **shop.environment("killed")}
    with subprocess.Popen(line, env=environment, cwd=shop.project.scratch, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            if b'"LogStartLine"' in raw and b"by_dbt" in raw:
                break
        while not _running(shop):
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _running(shop) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _running(shop) == 0
