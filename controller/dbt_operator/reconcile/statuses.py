"""The statuses of one run and of its DbtModels, in the hands of the operator's writer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object, Resource
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.pods.run import RunRef

_FLUSH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Statuses:
    """The wanted statuses of one run. The newest one of each object is written as soon as the writer allows.

    most_models: how many DbtModels the run may have; None: as many as it has nodes.
    """

    run: RunRef
    writer: StatusWriter
    most_models: int | None = None

    def show_run(self, status: Mapping[str, Any], *, terminal: bool, event_time: datetime | None) -> None:
        """Want this whole status of the run. `event_time`: when dbt said the newest that it shows, for a metric."""
        self._submit(DBT_RUNS, self.run.name, status, terminal=terminal, lazy=False, event_time=event_time)

    def show_model(
        self, name: str, status: Mapping[str, Any], *, terminal: bool, lazy: bool, event_time: datetime | None
    ) -> None:
        """Want this whole status of a DbtModel. `lazy`: it need not be written at once."""
        self._submit(DBT_MODELS, name, status, terminal=terminal, lazy=lazy, event_time=event_time)

    def create_model(self, manifest: Object) -> None:
        """Want a DbtModel to exist."""
        self.writer.submit_create(run=self.run.uid, resource=DBT_MODELS, manifest=manifest, owner_uid=self.run.uid)

    async def store_in_run(self, patch: Mapping[str, Any], *, version: str = "") -> None:
        """Write a part of the run's status now. `version`: only onto this one. Raises: ApiError."""
        await self._store(DBT_RUNS, self.run.name, patch, version=version)

    async def store_in_model(self, name: str, patch: Mapping[str, Any]) -> None:
        """Write a part of a DbtModel's status now. Raises: ApiError."""
        await self._store(DBT_MODELS, name, patch)

    def run_is(self, obj: Object) -> None:
        """What is stored of the run."""
        self.writer.known(run=self.run.uid, resource=DBT_RUNS, obj=obj)

    def model_is(self, obj: Object) -> None:
        """What is stored of a DbtModel."""
        self.writer.known(run=self.run.uid, resource=DBT_MODELS, obj=obj)

    async def flush(self) -> bool:
        """Write all that is wanted now; whether it was stored within a minute."""
        return await self.writer.flush(run=self.run.uid, within=_FLUSH_SECONDS)

    def forget(self) -> None:
        """Nothing of this run is wanted any more."""
        self.writer.forget(run=self.run.uid)

    def _submit(
        self,
        resource: Resource,
        name: str,
        status: Mapping[str, Any],
        *,
        terminal: bool,
        lazy: bool,
        event_time: datetime | None,
    ) -> None:
        self.writer.submit(
            run=self.run.uid,
            resource=resource,
            namespace=self.run.namespace,
            name=name,
            status=status,
            terminal=terminal,
            lazy=lazy,
            event_time=event_time,
        )

    async def _store(self, resource: Resource, name: str, patch: Mapping[str, Any], *, version: str = "") -> None:
        await self.writer.store(
            run=self.run.uid,
            resource=resource,
            namespace=self.run.namespace,
            name=name,
            patch=patch,
            version=version,
        )
