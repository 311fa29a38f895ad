"""What is watched, and whom it wakes.

Events are only wake-ups. Whatever one says is looked at anew by the loop that it wakes, so that one which never came
costs time and nothing else.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from dbt_operator.api import names
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, JOBS, PODS, Object
from dbt_operator.kube.watch import Change, Watch
from dbt_operator.reconcile.manager import Manager

_OURS = {names.LABEL_MANAGED_BY: names.MANAGED_BY}


class Watches:
    """The watches of an operator. Each goes its own way: one that is refused is no obstacle to the others."""

    def __init__(self, *, client: Client, manager: Manager) -> None:
        self._client, self._manager = client, manager
        self._asked: dict[str, str] = {}  # the retries that DbtModels ask for and that were passed on, by their uid

    async def run(self) -> None:
        """Watch for ever. An error that is not the server's is a defect: it ends all watches, and is raised."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches():
                group.create_task(watch.run())

    def _watches(self) -> Iterator[Watch]:
        for namespace in self._manager.watched:
            common: dict[str, Any] = {"client": self._client, "namespace": namespace}
            yield Watch(**common, resource=DBT_RUNS, sink=self._run)
            yield Watch(**common, resource=JOBS, sink=self._job, labels=_OURS)
            yield Watch(**common, resource=PODS, sink=self._pod, labels=_OURS)
            # There are hundreds for each run, and only an annotation of theirs matters.
            yield Watch(**common, resource=DBT_MODELS, sink=self._model, metadata_only=True)

    async def _run(self, change: Change) -> None:
        if change.gone:
            self._manager.deleted(change.obj)
        else:
            self._manager.observed(change.obj)

    async def _job(self, change: Change) -> None:
        conditions = (change.obj.get("status") or {}).get("conditions") or ()
        over = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
        self._manager.child_changed(change.obj, alive=not (over or change.gone))

    async def _pod(self, change: Change) -> None:
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
