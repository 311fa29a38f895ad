"""What is the same wherever a run lives in objects: its status, its records and its files.

Records are ConfigMaps. Where attempts live is what differs: as Jobs of a cluster, or as processes of one machine.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dbt_operator.api import names
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.api_error import ApiError, NameConflictError
from dbt_operator.kube.event_manifest import EventType
from dbt_operator.kube.objects import Objects
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_MODELS, DBT_RUNS, Object, Resource, owner_uids
from dbt_operator.plan.attempt import Decision, Refusal, Release, Sealed
from dbt_operator.pods.files import File, file_config_map
from dbt_operator.pods.images import Images
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.layers import layers_of
from dbt_operator.pods.profiles_yml import RenderedProfile
from dbt_operator.pods.record import attempt_record, checkpointing, parse_record, releasing, same_decision, sealing
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.runner_files import runner_config_map
from dbt_operator.pods.template import InvalidPodTemplate, in_users_words
from dbt_operator.reconcile.backend import Creation, StoredRecord, UnreadableRecordError
from dbt_operator.reconcile.connections import MissingConnectionError, profile_of_run
from dbt_operator.reconcile.refusals import job_refusal_of
from dbt_operator.reconcile.state_source import MissingStateError, keep_state_files
from dbt_operator.reconcile.statuses import Statuses


@dataclass(slots=True)
class ObjectBackend(ABC):
    """The part of a `Backend` that speaks of objects. The labels of `run` are the DbtRun's, as it was found last."""

    run: RunRef
    statuses: Statuses
    images: Images

    @property
    @abstractmethod
    def objects(self) -> Objects:
        """Where the objects are."""

    @abstractmethod
    async def _create_job(self, job: Mapping[str, Any]) -> None:
        """Create the Job of an attempt, or adopt it.

        Raises: ApiError, NameConflictError, InvalidSpec where the spec asks for what cannot be had here.
        """

    async def _refusal_of_later_pods(self, spec: DbtRunSpec, *, profile: RenderedProfile | None) -> Refusal | None:
        """Why a pod of a later attempt could never be made, as far as that is known before the first one."""
        del spec, profile
        return None

    def _here(self, spec: DbtRunSpec) -> DbtRunSpec:
        """The spec as it is to be executed here. Raises: InvalidSpec where that cannot be."""
        return spec

    def now(self) -> datetime:
        """The time as it is stamped on objects."""
        return self.objects.now()

    # the run

    async def find_run(self) -> Object | None:
        """Read the DbtRun."""
        run = await self._find(DBT_RUNS, self.run.name)
        if run is None or run["metadata"]["uid"] != self.run.uid or "deletionTimestamp" in run["metadata"]:
            return None
        self.run = replace(self.run, labels=run["metadata"].get("labels") or {})
        return run

    async def find_runs(self, labels: Mapping[str, str]) -> list[Object]:
        """List the DbtRuns of the namespace."""
        return await self.objects.list(resource=DBT_RUNS, namespace=self.run.namespace, labels=labels)

    async def find_defaults(self) -> Object | None:
        """Read the ConfigMap."""
        return await self._find(CONFIG_MAPS, names.DEFAULTS)

    async def may_delete_run(self, *, version: str) -> bool:
        """Nothing is known that would be in the way."""
        del version
        return True

    async def delete_run(self, *, version: str) -> None:
        """Delete the DbtRun; the garbage collector deletes what it owns."""
        run = self.run
        await self.objects.delete(
            resource=DBT_RUNS, namespace=run.namespace, name=run.name, uid=run.uid, version=version
        )

    async def find_models(self) -> list[Object]:
        """List the DbtModels."""
        return await self._mine(DBT_MODELS)

    async def find_model(self, name: str) -> Object | None:
        """Read a DbtModel."""
        return await self._find(DBT_MODELS, name)

    async def post_event(self, *, regarding: Object, kind: EventType, reason: str, message: str, key: str) -> None:
        """Post an Event."""
        await self.objects.record_event(regarding=regarding, kind=kind, reason=reason, message=message, key=key)

    # records. They are asked for by their names, so that no right to list is needed.

    async def read_record(self, index: int) -> StoredRecord | None:
        """Read its ConfigMap."""
        found = await self._find_mine(names.attempt_record_name(self.run.name, index=index))
        return None if found is None else _stored(found)

    async def create_record(self, decision: Decision, *, release: Release | None = None) -> StoredRecord | None:
        """Create its ConfigMap."""
        manifest = attempt_record(run=self.run, decision=decision, release=release)
        try:
            found, new = await self._create_or_adopt(CONFIG_MAPS, manifest)
        except NameConflictError as error:
            if error.stale:
                return None  # of an earlier run of this name, about to be deleted with it
            raise
        return _stored(found) if new or same_decision(found, manifest) else None

    async def store_release(self, index: int, release: Release, *, version: str) -> StoredRecord:
        """Annotate its ConfigMap."""
        return await self._patch_record(index, releasing(release, version=version))

    async def store_checkpoint(self, index: int, state: bytes, *, position: datetime | None, version: str) -> str:
        """Annotate its ConfigMap, and put the state into it."""
        patch = checkpointing(state, position=position, version=version)
        name = names.attempt_record_name(self.run.name, index=index)
        stored = await self._patch(CONFIG_MAPS, name, patch, retry=False)
        new: str = stored["metadata"]["resourceVersion"]
        return new

    async def store_end(self, decision: Decision, sealed: Sealed, *, version: str) -> StoredRecord:
        """Annotate its ConfigMap, and put the state into it."""
        return await self._patch_record(decision.index, sealing(sealed, decision, version=version))

    async def _patch_record(self, index: int, patch: Mapping[str, Any]) -> StoredRecord:
        name = names.attempt_record_name(self.run.name, index=index)
        return _stored(await self._patch(CONFIG_MAPS, name, patch))

    # attempts

    async def create_attempt(self, decision: Decision, *, spec: DbtRunSpec) -> Creation:
        """Create its Job, and before that the ConfigMaps that its pod mounts: runner, profile, state files.

        Taking the step twice is harmless: names are deterministic, and what exists and is ours is adopted.
        """
        job: Mapping[str, Any] = {}
        try:
            spec = self._here(spec)
            profile = await profile_of_run(spec.profile, run=self.run, client=self.objects)
            await keep_state_files(spec, run=self.run, client=self.objects)
            job = attempt_job(run=self.run, spec=spec, decision=decision, images=self.images, profile=profile)
            later = await self._refusal_of_later_pods(spec, profile=profile) if decision.index == 1 else None
            if later is not None:
                return Creation(refusal=later)
            await self._create_or_adopt(CONFIG_MAPS, runner_config_map(self.run))
            await self._create_job(job)
        except tuple(_MISTAKES) as error:
            return _refused(_MISTAKES[type(error)], str(error))
        except NameConflictError as error:
            if error.stale:
                return Creation()  # of an earlier run of this name, about to be deleted with it
            return _refused(RunReason.NAME_CONFLICT, f"{error}: delete or rename it, and create the run anew.")
        except ApiError as error:
            if error.namespace_terminating:
                return Creation()  # the run is about to be deleted with its namespace
            refusal = job_refusal_of(error)
            if refusal is None:
                raise
            if refusal.reason is RunReason.INVALID_POD_TEMPLATE:
                templates = {layer.called: layer.template for layer in layers_of(spec, decision)}
                refusal = replace(refusal, message=in_users_words(refusal.message, job=job, layers=templates))
            return Creation(refusal=refusal)
        return Creation(created=True)

    # files

    async def find_files(self, name: str) -> Object | None:
        """Read the ConfigMap."""
        return await self._find_mine(name)

    async def create_files(self, name: str, file: File) -> tuple[Object, bool]:
        """Create the ConfigMap."""
        return await self._create_or_adopt(CONFIG_MAPS, file_config_map(run=self.run, name=name, file=file))

    async def patch_files(self, name: str, patch: Mapping[str, Any]) -> Object:
        """Patch the ConfigMap."""
        return await self._patch(CONFIG_MAPS, name, patch)

    async def delete_files(self, found: Object) -> None:
        """Delete the ConfigMap."""
        name, uid = found["metadata"]["name"], found["metadata"]["uid"]
        await self.objects.delete(resource=CONFIG_MAPS, namespace=self.run.namespace, name=name, uid=uid)

    # the API

    async def _find(self, resource: Resource, name: str) -> Object | None:
        return await self.objects.find(resource=resource, namespace=self.run.namespace, name=name)

    async def _find_mine(self, name: str) -> Object | None:
        found = await self._find(CONFIG_MAPS, name)
        return found if found is not None and self.run.uid in owner_uids(found) else None

    async def _mine(self, resource: Resource) -> list[Object]:
        mine = {names.LABEL_RUN_UID: self.run.uid}
        return await self.objects.list(resource=resource, namespace=self.run.namespace, labels=mine)

    async def _create_or_adopt(
        self, resource: Resource, manifest: Mapping[str, Any], *, strict: bool = False
    ) -> tuple[Object, bool]:
        return await self.objects.create_or_adopt(
            resource=resource, manifest=manifest, owner_uid=self.run.uid, strict=strict
        )

    async def _patch(self, resource: Resource, name: str, patch: Mapping[str, Any], *, retry: bool = True) -> Object:
        return await self.objects.patch(
            resource=resource, namespace=self.run.namespace, name=name, patch=patch, retry=retry
        )


# What is wrong with what a run is made of, and the reason of the run for that.
_MISTAKES: Mapping[type[Exception], RunReason] = {
    InvalidSpec: RunReason.INVALID_SPEC,
    InvalidPodTemplate: RunReason.INVALID_POD_TEMPLATE,
    MissingConnectionError: RunReason.CONNECTION_NOT_FOUND,
    MissingStateError: RunReason.STATE_UNAVAILABLE,
}


def _stored(config_map: Object) -> StoredRecord:
    try:
        return StoredRecord(parse_record(config_map), config_map["metadata"]["resourceVersion"])
    except ValueError as error:
        # It cannot be decided anew either, as its name is taken.
        raise UnreadableRecordError(f"{error}.") from error


def _refused(reason: RunReason, message: str) -> Creation:
    return Creation(refusal=Refusal(reason, message))
