"""A flow of Prefect: the project by prefect-dbt. It is executed in Prefect's own environment."""

import os
from pathlib import Path

from prefect import flow
from prefect_dbt import PrefectDbtSettings
from prefect_dbt.core._orchestrator import ExecutionMode, PrefectDbtOrchestrator

project = Path(os.environ["BENCH_PROJECT"])


@flow
def bench() -> None:
    """A task for each node."""
    orchestrator = PrefectDbtOrchestrator(
        settings=PrefectDbtSettings(project_dir=project, profiles_dir=project),
        manifest_path=project / "target" / "manifest.json",
        execution_mode=ExecutionMode.PER_NODE,
        concurrency=int(os.environ["BENCH_TASKS"]),
        retries=2,
        retry_delay_seconds=int(os.environ["BENCH_DELAY"]),
    )
    orchestrator.run_build()


if __name__ == "__main__":
    bench()
