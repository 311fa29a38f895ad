"""Whole runs by the command: pods that are killed, a node that fails, and how many jobs come of it."""

import signal
from collections import Counter
from pathlib import Path

from dbt_operator.local.attempts import LocalAttempt
from tests.bigquery.conftest import Warehouse
from tests.bigquery.fake import Behaviour
from tests.bigquery.test_statements import of
from tests.local.desk import Desk, manifest, signal_group


def kill(desk: Desk, attempt: str) -> None:
    """Kill dbt, with the process that watches it."""
    signal_group(LocalAttempt(desk.place.attempts("nightly") / attempt), signal.SIGKILL)


def test_jobs_are_as_many_as_statements_however_often_dbt_is_killed(warehouse: Warehouse, operator: Path) -> None:
    """Killed while a job runs, then after it has ended; a node that has failed is executed again, and no other."""
    fake = warehouse.fake
    desk = Desk(warehouse.folder, warehouse.warm, environ={"BIGQUERY": warehouse.url}, python=operator)
    warehouse.write({"flaky": "select 3 as id"})
    retry = {"limit": 1, "reasons": ["Error"], "backoff": {"duration": "1s"}}
    desk.write(manifest("nightly", retry=retry, producer={"maxRestarts": 5}))
    fake.behaviours = [
        Behaviour(of("report"), held=True),
        Behaviour(of("flaky"), error=("invalidQuery", "not today"), times=1),
    ]
    process = desk.start("run", "-f", "run.yaml")
    desk.wait(lambda: fake.states(of("report")) == ["RUNNING"], process=process)
    # What it was told is known, so that only the running node is lost.
    desk.wait(lambda: desk.phases("nightly")["orders"] == "Succeeded", process=process)
    kill(desk, "nightly-producer-1")
    job = fake.created(of("report"))[0]
    desk.wait(lambda: [one.status for one in fake.requests("jobs.insert", job.id)] == [200, 409], process=process)
    kill(desk, "nightly-resume-1")
    fake.release()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    assert desk.phases("nightly") == dict.fromkeys(("orders", "report", "flaky"), "Succeeded")
    node_of = Counter(job.labels["dbt_operator_node"] for job in fake.created('"node_id"'))
    assert node_of == {"model_shop_orders": 1, "model_shop_report": 1, "model_shop_flaky": 2}
    assert {job.labels["dbt_operator_run"] for job in fake.created()} == {"nightly"}
