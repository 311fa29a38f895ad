"""Defaults of a namespace: what a short run is made of, and what it says where they are wrong."""

from pathlib import Path

import yaml

from tests.e2e.alike import assert_alike
from tests.e2e.conftest import EXAMPLES, Cluster, example


def test_a_run_of_five_lines_works_in_a_namespace_with_defaults(cluster: Cluster, tmp_path: Path) -> None:
    defaults, run = example("defaults.yaml")
    del run["metadata"]["annotations"]  # for runs without a cluster
    assert len(yaml.safe_dump(run, default_flow_style=None).splitlines()) <= 5
    cluster.apply(defaults)
    cluster.apply(run)
    status = cluster.wait_for_end("jaffle-shop-marts")
    assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
    assert status["defaults"] == {"namespace": yaml.safe_load(defaults["data"]["defaults.yaml"])}
    environ = {"JAFFLE_SHOP_DUCKDB": str(tmp_path / "jaffle_shop.duckdb")}
    assert_alike(cluster, "jaffle-shop-marts", folder=tmp_path, project=EXAMPLES / "project", environ=environ)


def test_a_mistake_in_defaults_fails_the_run_with_its_place(cluster: Cluster) -> None:
    defaults, run = example("defaults.yaml")
    cluster.apply(defaults | {"data": {"defaults.yaml": "image: shop:1\ntreads: 8"}})
    cluster.apply(run)
    status = cluster.wait_for_end("jaffle-shop-marts")
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidSpec")
    named = "treads in the ConfigMap dbt-operator-defaults (defaults.yaml)"
    assert named in status["message"], status["message"]
