"""One run, from the first look at it: what is known, what is to be done, and doing it.

The order of the actions makes a crash between any two of them harmless. The spec is closed before anything is made from
it, the end of an attempt is stored before anything follows from it, a decision is recorded before its Job is created,
and the end of the run is stored last.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.api.values import format_time
from dbt_operator.dbt.history import Reports
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.resources import Object
from dbt_operator.plan.attempt import Refusal, Request
from dbt_operator.plan.facts import PodFacts
from dbt_operator.plan.observation import Observation, Plan
from dbt_operator.plan.run import plan_run
from dbt_operator.reconcile.announce import Announcer
from dbt_operator.reconcile.attempts import Attempts
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.defaults import Fields
from dbt_operator.reconcile.keep import Keeper
from dbt_operator.reconcile.models import Models
from dbt_operator.reconcile.observe import run_ref, unlisted
from dbt_operator.reconcile.records import Records
from dbt_operator.reconcile.refusals import refusal_of
from dbt_operator.reconcile.retention import Retention
from dbt_operator.reconcile.run_status import obstructed_status, run_status
from dbt_operator.reconcile.supersession import Rivals, Supersession, label_of, rivals

_log = structlog.get_logger(__name__)

# Between statuses of a run that is in the same phase: of twenty live runs more would be a third of all writes.
_STATUS_INTERVAL = timedelta(seconds=1)
# Turns that fail in a row before that is shown: the server may only restart.
_HICCUPS = 4


class Reconciler:
    """Looks, plans and acts for one run.

    `gone_pods`: pods that are gone, by their Job, as they were seen at last; the watch adds to it. `changed` asks for
    another turn, `wake` for one that reads the cluster's facts again.
    """

    def __init__(
        self,
        *,
        run: Object,
        backend: Backend,
        announcer: Announcer,
        defaults: Fields,
        retention: Retention,
        supersession: Supersession,
        gone_pods: dict[str, PodFacts],
        changed: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._cluster, self._run = unlisted(run, operator=defaults, config_map=None), run_ref(run)
        self._backend, self._statuses, self._announcer = backend, backend.statuses, announcer
        self._defaults, self._retention, self._supersession = defaults, retention, supersession
        self._rivals = Rivals()  # while nothing of the run has begun
        self._changed, self._wake = changed, wake
        backend.statuses.run_is(run)
        self._models = Models(run=self._run, backend=backend, failed=announcer.node_failed)
        self._keeper = Keeper(run=self._run.name, backend=backend)
        self._attempts = Attempts(
            backend=backend,
            announcer=announcer,
            records=Records(backend),
            gone_pods=gone_pods,
            changed=changed,
            wake=wake,
        )
        self._looked_at = datetime.min.replace(tzinfo=UTC)  # when the last look at the cluster began
        self._reports = Reports()  # which attempt said what of each node, at the last plan
        self._loaded = False  # whether what a controller before this one has shown was read
        self._handled: str | None = None  # the token of the last retry of the whole run that was handled
        self._shown: DbtRunStatus | None = None  # as last written
        self._stored: Object | None = None  # the run's status as it was read since it was started
        self._obstacle: Refusal | None = None  # what the API server did not do since the last turn that was whole
        self._failures = 0  # turns since then
        self.over = False  # its DbtModels are gone, or about to go; if the run stays, it begins anew with another one
        self._status_written = datetime.min.replace(tzinfo=UTC)

    # look

    async def look(self, run: Object) -> None:
        """Look at what there is of the run."""
        self._stored = run.get("status") or {}
        config_map = None if "startTime" in self._stored else await self._backend.find_defaults()
        known = unlisted(run, operator=self._defaults, config_map=config_map, before=self._cluster)
        looked_at = self._backend.now()
        await self._attempts.read_records(ended=known.record.ended is not None)
        seen = await self._backend.look()
        self._cluster = self._attempts.look(replace(known, jobs=seen.jobs, pods=seen.pods))
        self._looked_at = looked_at
        self._rivals = await self._find_rivals(run)
        if not self._loaded:
            await self._models.load()
            self._handled = self._cluster.record.handled_retry
            self._loaded = True
        await self._attempts.follow()

    async def store(self) -> None:
        """Store what is known of live attempts, for the next operator: this one is told to stop."""
        await self._attempts.store_checkpoints(last=True)

    async def _find_rivals(self, run: Object) -> Rivals:
        """Whom the run supersedes, before its first attempt. Listed: what the watch has shown may be old."""
        label = label_of(run)
        begun = self._attempts.begun or self._cluster.record.ended is not None
        if not label or begun:
            return Rivals()
        return rivals(run, await self._backend.find_runs(label))

    async def stop(self) -> None:
        """Nothing is to be read or done any more."""
        await self._attempts.stop()

    @property
    def not_before(self) -> datetime:
        """When the next decision may be recorded. It rests on what the cluster shows then."""
        return self._attempts.not_before

    # plan

    async def plan(self, *, asked: Mapping[str, str | None]) -> Plan | None:
        """The plan, once the end of every attempt that has ended is stored; None when it takes another look for that.

        The clock is read for each plan anew: a look, or a seal, may take minutes, and the end of an attempt that is
        stored by then must not lie in the future of the plan.

        asked: retries of nodes that people ask for since the last plan, or do not any more (None), by unique_id.
        """
        for unique_id, token in asked.items():
            self._models.asked(unique_id=unique_id, token=token)
        plan = self._planned()
        while plan.seal:
            await self._keep_artifacts()
            if not await self._attempts.seal(plan.seal):
                return None
            await self._attempts.follow()
            plan = self._planned()
        return plan

    def _planned(self) -> Plan:
        plan = plan_run(self._observation())
        self._reports = plan.history.reports
        return plan

    def _observation(self) -> Observation:
        cluster, conflict, requests = self._cluster, self._attempts.conflict, self._requests()
        ended_at = cluster.record.completion_time
        ttl = self._retention.ttl(cluster.run, ended_at=ended_at, asked=bool(requests))
        return Observation(
            run=self._run.name,
            now=self._backend.now(),
            looked_at=self._looked_at,
            attempts=self._attempts.all(cluster),
            started=cluster.record.start_time is not None,
            rules=cluster.rules(ttl=ttl),
            requests=requests,
            invalid=cluster.invalid or conflict,
            invalid_reason=RunReason.INVALID_SPEC if cluster.invalid else RunReason.NAME_CONFLICT,
            superseded_by=self._rivals.newer or self._supersession.newer(cluster.run),
            waits_for=self._rivals.older,
            ended=cluster.record.ended,
            ended_at=cluster.record.completion_time,
            reports=self._reports,
        )

    def _requests(self) -> tuple[Request, ...]:
        run = self._cluster.token
        whole = [Request(token=run)] if run is not None and run != self._handled else []
        return (*whole, *self._models.open_requests())

    # act

    async def act(self, plan: Plan) -> list[datetime]:
        """Do what the plan says. Returns when there is more to do by the clock alone.

        Raises: ApiError, after all that can be done without what has failed. The run goes on being shown.
        """
        ended = self._cluster.record.ended is not None
        over = ended and plan.phase.terminal
        if plan.start:
            await self._mark_started()
            return []
        failed = await self._advance(plan, over=over)
        await self._note_handled(plan, over=over)
        if failed is None and not (plan.stop or plan.expire):
            self._obstacle = None  # nothing that may be refused is left to do in this turn
        # A run that has ended keeps its end until the retry that was asked for is recorded.
        keeps_its_end = ended and (failed is not None or not self._attempts.recorded(plan.record))
        due = [] if over or keeps_its_end else await self._show(plan)
        if keeps_its_end and self._attempts.conflict is not None:
            self._announcer.obstructed(Refusal(RunReason.NAME_CONFLICT, self._attempts.conflict))
        await self._stop_jobs(plan)
        due += await self._attempts.store_checkpoints()
        if failed is not None:
            raise failed
        if plan.expire:
            _log.info("the run is not kept any longer")
            # As it was when it was looked at: a retry that was asked for since then keeps it.
            version = self._cluster.run["metadata"]["resourceVersion"]
            self._wake()
            if await self._backend.may_delete_run(version=version):
                self.over = True
                await self._backend.delete_run(version=version)
        self._failures = 0
        if self._obstacle is not None:
            self._obstacle = None
            self._changed()  # the next turn shows the run without it
        return due

    async def _advance(self, plan: Plan, *, over: bool) -> ApiError | None:
        """What brings the attempts forward; what the API server did not do of it."""
        try:
            await self._keep_artifacts()
            if over:
                return None
            await self._attempts.record(plan.record)
            await self._create(plan)
            for name in plan.release:
                await self._attempts.release(name)
        except ApiError as error:
            return error
        return None

    async def _mark_started(self) -> None:
        """Close the spec against changes, and keep its defaults, before anything is made from it.

        The resource version makes the server refuse when somebody has changed the run since we have read it. Either
        way the next turn reads the run again, and goes on with the spec that is closed.
        """
        cluster = self._cluster
        version = cluster.run["metadata"]["resourceVersion"]
        defaults = cluster.record.defaults
        started = {
            "startTime": format_time(self._backend.now()),
            "observedGeneration": cluster.generation,
            "defaults": defaults and defaults.to_dict(),
        }
        self._wake()
        self._shown = self._stored = None
        try:
            await self._statuses.store_in_run(started, version=version)
        except ApiError as error:
            if not error.conflict:
                raise

    async def _create(self, plan: Plan) -> None:
        for name in plan.create:
            spec = self._cluster.spec
            assert spec is not None  # noqa: S101 - nothing is made of an invalid spec
            await self._attempts.create(name, spec=spec)

    async def _stop_jobs(self, plan: Plan) -> None:
        for job in plan.stop:
            await self._statuses.flush()
            await self._backend.stop_attempt(job)
            self._wake()

    async def _note_handled(self, plan: Plan, *, over: bool) -> None:
        """Say on the objects which retries are answered: by an attempt, or because there is nothing to be done."""
        answered = self._attempts.answered()
        promised = {request for decision in plan.record for request in decision.requests}
        # What was to be answered by a decision that could not be recorded is still open.
        handled = [request for request in plan.handled if request in answered or request not in promised]
        handled += [request for request in self._requests() if request in answered and request not in handled]
        if handled and not over and self._end_is_stored():
            # A node says so only once the run is shown as live: who comes after us looks for one of the two.
            handled = [request for request in handled if request.unique_id is None]
        for request in handled:
            # Of a run that has ended nothing else is written any more.
            if request.unique_id is None:
                self._handled = request.token
                if over:
                    await self._statuses.store_in_run({"handledRetry": request.token})
            else:
                model = self._models.handled(request)
                if over and model is not None:
                    await self._statuses.store_in_model(model, {"handledRetry": request.token})
            if request not in answered:
                self._announcer.nothing_to_retry(request, model=self._models.name_of(request))
        if plan.held_back:
            for request in self._requests():
                self._announcer.retry_waits(request, model=self._models.name_of(request), why=plan.held_back)

    def _end_is_stored(self) -> bool:
        stored = DbtRunStatus.parse(self._stored or {})
        return stored is not None and stored.phase is not None and stored.phase.terminal

    # show

    async def _show(self, plan: Plan) -> list[datetime]:
        """Bring the DbtModels and the run's status to the plan. Returns when the status is due where it has to wait."""
        terminal = plan.phase.terminal
        attempts = [each.attempt for each in plan.assessments]
        await self._models.load_again(plan.history)
        self._models.show(history=plan.history, attempts=attempts, ended=terminal)
        if self._obstacle is not None and not terminal:
            plan = replace(plan, reason=self._obstacle.reason, message=self._obstacle.message)
        shown, next_at = (plan.phase, plan.reason), self._status_written + _STATUS_INTERVAL
        if self._announcer.shown == shown and self._backend.now() < next_at:
            return [next_at]
        if terminal:
            await self._keep_results(plan)
            await self._keeper.drop_inputs()
        if terminal or (plan.phase is RunPhase.SUSPENDED and self._announcer.shown != shown):
            # Whoever waits for the run's end, or for its rest, reads the nodes next.
            await self._statuses.flush()
        self._write_status(plan)
        return []

    async def _keep_artifacts(self) -> None:
        await self._attempts.keep_artifacts(self._keeper, run_ended=self._cluster.record.ended is not None)

    async def _keep_results(self, plan: Plan) -> None:
        if self._cluster.spec is not None and plan.history.attempts:
            await self._keeper.keep_results(
                history=plan.history,
                views=self._models.views,
                spec=self._cluster.spec,
                started_at=self._cluster.record.start_time or self._backend.now(),
            )

    def _write_status(self, plan: Plan) -> None:
        record, now = self._cluster.record, self._backend.now()
        shown = run_status(
            plan=plan,
            record=record,
            conditions=record.conditions if self._shown is None else self._shown.conditions,
            tally=self._models.tally,
            artifacts=self._keeper.artifacts,
            output=self._keeper.output,
            unshown=self._models.unshown,
            handled_retry=self._handled,
            generation=self._cluster.generation,
            now=now,
        )
        self._status_written = now
        live = [each.state.last_ts for each in plan.assessments if each.live and each.state.last_ts is not None]
        self._submit(shown, event_time=max(live, default=None) if plan.phase is RunPhase.RUNNING else None)
        self._announcer.moved(plan, now=now)
        self._announcer.ignored(plan)
        self._announcer.unshown(self._models.unshown)

    def _submit(self, shown: DbtRunStatus, *, event_time: datetime | None = None) -> None:
        self._shown = shown
        ended = shown.phase is not None and shown.phase.terminal
        self._statuses.show_run(shown.to_dict(), terminal=ended, event_time=event_time)

    def obstructed(self, error: ApiError) -> None:
        """Say on the run what the API server does not do, for as long as that is so. What passes by itself is not said.

        A run that has ended keeps its end; then only an Event says so.
        """
        self._failures += 1
        if self._shown is None and self._stored is None:
            return  # whatever is shown now would take the start back
        obstacle = refusal_of(error)
        if obstacle is None or obstacle == self._obstacle or (error.transient and self._failures < _HICCUPS):
            return
        self._obstacle = obstacle
        self._announcer.obstructed(obstacle)
        shown = self._shown or DbtRunStatus.parse(self._stored or {})
        if shown is None or (shown.phase is not None and shown.phase.terminal):
            return
        self._submit(obstructed_status(shown, obstacle, now=self._backend.now(), generation=self._cluster.generation))
