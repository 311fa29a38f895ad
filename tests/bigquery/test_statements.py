"""A statement is executed once, whatever is killed: jobs created = statements."""

import subprocess
from collections import Counter
from datetime import UTC, datetime

import pytest
import yaml

from dbt_operator.runner.bigquery import PLACES
from tests.bigquery.catalog import Name
from tests.bigquery.conftest import PROFILE, Warehouse
from tests.bigquery.fake import Behaviour, FakeBigQuery, Fault, Job

TABLE = "CREATE_TABLE_AS_SELECT"
OF_NODES = "create or replace|merge|insert"
MANY = {name: f"select 1 as id -- {name}" for name in ("runs", "ended", "unheard", "fails")}


def of(name: str) -> str:
    """What is in the text of each job of this model."""
    return f"shop`.`{name}`".replace(".", r"\.")


def of_hook(job: Job) -> bool:
    """Whether it belongs to no node."""
    return "_shop_" not in job.labels["dbt_operator_node"]


def temporary(fake: FakeBigQuery) -> list[Name | None]:
    """The temporary tables that were made by a statement of their own."""
    return [job.target for job in fake.created("} \\*/\\s+create or replace table `local`.`shop`.`[a-z]+__dbt_tmp")]


def test_jobs_of_a_lost_pod_are_gone_on_with_in_whatever_state_they_are(warehouse: Warehouse) -> None:
    """One runs, one ended while nobody looked, of one the answer never came, and one has failed meanwhile."""
    fake = warehouse.fake
    warehouse.write(MANY)
    fake.behaviours = [Behaviour("", held=True), Behaviour(of("fails"), held=True, error=("internalError", "sorry"))]
    fake.behaviours += [Behaviour("the hook|create schema")]
    fake.faults = [Fault("jobs.insert", "unheard", hangs=True)]
    first = warehouse.begin("run", "-s", *MANY)
    warehouse.until(lambda: len(fake.created("create or replace")) == len(MANY))
    first.kill()
    for name in ("ended", "unheard", "fails"):
        fake.release(of(name))
    fake.faults[0].hangs = False
    fake.behaviours = []
    second = warehouse.resume(*MANY, command="run")
    warehouse.until(lambda: len(second.named("JobAdopted")) == len(MANY) - 1)
    fake.release()
    assert second.ends() == 0
    assert {name: second.statuses[name] for name in MANY} == dict.fromkeys(MANY, "success")
    created = {name: [job.labels["dbt_operator_attempt"] for job in fake.created(of(name))] for name in MANY}
    once = ["producer-1"]
    assert created == {"runs": once, "ended": once, "unheard": once, "fails": [*once, "resume-2"]}
    assert Counter(name for _, name in fake.executed() if name in MANY) == dict.fromkeys(MANY, 1)
    # What belongs to no node is done in each attempt.
    assert len(fake.created("the hook")) == len(warehouse.attempts)
    job = fake.created(of("runs"))[0]
    assert job.labels | {"dbt_invocation_id": ""} == {
        "dbt_invocation_id": "",
        "dbt_operator_run": "nightly",
        "dbt_operator_namespace": "dwh",
        "dbt_operator_attempt": "producer-1",
        "dbt_operator_node": "model_shop_runs",
        "dbt_operator_began_in": "1",
    }
    adopted = {each["unique_id"]: (each["job_id"], each["state"]) for each in second.named("JobAdopted")}
    assert adopted["model.shop.runs"] == (job.id, "RUNNING")


def test_answers_that_are_lost_and_errors_that_pass_make_no_second_job(warehouse: Warehouse) -> None:
    """Where no location is said, of jobs that are elsewhere than in the US or the EU; and one whose job has failed."""
    fake = warehouse.fake
    fake.location = "europe-west1"
    warehouse.file("profiles.yml", yaml.safe_dump(PROFILE).replace("location: US", ""))
    warehouse.write({name: f"select 1 as id -- {name}" for name in ("unheard", "refused", "limited", "fails")})
    fake.faults = [
        Fault("jobs.insert", "unheard", lost=True),
        Fault("jobs.insert", "refused", status=503),
        Fault("jobs.insert", "limited", status=403, reason="rateLimitExceeded"),
    ]
    fake.behaviours = [Behaviour(of("fails"), error=("backendError", "sorry"), times=1)]
    attempt = warehouse.begin("run", "-s", "unheard", "refused", "limited", "fails")
    # dbt-bigquery 1.9 and 1.10 do not execute again what has failed.
    again = warehouse.version() not in ((1, 9), (1, 10))
    assert attempt.ends() == int(not again)
    made = Counter(job.labels["dbt_operator_node"] for job in fake.created("node_id"))
    once = {f"model_shop_{name}": 1 for name in ("unheard", "refused", "limited")}
    assert made == once | {"model_shop_fails": 1 + again}


