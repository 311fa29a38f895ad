"""The loop of one run: observe, reduce, plan, act, again and again until nothing is left to do.

Each turn looks at what is there and decides anew, so it does not matter what woke it: a watch event, lines of the log
or the clock. Cluster facts are read again only when a watch event or the clock says that they may have changed; a
batch of log lines costs no request besides the statuses it changes.
"""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from dbt_operator.api import names
from dbt_operator.api.conditions import Condition, run_conditions
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.values import format_time
from dbt_operator.dbt.view import NodeView
from dbt_operator.kube.client import ApiError, Client
from dbt_operator.kube.resources import DBT_RUNS, JOBS, Object
from dbt_operator.kube.writer import Problem, StatusWriter
from dbt_operator.metrics import RUN_DURATION
from dbt_operator.plan.attempt import Attempt, LogFacts, Refusal
from dbt_operator.plan.run import Observation, Plan, plan_run
from dbt_operator.reconcile.creation import create_producer
from dbt_operator.reconcile.follower import Follower
from dbt_operator.reconcile.manager import RunKey
from dbt_operator.reconcile.models import Models
from dbt_operator.reconcile.objects import run_status
from dbt_operator.reconcile.observe import Cluster, observe

_log = structlog.get_logger(__name__)

_NODE_EVENTS = 20
# Between looks at all nodes for the run's counts; how often they are sent is the writer's.
_STATUS_INTERVAL = timedelta(milliseconds=200)
_FLUSH_SECONDS = 60.0
_OBSTACLES = frozenset({RunReason.FORBIDDEN, RunReason.QUOTA_EXCEEDED, RunReason.PULLING_IMAGE})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # between turns that the API server did not allow


class RunLoop:
    """Reconciles one DbtRun."""

    def __init__(self, *, key: RunKey, client: Client, writer: StatusWriter, start_deadline: timedelta) -> None:
        self._key = key
        self._producer = names.producer_job_name(key.name, number=1)
        self._client, self._writer, self._start_deadline = client, writer, start_deadline
        self._changed = asyncio.Event()  # anything: take a turn
        self._stale = True  # the cluster's facts may have changed: read them again
        self._look_again = datetime.min.replace(tzinfo=UTC)
        self._cluster: Cluster | None = None
        self._models: Models | None = None
        self._follower: Follower | None = None
        self._refusal: Refusal | None = None
        self._announced: tuple[RunPhase, RunReason] | None = None
        self._failed_nodes = 0
        self._conditions: tuple[Condition, ...] | None = None  # as last written
        self._status_written = datetime.min.replace(tzinfo=UTC)
        self._status_due: datetime | None = None  # the run's counts have changed and are written then
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
        self._status_due = None  # this turn writes it, or says anew when
        now = datetime.now(UTC)
        if self._stale or now >= self._look_again:
            self._stale = False
            self._cluster = await observe(client=self._client, key=self._key)
            if self._cluster is not None and self._cluster.record.ended is None:
                await self._prepare(self._cluster)
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
        await self._rest(until=plan.wake_at if self._status_due is None else min(plan.wake_at, self._status_due))
        return True

    async def _rest(self, *, until: datetime) -> None:
        seconds = (until - datetime.now(UTC)).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return

    # observe

    async def _prepare(self, cluster: Cluster) -> None:
        """Begin to show, and to follow, what the cluster shows to be there."""
        if self._models is None:
            self._models = Models(
                run=cluster.ref, client=self._client, writer=self._writer, failed=self._announce_failed_node
            )
            await self._models.load()
            self._writer.known(run=self._key.uid, resource=DBT_RUNS, obj=cluster.run)
            self._announced = _told(cluster.run)
        pod = cluster.pod
        if pod is not None and (pod.has_started or pod.over) and self._follower is None:
            self._follower = Follower(
                client=self._client,
                namespace=self._key.namespace,
                pod=pod.name,
                pod_uid=pod.uid,
                changed=self._changed.set,
            )
            self._follower.start()

    def _observation(self, cluster: Cluster, *, now: datetime) -> Observation:
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
            rules=cluster.rules(start_deadline=self._start_deadline),
            active_since=(cluster.pod.started if cluster.pod else None) or cluster.record.active_since,
            invalid=cluster.invalid,
            ended=cluster.record.ended,
            ended_at=cluster.record.completion_time,
        )

    # act

    async def _act(self, plan: Plan, *, cluster: Cluster, now: datetime) -> None:
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

    async def _mark_started(self, cluster: Cluster, *, now: datetime) -> None:
        """Close the spec against changes, before anything is made from it.

        The resource version makes the server refuse when somebody has changed the run since we have read it. Either
        way the next turn reads the run again, and goes on with the spec that is closed.
        """
        metadata = {"resourceVersion": cluster.run["metadata"]["resourceVersion"]}
        status = {"startTime": format_time(now), "observedGeneration": cluster.generation}
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

    async def _create_producer(self, cluster: Cluster) -> None:
        assert cluster.spec is not None  # noqa: S101 - the planner creates nothing for an invalid spec
        done = await create_producer(client=self._client, run=cluster.ref, spec=cluster.spec)
        if done.created:
            _log.info("created an attempt", job=self._producer)
        if done.refusal is not None and done.refusal != self._refusal:
            _log.warning("an attempt was refused", job=self._producer, message=done.refusal.message)
        if done.created or done.refusal != self._refusal:
            self.wake()  # the same refusal as before is tried again when the plan says so
        self._refusal = done.refusal

    async def _show(self, plan: Plan, *, cluster: Cluster, now: datetime) -> None:
        models, last = self._models, plan.assessments[-1]
        assert models is not None  # noqa: S101 - loaded with the first observation of a live run
        live = self._follower is not None and self._follower.caught_up
        if live or plan.phase.terminal:
            models.show(state=last.state, job=last.attempt.name)
        told = (plan.phase, plan.reason)
        if self._announced == told and now - self._status_written < _STATUS_INTERVAL:
            self._status_due = self._status_written + _STATUS_INTERVAL
            return
        if not live and self._follower is not None and not plan.phase.terminal:
            return  # what is known is of a moment in the past
        if plan.phase.terminal:
            # Whoever waits for the run's end reads the nodes next.
            await self._writer.flush(run=self._key.uid, within=_FLUSH_SECONDS)
        self._write_status(plan, cluster=cluster, views=models.views, now=now)

    def _write_status(self, plan: Plan, *, cluster: Cluster, views: dict[str, NodeView], now: datetime) -> None:
        status = run_status(
            plan=plan,
            record=cluster.record,
            conditions=cluster.record.conditions if self._conditions is None else self._conditions,
            views=views,
            generation=cluster.generation,
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
            generation=self._cluster.generation,
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

    def _announce(self, plan: Plan, *, cluster: Cluster, now: datetime) -> None:
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


def _told(run: Object) -> tuple[RunPhase, RunReason] | None:
    """The transition that the stored status has: it was announced by whoever stored it."""
    status = run.get("status") or {}
    try:
        return RunPhase(status["phase"]), RunReason(status["reason"])
    except (KeyError, ValueError):
        return None
