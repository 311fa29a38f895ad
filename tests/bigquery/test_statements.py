"""A statement is executed once, whatever is killed: jobs created = statements."""

from tests.bigquery.conftest import Warehouse
from tests.bigquery.fake import Behaviour

TABLE = "CREATE_TABLE_AS_SELECT"
OF_NODES = "create or replace|merge|insert"


def test_a_job_that_runs_when_its_pod_is_lost_is_gone_on_with(warehouse: Warehouse) -> None:
    fake = warehouse.fake
    fake.behaviours = [Behaviour(r"shop`\.`report", held=True)]
    first = warehouse.begin()
    warehouse.until(lambda: fake.states(r"shop`\.`report") == ["RUNNING"])
    first.kill()
    second = warehouse.resume("report")
    warehouse.until(lambda: second.named("JobAdopted"))
    fake.release()
    assert second.ends() == 0
    assert second.statuses["report"] == "success"
    assert warehouse.statements(OF_NODES) == [TABLE, TABLE]
    assert [kind for kind, _ in fake.executed()].count(TABLE) == 2
    job = fake.created(r"shop`\.`report")[0]
    (adopted,) = second.named("JobAdopted")
    assert adopted == {"unique_id": "model.shop.report", "job_id": job.id, "state": "RUNNING"}
    assert job.labels | {"dbt_invocation_id": ""} == {
        "dbt_invocation_id": "",
        "dbt_operator_run": "nightly",
        "dbt_operator_namespace": "dwh",
        "dbt_operator_attempt": "producer-1",
        "dbt_operator_node": "model_shop_report",
    }