def test_a_job_that_nobody_goes_on_with_is_ended_before_its_node_is_executed_again(warehouse: Warehouse) -> None:
    """One that a lost pod has left, and one that dbt has given up."""
    fake = warehouse.fake
    fake.behaviours, fake.cancel_seconds, fake.longest_poll = [Behaviour(of("orders"), held=True)], 1.0, 0.2
    first = warehouse.begin("run", "-s", "orders")
    warehouse.until(lambda: fake.states(of("orders")) == ["RUNNING"])
    first.kill()
    second = warehouse.resume("orders", command="run", began_in=None)
    warehouse.until(lambda: fake.states(of("orders")) == ["DONE", "RUNNING"])
    fake.faults = [Fault("jobs.getQueryResults", status=403, reason="accessDenied")]
    assert second.ends() == 1
    assert second.statuses["orders"] == "error"
    assert fake.states(of("orders")) == ["DONE", "DONE"]
    old, new = fake.created(of("orders"))
    assert (old.cancelled, new.cancelled, new.created >= old.ends) == (True, True, True)


def test_a_model_of_several_statements_goes_on_where_it_was(warehouse: Warehouse) -> None:
    """Of an incremental model with hooks; then all of it is another execution, as it has ended."""
    fake = warehouse.fake
    hooks = "pre_hook='insert into `local`.`shop`.`audit` select 1', post_hook='select 1 as last_word'"
    config = f"{{{{ config(materialized='incremental', unique_key='id', {hooks}) }}}}"
    query = "{{ run_query('select 5 as id').rows[0][0] if execute else 0 }}"
    warehouse.write({"orders": f"{config} select {query} as id"})
    fake.catalog.add_dataset("local", "shop")
    for name in ("audit", "orders"):
        fake.catalog.put(("local", "shop", name), kind="TABLE", at=fake.now())
    fake.behaviours = [Behaviour("last_word", held=True)]
    first = warehouse.begin("run", "-s", "orders")
    warehouse.until(lambda: fake.states("last_word") == ["RUNNING"])
    first.kill()
    fake.release()
    fake.behaviours = []
    assert warehouse.resume("orders", command="run").ends() == 0
    once = [job.statement.kind for job in fake.created("node_id")]
    assert sorted(once) == ["INSERT", "MERGE", "SELECT", "SELECT"]
    assert warehouse.resume("orders", command="run", began_in=3).ends() == 0
    assert sorted(warehouse.statements("node_id")) == sorted(once * 2)


def test_what_a_job_has_left_must_still_be_there(warehouse: Warehouse) -> None:
    """A table that is gone is made again, and one of another name in each execution; what was merged stays merged."""
    fake = warehouse.fake
    config = "{{ config(materialized='incremental', unique_key='id', on_schema_change='append_new_columns') }}"
    warehouse.write({"orders": f"{config} select 1 as id", "few": "select 3 as id", "other": "select 2 as id"})
    looked_at = {"first": "looks at one", "second": "looks at two"}
    for name, words in looked_at.items():
        warehouse.file(f"tests/{name}.sql", f"{{{{ ref('other') }}}} -- {words}")
    fake.catalog.add_dataset("local", "shop")
    fake.catalog.put(("local", "shop", "orders"), kind="TABLE", at=fake.now())
    held = f"merge into|{of('few')}|looks at"
    fake.behaviours = [Behaviour(held, held=True)]
    first = warehouse.begin("build", "-s", "orders", "few", *looked_at)
    warehouse.until(lambda: fake.states(held) == ["RUNNING"] * 4)
    first.kill()
    fake.release()
    fake.behaviours = []
    fake.forget(of("few"))
    fake.forget("looks at one")
    second = warehouse.resume("orders", "few", "test.shop.first", "test.shop.second")
    assert second.ends() == 0
    assert warehouse.statements(of("few")) == [TABLE] * 2
    assert (len(fake.created("looks at one")), len(fake.created("looks at two"))) == (2, 1)
    # Of the same name, as before dbt-bigquery 1.11, it is not made again.
    made = temporary(fake)
    assert (len(made), len(fake.created("merge into"))) == (len(set(made)), 1)


