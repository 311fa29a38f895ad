"""The loop of one run: observe, reduce, plan, act, again and again until nothing is left to do.

Each turn looks at what is there and decides anew, so it does not matter what woke it: a watch event, lines of the log
or the clock. Cluster facts are read again only when a watch event or the clock says that they may have changed; a
batch of log lines costs no request besides the statuses it changes.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from dbt_operator.api import names
from dbt_operator.api.conditions import Condition, run_conditions
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import DbtRunSpec, InvalidSpec, parse_run_spec
from dbt_operator.api.values import format_time
from dbt_operator.dbt.view import NodeView
from dbt_operator.kube.client import ApiError, Client, NameConflictError
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_RUNS, EVENTS, JOBS, PODS, Object
from dbt_operator.kube.writer import Problem, StatusWriter
from dbt_operator.metrics import RUN_DURATION
from dbt_operator.plan.attempt import Attempt, LogFacts, Refusal
from dbt_operator.plan.facts import JobFacts, PodFacts, job_facts, pod_facts
from dbt_operator.plan.run import Observation, Plan, Rules, plan_run
from dbt_operator.pods.job import RunRef, producer_job, runner_config_map
from dbt_operator.pods.template import InvalidPodTemplate
from dbt_operator.reconcile.follower import Follower
from dbt_operator.reconcile.manager import RunKey
from dbt_operator.reconcile.models import Models
from dbt_operator.reconcile.objects import RunRecord, run_record, run_status

_log = structlog.get_logger(__name__)

_NODE_EVENTS = 20
_STATUS_SECONDS = 0.2  # between looks at all nodes for the run's counts; how often they are sent is the writer's
_FLUSH_SECONDS = 60.0
_OBSTACLES = frozenset({RunReason.FORBIDDEN, RunReason.QUOTA_EXCEEDED, RunReason.PULLING_IMAGE})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # between turns that the API server did not allow


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What one look at the cluster showed of a run."""

    run: Object
    record: RunRecord
    spec: DbtRunSpec | None
    invalid: str | None
    job: JobFacts | None
    pod: PodFacts | None


