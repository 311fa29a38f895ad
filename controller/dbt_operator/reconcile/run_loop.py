"""The loop of one run: observe, reduce, plan, act, again and again until nothing is left to do.

Each turn looks at what is there and decides anew, so it does not matter what woke it: a watch event, lines of the log
or the clock. Cluster facts are read again only when a watch event or the clock says that they may have changed; a
batch of log lines costs no request besides the statuses it changes.

The order of the actions is what makes a crash between any two of them harmless: the spec is closed before anything is
made from it, how an attempt ended is stored before anything follows from that, a decision is recorded before its Job
is created, and the end of the run is stored last.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from dbt_operator.api import names, status
from dbt_operator.api.conditions import Condition, run_conditions
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.values import format_time
from dbt_operator.dbt.view import NodeView
from dbt_operator.kube.client import ApiError, Client, NameConflictError
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, JOBS
from dbt_operator.kube.writer import Problem, StatusWriter
from dbt_operator.plan.attempt import Attempt, Decision, LogFacts, Refusal, Request, Sealed
from dbt_operator.plan.facts import PodFacts, pod_facts
from dbt_operator.plan.run import Observation, Plan, plan_run
from dbt_operator.reconcile.announce import Announcer
from dbt_operator.reconcile.creation import create_attempt, refusal_of
from dbt_operator.reconcile.follower import Follower
from dbt_operator.reconcile.keep import Keeper
from dbt_operator.reconcile.manager import RunKey
from dbt_operator.reconcile.models import Models
from dbt_operator.reconcile.observe import LABEL_JOB_NAME, Cluster, observe
from dbt_operator.reconcile.records import Records
from dbt_operator.reconcile.run_status import run_status

_log = structlog.get_logger(__name__)

# Between looks at all nodes for the run's counts; how often they are sent is the writer's.
_STATUS_INTERVAL = timedelta(milliseconds=200)
_FLUSH_SECONDS = 60.0
_RECORD_PAUSE = timedelta(seconds=1)
# Between turns that the API server did not allow. A short outage must not be slept past; a right has to be given first.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_REFUSED = 0.5, 5.0, 30.0


class RunLoop:
    """Reconciles one DbtRun."""

    def __init__(self, *, key: RunKey, client: Client, writer: StatusWriter, start_deadline: timedelta) -> None:
        self._key = key
        self._client, self._writer, self._start_deadline = client, writer, start_deadline
        self._changed = asyncio.Event()  # anything: take a turn
        self._stale = True  # the cluster's facts may have changed: read them again
        self._look_again = datetime.min.replace(tzinfo=UTC)
        self._cluster: Cluster | None = None
        self._records: Records | None = None
        self._models: Models | None = None
        self._keeper: Keeper | None = None
        self._followers: dict[str, Follower] = {}  # of the attempts that have not been sealed, by their Job
        self._gone_pods: dict[str, PodFacts] = {}  # as they were seen at last, by their Job
        self._refusals: dict[str, Refusal] = {}
        self._created: set[str] = set()  # Jobs that we have created, in case the status does not say so yet
        self._not_before = datetime.min.replace(tzinfo=UTC)  # when the next decision may be recorded
        self._conflict: str | None = None  # the name of a record is taken by somebody else's object
        self._handled: str | None = None  # the token of the last retry of the whole run that was handled
        self._asked: dict[str, str | None] = {}  # retries of nodes that were asked for before the DbtModels were read
        self._artifacts: status.RunArtifacts | None = None
        self._announcer = Announcer(client=client)
        self._conditions: tuple[Condition, ...] | None = None  # as last written
        self._status_written = datetime.min.replace(tzinfo=UTC)
        self._status_due: datetime | None = None  # the run's counts have changed and are written then

    def wake(self) -> None:
        """Look again at what the cluster shows."""
        self._stale = True
        self._changed.set()

    def pod_gone(self, pod: Mapping[str, Any]) -> None:
        """A pod of the run is gone. Its last state may never have been there when the loop looked."""
        job = pod["metadata"]["labels"].get(LABEL_JOB_NAME)
        if job is not None:
            self._gone_pods[job] = pod_facts(pod)

    def problem(self, problem: Problem) -> None:
        """The status writer could not store something of this run."""
        self._announcer.problem(problem)

    def asked(self, *, unique_id: str, token: str | None) -> None:
        """A DbtModel of the run says that a person asks for a retry of its node, or does not any more (None)."""
        self._asked[unique_id] = token
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
                    if not (error.transient or error.forbidden or error.quota_exceeded):
                        raise
                    _log.warning("the API server could not be used", error=str(error), pause=pause)
                    await self._tell_obstacle(error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE if error.transient else _LONGEST_REFUSED)
                    self.wake()
        finally:
            for follower in self._followers.values():
                await follower.stop()

    async def _turn(self) -> bool:
        """One turn; whether there may be another."""
        self._changed.clear()
        self._status_due = None  # this turn writes it, or says anew when
        now = self._client.now()
        if self._stale or now >= self._look_again:
            self._stale = False
            before, self._cluster = self._cluster, await observe(client=self._client, key=self._key)
            if self._cluster is not None:
                self._miss(before, self._cluster)
                await self._prepare(self._cluster)
                self._cluster = self._reopened(self._cluster)
        if self._cluster is None:
            self._writer.forget(run=self._key.uid)
            return False
        plan = await self._planned(self._cluster, now=now)
        self._look_again = plan.wake_at
        await self._act(plan, cluster=self._cluster, now=now)
        stored = plan.phase.terminal and await self._writer.flush(run=self._key.uid, within=_FLUSH_SECONDS)
        if plan.done and not self._stale:
            if stored:
                # What the writer remembers it would restore, should anybody write to an ended run: a retry asked for.
                self._writer.forget(run=self._key.uid)
            return False
        due = [plan.wake_at]
        if self._status_due is not None:
            due.append(self._status_due)
        if self._not_before > now:
            due.append(self._not_before)
            self._stale = True
        await self._rest(until=min(due))
        return True

    async def _rest(self, *, until: datetime) -> None:
        seconds = (until - self._client.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return

    # observe

    async def _prepare(self, cluster: Cluster) -> None:
        """Begin to show, and to follow, what the cluster shows to be there."""
        self._announcer.look(cluster.run)
        if self._records is None:
            self._records = Records(run=cluster.ref, client=self._client)
        await self._records.refresh(ended=cluster.record.ended is not None)
        self._announcer.unreadable_record(self._records.unreadable)
        if self._models is None:
            await self._remember(cluster)
        for decision, sealed in self._records.all():
            await self._follow(decision, sealed, cluster=cluster)

    def _miss(self, before: Cluster | None, after: Cluster) -> None:
        """Remember the pods that are gone since the last look, where the watch has not told in what state they went."""
        for job, pod in (before.pods if before is not None else {}).items():
            if job not in after.pods:
                self._gone_pods.setdefault(job, pod)

    def _reopened(self, cluster: Cluster) -> Cluster:
        """The cluster with a run that lives again, where a retry was decided on after its status said that it ended."""
        assert self._records is not None  # noqa: S101 - there since the first look
        known = self._records.all()
        if cluster.record.ended is None or not known or known[-1][0].name in cluster.record.attempts:
            return cluster
        return replace(cluster, record=replace(cluster.record, ended=None, completion_time=None))

    async def _remember(self, cluster: Cluster) -> None:
        """Read what a controller before this one has left."""
        models = Models(run=cluster.ref, client=self._client, writer=self._writer, failed=self._announcer.node_failed)
        await models.load(first_job=names.producer_job_name(self._key.name, number=1))
        self._models = models
        self._keeper = Keeper(run=cluster.ref, client=self._client)
        self._writer.known(run=self._key.uid, resource=DBT_RUNS, obj=cluster.run)
        self._handled = cluster.record.handled_retry

    async def _follow(self, decision: Decision, sealed: Sealed | None, *, cluster: Cluster) -> None:
        name = decision.name
        pod = cluster.pods.get(name)
        follower = self._followers.get(name)
        if follower is not None and (sealed is not None or (pod is not None and pod.uid != follower.pod_uid)):
            # Another pod: the Job was deleted, and made anew by a controller that could not know that it had existed.
            await follower.stop()
            del self._followers[name]
            follower = None
        if follower is None and sealed is None and pod is not None and (pod.has_started or pod.over):
            self._followers[name] = Follower(
                client=self._client,
                namespace=self._key.namespace,
                pod=pod.name,
                pod_uid=pod.uid,
                changed=self._changed.set,
            )
            self._followers[name].start()

    async def _planned(self, cluster: Cluster, *, now: datetime) -> Plan:
        """The plan, once the end of every attempt that has ended is stored."""
        plan = plan_run(self._observation(cluster, now=now))
        while plan.seal:
            assert self._records is not None  # noqa: S101 - it is there since the first look
            for assessment in plan.seal:
                await self._keep_artifacts()
                await self._records.seal(assessment)
                _log.info("an attempt has ended", job=assessment.attempt.name, reason=assessment.reason.value)
            for decision, sealed in self._records.all():
                await self._follow(decision, sealed, cluster=cluster)
            plan = plan_run(self._observation(cluster, now=now))
        return plan

    def _observation(self, cluster: Cluster, *, now: datetime) -> Observation:
        assert self._records is not None and self._models is not None  # noqa: S101, PT018 - there since the first look
        for unique_id, token in self._asked.items():
            self._models.asked(unique_id=unique_id, token=token)
        self._asked.clear()
        known = self._records.all()
        return Observation(
            run=self._key.name,
            now=now,
            attempts=tuple(self._attempt(decision, sealed, cluster=cluster) for decision, sealed in known),
            started=cluster.record.start_time is not None,
            rules=cluster.rules(start_deadline=self._start_deadline),
            requests=self._requests(cluster),
            invalid=cluster.invalid or self._conflict,
            invalid_reason=RunReason.INVALID_SPEC if cluster.invalid else RunReason.NAME_CONFLICT,
            ended=cluster.record.ended,
            ended_at=cluster.record.completion_time,
        )

    def _requests(self, cluster: Cluster) -> tuple[Request, ...]:
        assert self._models is not None  # noqa: S101 - there since the first look
        run = cluster.token
        whole = [Request(token=run)] if run is not None and run != self._handled else []
        return (*whole, *self._models.open_requests())

    def _attempt(self, decision: Decision, sealed: Sealed | None, *, cluster: Cluster) -> Attempt:
        name = decision.name
        before = cluster.record.attempts.get(name)
        return Attempt(
            name=name,
            job=cluster.jobs.get(name),
            pod=cluster.pods.get(name),
            last_pod=self._gone_pods.get(name),
            log=LogFacts() if sealed is not None else self._log(decision, cluster=cluster),
            refusal=self._refusals.get(name),
            created=before is not None or name in self._created,
            began=before.start_time if before is not None else None,
            decision=decision,
            sealed=sealed,
        )

    def _log(self, decision: Decision, *, cluster: Cluster) -> LogFacts:
        """What has been read of the attempt's log, completed by what its DbtModels remember."""
        assert self._models is not None  # noqa: S101 - there since the first look
        follower = self._followers.get(decision.name)
        facts = follower.facts() if follower is not None else LogFacts()
        if follower is None and decision.name not in cluster.record.attempts:
            return facts
        state = self._models.remembered(
            facts.state, job=decision.name, whole=decision.nodes is None, dbt=cluster.record.dbt
        )
        return replace(facts, state=state)

    # act

    async def _act(self, plan: Plan, *, cluster: Cluster, now: datetime) -> None:
        await self._keep_artifacts()
        over = cluster.record.ended is not None and plan.phase.terminal
        if plan.start:
            await self._mark_started(cluster, now=now)
            return
        if not over:
            await self._record(plan)
            for name in plan.create:
                await self._create(name, cluster=cluster)
        await self._note_handled(plan, over=over, cluster=cluster)
        if not over:
            await self._show(plan, cluster=cluster, now=now)
        await self._stop(plan)
        if plan.expire:
            _log.info("the run has expired")
            await self._client.delete(
                resource=DBT_RUNS, namespace=self._key.namespace, name=self._key.name, uid=self._key.uid
            )
            self.wake()

    async def _stop(self, plan: Plan) -> None:
        for job in plan.stop:
            await self._writer.flush(run=self._key.uid, within=_FLUSH_SECONDS)
            await self._client.delete(resource=JOBS, namespace=self._key.namespace, name=job)
            self.wake()

    async def _mark_started(self, cluster: Cluster, *, now: datetime) -> None:
        """Close the spec against changes, before anything is made from it.

        The resource version makes the server refuse when somebody has changed the run since we have read it. Either
        way the next turn reads the run again, and goes on with the spec that is closed.
        """
        metadata = {"resourceVersion": cluster.run["metadata"]["resourceVersion"]}
        started = {"startTime": format_time(now), "observedGeneration": cluster.generation}
        self.wake()
        try:
            await self._client.patch(
                resource=DBT_RUNS,
                namespace=self._key.namespace,
                name=self._key.name,
                patch={"metadata": metadata, "status": started},
                subresource="status",
            )
        except ApiError as error:
            if not error.conflict:
                raise

    async def _record(self, plan: Plan) -> None:
        """Store what was decided, in its order: an attempt that another controller has decided on ends it."""
        assert self._records is not None  # noqa: S101 - there since the first look
        if not self._live() or self._client.now() < self._not_before:
            return  # what there is to decide on is better known when the logs are read up to the present
        for decision in plan.record:
            try:
                recorded = await self._records.record(decision)
            except NameConflictError as error:
                self._conflict = f"{error}: delete or rename it, and create the run anew."
                self.wake()
                return
            if not recorded:
                # Another controller was faster, an earlier run of this name is not yet gone, or somebody has changed
                # the record so that nobody can read it: none of them passes by looking again at once.
                self._not_before = self._client.now() + _RECORD_PAUSE
                return
            self.wake()
            self._announcer.decided(decision)

    async def _create(self, name: str, *, cluster: Cluster) -> None:
        assert cluster.spec is not None and self._records is not None  # noqa: S101, PT018 - nothing is made of an invalid spec
        decision = next(decision for decision, _ in self._records.all() if decision.name == name)
        done = await create_attempt(client=self._client, run=cluster.ref, spec=cluster.spec, decision=decision)
        before = self._refusals.get(name)
        if done.created:
            self._created.add(name)
            _log.info("created an attempt", job=name)
        if done.refusal is not None and done.refusal != before:
            _log.warning("an attempt was refused", job=name, message=done.refusal.message)
        if done.created or done.refusal != before:
            self.wake()  # the same refusal as before is tried again when the plan says so
        if done.refusal is not None:
            self._refusals[name] = done.refusal
        else:
            self._refusals.pop(name, None)

    async def _keep_artifacts(self) -> None:
        assert self._keeper is not None  # noqa: S101 - there since the first look
        for follower in self._followers.values():
            while follower.artifacts:
                await self._keeper.keep(follower.artifacts[0])
                del follower.artifacts[0]

    async def _note_handled(self, plan: Plan, *, over: bool, cluster: Cluster) -> None:
        """Say on the objects which retries are answered: by an attempt, or because there is nothing to be done."""
        assert self._models is not None and self._records is not None  # noqa: S101, PT018 - there since the first look
        answered = {request for decision, _ in self._records.all() for request in decision.requests}
        promised = {request for decision in plan.record for request in decision.requests}
        # What was to be answered by a decision that could not be recorded is still open.
        handled = [request for request in plan.handled if request in answered or request not in promised]
        handled += [request for request in self._requests(cluster) if request in answered and request not in handled]
        for request in handled:
            name: str | None = self._key.name
            resource = DBT_RUNS
            if request.unique_id is None:
                self._handled = request.token
            else:
                name, resource = self._models.handled(request), DBT_MODELS
            if over and name is not None:  # nothing else is written any more
                patch = {"status": {"handledRetry": request.token}}
                await self._client.patch(
                    resource=resource, namespace=self._key.namespace, name=name, patch=patch, subresource="status"
                )
            if request not in answered:
                self._announcer.nothing_to_retry(request)

    def _live(self) -> bool:
        """Whether what is known is of the present, not of a moment that the logs are only read up to."""
        return all(follower.caught_up for follower in self._followers.values())

    def _show_nodes(self, plan: Plan) -> None:
        assert self._models is not None  # noqa: S101 - loaded with the first look
        if self._live() or plan.phase.terminal:
            self._models.show(history=plan.history, attempts=[each.attempt for each in plan.assessments])

    async def _show(self, plan: Plan, *, cluster: Cluster, now: datetime) -> None:
        assert self._models is not None  # noqa: S101 - loaded with the first look
        self._show_nodes(plan)
        told = (plan.phase, plan.reason)
        if self._announcer.told == told and now - self._status_written < _STATUS_INTERVAL:
            self._status_due = self._status_written + _STATUS_INTERVAL
            return
        if not self._live() and not plan.phase.terminal:
            return  # what is known is of a moment in the past
        if plan.phase.terminal:
            await self._keep_results(plan, cluster=cluster, now=now)
        if plan.phase.terminal or (plan.phase is RunPhase.SUSPENDED and self._announcer.told != told):
            # Whoever waits for the run's end, or for its rest, reads the nodes next.
            await self._writer.flush(run=self._key.uid, within=_FLUSH_SECONDS)
        self._write_status(plan, cluster=cluster, views=self._models.views, now=now)

    async def _keep_results(self, plan: Plan, *, cluster: Cluster, now: datetime) -> None:
        assert self._keeper is not None and self._models is not None  # noqa: S101, PT018 - there since the first look
        if cluster.spec is not None and plan.history.attempts:
            self._artifacts = await self._keeper.keep_results(
                history=plan.history,
                views=self._models.views,
                spec=cluster.spec,
                started_at=cluster.record.start_time or now,
            )

    def _write_status(self, plan: Plan, *, cluster: Cluster, views: dict[str, NodeView], now: datetime) -> None:
        shown = run_status(
            plan=plan,
            record=cluster.record,
            conditions=cluster.record.conditions if self._conditions is None else self._conditions,
            views=views,
            artifacts=self._artifacts,
            handled_retry=self._handled,
            generation=cluster.generation,
            now=now,
        )
        self._status_written, self._conditions = now, shown.conditions
        live = [each.state.last_ts for each in plan.assessments if each.live and each.state.last_ts is not None]
        self._writer.submit(
            run=self._key.uid,
            resource=DBT_RUNS,
            namespace=self._key.namespace,
            name=self._key.name,
            status=shown.to_dict(),
            terminal=plan.phase.terminal,
            event_time=max(live, default=None) if plan.phase is RunPhase.RUNNING else None,
        )
        self._announcer.moved(plan, since=cluster.record.start_time or now, now=now)

    # tell

    async def _tell_obstacle(self, error: ApiError) -> None:
        """Say on the run what only a person can change: the operator's own rights, or a quota, do not suffice."""
        refusal = refusal_of(error)
        if not (error.forbidden or error.quota_exceeded) or self._cluster is None or refusal is None:
            return
        message = refusal.message
        conditions = run_conditions(
            phase=RunPhase.PENDING,
            reason=refusal.reason,
            message=message,
            now=self._client.now(),
            generation=self._cluster.generation,
            previous=self._conditions or self._cluster.record.conditions,
        )
        self._announcer.told = None
        patch = {
            "reason": refusal.reason.value,
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
