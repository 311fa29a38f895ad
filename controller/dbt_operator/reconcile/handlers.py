"""What kopf watches, and what it is set up to be: a source of wake-ups.

Only `on.event` is used. The handlers that detect changes would write finalizers and annotations to every object they
watch, and their state machine is driven by edges that a restart can lose. Ours only say "look again".
"""

from collections.abc import Mapping
from typing import Any

import kopf

from dbt_operator.api import names
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, JOBS, PODS
from dbt_operator.reconcile.manager import Manager

_OURS = {names.LABEL_MANAGED_BY: names.MANAGED_BY}


def registry(manager: Manager) -> kopf.OperatorRegistry:
    """The handlers, bound to a manager."""
    found = kopf.OperatorRegistry()

    @kopf.on.login(registry=found)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(DBT_RUNS.group, DBT_RUNS.version, DBT_RUNS.plural, registry=found)
    async def run_event(event: Mapping[str, Any], **_: Any) -> None:
        if event["type"] == "DELETED":
            manager.deleted(event["object"])
        else:
            manager.observed(event["object"])

    @kopf.on.event(JOBS.group, JOBS.version, JOBS.plural, labels=_OURS, registry=found)
    async def job_event(event: Mapping[str, Any], **_: Any) -> None:
        conditions = (event["object"].get("status") or {}).get("conditions") or ()
        over = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
        manager.child_changed(event["object"], alive=not over and event["type"] != "DELETED")

    @kopf.on.event(PODS.version, PODS.plural, labels=_OURS, registry=found)
    async def pod_event(event: Mapping[str, Any], **_: Any) -> None:
        manager.pod_changed(event["object"], gone=event["type"] == "DELETED")

    @kopf.on.event(
        *(DBT_MODELS.group, DBT_MODELS.version, DBT_MODELS.plural),
        annotations={names.ANNOTATION_RETRY: kopf.PRESENT},
        registry=found,
    )
    async def model_event(event: Mapping[str, Any], **_: Any) -> None:
        if event["type"] != "DELETED":
            manager.model_changed(event["object"])

    @kopf.on.probe(id="runs", registry=found)
    async def watch_is_alive(**_: Any) -> str:
        wrong = manager.check()
        if wrong is not None:
            # Any other exception would be retried inside the probe's request until the kubelet's time out.
            raise kopf.PermanentError(wrong)
        return "ok"

    return found


def kopf_settings() -> kopf.OperatorSettings:
    """How kopf behaves: it watches, and writes nothing anywhere."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP, v1=False)
    settings.posting.enabled = False  # our Events are posted where the transitions are known
    settings.peering.standalone = True  # a foreign peering object must not pause this operator
    settings.scanning.disabled = True  # what is watched is fixed: no rights on CRDs and namespaces are needed
    # A stream that the server does not end is ended by us a little later: a dead connection is noticed by then.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.trust_env = True  # a proxy before the API server is for watches as well
    selector = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    settings.watching.label_selectors[JOBS.group, JOBS.version, JOBS.plural] = selector
    settings.watching.label_selectors[PODS.version, PODS.plural] = selector
    return settings
