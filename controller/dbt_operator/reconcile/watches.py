"""What is watched, and whom it wakes.

Events only wake a loop, which looks at the cluster itself. So a missed event only costs time.
"""

import asyncio

from dbt_operator.api import names
from dbt_operator.kube.client import Client
from dbt_operator.kube.kopf_watch import KopfWatch, Login, Subscription
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, JOBS, PODS, Object
from dbt_operator.kube.watch import Change, Watch
from dbt_operator.reconcile.manager import Manager

_OURS = {names.LABEL_MANAGED_BY: names.MANAGED_BY}


class Watches:
    """The watches of an operator: two for each namespace. If one is refused the others go on."""

    def __init__(self, *, client: Client, manager: Manager, login: Login) -> None:
        self._client, self._manager, self._login = client, manager, login
        self._asked: dict[str, str] = {}  # the retries that DbtModels ask for and that were passed on, by their uid

    async def run(self) -> None:
        """Watch for ever. An error of what is woken is a defect: it ends all watches, and is raised."""
        subscriptions = [
            Subscription(DBT_RUNS, self._run),
            Subscription(JOBS, self._job, labels=_OURS),
            Subscription(PODS, self._pod, labels=_OURS),
        ]
        async with asyncio.TaskGroup() as group:
            for namespace in self._manager.watched:
                most = KopfWatch(namespace=namespace, subscriptions=subscriptions, login=self._login)
                group.create_task(most.run())
                models = Watch(client=self._client, resource=DBT_MODELS, namespace=namespace, sink=self._model)
                group.create_task(models.run())

    def _run(self, change: Change) -> None:
        if change.gone:
            self._manager.deleted(change.obj)
        else:
            self._manager.observed(change.obj)

    def _job(self, change: Change) -> None:
        conditions = (change.obj.get("status") or {}).get("conditions") or ()
        over = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
        self._manager.child_changed(change.obj, alive=not (over or change.gone))

    def _pod(self, change: Change) -> None:
        self._manager.pod_changed(change.obj, gone=change.gone)

    async def _model(self, change: Change) -> None:
        metadata = change.obj["metadata"]
        token = names.retry_token(metadata)
        if token is None or change.gone:
            self._asked.pop(metadata["uid"], None)
        elif self._asked.get(metadata["uid"]) != token:
            # Whether it was handled is in its status, and which node it is in its spec.
            model = await self._find(metadata)
            if model is not None:
                self._manager.model_changed(model)
                self._asked[metadata["uid"]] = token

    async def _find(self, metadata: Object) -> Object | None:
        return await self._client.find(resource=DBT_MODELS, namespace=metadata["namespace"], name=metadata["name"])
