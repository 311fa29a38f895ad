"""The pod of a run as its user wants it: on which node, with what resources, with secrets that stay secret."""

from pathlib import Path

from tests.e2e.alike import assert_alike
from tests.e2e.conftest import EXAMPLES, FEW, Cluster, example


def test_node_selector_secret_variable_and_resources_reach_the_pod(cluster: Cluster, tmp_path: Path) -> None:
    secret, run = example("pod-template.yaml")
    cluster.apply(secret)
    cluster.apply(run | {"spec": run["spec"] | FEW})
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
