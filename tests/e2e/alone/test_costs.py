"""What a run costs the cluster: counted where nothing else is going on."""

from dev.install import NAMESPACE as SYSTEM
from tests.e2e.conftest import Cluster, operator_pod


def test_a_node_costs_a_handful_of_writes(cluster: Cluster) -> None:
    """Its creation, its start, its end, and what its tests add to that."""

    def writes() -> float:
        read = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
        metrics = cluster.kubectl("exec", "-n", SYSTEM, operator_pod(cluster.kubectl), "--", "python3", "-c", read)
        shown = [line.split() for line in metrics.splitlines() if 'kind="DbtModel"' in line and "_total" in line]
        return sum(float(value) for _, value in shown)

    before = writes()
    cluster.create_run()
    nodes = cluster.wait_for_end()["nodes"]["total"]
    assert 2 * nodes <= writes() - before <= 5 * nodes
