"""An operator process: the real manager, loops and status writer. It dies with all that it remembers."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from dbt_operator.api import names
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import Object
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.plan.attempt import Decision
from dbt_operator.plan.observation import Observation, Plan
from dbt_operator.plan.run import plan_run
from dbt_operator.reconcile.manager import Manager
from dbt_operator.reconcile.retention import Retention
from dbt_operator.reconcile.run_key import RunKey, key_of
from dbt_operator.reconcile.run_loop import RunLoop
from dbt_operator.reconcile.supersession import Supersession
from tests.simulation.api import Api
from tests.simulation.backend import SimulatedBackend
from tests.simulation.checks import Checks
from tests.simulation.cluster import Cluster
from tests.simulation.objects import newer_manifest
from tests.simulation.world import World

_PLANNING: ContextVar["Operator"] = ContextVar("operator")  # whose loop it is


def planned(observation: Observation) -> Plan:
    """What the real planner says, seen by the operator that asks."""
    plan = plan_run(observation)
    _PLANNING.get().has_planned(observation, plan)
    return plan


class _Loop(RunLoop):
    """A loop that tells of what goes wrong; its manager would only begin it anew."""

    def __init__(self, operator: "Operator", **rest: Any) -> None:
        super().__init__(**rest)
        self._operator = operator

    async def run(self) -> None:
        _PLANNING.set(self._operator)
        try:
            await super().run()
        except Exception as error:
            self._operator.world.failed(error)
            raise


@dataclass(frozen=True)
class _Planned:
    observation: Observation
    plan: Plan


class Operator:
    """An operator process, which watches the cluster."""

    def __init__(self, *, name: str, world: World, cluster: Cluster, checks: Checks) -> None:
        self.name, self.world, self.cluster, self._checks = name, world, cluster, checks
        self.chance = world.chance(f"operator {name}")
        self.dead = False
        self._last: _Planned | None = None
        client = cast(Client, Api(operator=self, cluster=cluster, checks=checks))
        self.writer = StatusWriter(client=client)
        self._retention, self._supersession = Retention(now=lambda: world.now.timestamp()), Supersession()
        self._manager = Manager(
            client=client,
            make_loop=self._make_loop,
            forget=lambda key: self.writer.forget(run=key.uid),
            retention=self._retention,
            supersession=self._supersession,
            namespaces=(),
        )
        self.writer.on_problem = self._manager.problem
        self._parts = [
            world.loop.create_task(self._part(self.writer.run())),
            world.loop.create_task(self._part(self._manager.resync())),
        ]
        cluster.watchers.append(self)
        self.list()

    async def _part(self, part: Any) -> None:
        try:
            await part
        except Exception as error:
            self.world.failed(error)
            raise

    def _make_loop(self, key: RunKey) -> RunLoop:
        del key
        backend = SimulatedBackend(operator=self, cluster=self.cluster, checks=self._checks)
        return _Loop(self, backend=backend, defaults={}, retention=self._retention, supersession=self._supersession)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return not (self._manager._live or self._retention._expiries or self.writer.pending())

    def say(self, text: str) -> None:
        """Write a line of the trace."""
        self.world.say(f"operator {self.name}: {text}")

    def say_if(self, text: str) -> None:
        """Where there is one."""
        if self.world.tracing:
            self.say(text)

    # life and death

    def list(self) -> None:
        """What its watches begin with."""
        cluster = self.cluster
        if cluster.exists:
            self.run_changed(cluster.run)
        self.newer_changed(cluster.newer)
        for job in cluster.jobs.values():
            self.job_changed(job.shown(), gone=False)
        for pod in cluster.pods.values():
            self.pod_changed(pod.shown(), gone=False)
        for model in cluster.models:
            if names.retry_token(model["metadata"]) is not None:
                self.model_changed(model)

    async def goes_on(self) -> None:
        """Return, if it is alive. The dead do nothing more."""
        if self.dead:
            await asyncio.Event().wait()

    def die(self) -> None:
        """SIGKILL."""
        if self.dead:
            return
        self.dead = True
        self.cluster.watchers.remove(self)
        self.say_if("dies")
        self._ending = self.world.loop.create_task(self.end())

    async def end(self) -> None:
        """Leave nothing behind."""
        self.dead = True
        for part in self._parts:
            part.cancel()
        await self._manager.stop()
        await asyncio.gather(*self._parts, return_exceptions=True)

    # watching

    def run_changed(self, run: Object) -> None:
        """The watch shows the run."""
        if not self.dead:
            self._manager.observed(run)

    def newer_changed(self, newer: Object | None) -> None:
        """The watch shows the newer run, or that there is none."""
        if self.dead:
            return
        if newer is None:
            self._supersession.forget(key_of(newer_manifest()))
        else:
            self._supersession.observed(newer, DbtRunStatus())

    def run_gone(self, run: Object) -> None:
        """The watch shows that the run was deleted."""
        if not self.dead:
            self._manager.deleted(run)

    def job_changed(self, job: Object, *, gone: bool) -> None:
        """The watch shows a Job."""
        if not self.dead:
            self._manager.child_changed(job, alive=not (job["status"]["conditions"] or gone))

    def pod_changed(self, pod: Object, *, gone: bool) -> None:
        """The watch shows a pod."""
        if not self.dead:
            self._manager.pod_changed(pod, gone=gone)

    def model_changed(self, model: Object) -> None:
        """The watch shows a DbtModel."""
        if not self.dead:
            self._manager.model_changed(model)

    # being looked at

    def has_planned(self, observation: Observation, plan: Plan) -> None:
        """Its loop has made a plan."""
        self._last = _Planned(observation, plan)
        self._checks.planned(self.name, observation, plan)

    def decides(self, decision: Decision) -> None:
        """It is about to record this decision."""
        assert self._last is not None
        if self.world.tracing:
            nodes = "all" if decision.nodes is None else " ".join(sorted(decision.nodes))
            self.say(f"decides {decision.index} {decision.name}: {nodes} {decision.requests or ''}")
        self._checks.decided(self._last.observation, self._last.plan, decision)

    def run_shown(self, status: Object) -> None:
        """The status of the run was written."""
        if self.world.tracing:
            self.say(f"shows {status.get('phase')} {status.get('reason')}: {status.get('message')}")
        if self._last is not None:
            self._checks.shown(self.cluster.status, self._last.plan)