def test_loads_copies_and_batches_are_jobs_too(warehouse: Warehouse) -> None:
    """A seed whose file is loaded, a model whose partition is copied, and one of two batches of which one runs."""
    if warehouse.version() < (1, 9):
        pytest.skip("dbt 1.8 has no microbatch models")
    fake = warehouse.fake
    warehouse.file("seeds/people.csv", "id,name\n1,a\n2,b\n")
    by_day = "'field': 'day', 'data_type': 'date', 'granularity': 'day'"
    how = {
        "copied": f"incremental_strategy='insert_overwrite', partition_by={{{by_day}, 'copy_partitions': true}}",
        "batched": f"incremental_strategy='microbatch', event_time='day', batch_size='day', begin='2026-01-01',"
        f" concurrent_batches=false, partition_by={{{by_day}}}",
    }
    for name, config in how.items():
        config = f"{{{{ config(materialized='incremental', {config}) }}}}"
        batch = "{{ model.batch.id if model.batch else '' }}"
        warehouse.write({name: f"{config} select 1 as id, current_date as day, 'batch {batch}' as batch"})
    fake.catalog.add_dataset("local", "shop")
    for name in how:
        fake.catalog.put(("local", "shop", name), kind="TABLE", at=fake.now())
        fake.catalog.tables["local", "shop", name].body = {"timePartitioning": {"type": "DAY", "field": "day"}}
    fake.behaviours = [
        Behaviour("partition_id|array_agg|partition_ts|distinct", rows=[{"day": datetime(2026, 1, 1, tzinfo=UTC)}]),
        Behaviour('"load"|"copy"|batch 20260103', held=True),
    ]
    end = "2026-01-04T00:00:00+00:00"
    first = warehouse.begin("build", "-s", "people", *how, options=("--microbatch-end", end))
    warehouse.until(lambda: Counter(fake.states())["RUNNING"] == len(how) + 1)
    first.kill()
    left = {"began_in": 1, "periods": [["2026-01-02T00:00:00+00:00", end]], "incremental": True}
    nodes = [{"unique_id": one, "began_in": 1} for one in ("seed.shop.people", "model.shop.copied")]
    batched = {"unique_id": "model.shop.batched", **left}
    second = warehouse.begin("build", nodes=[*nodes, batched], options=("--microbatch-end", end))
    warehouse.until(lambda: sum(each["state"] == "RUNNING" for each in second.named("JobAdopted")) == len(how) + 1)
    fake.release()
    assert second.ends() == 0
    made = Counter((job.labels["dbt_operator_node"], job.type) for job in fake.created() if not of_hook(job))
    # Of what is copied: its temporary table, which may have another name each time; which days it has; its end.
    assert made == {
        ("seed_shop_people", "LOAD"): 1,
        ("seed_shop_people", "QUERY"): 1,
        ("model_shop_copied", "COPY"): 1,
        ("model_shop_copied", "QUERY"): 2 + len(set(temporary(fake))),
        ("model_shop_batched", "QUERY"): 2,
    }


@pytest.mark.parametrize("where", ["in a node", "in a hook"])
def test_who_is_told_to_stop_cancels_each_job_and_waits_for_its_end(warehouse: Warehouse, where: str) -> None:
    fake = warehouse.fake
    warehouse.write(MANY)
    held = "create or replace" if where == "in a node" else "the hook"
    fake.behaviours, fake.cancel_seconds = [Behaviour(held, held=True)], 2.0
    attempt = warehouse.begin("run", "-s", *MANY)
    expected = len(MANY) if where == "in a node" else 1
    warehouse.until(lambda: fake.states(held) == ["RUNNING"] * expected)
    attempt.stop()
    attempt.ends()
    assert fake.states(held) == ["DONE"] * expected
    assert all(job.cancelled for job in fake.created(held))
    assert list(fake.executed()) == []
    assert attempt.events[-1]["data"]["cancelled"] is True
    assert len(fake.created(OF_NODES)) == (len(MANY) if where == "in a node" else 0)


def test_of_an_adapter_that_is_not_known_nothing_is_changed_and_that_is_said(warehouse: Warehouse) -> None:
    """The one that is installed, without its row in the table."""
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from dbt.adapters.bigquery import BigQueryConnectionManager as Manager
from dbt_operator.runner import bigquery
from google.cloud.bigquery import Client
before = [dict(vars(Manager)), dict(vars(Client))]
bigquery.PLACES.clear()
said = lambda name, data, **_: print(name, data["program"].split()[0])
jobs = bigquery.Jobs(run_uid="uid", labels={}, stopped=bool, report=said, warn=print)
adapter = SimpleNamespace(type=lambda: "bigquery", connections=Manager.__new__(Manager))
jobs.take_over(adapter)
jobs.take_over(adapter)
assert before == [dict(vars(Manager)), dict(vars(Client))]
"""
    argv = [str(warehouse.python), "-c", script, str(warehouse.archive)]
    assert subprocess.check_output(argv, text=True) == "JobIdsUnknown dbt-bigquery\n"


def test_the_installed_version_is_in_the_table(warehouse: Warehouse) -> None:
    assert ".".join(map(str, warehouse.version())) in PLACES
