"""One look at the cluster: what it shows of a run, as facts."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from dbt_operator.api import names
from dbt_operator.api.spec import DbtRunSpec, Downstream, InvalidSpec, parse_run_spec
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import DBT_RUNS, EVENTS, JOBS, PODS, Object
from dbt_operator.plan.facts import JobFacts, PodFacts, job_facts, pod_facts
from dbt_operator.plan.repair import RetryRules
from dbt_operator.plan.run import Rules
from dbt_operator.pods.job import grace_seconds
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.manager import RunKey
from dbt_operator.reconcile.run_status import RunRecord, run_record

LABEL_JOB_NAME = "batch.kubernetes.io/job-name"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one look at the cluster showed of a run."""

    run: Object
    record: RunRecord
    spec: DbtRunSpec | None
    invalid: str | None
    jobs: Mapping[str, JobFacts]  # by name
    pods: Mapping[str, tuple[PodFacts, ...]]  # by the name of their Job, the newest last

    @property
    def generation(self) -> int:
        """The generation of the run that this look has seen."""
        generation: int = self.run["metadata"]["generation"]
        return generation

    @property
    def ref(self) -> RunRef:
        """The run's identity, for its children."""
        return run_ref(self.run)

    @property
    def token(self) -> str | None:
        """The token of the retry of the whole run that a person asks for."""
        return names.retry_token(self.run["metadata"])

    def rules(self, *, start_deadline: timedelta) -> Rules:
        """What the spec asks for, with the administrator's start deadline where it is silent."""
        spec = self.spec
        if spec is None:  # whatever else is wrong with it, it is not to be kept for ever
            return Rules(start_deadline=start_deadline, ttl=_seconds(self.run["spec"].get("ttlSecondsAfterFinished")))
        return Rules(
            start_deadline=_seconds(spec.producer.start_deadline_seconds) or start_deadline,
            active_deadline=_seconds(spec.active_deadline_seconds),
            ttl=_seconds(spec.ttl_seconds_after_finished),
            cancel=spec.cancel,
            suspend=spec.suspend,
            retry=_retry_rules(spec),
        )


def _retry_rules(spec: DbtRunSpec) -> RetryRules:
    retry = spec.retry
    return RetryRules(
        limit=retry.limit,
        reasons=frozenset(retry.reasons),
        first_wait=retry.backoff.duration,
        factor=retry.backoff.factor,
        longest_wait=retry.backoff.max,
        per_node=retry.downstream is Downstream.PER_NODE,
        parallelism=retry.parallelism,
        together=retry.together,
        concurrency=retry.concurrency_policy,
        max_restarts=spec.producer.max_restarts,
        fail_fast=bool(spec.fail_fast),
        grace=timedelta(seconds=grace_seconds(spec)),
    )


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


def run_ref(run: Object) -> RunRef:
    """The identity of a DbtRun, for its children."""
    metadata = run["metadata"]
    return RunRef(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        labels=metadata.get("labels") or {},
    )


async def find_run(*, client: Client, key: RunKey) -> Object | None:
    """The DbtRun; None when it is gone or going: Kubernetes deletes what belongs to it."""
    run = await client.find(resource=DBT_RUNS, namespace=key.namespace, name=key.name)
    if run is None or run["metadata"]["uid"] != key.uid or "deletionTimestamp" in run["metadata"]:
        return None
    return run


def unlisted(run: Object) -> Cluster:
    """The DbtRun alone, before its children are looked at."""
    spec, invalid = _parse(run)
    return Cluster(run=run, record=run_record(run), spec=spec, invalid=invalid, jobs={}, pods={})


async def observe(*, client: Client, known: Cluster) -> Cluster:
    """What the cluster shows of a DbtRun, besides the run itself."""
    run = known.run
    namespace, mine = run["metadata"]["namespace"], {names.LABEL_RUN_UID: run["metadata"]["uid"]}
    jobs = await client.list(resource=JOBS, namespace=namespace, labels=mine)
    pods = _by_job(await client.list(resource=PODS, namespace=namespace, labels=mine))
    return replace(
        known,
        jobs={job["metadata"]["name"]: await _job_facts(client, job, pods=pods) for job in jobs},
        pods={name: tuple([await _pod_facts(client, pod) for pod in several]) for name, several in pods.items()},
    )


def _by_job(pods: Iterable[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
        found.setdefault(pod["metadata"]["labels"].get(LABEL_JOB_NAME, ""), []).append(pod)
    return found


def _parse(run: Object) -> tuple[DbtRunSpec | None, str | None]:
    try:
        return parse_run_spec(run["spec"]), None
    except InvalidSpec as error:
        return None, str(error)


async def _job_facts(client: Client, job: Object, *, pods: Container[str]) -> JobFacts:
    facts = job_facts(job)
    if job["metadata"]["name"] in pods or facts.complete or facts.failed is not None:
        return facts
    return job_facts(job, events=await _events_about(client, job))


async def _pod_facts(client: Client, pod: Object) -> PodFacts:
    facts = pod_facts(pod)
    if facts.has_started or facts.over or facts.held:
        return facts
    return pod_facts(pod, events=await _events_about(client, pod))


async def _events_about(client: Client, obj: Object) -> list[Object]:
    """Events about an object, oldest first: some obstacles are told nowhere else."""
    metadata = obj["metadata"]
    fields = f"involvedObject.uid={metadata['uid']}"
    found = await client.list(resource=EVENTS, namespace=metadata["namespace"], fields=fields)
    return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
