"""A DbtRun on the real API server that no operator touches: for tests of what the operator makes beside a run.

It is being deleted and held back by a finalizer. An operator leaves such a run alone, as Kubernetes is about to delete
all that belongs to it; and Kubernetes does not, before the run itself is gone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dbt_operator.api import names
from dbt_operator.pods.run import RunRef
from tests.api import Api

RUN = "nightly"


@contextmanager
def held_run(api: Api, namespace: str) -> Iterator[RunRef]:
    """The run, for as long as the context lasts."""
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": "DbtRun",
        "metadata": {"name": RUN, "namespace": namespace, "finalizers": [f"{names.GROUP}/held-by-a-test"]},
        "spec": {
            # The CRD lets the no-break space pass, the operator does not. Should one be quicker than the deletion, it
            # says that the spec is invalid, and neither creates anything nor looks at what the test has made.
            "image": "no\u00a0image",
            "project": {"image": {"path": "/dbt"}},
            "profile": {"inProject": True},
        },
    }
    runs = f"/apis/{names.API_VERSION}/namespaces/{namespace}/dbtruns"
    made = api.create_at(runs, manifest)
    api.delete_at(f"{runs}/{RUN}")
    try:
        yield RunRef(namespace=namespace, name=RUN, uid=made["metadata"]["uid"], labels={})
    finally:
        # Nothing else would ever let go of it, nor of its namespace.
        api.change_at(f"{runs}/{RUN}", {"metadata": {"finalizers": None}})
