"""The pod of a run as its user wants it: on which node, with what resources, with secrets that stay secret."""

import json
from pathlib import Path

from tests.e2e.alike import assert_alike
from tests.e2e.conftest import EXAMPLES, Cluster, example


def test_node_selector_secret_variable_and_resources_reach_the_pod(cluster: Cluster, tmp_path: Path) -> None:
    for manifest in example("pod-template.yaml"):
        cluster.apply(manifest)
    status = cluster.wait_for_end("jaffle-shop-pod-template")
    assert status["phase"] == "Succeeded", status["message"]
    (pod,) = cluster.objects("pods")
    container = pod["spec"]["containers"][0]
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert pod["metadata"]["labels"]["team"] == "analytics"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    here = {"/tmp/": f"{tmp_path}/"}  # noqa: S108 - in the pod
    name = "jaffle-shop-pod-template"
    assert_alike(cluster, name, folder=tmp_path, project=EXAMPLES / "project", elsewhere=here)


def test_a_secret_is_seen_nowhere(cluster: Cluster) -> None:
    # A path that does not exist, so that dbt's own error text contains the value.
    secret = "/nonexistent/hunter2-secret/shop.duckdb"  # noqa: S105 - the secret of this test
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "w"}, "stringData": {"path": secret}})
    env = [{"name": "JAFFLE_SHOP_DUCKDB", "valueFrom": {"secretKeyRef": {"name": "w", "key": "path"}}}]
    cluster.create_run(podTemplate={"spec": {"containers": [{"name": "dbt", "env": env}]}})
    status = cluster.wait_for_end()
    assert status["phase"] == "Failed"
    assert "*****" in status["message"]
    everything = json.dumps([cluster.run(), cluster.models(), cluster.events()]) + cluster.log()
    assert secret not in everything