class RunLoop:
    """Reconciles one DbtRun."""

    def __init__(self, *, key: RunKey, client: Client, writer: StatusWriter, start_deadline: timedelta) -> None:
        self._key = key
        self._producer = names.producer_job_name(key.name, number=1)
        self._client, self._writer, self._start_deadline = client, writer, start_deadline
        self._changed = asyncio.Event()  # anything: take a turn
        self._stale = True  # the cluster's facts may have changed: read them again
        self._look_again = datetime.min.replace(tzinfo=UTC)
        self._cluster: _Cluster | None = None
        self._models: Models | None = None
        self._follower: Follower | None = None
        self._refusal: Refusal | None = None
        self._announced: tuple[RunPhase, RunReason] | None = None
        self._failed_nodes = 0
        self._conditions: tuple[Condition, ...] | None = None  # as last written
        self._status_written = datetime.min.replace(tzinfo=UTC)
        self._background: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look again at what the cluster shows."""
        self._stale = True
        self._changed.set()

    async def run(self) -> None:
        """Reconcile until nothing is left to do, or the run is gone."""
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    if not await self._turn():
                        return
                    pause = _FIRST_PAUSE
                except ApiError as error:
                    if not (error.transient or error.forbidden):
                        raise
                    _log.warning("the API server could not be used", error=str(error), pause=pause)
                    await self._tell_forbidden(error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    self.wake()
        finally:
            if self._follower is not None:
                await self._follower.stop()

    async def _turn(self) -> bool:
        """One turn; whether there may be another."""
        self._changed.clear()
        now = datetime.now(UTC)
        if self._stale or now >= self._look_again:
            self._stale = False
            self._cluster = await self._observe()
        if self._cluster is None:
            self._writer.forget(run=self._key.uid)
            return False
        plan = plan_run(self._observation(self._cluster, now=now))
        self._look_again = plan.wake_at
        await self._act(plan, cluster=self._cluster, now=now)
        if plan.phase.terminal:
            await self._writer.flush(run=self._key.uid, within=_FLUSH_SECONDS)
        if plan.done:
            return False
        await self._rest(until=plan.wake_at)
        return True

    async def _rest(self, *, until: datetime) -> None:
        seconds = (until - datetime.now(UTC)).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return

    # observe

    async def _observe(self) -> _Cluster | None:
        """What the cluster shows; None when the run is gone or going: Kubernetes deletes what belongs to it."""
        run = await self._client.find(resource=DBT_RUNS, namespace=self._key.namespace, name=self._key.name)
        if run is None or run["metadata"]["uid"] != self._key.uid or "deletionTimestamp" in run["metadata"]:
            return None
        mine = {names.LABEL_RUN_UID: self._key.uid}
        jobs = await self._client.list(resource=JOBS, namespace=self._key.namespace, labels=mine)
        pods = await self._client.list(resource=PODS, namespace=self._key.namespace, labels=mine)
        job = await self._job_facts(jobs[0], alone=not pods) if jobs else None
        newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
        pod = await self._pod_facts(newest) if newest is not None else None
        await self._prepare(run, pod=pod)
        spec, invalid = _parse(run)
        return _Cluster(run=run, record=run_record(run), spec=spec, invalid=invalid, job=job, pod=pod)

    async def _job_facts(self, job: Object, *, alone: bool) -> JobFacts:
        events = await self._events_about(job["metadata"]["uid"]) if alone else []
        return job_facts(job, events=events)

    async def _pod_facts(self, pod: Object) -> PodFacts:
        facts = pod_facts(pod)
        if facts.has_started or facts.over:
            return facts
        return pod_facts(pod, events=await self._events_about(facts.uid))

    async def _events_about(self, uid: str) -> list[Object]:
        """Events about an object, oldest first: some obstacles are told nowhere else."""
        fields = f"involvedObject.uid={uid}"
        found = await self._client.list(resource=EVENTS, namespace=self._key.namespace, fields=fields)
        return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    async def _prepare(self, run: Object, *, pod: PodFacts | None) -> None:
        """Begin to follow what the cluster shows to be there."""
        if run_record(run).ended is not None:
            return
        if self._models is None:
            self._models = Models(
                run=_ref(run), client=self._client, writer=self._writer, failed=self._announce_failed_node
            )
            await self._models.load()
            self._writer.known(run=self._key.uid, resource=DBT_RUNS, obj=run)
            self._announced = _told(run)
        if pod is not None and (pod.has_started or pod.over) and self._follower is None:
            self._follower = Follower(
                client=self._client,
                namespace=self._key.namespace,
                pod=pod.name,
                pod_uid=pod.uid,
                changed=self._changed.set,
            )
            self._follower.start()

    def _observation(self, cluster: _Cluster, *, now: datetime) -> Observation:
        producer = Attempt(
            name=self._producer,
            job=cluster.job,
            pod=cluster.pod,
            log=self._follower.facts() if self._follower is not None else LogFacts(),
            refusal=self._refusal,
            created=self._producer in cluster.record.attempts,
        )
        return Observation(
            now=now,
            attempts=(producer,),
            started=cluster.record.start_time is not None,
            rules=_rules(cluster.spec, start_deadline=self._start_deadline),
            active_since=(cluster.pod.started if cluster.pod else None) or cluster.record.active_since,
            invalid=cluster.invalid,
            ended=cluster.record.ended,
            ended_at=cluster.record.completion_time,
        )

    # act

    async def _act(self, plan: Plan, *, cluster: _Cluster, now: datetime) -> None:
        if cluster.record.ended is None:
            if plan.start:
                await self._mark_started(cluster, now=now)
                return
            if self._producer in plan.create:
                await self._create_producer(cluster)
            await self._show(plan, cluster=cluster, now=now)
        for job in plan.stop:
            await self._writer.flush(run=self._key.uid, within=_FLUSH_SECONDS)
            await self._client.delete(resource=JOBS, namespace=self._key.namespace, name=job)
            self.wake()
        if plan.expire:
            _log.info("the run has expired")
            await self._client.delete(
                resource=DBT_RUNS, namespace=self._key.namespace, name=self._key.name, uid=self._key.uid
            )
            self.wake()

    async def _mark_started(self, cluster: _Cluster, *, now: datetime) -> None:
        """Close the spec against changes, before anything is made from it.

        The resource version makes the server refuse when somebody has changed the run since we have read it. Either
        way the next turn reads the run again, and goes on with the spec that is closed.
        """
        metadata = {"resourceVersion": cluster.run["metadata"]["resourceVersion"]}
        status = {"startTime": format_time(now), "observedGeneration": cluster.run["metadata"]["generation"]}
        self.wake()
        try:
            await self._client.patch(
                resource=DBT_RUNS,
                namespace=self._key.namespace,
                name=self._key.name,
                patch={"metadata": metadata, "status": status},
                subresource="status",
            )
        except ApiError as error:
            if not error.conflict:
                raise

    async def _create_producer(self, cluster: _Cluster) -> None:
        assert cluster.spec is not None  # noqa: S101 - the planner creates nothing for an invalid spec
        run = _ref(cluster.run)
        try:
            job = producer_job(run=run, spec=cluster.spec, number=1)
            await self._client.create_or_adopt(resource=CONFIG_MAPS, manifest=runner_config_map(run), owner_uid=run.uid)
            await self._client.create_or_adopt(resource=JOBS, manifest=job, owner_uid=run.uid)
            self._refusal = None
            _log.info("created an attempt", job=self._producer)
        except InvalidSpec as error:
            self._refusal = Refusal(RunReason.INVALID_SPEC, str(error))
        except InvalidPodTemplate as error:
            self._refusal = Refusal(RunReason.INVALID_POD_TEMPLATE, str(error))
        except NameConflictError as error:
            if error.stale:
                return  # of an earlier run of this name, about to be deleted with it: the next turn tries again
            self._refusal = Refusal(RunReason.NAME_CONFLICT, f"{error}: delete or rename it, and create the run anew.")
        except ApiError as error:
            refusal = _refusal(error)
            if error.namespace_terminating:
                return  # the run is about to be deleted with its namespace
            if refusal is None:
                raise
            self._refusal = refusal
            _log.warning("an attempt was refused", job=self._producer, error=str(error))
        self.wake()

    async def _show(self, plan: Plan, *, cluster: _Cluster, now: datetime) -> None:
        models, last = self._models, plan.assessments[-1]
        assert models is not None  # noqa: S101 - loaded with the first observation of a live run
        live = self._follower is not None and self._follower.caught_up
        if live or plan.phase.terminal:
            models.show(state=last.state, job=last.attempt.name)
        told = (plan.phase, plan.reason)
        if self._announced == told and now - self._status_written < timedelta(seconds=_STATUS_SECONDS):
            self._look_again = min(self._look_again, now + timedelta(seconds=_STATUS_SECONDS))
            return
        if not live and self._follower is not None and not plan.phase.terminal:
            return  # what is known is of a moment in the past
        if plan.phase.terminal:
            # Whoever waits for the run's end reads the nodes next.
            await self._writer.flush(run=self._key.uid, within=_FLUSH_SECONDS)
        self._write_status(plan, cluster=cluster, views=models.views, now=now)

    def _write_status(self, plan: Plan, *, cluster: _Cluster, views: dict[str, NodeView], now: datetime) -> None:
        status = run_status(
            plan=plan,
            record=cluster.record,
            conditions=cluster.record.conditions if self._conditions is None else self._conditions,
            views=views,
            generation=cluster.run["metadata"]["generation"],
            now=now,
        )
        self._status_written, self._conditions = now, status.conditions
        self._writer.submit(
            run=self._key.uid,
            resource=DBT_RUNS,
            namespace=self._key.namespace,
            name=self._key.name,
            status=status.to_dict(),
            terminal=plan.phase.terminal,
            event_time=plan.assessments[-1].state.last_ts if plan.phase is RunPhase.RUNNING else None,
        )
        self._announce(plan, cluster=cluster, now=now)

    # tell

    async def _tell_forbidden(self, error: ApiError) -> None:
        """Say on the run that the operator's own rights do not suffice: only a person can change that."""
        if not error.forbidden or self._cluster is None:
            return
        message = f"The operator lacks a right: {error.message}"
        conditions = run_conditions(
            phase=RunPhase.PENDING,
            reason=RunReason.FORBIDDEN,
            message=message,
            now=datetime.now(UTC),
            generation=self._cluster.run["metadata"]["generation"],
            previous=self._conditions or self._cluster.record.conditions,
        )
        self._announced = None
        patch = {
            "reason": RunReason.FORBIDDEN.value,
            "message": message,
            "conditions": [c.to_dict() for c in conditions],
        }
        try:
            await self._client.patch(
                resource=DBT_RUNS,
                namespace=self._key.namespace,
                name=self._key.name,
                patch={"status": patch},
                subresource="status",
            )
        except ApiError as second:
            _log.warning("could not say so on the run", error=str(second))

    def _announce(self, plan: Plan, *, cluster: _Cluster, now: datetime) -> None:
        """Post an Event and log a line at each transition."""
        told = (plan.phase, plan.reason)
        if self._announced == told:
            return
        before, self._announced = self._announced, told
        bad = plan.phase is RunPhase.FAILED or plan.reason in _OBSTACLES
        _log.info("the run moved", phase=plan.phase.value, reason=plan.reason.value, message=plan.message)
        if bad or before is None or before[0] is not plan.phase or plan.reason is RunReason.EXECUTING:
            # The small steps of a pod's start are told by the pod's own Events.
            self._post(kind="Warning" if bad else "Normal", reason=plan.reason.value, message=plan.message)
        if plan.phase.terminal:
            started = cluster.record.start_time or now
            RUN_DURATION.labels(status=plan.phase.value).observe((now - started).total_seconds())

    def problem(self, problem: Problem) -> None:
        """The writer could not store something of this run: say so where its user looks."""
        what = f"{problem.resource.kind} {problem.name}"
        self._post(kind="Warning", reason="WriteFailed", message=f"The status of {what} is not stored: {problem.error}")

    def _announce_failed_node(self, view: NodeView) -> None:
        self._failed_nodes += 1
        _log.info("a node failed", node=view.unique_id, reason=view.reason)
        if self._failed_nodes <= _NODE_EVENTS:
            more = " (no Events for further nodes of this run)" if self._failed_nodes == _NODE_EVENTS else ""
            self._post(kind="Warning", reason="NodeFailed", message=f"{view.name}: {view.message}{more}")

    def _post(self, *, kind: Any, reason: str, message: str) -> None:
        assert self._cluster is not None  # noqa: S101 - there is nothing to tell before the first look
        self._later(self._client.record_event(regarding=self._cluster.run, kind=kind, reason=reason, message=message))

    def _later(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _ref(run: Object) -> RunRef:
    metadata = run["metadata"]
    return RunRef(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        labels=metadata.get("labels") or {},
    )


def _parse(run: Object) -> tuple[DbtRunSpec | None, str | None]:
    try:
        return parse_run_spec(run["spec"]), None
    except InvalidSpec as error:
        return None, str(error)


def _rules(spec: DbtRunSpec | None, *, start_deadline: timedelta) -> Rules:
    """What the spec says, and the administrator's default where it is silent."""
    if spec is None:
        return Rules(start_deadline=start_deadline)
    own = spec.producer.start_deadline_seconds if spec.producer is not None else None
    return Rules(
        start_deadline=start_deadline if own is None else timedelta(seconds=own),
        active_deadline=_seconds(spec.active_deadline_seconds),
        ttl=_seconds(spec.ttl_seconds_after_finished),
        cancel=spec.cancel,
    )


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


def _told(run: Object) -> tuple[RunPhase, RunReason] | None:
    """The transition that the stored status has: it was announced by whoever stored it."""
    status = run.get("status") or {}
    try:
        return RunPhase(status["phase"]), RunReason(status["reason"])
    except (KeyError, ValueError):
        return None


def _refusal(error: ApiError) -> Refusal | None:
    """What a refused creation means for the run; None where only another try can tell."""
    if error.quota_exceeded:
        return Refusal(RunReason.QUOTA_EXCEEDED, f"The run waits for quota: {error.message}")
    if error.forbidden:
        return Refusal(RunReason.FORBIDDEN, f"The operator lacks a right: {error.message}")
    if error.denied:
        return Refusal(RunReason.ADMISSION_DENIED, f"The cluster's policy refuses the run's Job: {error.message}")
    if error.too_large:
        return Refusal(RunReason.INVALID_SPEC, f"The run's Job would be too large: {error.message}")
    if error.invalid:
        return Refusal(
            RunReason.INVALID_POD_TEMPLATE, f"Kubernetes refuses the Job made with spec.podTemplate: {error.message}"
        )
    return None
