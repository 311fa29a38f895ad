"""Definitions of Dagster: the project by dagster-dbt. Dagster reads them, in its own environment."""

import os
from collections.abc import Iterator
from pathlib import Path

from dagster import AssetExecutionContext, Definitions, define_asset_job
from dagster_dbt import DbtCliResource, dbt_assets

project = Path(os.environ["BENCH_PROJECT"])
manifest = project / "target" / "manifest.json"


@dbt_assets(manifest=manifest)
def bench(context: AssetExecutionContext, dbt: DbtCliResource) -> Iterator[object]:
    """Retry with `dbt retry`, as a RetryPolicy would execute all nodes again."""
    build = dbt.cli(["build"], context=context, raise_on_error=False)
    yield from build.stream()
    if not build.is_successful():
        retry = dbt.cli(["retry"], manifest=manifest, target_path=build.target_path)
        yield from retry.stream()


defs = Definitions(
    assets=[bench],
    jobs=[define_asset_job("everything")],
    resources={"dbt": DbtCliResource(project_dir=str(project), profiles_dir=str(project))},
)
