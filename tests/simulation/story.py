"""One seed from its beginning to its end."""

import asyncio
import logging
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from unittest.mock import patch

import structlog

from dbt_operator.api.phases import RunPhase
from tests.simulation.checks import Checks
from tests.simulation.cluster import Cluster
from tests.simulation.operator import Operator, planned
from tests.simulation.scenario import Scenario, draw_scenario
from tests.simulation.warehouse import Warehouse
from tests.simulation.world import Violation, World, broken

# Seconds.
_LOOKS = 1.0  # between the questions whether the story is over
_WRITTEN = 5.0  # until what was shown last is written


@contextmanager
def _silence() -> Iterator[None]:
    """What operators log is of no use to anybody here."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


@dataclass
class Report:
    """How a seed went."""

    seed: int
    broken: str | None = None  # the invariant that does not hold
    message: str = ""
    trace: list[str] = field(default_factory=list)
    attempts: int = 0
    at_once: int = 0  # most processes alive when one of them began with a node
    turns: int = 0
    phase: str = ""


class Story:
    """The world of one seed, with its people."""

    def __init__(self, *, seed: int, tracing: bool = False, scenario: Scenario | None = None) -> None:
        self.world = World(seed=seed, tracing=tracing)
        self.scenario = scenario if scenario is not None else draw_scenario(self.world)
        self.warehouse = Warehouse(self.scenario.project, down=list(self.scenario.down))
        self.cluster = Cluster(world=self.world, scenario=self.scenario, warehouse=self.warehouse)
        self.checks = Checks(world=self.world, scenario=self.scenario, warehouse=self.warehouse, cluster=self.cluster)
        self._chance = self.world.chance("people")
        self._operators: list[Operator] = []
        self._wishes = 0
        self._listed = False  # an operator that nothing disturbs any more has seen how things are
        self._born = 0

    def run(self) -> Report:
        """Play it to the end. Raises nothing: what goes wrong is in the report."""
        report = Report(self.world.seed)
        random.seed(self.world.seed)  # the jitter of the status writer
        loop = self.world.loop
        try:
            with patch("dbt_operator.reconcile.reconciler.plan_run", planned), _silence():
                loop.run_until_complete(self._play())
                if self.world.failure is not None:
                    raise self.world.failure
                self._check()
        except Violation as violation:
            report.broken, report.message = violation.rule, str(violation)
        except Exception as error:  # noqa: BLE001 - whatever the operator raises is a finding
            report.broken, report.message = "no exceptions", f"{type(error).__name__}: {error}"
            if self.world.tracing:
                self.world.say(traceback.format_exc())
        finally:
            self._leave()
        report.trace = self.world.lines
        report.attempts, report.turns = len(self.cluster.records), self.checks.turns
        report.at_once = self.checks.at_once
        report.phase = str(self.cluster.status.phase)
        return report

    def _leave(self) -> None:
        """Leave nothing behind."""
        loop = self.world.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    async def _play(self) -> None:
        if self.world.tracing:
            self._introduce()
        for at, wish in self.scenario.wishes:
            self.world.later(at, partial(self._wish, wish))
        self._tend()
        limit = self._limit()
        over = 0
        while self.world.failure is None and self.world.ms < limit and over * _LOOKS < _WRITTEN:
            await asyncio.sleep(_LOOKS)
            self.checks.at_rest()
            over = over + 1 if self._over() else 0

    def _check(self) -> None:
        if not self._over():
            status = self.cluster.status
            content = f"{status.phase} {status.reason}: {status.message}"
            broken("it comes to an end", f"after {self._limit() / 1000:.0f} s the run is {content}")
        self.checks.bounded(operators=self._born)
        if self.cluster.exists:
            self.checks.end_shown()
            if not self._resting():
                self._check_end()

    def _introduce(self) -> None:
        say, project, scenario = self.world.say, self.scenario.project, self.scenario
        say(f"seed {self.world.seed}")
        for node in project.nodes.values():
            tests = f" on {node.attached}" if node.attached else ""
            say(f"  {node.unique_id} <- {' '.join(node.parents)} [{node.materialized}] {node.results}{tests}")
        say(f"  {project.adapter}, {project.threads} threads, fail-fast {project.fail_fast}, fatal {project.fatal!r}")
        say(f"  hooks: start {project.start_hook}, {project.end_hooks} at the end {project.end_hook}")
        say(f"  {scenario.rules}")
        say(f"  calm at {scenario.calm}, warehouse down {scenario.down}, wishes {scenario.wishes}")

    def _limit(self) -> int:
        """By when the run has to have ended, in milliseconds: all that it may wait for, one after the other."""
        scenario, rules = self.scenario, self.scenario.rules
        start = int(rules.start_deadline.total_seconds() * 1000)
        wait = int(rules.retry.backoff.max.total_seconds() * 1000)
        grace = int(rules.grace.total_seconds() * 1000)
        once = wait + grace + start + 30_000 + 15_000 * len(scenario.project.nodes)
        skewed = 60_000 if scenario.skews != (0,) else 0
        return scenario.calm + 120_000 + (once + skewed) * self.checks.attempts_allowed

    def _over(self) -> bool:
        alive = [one for one in self._operators if not one.dead]
        if not self.cluster.exists:
            return all(one.at_rest for one in alive)
        if not self._listed or self.world.ms < max((at for at, _ in self.scenario.wishes), default=0):
            return False
        if any(process.alive for process in self.warehouse.processes):
            return False
        return (bool(alive) and all(one.at_rest for one in alive)) or self._resting()

    def _resting(self) -> bool:
        plan = self.checks.plan
        writes = any(one.writer.pending() for one in self._operators if not one.dead)
        suspended = self.cluster.wants("suspend") and self.cluster.status.phase is RunPhase.SUSPENDED
        if plan is None or plan.phase is not RunPhase.SUSPENDED:
            return False  # an operator that is held up in a call has yet to show something else
        return suspended and not writes and not any(each.live for each in plan.assessments)

    def _check_end(self) -> None:
        status = self.cluster.status
        if status.phase is None or not status.phase.terminal:
            broken("it comes to an end", f"the operator rests and the run is {status.phase}")
        for job in self.cluster.jobs.values():
            # A Job ends with the first of its pods that does, whatever others it has.
            ended = any(pod.over and pod.process is not None for pod in job.pods)
            gone = bool(job.pods) and all(pod.over for pod in job.pods)
            if not (job.complete or job.failed or ended or gone):
                broken("nothing lives on", f"Job {job.name} is alive although the run has ended")
        record = self.cluster.records.get(max(self.cluster.records, default=0))
        if record is not None and record.content.sealed is None and not self._never_made(record.decision.name):
            broken("sealed at the end", f"{record.decision.name} is not sealed")

    def _never_made(self, name: str) -> bool:
        """Whether one of two operators has decided on it when the other had ended the run, and died with that."""
        made = any(pod.job.name == name for pod in self.cluster.all_pods.values())
        return self.checks.operators_at_once and not made

    # people

    def _wish(self, wish: str) -> None:
        if self.world.tracing:
            self.world.say(f"** {wish}")
        cluster = self.cluster
        if not cluster.exists:
            return
        self.checks.wished.add(wish)
        match wish:
            case "cancel" | "uncancel":
                cluster.change_spec(cancel=wish == "cancel")
            case "invalid" | "valid":
                cluster.change_spec(ofALaterVersion=True if wish == "invalid" else None)
            case "supersede" | "delete the newer":
                cluster.supersede(wish == "supersede")
            case "foreign record":
                cluster.foreign = max(cluster.records, default=0) + 1
            case "delete":
                cluster.delete_run()
            case "suspend" | "unsuspend":
                cluster.change_spec(suspend=wish == "suspend")
            case _:
                self._wishes += 1
                node = wish.removeprefix("retry ")
                cluster.ask(f"t{self._wishes}", unique_id=None if node == "run" else node)

    # operators

    def _tend(self) -> None:
        """Keep an operator alive; now and then two for a while; and let one die at a moment of no account."""
        alive = [one for one in self._operators if not one.dead]
        calm = self.cluster.calm
        if calm:
            for one in alive[1:]:
                one.die()
        if not alive:
            self._start()
        elif not calm and self.scenario.crashes:
            throw = self._chance.random()
            if throw < 0.1:
                alive[0].die()
            elif throw < 0.15 and len(alive) == 1:
                self.checks.operators_at_once = True
                self._start()
            elif throw < 0.3 and len(alive) > 1:
                alive[0].die()
        if not calm or not alive:
            self.world.later(self._chance.choice((1000, 3000, 8000)), self._tend)
        if calm and alive:
            # What was missed by a watch that broke is found by the list with which the next one begins.
            alive[0].list()
            self._listed = True

    def _start(self) -> None:
        self._born += 1
        operator = Operator(name=f"{self._born}", world=self.world, cluster=self.cluster, checks=self.checks)
        self._operators.append(operator)
