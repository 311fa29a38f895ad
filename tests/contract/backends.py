"""The backend of a run on the cluster of the tests."""

from dbt_operator.kube.client import Client
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.pods.images import Images
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.kubernetes import KubernetesBackend
from dbt_operator.reconcile.statuses import Statuses


def backend_of(run: RunRef, client: Client) -> KubernetesBackend:
    """That of this run. Its writer writes nothing, as it does not run."""
    statuses = Statuses(run, StatusWriter(client=client))
    return KubernetesBackend(run=run, client=client, statuses=statuses, images=Images(tools="tools:1"))
