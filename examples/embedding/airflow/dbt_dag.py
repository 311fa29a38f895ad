"""A DAG whose tasks are DbtRuns. Put it into the folder of DAGs, together with dbt_runs.py.

While a run is live no worker waits for it: the sensor looks once in a while (mode reschedule). A task that is cleared, or
tried again, finds its run and asks it for a retry: what has succeeded is not built again.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timedelta
from typing import Any

import dbt_runs
from airflow.sdk import dag, get_current_context, task, task_group

NAMESPACE = os.environ.get("DBT_NAMESPACE", "analytics")
SHOP: dict[str, Any] = {
    "image": "localhost/dbt-operator/jaffle-shop:dev",
    "imagePullPolicy": "IfNotPresent",
    "project": {"image": {"path": "/dbt/jaffle_shop"}},
    "profile": {"inProject": True},
    "ttlSecondsAfterFinished": 604800,
}


def run_name(group: str) -> str:
    """The same for each try of a task of one DAG run, and another one for each DAG run."""
    context = get_current_context()
    run = f"{context['dag'].dag_id} {context['run_id']}"
    return f"{group}-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def dbt_run(group: str, **fields: Any) -> Any:
    """Two tasks: one creates the run, the other one succeeds or fails with it. fields: of the spec of the DbtRun."""

    @task_group(group_id=group)
    def both() -> None:
        @task
        def create() -> str:
            name, instance = run_name(group), get_current_context()["ti"]
            attempt = f"{instance.run_id} {instance.try_number}"
            dbt_runs.create(name, namespace=NAMESPACE, spec=SHOP | fields, attempt=attempt)
            return name

        @task.sensor(poke_interval=15, timeout=6 * 3600, mode="reschedule")
        def wait(name: str) -> bool:
            return dbt_runs.has_succeeded(name, namespace=NAMESPACE)

        wait(create())

    return both()


@dag(
    dag_id="shop",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
)
def shop() -> None:
    """What the shop is built of, and its documentation."""
    dbt_run("build") >> dbt_run("docs", command="docs")


shop()
