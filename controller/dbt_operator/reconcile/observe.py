"""One look at the cluster: what it shows of a run, as facts."""

from dataclasses import dataclass
from datetime import timedelta

from dbt_operator.api import names
from dbt_operator.api.spec import DbtRunSpec, InvalidSpec, parse_run_spec
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import DBT_RUNS, EVENTS, JOBS, PODS, Object
from dbt_operator.plan.facts import JobFacts, PodFacts, job_facts, pod_facts
from dbt_operator.plan.run import Rules
from dbt_operator.pods.job import RunRef
from dbt_operator.reconcile.manager import RunKey
from dbt_operator.reconcile.objects import RunRecord, run_record


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one look at the cluster showed of a run."""

    run: Object
    record: RunRecord
    spec: DbtRunSpec | None
    invalid: str | None
    job: JobFacts | None
    pod: PodFacts | None

    @property
    def generation(self) -> int:
        """The generation of the run that this look has seen."""
        generation: int = self.run["metadata"]["generation"]
        return generation

    @property
    def ref(self) -> RunRef:
        """The run's identity, for its children."""
        metadata = self.run["metadata"]
        return RunRef(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            labels=metadata.get("labels") or {},
        )

    def rules(self, *, start_deadline: timedelta) -> Rules:
        """What the spec asks for, with the administrator's start deadline where it is silent."""
        spec = self.spec
        if spec is None:
            return Rules(start_deadline=start_deadline)
        own = spec.producer.start_deadline_seconds if spec.producer is not None else None
        return Rules(
            start_deadline=_seconds(own) or start_deadline,
            active_deadline=_seconds(spec.active_deadline_seconds),
            ttl=_seconds(spec.ttl_seconds_after_finished),
            cancel=spec.cancel,
        )


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


async def observe(*, client: Client, key: RunKey) -> Cluster | None:
    """What the cluster shows; None when the run is gone or going: Kubernetes deletes what belongs to it."""
    run = await client.find(resource=DBT_RUNS, namespace=key.namespace, name=key.name)
    if run is None or run["metadata"]["uid"] != key.uid or "deletionTimestamp" in run["metadata"]:
        return None
    mine = {names.LABEL_RUN_UID: key.uid}
    jobs = await client.list(resource=JOBS, namespace=key.namespace, labels=mine)
    pods = await client.list(resource=PODS, namespace=key.namespace, labels=mine)
    newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    spec, invalid = _parse(run)
    return Cluster(
        run=run,
        record=run_record(run),
        spec=spec,
        invalid=invalid,
        job=await _job_facts(client, jobs[0], alone=newest is None) if jobs else None,
        pod=await _pod_facts(client, newest) if newest is not None else None,
    )


def _parse(run: Object) -> tuple[DbtRunSpec | None, str | None]:
    try:
        return parse_run_spec(run["spec"]), None
    except InvalidSpec as error:
        return None, str(error)


async def _job_facts(client: Client, job: Object, *, alone: bool) -> JobFacts:
    return job_facts(job, events=await _events_about(client, job) if alone else [])


async def _pod_facts(client: Client, pod: Object) -> PodFacts:
    facts = pod_facts(pod)
    if facts.has_started or facts.over:
        return facts
    return pod_facts(pod, events=await _events_about(client, pod))


async def _events_about(client: Client, obj: Object) -> list[Object]:
    """Events about an object, oldest first: some obstacles are told nowhere else."""
    metadata = obj["metadata"]
    fields = f"involvedObject.uid={metadata['uid']}"
    found = await client.list(resource=EVENTS, namespace=metadata["namespace"], fields=fields)
    return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
