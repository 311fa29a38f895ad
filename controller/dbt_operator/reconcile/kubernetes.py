"""A run in a Kubernetes cluster: records are ConfigMaps, attempts are Jobs."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from dbt_operator.api import names
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.client import ApiError, Client, NameConflictError
from dbt_operator.kube.event_manifest import EventType
from dbt_operator.kube.logs import Ended, Sink, follow
from dbt_operator.kube.resources import (
    CONFIG_MAPS,
    DBT_MODELS,
    DBT_RUNS,
    EVENTS,
    JOBS,
    PODS,
    Object,
    Resource,
    owner_uids,
)
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.plan.attempt import Decision, Refusal, Release, Sealed
from dbt_operator.plan.facts import CONTAINER, LABEL_JOB_NAME, JobFacts, PodFacts, job_facts, pod_facts
from dbt_operator.pods.files import File, file_config_map
from dbt_operator.pods.images import Images
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.layers import layers_of
from dbt_operator.pods.record import attempt_record, checkpointing, parse_record, releasing, same_decision, sealing
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.runner_files import runner_config_map, runner_name, runners_of
from dbt_operator.pods.template import InvalidPodTemplate, in_users_words
from dbt_operator.reconcile.backend import Creation, Seen, StoredRecord, UnreadableRecordError
from dbt_operator.reconcile.connections import MissingConnectionError, profile_of_run
from dbt_operator.reconcile.later_pods import refusal_of_later_pods
from dbt_operator.reconcile.refusals import job_refusal_of
from dbt_operator.reconcile.run_key import RunKey
from dbt_operator.reconcile.state_source import MissingStateError, keep_state_files
from dbt_operator.reconcile.statuses import Statuses


@dataclass(slots=True)
class KubernetesBackend:
    """See `Backend`. The labels of `run` are those of the DbtRun as it was found last."""

    run: RunRef
    client: Client
    statuses: Statuses
    images: Images
    _seen_runners: set[str] = field(default_factory=set)  # of all Jobs so far: an older version may have made some

    @classmethod
    def of(cls, key: RunKey, *, client: Client, writer: StatusWriter, images: Images) -> Self:
        """That of a run which was not read yet."""
        run = RunRef(namespace=key.namespace, name=key.name, uid=key.uid, labels={})
        return cls(run=run, client=client, statuses=Statuses(run, writer), images=images)

    def now(self) -> datetime:
        """The time as the API server has it."""
        return self.client.now()

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
        return await self.client.list(resource=DBT_RUNS, namespace=self.run.namespace, labels=labels)

    async def find_defaults(self) -> Object | None:
        """Read the ConfigMap."""
        return await self._find(CONFIG_MAPS, names.DEFAULTS)

    async def delete_run(self, *, version: str) -> None:
        """Delete the DbtRun; the garbage collector deletes what it owns."""
        run = self.run
        await self.client.delete(
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
        await self.client.record_event(regarding=regarding, kind=kind, reason=reason, message=message, key=key)

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

    async def store_end(self, index: int, sealed: Sealed, *, version: str) -> StoredRecord:
        """Annotate its ConfigMap, and put the state into it."""
        return await self._patch_record(index, sealing(sealed, version=version))

    async def _patch_record(self, index: int, patch: Mapping[str, Any]) -> StoredRecord:
        name = names.attempt_record_name(self.run.name, index=index)
        return _stored(await self._patch(CONFIG_MAPS, name, patch))

    # attempts

    async def look(self) -> Seen:
        """List the Jobs and pods."""
        jobs = await self._mine(JOBS)
        pods = _by_job(await self._mine(PODS))
        self._seen_runners.update(name for job in jobs for name in runners_of(job))
        return Seen(
            jobs={job["metadata"]["name"]: await self._job_facts(job, pods=pods) for job in jobs},
            pods={name: tuple([await self._pod_facts(pod) for pod in several]) for name, several in pods.items()},
        )

    async def _job_facts(self, job: Object, *, pods: Container[str]) -> JobFacts:
        facts = job_facts(job)
        if job["metadata"]["name"] in pods or facts.complete or facts.failed is not None:
            return facts
        return job_facts(job, events=await self._events_about(job))

    async def _pod_facts(self, pod: Object) -> PodFacts:
        facts = pod_facts(pod)
        if facts.has_started or facts.ended or facts.held:
            return facts
        return pod_facts(pod, events=await self._events_about(pod))

    async def _events_about(self, obj: Object) -> list[Object]:
        """Events about an object, oldest first: some obstacles are told nowhere else."""
        metadata = obj["metadata"]
        fields = f"involvedObject.uid={metadata['uid']}"
        found = await self.client.list(resource=EVENTS, namespace=metadata["namespace"], fields=fields)
        return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    async def create_attempt(self, decision: Decision, *, spec: DbtRunSpec) -> Creation:
        """Create its Job, and before that the ConfigMaps that its pod mounts: runner, profile, state files.

        Taking the step twice is harmless: names are deterministic, and what exists and is ours is adopted.
        """
        job: Mapping[str, Any] = {}
        try:
            profile = await profile_of_run(spec.profile, run=self.run, client=self.client)
            await keep_state_files(spec, run=self.run, client=self.client)
            job = attempt_job(run=self.run, spec=spec, decision=decision, images=self.images, profile=profile)
            if decision.index == 1:
                later = await refusal_of_later_pods(
                    spec, run=self.run, client=self.client, images=self.images, profile=profile
                )
                if later is not None:
                    return Creation(refusal=later)
            await self._create_or_adopt(CONFIG_MAPS, runner_config_map(self.run))
            # Strictly: a field of the user's that Kubernetes does not know would vanish, and with it a limit or a
            # selector.
            await self._create_or_adopt(JOBS, job, strict=True)
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

    async def start_pod(self, pod: PodFacts) -> None:
        """Remove our gate of the pod."""
        gates = [{"name": one} for one in pod.other_gates]
        await self._patch(PODS, pod.name, {"metadata": {"uid": pod.uid}, "spec": {"schedulingGates": gates}})

    async def stop_attempt(self, name: str) -> None:
        """Delete its Job, and with it the pod."""
        await self.client.delete(resource=JOBS, namespace=self.run.namespace, name=name)

    async def follow_log(
        self,
        pod: PodFacts,
        *,
        since: datetime | None,
        sink: Sink,
        caught_up: Callable[[], None],
        stalled: Callable[[str | None], None],
    ) -> Ended:
        """Follow the log of its container dbt."""
        return await follow(
            client=self.client,
            namespace=self.run.namespace,
            pod=pod.name,
            pod_uid=pod.uid,
            container=CONTAINER,
            since=since,
            sink=sink,
            caught_up=caught_up,
            stalled=stalled,
        )

    # files

    @property
    def runners(self) -> frozenset[str]:
        """That of this version, and those that Jobs have mounted."""
        return frozenset((runner_name(self.run), *self._seen_runners))

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
        await self.client.delete(resource=CONFIG_MAPS, namespace=self.run.namespace, name=name, uid=uid)

    # the API

    async def _find(self, resource: Resource, name: str) -> Object | None:
        return await self.client.find(resource=resource, namespace=self.run.namespace, name=name)

    async def _find_mine(self, name: str) -> Object | None:
        found = await self._find(CONFIG_MAPS, name)
        return found if found is not None and self.run.uid in owner_uids(found) else None

    async def _mine(self, resource: Resource) -> list[Object]:
        mine = {names.LABEL_RUN_UID: self.run.uid}
        return await self.client.list(resource=resource, namespace=self.run.namespace, labels=mine)

    async def _create_or_adopt(
        self, resource: Resource, manifest: Mapping[str, Any], *, strict: bool = False
    ) -> tuple[Object, bool]:
        return await self.client.create_or_adopt(
            resource=resource, manifest=manifest, owner_uid=self.run.uid, strict=strict
        )

    async def _patch(self, resource: Resource, name: str, patch: Mapping[str, Any], *, retry: bool = True) -> Object:
        return await self.client.patch(
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


def _by_job(pods: Iterable[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
        found.setdefault(pod["metadata"]["labels"].get(LABEL_JOB_NAME, ""), []).append(pod)
    return found


def _refused(reason: RunReason, message: str) -> Creation:
    return Creation(refusal=Refusal(reason, message))
