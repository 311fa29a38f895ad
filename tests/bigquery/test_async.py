"""Simple nodes as jobs that one process follows, without dbt: what becomes of them whatever happens."""

import yaml

from tests.bigquery.conftest import Attempt, Warehouse
from tests.bigquery.fake import Behaviour, Fault

ASYNC = ("--executor=Async",)
TESTS = {"version": 2, "models": [{"name": "orders", "columns": [{"name": "id", "data_tests": ["not_null"]}]}]}
OF_NODES = "create or replace|should_warn"
HOOKLESS = {
    "name": "shop",
    "version": "1.0",
    "profile": "shop",
    "flags": {"send_anonymous_usage_stats": False},
    "models": {"shop": {"+materialized": "table"}},
}


def shop(warehouse: Warehouse, **more: str) -> None:
    warehouse.file("dbt_project.yml", yaml.safe_dump(HOOKLESS))
    warehouse.write(more, models__tests_yml=yaml.safe_dump(TESTS))


def executors(attempt: Attempt) -> dict[str, str]:
    return {
        node["unique_id"].split(".")[2]: node.get("reason") or node["executor"]
        for part in attempt.named("Executors")
        for node in part["nodes"]
    }


def results(attempt: Attempt) -> dict[str, dict[str, object]]:
    return {result["unique_id"].split(".")[2]: result for result in attempt.named("NodeResult")}


def test_each_node_ends_as_with_dbt(warehouse: Warehouse) -> None:
    broken = "{{ config(materialized='view') }} select broken from {{ ref('report') }}"
    shop(warehouse, broken=broken, below="select * from {{ ref('broken') }}")
    warehouse.fake.behaviours = [
        Behaviour("select broken", error=("invalidQuery", "Unrecognized name: broken at [2:8]")),
        Behaviour("should_warn", rows=[{"failures": 2, "should_warn": True, "should_error": False}]),
    ]
    seen = []
    for options in ((), ASYNC):
        attempt = warehouse.begin(options=options)
        assert attempt.ends() == 1
        of_dbt = ("status", "message", "num_failures", "excerpt", "relation")
        fields = (*of_dbt, "rows_affected", "bytes_processed", "bytes_billed", "slot_ms")
        seen.append(
            {
                name: {
                    field: str(result.get(field)).replace(f"attempt-{len(warehouse.attempts)}", "") for field in fields
                }
                for name, result in results(attempt).items()
            }
        )
    by_dbt, without = seen
    assert without == by_dbt
    assert (without["broken"]["status"], without["below"]["status"]) == ("error", "skipped")
    assert without["not_null_orders_id"]["status"] == "warn"
    assert without["orders"]["message"] == "CREATE TABLE (1.0 rows, 10.0 MiB processed)"
    assert executors(attempt) == dict.fromkeys(("orders", "report", "broken", "below", "not_null_orders_id"), "Async")
    jobs = [job for job in warehouse.fake.created(OF_NODES) if job.labels["dbt_operator_attempt"] == "producer-2"]
    assert {job.labels["dbt_operator_node"] for job in jobs} >= {"model_shop_orders", "model_shop_report"}
    assert results(attempt)["orders"]["job_id"] in {job.id for job in jobs}
    assert results(attempt)["orders"]["cache_hit"] is False


def test_jobs_of_a_pod_that_is_lost_are_gone_on_with(warehouse: Warehouse) -> None:
    shop(warehouse, beside="select 2 as id")
    fake = warehouse.fake
    fake.behaviours = [Behaviour(r"replace table `local`.`shop`.`(orders|beside)`", held=True)]
    first = warehouse.begin(options=ASYNC)
    warehouse.until(lambda: fake.states(r"replace table .*(orders|beside)") == ["RUNNING", "RUNNING"])
    first.kill()
    fake.release("beside")  # one ends while nobody looks
    nodes = [node["unique_id"] for part in first.named("SelectedNodes") for node in part["nodes"]]
    second = warehouse.resume(*nodes, options=ASYNC)
    warehouse.until(lambda: len(second.named("JobAdopted")) == 2)
    fake.release()
    assert second.ends() == 0
    assert set(second.statuses.values()) == {"success", "pass"}
    assert len(fake.created(OF_NODES)) == 4


