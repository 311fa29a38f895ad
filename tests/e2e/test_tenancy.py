"""A user with rights in one namespace only applies a run there and reads it, and cannot look elsewhere."""

import json

from tests.e2e.conftest import FEW, Cluster, run_manifest


def test_a_namespaces_editor_applies_and_reads_runs(cluster: Cluster) -> None:
    namespace = cluster.namespace
    cluster.kubectl("create", "serviceaccount", "ana", "-n", namespace)
    account = f"{namespace}:ana"
    cluster.kubectl(
        "create", "rolebinding", "ana", "--clusterrole=edit", f"--serviceaccount={account}", "-n", namespace
    )
    ana = f"--as=system:serviceaccount:{account}"
    cluster.until(
        "the aggregated role",
        lambda: cluster.kubectl.run("auth", "can-i", "create", "dbtruns", "-n", namespace, ana).stdout.strip() == "yes",
    )
    cluster.kubectl("apply", "-n", namespace, "-f", "-", ana, stdin=json.dumps(run_manifest(**FEW)))
    assert cluster.wait_for_end()["phase"] == "Succeeded"
    assert "shop.stg-orders" in cluster.kubectl("get", "dbtmodels", "-n", namespace, ana)
    assert "forbidden" in cluster.kubectl.refused("get", "dbtruns", "-n", "default", ana).lower()
    # Statuses are the operator's to write.
    patch = json.dumps({"status": {"phase": "Failed"}})
    cluster.kubectl.refused(
        "patch", "dbtrun", "shop", "-n", namespace, ana, "--subresource=status", "--type=merge", "-p", patch
    )
