"""A run in a Kubernetes cluster: records are ConfigMaps, attempts are Jobs."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import structlog

from dbt_operator.api import names
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.client import Client
from dbt_operator.kube.logs import Ended, Sink, follow
from dbt_operator.kube.objects import Objects
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, EVENTS, JOBS, PODS, Object
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.plan.attempt import Refusal
from dbt_operator.plan.facts import CONTAINER, LABEL_JOB_NAME, JobFacts, PodFacts, job_facts, pod_facts
from dbt_operator.pods.images import Images
from dbt_operator.pods.profiles_yml import RenderedProfile
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.runner_files import runner_name, runners_of
from dbt_operator.reconcile.backend import Seen
from dbt_operator.reconcile.later_pods import refusal_of_later_pods
from dbt_operator.reconcile.object_backend import ObjectBackend
from dbt_operator.reconcile.run_key import RunKey
from dbt_operator.reconcile.statuses import Statuses

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class KubernetesBackend(ObjectBackend):
    """See `Backend`."""

    client: Client
    _seen_runners: set[str] = field(default_factory=set)  # of all Jobs so far: an older version may have made some

    @classmethod
    def of(
        cls, key: RunKey, *, client: Client, writer: StatusWriter, images: Images, most_models: int | None = None
    ) -> Self:
        """That of a run which was not read yet."""
        run = RunRef(namespace=key.namespace, name=key.name, uid=key.uid, labels={})
        return cls(run=run, client=client, statuses=Statuses(run, writer, most_models), images=images)

    @property
    def objects(self) -> Objects:
        """The API server."""
        return self.client

    async def may_delete_run(self, *, version: str) -> bool:
        """Ask the API server for it: also a policy may be in the way, or a right missing."""
        run = self.run
        return await self.client.delete(
            resource=DBT_RUNS, namespace=run.namespace, name=run.name, uid=run.uid, version=version, dry_run=True
        )

    async def delete_run(self, *, version: str) -> None:
        """Delete the DbtModels by one request, then the DbtRun.

        The garbage collector takes two requests for each, of the 40 in a second that it has for the whole cluster:
        with those of a large run it would have nothing left for others for minutes. What is left is its.
        """
        run = self.run
        try:
            await self.client.delete_all(
                resource=DBT_MODELS, namespace=run.namespace, labels={names.LABEL_RUN_UID: run.uid}
            )
        except ApiError as error:
            _log.info("the garbage collector deletes the DbtModels", error=str(error))
        await ObjectBackend.delete_run(self, version=version)

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

    async def _create_job(self, job: Mapping[str, Any]) -> None:
        # Strictly: a field of the user's that Kubernetes does not know would vanish, and with it a limit or a selector.
        await self._create_or_adopt(JOBS, job, strict=True)

    async def _refusal_of_later_pods(self, spec: DbtRunSpec, *, profile: RenderedProfile | None) -> Refusal | None:
        return await refusal_of_later_pods(spec, run=self.run, client=self.client, images=self.images, profile=profile)

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


def _by_job(pods: Iterable[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
        found.setdefault(pod["metadata"]["labels"].get(LABEL_JOB_NAME, ""), []).append(pod)
    return found