def test_a_run_that_is_told_to_stop_cancels_each_job_and_waits_for_its_end(warehouse: Warehouse) -> None:
    shop(warehouse, **{f"beside{number}": f"select {number} as id" for number in range(5)})
    fake = warehouse.fake
    fake.behaviours, fake.cancel_seconds = [Behaviour("create or replace", held=True)], 2.0
    attempt = warehouse.begin(options=ASYNC)
    warehouse.until(lambda: fake.states("create or replace") == ["RUNNING"] * 6)
    attempt.stop()
    attempt.ends()
    assert fake.states("create or replace") == ["DONE"] * 6
    assert all(job.cancelled for job in fake.created("create or replace"))
    assert len(attempt.named("LogCancelLine")) == 6
    assert attempt.named("NodeResult") == []
    assert attempt.named("RunFinished")[0]["cancelled"]


def test_what_passes_by_itself_is_tried_again_and_what_was_answered_to_nobody_is_no_second_job(
    warehouse: Warehouse,
) -> None:
    shop(warehouse)
    fake = warehouse.fake
    fake.behaviours = [Behaviour(r"shop`\.`report", error=("backendError", "try again"), times=1)]
    insert = "jobs.insert"
    fake.faults = [
        Fault(insert, "replace table.*orders", lost=True),
        Fault(insert, "should_warn", status=403, reason="rateLimitExceeded"),
        Fault("jobs.list", status=403, reason="accessDenied", times=1000),  # each is found out by itself then
    ]
    attempt = warehouse.begin(options=ASYNC)
    assert attempt.ends() == 0
    assert len(fake.created(r"replace table `local`\.`shop`\.`orders")) == 1
    ids = [job.id for job in fake.created(r"replace table `local`\.`shop`\.`report")]
    assert [one.rpartition("-")[2] for one in ids] == ["0", "1"]
    assert len(fake.created("should_warn")) == 1


def test_what_the_run_may_cost_stops_it_with_a_sentence(warehouse: Warehouse) -> None:
    shop(warehouse)
    fake = warehouse.fake
    settings = '--async-settings={"maximumBytesBilled": 10485760, "priority": "BATCH", "jobTimeoutSeconds": 600}'
    attempt = warehouse.begin(options=(*ASYNC, settings))
    assert attempt.ends() == 2
    (job,) = fake.created(OF_NODES)
    assert job.configuration["query"]["maximumBytesBilled"] == "10485760"
    assert (job.configuration["query"]["priority"], job.configuration["jobTimeoutMs"]) == ("BATCH", "600000")
    error = attempt.named("RunFinished")[0]["error"]
    assert error["message"] == (
        "spec.async.maximumBytesBilled is used up: 10485760 bytes were billed, and 10485760 may be"
    )


def test_what_earlier_attempts_have_cost_counts_too(warehouse: Warehouse) -> None:
    shop(warehouse)
    settings = '--async-settings={"maximumBytesBilled": 10485760}'
    attempt = warehouse.begin(options=(*ASYNC, settings, "--billed-before=10485760"))
    assert attempt.ends() == 2
    assert warehouse.fake.created(OF_NODES) == []
    assert "is used up: 10485760 bytes were billed" in attempt.named("RunFinished")[0]["error"]["message"]


def test_a_table_that_has_to_be_dropped_first_is_dbts(warehouse: Warehouse) -> None:
    shop(warehouse)
    warehouse.file("models/orders.sql", "{{ config(materialized='view') }} select 1 as id")
    assert warehouse.begin(options=ASYNC).ends() == 0
    warehouse.file("models/orders.sql", "select 1 as id")
    attempt = warehouse.begin(options=ASYNC)
    assert attempt.ends() == 0
    assert executors(attempt)["orders"] == "it asks BigQuery for more than statements (delete_table)"
    assert executors(attempt)["report"] == "Async"
