"""The loop of one run: look, plan, act, again and again until nothing is left to do.

Each turn looks at what is there and decides anew, so it does not matter what woke it: a watch event, lines of the log
or the clock. Cluster facts are read again only when a watch event or the clock says that they may have changed; a
batch of log lines costs no request besides the statuses it changes.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.writer import Problem
from dbt_operator.plan.facts import LABEL_JOB_NAME, PodFacts, pod_facts
from dbt_operator.plan.observation import Plan
from dbt_operator.reconcile.announce import Announcer
from dbt_operator.reconcile.backend import Backend, UnreadableRecordError
from dbt_operator.reconcile.defaults import Fields
from dbt_operator.reconcile.reconciler import Reconciler
from dbt_operator.reconcile.retention import Retention
from dbt_operator.reconcile.supersession import Supersession

_log = structlog.get_logger(__name__)

# The pause after turns that the API server did not allow: short after an outage, longer where a right is missing.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_REFUSED = 0.5, 5.0, 30.0


class RunLoop:
    """Takes the turns of one DbtRun, and gathers what wakes it. `defaults`: of the operator, for its spec."""

    def __init__(self, *, backend: Backend, defaults: Fields, retention: Retention, supersession: Supersession) -> None:
        self._backend, self._defaults = backend, defaults
        self._retention, self._supersession = retention, supersession
        self._changed = asyncio.Event()  # anything: take a turn
        self._stale = True  # the cluster's facts may have changed: read them again
        self._look_again = datetime.min.replace(tzinfo=UTC)
        self._reconciler: Reconciler | None = None  # since the first look
        self._gone_pods: dict[str, PodFacts] = {}  # as they were seen at last, by their Job
        self._asked: dict[str, str | None] = {}  # retries of nodes that the planner has not heard of, by unique_id
        self._announcer = Announcer(backend=backend)

    def wake(self) -> None:
        """Look again at what the cluster shows."""
        self._stale = True
        self._changed.set()

    def pod_gone(self, pod: Mapping[str, Any]) -> None:
        """A pod of the run is gone. The loop may never have seen its last state."""
        job, facts = pod["metadata"]["labels"].get(LABEL_JOB_NAME), pod_facts(pod)
        if job is not None and not facts.held:  # one that was never released tells nothing of the one that was
            self._gone_pods[job] = facts

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
                    # What is not found was deleted since the last look: the run itself, or a node that is retried.
                    if not (error.may_pass or error.not_found):
                        raise
                    _log.warning("the API server could not be used", error=str(error), pause=pause)
                    if self._reconciler is not None:
                        self._reconciler.obstructed(error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE if error.transient else _LONGEST_REFUSED)
                    self.wake()
                except UnreadableRecordError as error:
                    # Until somebody deletes it the end of that attempt cannot be stored, so nothing is decided.
                    self._announcer.unreadable_record(str(error))
                    await asyncio.sleep(_LONGEST_REFUSED)
                    self.wake()
        except asyncio.CancelledError:
            # A node's drain takes the operator and the pods, with their logs, at the same moment.
            if self._reconciler is not None:
                await self._reconciler.store()
            raise
        finally:
            if self._reconciler is not None:
                await self._reconciler.stop()

    async def _turn(self) -> bool:
        """One turn; whether there may be another."""
        self._changed.clear()
        if self._stale or self._backend.now() >= self._look_again:
            self._stale = False
            if not await self._look():
                self._backend.statuses.forget()
                return False
        assert self._reconciler is not None  # noqa: S101 - there since the first look
        asked, self._asked = self._asked, {}
        plan = await self._reconciler.plan(asked=asked)
        if plan is None:
            self.wake()
            return True
        self._look_again = plan.wake_at
        due = [plan.wake_at, *await self._act(self._reconciler, plan)]
        stored = plan.phase.terminal and await self._backend.statuses.flush()
        if plan.done and not self._stale:
            if stored:
                # The writer would restore what it remembers if anybody wrote to the ended run, to ask for a retry.
                self._backend.statuses.forget()
            return False
        if self._reconciler is not None and self._reconciler.not_before > self._backend.now():
            due.append(self._reconciler.not_before)
            self._stale = True
        await self._rest(until=min(due))
        return True

    async def _act(self, reconciler: Reconciler, plan: Plan) -> list[datetime]:
        try:
            return await reconciler.act(plan)
        finally:
            if reconciler.over:
                # If the run is still there, as a retry was asked for meanwhile, its DbtModels are not.
                self._reconciler = None
                await reconciler.stop()
                self._backend.statuses.forget()

    async def _look(self) -> bool:
        """Read the cluster's facts; whether the run is still there."""
        run = await self._backend.find_run()
        if run is None:
            return False
        self._announcer.look(run)
        if self._reconciler is None:
            self._reconciler = Reconciler(
                run=run,
                backend=self._backend,
                announcer=self._announcer,
                defaults=self._defaults,
                retention=self._retention,
                supersession=self._supersession,
                gone_pods=self._gone_pods,
                changed=self._changed.set,
                wake=self.wake,
            )
        await self._reconciler.look(run)
        return True

    async def _rest(self, *, until: datetime) -> None:
        seconds = (until - self._backend.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return
