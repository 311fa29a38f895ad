"""An attempt has one pod, whatever becomes of its Job."""

import json
from typing import Any

from tests.e2e.conftest import FEW, Cluster

JOB = "shop-producer-1"


def _made_anew(job: dict[str, Any]) -> dict[str, Any]:
    """The Job as a request creates it that was under way while somebody has deleted the first one."""
    metadata = {key: job["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    spec = {key: value for key, value in job["spec"].items() if key != "selector"}
    for labels in (metadata["labels"], spec["template"]["metadata"]["labels"]):
        for label in [one for one in labels if one.endswith(("controller-uid", "job-name"))]:
            del labels[label]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def test_a_job_that_is_created_anew_beside_its_first_pod_gets_no_second_process(cluster: Cluster) -> None:
    cluster.create_run(**FEW, pause=8)
    cluster.wait_for_nodes("Running")
    first = cluster.producer_pod()
    (job,) = cluster.objects("jobs")
    cluster.kubectl("delete", "job", JOB, "-n", cluster.namespace, "--cascade=orphan")
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(_made_anew(job)))
    cluster.until("there is a second pod", lambda: len(cluster.pods()) == 2)
    status = cluster.wait_for_end()
    assert status["phase"] == "Succeeded", status["message"]
    assert [attempt["pod"] for attempt in status["attempts"]] == [first]
    # The second one never had a node; with the run's end its Job goes, and it goes with it.
    scheduled = [event for event in cluster.events() if event["reason"] == "Scheduled"]
    assert {event["involvedObject"]["name"] for event in scheduled} == {first}
    cluster.until("only the first pod is left", lambda: cluster.pods() == [first])
