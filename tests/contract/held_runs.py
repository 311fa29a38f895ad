"""A DbtRun on the real API server that no operator touches: for tests of what the operator makes beside a run.

It is being deleted and held back by a finalizer. An operator leaves such a run alone, as Kubernetes is about to delete
all that belongs to it; and Kubernetes does not, before the run itself is gone.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from dbt_operator.api import names
from dbt_operator.pods.run import RunRef
from tests.conftest import CHECKOUT, Kubectl

RUN = "nightly"


def apply_crds(kubectl: Kubectl) -> None:
    """The CRDs as they are in the checkout."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHECKOUT / "crds"))
    kubectl("wait", "--for=condition=Established", "crd/dbtruns.dbt-operator.io", "--timeout=30s")


@contextmanager
def held_run(kubectl: Kubectl, namespace: str) -> Iterator[RunRef]:
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
    made = kubectl.json("create", "-f", "-", stdin=json.dumps(manifest))
    kubectl("delete", "dbtrun", RUN, "-n", namespace, "--wait=false")
    try:
        yield RunRef(namespace=namespace, name=RUN, uid=made["metadata"]["uid"], labels={})
    finally:
        # Nothing else would ever let go of it, nor of its namespace.
        kubectl("patch", "dbtrun", RUN, "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
