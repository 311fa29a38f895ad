"""Runs that are deleted, and pods that die, while dbt runs."""

from tests.e2e.conftest import Cluster, phases


def test_deleting_a_run_stops_dbt_and_leaves_nothing(cluster: Cluster) -> None:
    cluster.create_run(vars={"pause_seconds": 5})
    cluster.wait_for_nodes("Running")
    pod = cluster.kubectl.json("get", "pods", "-n", cluster.namespace)["items"][0]["metadata"]["name"]
    cluster.kubectl("delete", "dbtrun", "shop", "-n", cluster.namespace, "--wait=false")
    log = cluster.kubectl("logs", "-f", pod, "-n", cluster.namespace, "-c", "dbt")
    assert '"CancelRequested"' in log
    assert '"LogCancelLine"' in log  # dbt cancelled the query that was running
    assert '"RunFinished"' in log.splitlines()[-1]
    cluster.until(
        "nothing is left of the run",
        lambda: (
            not cluster.kubectl(
                *(
                    "get",
                    "dbtruns,dbtmodels,jobs,pods,configmaps",
                    "-n",
                    cluster.namespace,
                    "-l",
                    "dbt-operator.io/run=shop",
                ),
                *("-o", "name"),
            ).strip()
        ),
    )


def test_a_run_of_the_same_name_starts_afresh(cluster: Cluster) -> None:
    cluster.create_run(vars={"broken": True})
    assert cluster.wait_for_end()["phase"] == "Failed"
    before = cluster.run()["metadata"]["uid"]
    cluster.kubectl("delete", "dbtrun", "shop", "-n", cluster.namespace)
    cluster.create_run()
    status = cluster.wait_for_end()
    assert cluster.run()["metadata"]["uid"] != before
    assert status["phase"] == "Succeeded", status["message"]
    cluster.until("the models of the new run only", lambda: set(phases(cluster.models()).values()) == {"Succeeded"})


def test_a_killed_pod_ends_the_run_and_every_node(cluster: Cluster) -> None:
    cluster.create_run(vars={"pause_seconds": 5})
    cluster.wait_for_nodes("Running")
    pod = cluster.kubectl.json("get", "pods", "-n", cluster.namespace)["items"][0]["metadata"]["name"]
    cluster.kubectl("delete", "pod", pod, "-n", cluster.namespace, "--grace-period=0", "--force")
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "PodLost"), status["message"]
    assert status["nodes"]["pending"] == status["nodes"]["running"] == 0
    shown = phases(cluster.models())
    assert not {"Pending", "Running"} & set(shown.values())
    lost = [m for m in cluster.models().values() if m["status"].get("reason") == "Lost"]
    assert lost
    assert all(m["status"]["phase"] != "Succeeded" for m in lost)


def test_a_pod_that_needs_too_much_memory_is_named_so(cluster: Cluster) -> None:
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    cluster.create_run(podTemplate={"spec": {"containers": [{"name": "dbt", **limits}]}})
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "OOMKilled"), status["message"]
