"""Runs that are deleted, and a process that dies, while dbt runs. Other losses of pods are in test_resume.py."""

from tests.e2e.conftest import FEW, Cluster, phases

# Finds the runner among the pod's processes and kills it without any warning.
KILL = """
import os, pathlib, signal
for status in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"runner.pyz" in status.read_bytes() and int(status.parent.name) != os.getpid():
        os.kill(int(status.parent.name), signal.SIGKILL)
"""


def kill_runner(cluster: Cluster, pod: str) -> None:
    """Kill the runner of this pod from inside. The program that does it may be killed with the container."""
    cluster.kubectl.run("exec", pod, "-n", cluster.namespace, "-c", "dbt", "--", "python3", "-c", KILL)


def _change_the_record(cluster: Cluster) -> None:
    """Nothing is decided for the run until the record that cannot be read is deleted."""
    record = ("configmap", "shop-attempt-1", "-n", cluster.namespace)
    cluster.kubectl("annotate", *record, "--overwrite", "dbt-operator.io/decision=nonsense")
    cluster.until("an Event", lambda: "RecordUnreadable" in [event["reason"] for event in cluster.events()])
    assert "completionTime" not in cluster.run()["status"]
    cluster.kubectl("delete", *record)


def test_what_a_killed_process_did_not_report_is_lost_and_a_run_of_the_same_name_starts_afresh(
    cluster: Cluster,
) -> None:
    # As the first process of a container it could not be killed from inside.
    cluster.create_run(pause=5, podTemplate={"spec": {"shareProcessNamespace": True}})
    cluster.wait_for_nodes("Running")
    kill_runner(cluster, cluster.producer_pod())
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "PodLost"), status["message"]
    assert status["nodes"]["pending"] == status["nodes"]["running"] == 0
    models = cluster.models()
    assert not {"Pending", "Running"} & set(phases(models).values())
    assert [m for m in models.values() if m["status"].get("reason") == "Lost"]
    finished = {m["spec"]["name"] for m in models.values() if "finishedAt" in m["status"]}
    assert {name for name, phase in phases(models).items() if phase == "Succeeded"} <= finished
    before = cluster.run()["metadata"]["uid"]
    cluster.kubectl("delete", "dbtrun", "shop", "-n", cluster.namespace)
    cluster.create_run(**FEW, pause=5)
    cluster.until("a node at work", lambda: cluster.run().get("status", {}).get("nodes", {}).get("running", 0) > 0)
    _change_the_record(cluster)
    status = cluster.wait_for_end()
    assert cluster.run()["metadata"]["uid"] != before
    assert status["phase"] == "Succeeded", status["message"]
    cluster.until("the models of the new run only", lambda: set(phases(cluster.models()).values()) == {"Succeeded"})


def test_deleting_a_run_stops_dbt_and_leaves_nothing(cluster: Cluster) -> None:
    cluster.create_run(pause=5)
    cluster.wait_for_nodes("Running")
    pod = cluster.producer_pod()
    cluster.kubectl("delete", "dbtrun", "shop", "-n", cluster.namespace, "--wait=false")
    log = cluster.kubectl("logs", "-f", pod, "-n", cluster.namespace, "-c", "dbt")
    assert '"CancelRequested"' in log
    assert '"LogCancelLine"' in log  # dbt cancelled the query that was running
    assert '"RunFinished"' in log.splitlines()[-1]
    cluster.until(
        "nothing is left of the run",
        lambda: (
            not any(
                cluster.objects(resource, labels="dbt-operator.io/run=shop")
                for resource in ("dbtruns", "dbtmodels", "jobs", "pods", "configmaps")
            )
        ),
    )
