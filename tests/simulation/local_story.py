"""One seed of a run without a cluster: the command is given again and again, and everything is killed at any moment."""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import structlog

from dbt_operator.api import names
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import DbtRunSpec, RetryReason
from dbt_operator.api.status import DbtModelStatus, DbtRunStatus
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.local.backend import LocalBackend
from dbt_operator.local.execute import Execution
from dbt_operator.local.place import NAMESPACE
from dbt_operator.plan.attempt import Decision
from dbt_operator.plan.facts import PodFacts
from dbt_operator.pods.images import Images
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Creation
from dbt_operator.reconcile.statuses import Statuses
from tests.simulation.machine import Hand, Machine, Mortal, SimulatedAttempt
from tests.simulation.objects import RUN, run_manifest
from tests.simulation.process import Process
from tests.simulation.project import TESTS
from tests.simulation.scenario import draw_scenario
from tests.simulation.story import Report
from tests.simulation.warehouse import GOOD, Warehouse
from tests.simulation.world import Violation, World, broken

_LOOK_SECONDS = 0.5
_PLAYED = ("cancel", "uncancel", "suspend", "unsuspend", "retry")


class _Backend(LocalBackend):
    """The real one, but for what is a process."""

    __slots__ = ("machine", "mortal")
    machine: Machine
    mortal: Mortal

    def _attempt(self, name: str) -> SimulatedAttempt:
        if name not in self._attempts:
            attempt = SimulatedAttempt(self.place.attempts(self.run.name) / name)
            attempt.machine, attempt.mortal = self.machine, self.mortal
            self._attempts[name] = attempt
        return cast(SimulatedAttempt, self._attempts[name])

    async def create_attempt(self, decision: Decision, *, spec: DbtRunSpec) -> Creation:
        """Without what only a real process needs."""
        await self.mortal.step()
        self.machine.decisions[decision.name] = decision
        del spec
        grace = int(self.machine.scenario.rules.grace.total_seconds())
        pod = {"containers": [{"name": "dbt"}], "terminationGracePeriodSeconds": grace}
        job = {"metadata": {"name": decision.name}, "spec": {"template": {"spec": pod}}}
        self._attempt(decision.name).create(job, uid=decision.name, now=self.now())
        await self.mortal.step()
        return Creation(created=True)

    async def start_pod(self, pod: PodFacts) -> None:
        """Start its processes."""
        await self.mortal.step()
        self._attempt(pod.name).start(None)
        await self.mortal.step()

    async def stop_attempt(self, name: str) -> None:
        """Tell them to end."""
        await self.mortal.step()
        self._attempt(name).stop()
        await self.mortal.step()


class _Command(Execution):
    """`local run`, in a process that can be killed."""

    __slots__ = ("machine", "mortal")
    machine: Machine
    mortal: Mortal

    def _hear(self, backend: LocalBackend, working: "asyncio.Task[None]") -> None:
        """Nobody sends it signals that it can hear."""

    def _backend(self, ref: RunRef, writer: StatusWriter) -> LocalBackend:
        given: Any = dict.fromkeys(("origin", "secrets", "programs"))
        backend = _Backend(
            run=ref, statuses=Statuses(ref, writer), images=Images(tools="none"),
            store=self.store, place=self.place, **given,
        )  # fmt: skip
        backend.machine, backend.mortal = self.machine, self.mortal
        return backend


