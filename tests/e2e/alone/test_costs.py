"""What a run costs the cluster: counted where nothing else is going on."""

from tests.e2e.conftest import Cluster, metric


def test_a_node_costs_a_handful_of_writes(cluster: Cluster) -> None:
    """Its creation, its start, its end, and what its tests add to that."""

    def writes() -> float:
        return metric(cluster.kubectl, 'kind="DbtModel"', "_total")

    before = writes()
    cluster.create_run()
    nodes = cluster.wait_for_end()["nodes"]["total"]
    assert 2 * nodes <= writes() - before <= 5 * nodes
