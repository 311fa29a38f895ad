"""A DAG of Airflow: the project by Astronomer Cosmos. Airflow reads it, in its own environment."""

import os
from datetime import timedelta
from pathlib import Path

from cosmos import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, LoadMode

project = Path(os.environ["BENCH_PROJECT"])

dag = DbtDag(
    dag_id="bench",
    project_config=ProjectConfig(
        dbt_project_path=project, manifest_path=project / "target" / "manifest.json", install_dbt_deps=False
    ),
    profile_config=ProfileConfig(
        profile_name="bench", target_name="postgres", profiles_yml_filepath=project / "profiles.yml"
    ),
    execution_config=ExecutionConfig(execution_mode=ExecutionMode(os.environ["BENCH_MODE"])),
    render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST),
    schedule=None,
    max_active_tasks=int(os.environ["BENCH_TASKS"]),
    default_args={
        "retries": int(os.environ["BENCH_RETRIES"]),
        "retry_delay": timedelta(seconds=int(os.environ["BENCH_DELAY"])),
    },
)