@contextmanager
def _settings() -> Iterator[None]:
    """No logs, and fewer looks: the time between them is no subject here."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with (
            patch("dbt_operator.local.follow._TAIL_SECONDS", _LOOK_SECONDS),
            patch("dbt_operator.local.execute._LOOK_SECONDS", _LOOK_SECONDS),
        ):
            yield
    finally:
        structlog.configure(**before)


class LocalStory:
    """The machine of one seed, with its person."""

    def __init__(self, *, seed: int, tracing: bool = False) -> None:
        self.world = World(seed=seed, tracing=tracing)
        self.scenario = draw_scenario(self.world)
        self.warehouse = Warehouse(self.scenario.project, down=list(self.scenario.down))
        self.warehouse.on_start = self._started
        self.machine = Machine(world=self.world, scenario=self.scenario, warehouse=self.warehouse)
        self._chance = self.world.chance("person")
        self._wishes = [(at, wish) for at, wish in self.scenario.wishes if wish.split()[0] in _PLAYED]
        self._tokens = 0
        self._mortals: list[Mortal] = []
        self._tasks: set[asyncio.Task[Any]] = set()  # else those of the dead, which wait for ever, would be collected
        self.world.loop.set_task_factory(self._task)
        self._green: set[str] = set()  # nodes that were shown as Succeeded
        manifest = run_manifest(self.scenario)
        manifest["metadata"]["namespace"] = NAMESPACE
        self.machine.store.create(DBT_RUNS, manifest)

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **rest: Any) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **rest)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run(self) -> Report:
        """Play it to the end. Raises nothing: what goes wrong is in the report."""
        report, loop = Report(self.world.seed), self.world.loop
        random.seed(self.world.seed)
        try:
            with _settings():
                loop.run_until_complete(self._play())
                if self.world.failure is not None:
                    raise self.world.failure
                self._check_end()
        except Violation as violation:
            report.broken, report.message = violation.rule, str(violation)
        except Exception as error:  # noqa: BLE001 - whatever the operator raises is a finding
            report.broken, report.message = "no exceptions", f"{type(error).__name__}: {error}"
        finally:
            report.phase = str(self.status.phase)
            self._leave()
        report.trace, report.attempts = self.world.lines, len(self.machine.decisions)
        report.at_once = len(self._mortals)  # how often the command was given
        return report

    def _leave(self) -> None:
        loop = self.world.loop
        for mortal in self._mortals:
            mortal.bury()
        for task in (tasks := asyncio.all_tasks(loop)):
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()
        self.machine.close()

    # what there is

    @property
    def _run(self) -> Object:
        run = self.machine.store.get(DBT_RUNS, RUN, namespace=NAMESPACE)
        assert run is not None
        return run

    @property
    def status(self) -> DbtRunStatus:
        """The status of the run."""
        return DbtRunStatus.parse(self._run.get("status") or {}) or DbtRunStatus()

    def _models(self) -> dict[str, DbtModelStatus]:
        found = self.machine.store.all(DBT_MODELS)
        return {one["spec"]["uniqueId"]: DbtModelStatus.parse(one["status"]) or DbtModelStatus() for one in found}

    @property
    def _commanded(self) -> bool:
        operator = self.machine.operator
        return operator is not None and not operator.dead and operator.task is not None and not operator.task.done()

    # the person

    async def _play(self) -> None:
        for at, wish in self._wishes:
            self.world.later(at, partial(self._wish, wish))
        limit = self._limit()
        while self.world.failure is None and self.world.ms < limit:
            if not self._commanded:
                if self._over():
                    return
                self._command()
            await asyncio.sleep(self._chance.choice((1, 3, 8)))
            self._green |= {one for one, status in self._models().items() if status.phase is NodePhase.SUCCEEDED}
            operator = self.machine.operator
            harmed = self.world.ms < self.scenario.calm and self.scenario.crashes and self._chance.random() < 0.15
            if operator is not None and harmed:
                operator.die()
        broken(
            "it comes to an end", f"after {limit / 1000:.0f} s the run is {self.status.phase}: {self.status.message}"
        )

    def _limit(self) -> int:
        rules = self.scenario.rules
        waits = (rules.retry.backoff.max, rules.grace, rules.start_deadline)
        once = sum(int(each.total_seconds() * 1000) for each in waits) + 15_000 * len(self.scenario.project.nodes)
        return self.scenario.calm + 120_000 + once * (20 + len(self.machine.decisions))

    def _over(self) -> bool:
        if self.world.ms < max((at for at, _ in self._wishes), default=0) or self._alive():
            return False
        asked = names.retry_token(self._run["metadata"])
        waits = any(self._run["spec"].get(field) for field in ("cancel", "suspend"))  # until a person takes that back
        answered = asked is None or self.status.handled_retry == asked or waits
        rests = self.status.phase is RunPhase.SUSPENDED
        return bool(self._mortals) and (rests or (self.status.ended and answered))

    def _alive(self) -> list[str]:
        return [process.job for process in self.warehouse.processes if process.alive]

    def _command(self) -> None:
        """Give the command: the first time, or the same again."""
        mortal = Mortal(world=self.world, scenario=self.scenario, name=f"{len(self._mortals) + 1}")
        self._mortals.append(mortal)
        given: Any = dict.fromkeys(("origin", "secrets", "programs"))
        command = _Command(
            run=self._run, store=Hand(self.machine.store._db, mortal), place=self.machine.place,
            show=lambda: None, say=lambda _: None, **given,
        )  # fmt: skip
        command.machine, command.mortal = self.machine, mortal
        mortal.task = self.world.loop.create_task(self._guarded(command, mortal))
        self.machine.operator = mortal

    async def _guarded(self, command: _Command, mortal: Mortal) -> None:
        try:
            await command._execute()
        except Exception as error:  # noqa: BLE001 - ends the story, and is told
            if not mortal.dead:
                self.world.failed(error)

    def _wish(self, wish: str) -> None:
        store = self.machine.store
        if self.world.tracing:
            self.world.say(f"** {wish}")
        match wish:
            case "cancel" | "uncancel":
                store.change(DBT_RUNS, RUN, {"spec": {"cancel": wish == "cancel"}}, namespace=NAMESPACE)
            case "suspend" | "unsuspend":
                store.change(DBT_RUNS, RUN, {"spec": {"suspend": wish == "suspend"}}, namespace=NAMESPACE)
            case _:
                self._tokens += 1
                self._green.clear()  # whoever asks has it executed again
                asked = {"metadata": {"annotations": {names.ANNOTATION_RETRY: f"t{self._tokens}"}}}
                found = {one["spec"]["uniqueId"]: one for one in store.all(DBT_MODELS)}
                node = found.get(wish.removeprefix("retry "))
                if node is None:
                    store.change(DBT_RUNS, RUN, asked, namespace=NAMESPACE)
                else:
                    store.change(DBT_MODELS, node["metadata"]["name"], asked, namespace=NAMESPACE)

    # what has to be true

    def _started(self, process: Process, node: str) -> None:
        """A process begins to execute a node."""
        project = self.scenario.project
        for other in self.warehouse.processes:
            if other is process or not other.alive:
                continue
            if node in other.running or other.may_execute(node):
                broken("one process for a node", f"{node} is begun by {process.job} while {other.job} has it")
        rebuilt = RetryReason.TESTS_FAILED in self.scenario.rules.retry.reasons or self._tokens
        if node in self._green and project.nodes[node].kind not in TESTS and not rebuilt:
            broken("what was done is left alone", f"{node} was shown as Succeeded, and {process.job} begins it")

    def _check_end(self) -> None:
        status, models = self.status, self._models()
        if status.phase is RunPhase.CANCELLED and "cancel" not in {wish for _, wish in self._wishes}:
            broken("the right phase", "the run is Cancelled and nobody has asked for it")
        if status.reason is RunReason.RUNNER_FAILED and not any(one.crashed for one in self.warehouse.processes):
            broken("what was printed is read", str(status.message))
        if status.phase is RunPhase.SUSPENDED:
            return
        for one, shown in models.items():
            if not shown.phase.terminal:
                broken("nodes end with the run", f"{one} is {shown.phase} although the run is {status.phase}")
            endings = [each.ending for each in self.warehouse.executions if each.node == one]
            if shown.phase is NodePhase.SUCCEEDED and endings and endings[-1] not in GOOD:
                broken("a success was one", f"{one} is Succeeded, and its last execution has ended as {endings[-1]}")
        if status.phase is RunPhase.SUCCEEDED and any(one.phase is NodePhase.FAILED for one in models.values()):
            broken("a success was one", "the run has Succeeded, and one of its nodes has not")
