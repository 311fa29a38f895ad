"""An operator process: it begins a loop for the run when something happens, and dies with all that it remembers.

A loop is a generator. What it yields is how long it waits, so that anything may happen to the world, and to the
operator itself, between any two of its steps.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

from dbt_operator.plan.facts import PodFacts
from tests.simulation.calls import ApiError, Died
from tests.simulation.checks import Checks
from tests.simulation.cluster import Cluster
from tests.simulation.reconciler import Reconciler, Seen
from tests.simulation.world import World

_FIRST_PAUSE, _LONGEST_PAUSE = 500, 30_000


@dataclass(frozen=True)
class _Rest:
    until: int


class Operator:
    """An operator process: it starts a loop for the run when something happens, and dies with all it remembers."""

    def __init__(self, *, name: str, world: World, cluster: Cluster, checks: Checks) -> None:
        self.name, self.world, self.cluster, self._checks = name, world, cluster, checks
        self.chance = world.chance(f"operator {name}")
        self.dead = False
        self.loop: Loop | None = None
        cluster.watchers.append(self._heard)
        cluster.mourners.append(self._pod_gone)
        self.wake()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return self.loop is None and self._expires_at is None

    def say(self, text: str) -> None:
        """Write a line of the trace."""
        self.world.say(f"operator {self.name}: {text}")

    def die(self) -> None:
        """SIGKILL."""
        if not self.dead:
            self.dead = True
            self.cluster.watchers.remove(self._heard)
            self.cluster.mourners.remove(self._pod_gone)
            if self.world.tracing:
                self.say("dies")

    def _heard(self, what: str) -> None:
        if not self.dead and (self.loop is not None or what == "run"):
            self.wake()

    def _pod_gone(self, job: str, facts: PodFacts) -> None:
        if not self.dead and self.loop is not None:
            self.loop.pod_gone(job, facts)

    def wake(self) -> None:
        """A watch says that something has changed."""
        if self.loop is None:
            self.loop = Loop(operator=self, world=self.world, cluster=self.cluster, checks=self._checks)
        self.loop.wake()

    def poke(self) -> None:
        """The log says something."""
        if self.loop is not None:
            self.loop.poke()

    def finished(self, loop: "Loop") -> None:
        """A loop has nothing left to do."""
        loop.stop()
        if self.loop is loop:
            self.loop = None
            if self._expires_at is not None:
                self.world.later(self._expires_at - self.world.ms, self._expired)

    @property
    def _expires_at(self) -> int | None:
        """When the run's time to live is over, in milliseconds; None where it has none, or has not ended."""
        ttl, ended_at = self.cluster.scenario.ttl, self.cluster.status.ended_at
        if ttl is None or ended_at is None or not self.cluster.exists:
            return None
        return self.world.ms_of(ended_at + ttl)

    def _expired(self) -> None:
        if not self.dead and self._expires_at is not None:
            self.wake()


class Loop:
    """The loop of one run."""

    def __init__(self, *, operator: Operator, world: World, cluster: Cluster, checks: Checks) -> None:
        self._operator, self._world = operator, world
        self._reconciler = Reconciler(operator=operator, cluster=cluster, checks=checks, wake=self.wake)
        self._stale = True
        self._changed = False
        self._look_again = -1
        self._seen: Seen | None = None
        self._resting = 0  # number of the rest that may be broken off; 0: none
        self._rests = 0
        self._steps = self._run()
        world.later(0, self._resume)

    # being driven

    def _resume(self) -> None:
        if self._operator.dead:
            return
        self._resting = 0
        try:
            wait = next(self._steps)
        except StopIteration:
            self._operator.finished(self)
            return
        except Died:
            self._operator.die()
            return
        if isinstance(wait, _Rest):
            self._rests += 1
            self._resting = self._rests
            delay = 0 if self._changed else wait.until - self._world.ms
            self._world.later(delay, partial(self._rested, self._rests))
        else:
            self._world.later(wait, self._resume)

    def _rested(self, number: int) -> None:
        if self._resting == number:
            self._resume()

    def wake(self) -> None:
        """Look again at what the cluster shows."""
        self._stale = True
        self.poke()

    def pod_gone(self, job: str, facts: PodFacts) -> None:
        """The watch shows in what state a pod was when it went."""
        self._reconciler.pod_gone(job, facts)

    def poke(self) -> None:
        """Take a turn."""
        self._changed = True
        if self._resting:
            number = self._resting
            self._world.later(0, partial(self._rested, number))

    def stop(self) -> None:
        """Follow no log any more."""
        self._reconciler.stop()

    # the loop

    def _run(self) -> Generator["int | _Rest", None, None]:
        pause = _FIRST_PAUSE
        while True:
            try:
                rest = yield from self._turn()
                if rest is None:
                    return
                pause = _FIRST_PAUSE
                yield rest
            except ApiError:
                yield pause
                pause = min(2 * pause, _LONGEST_PAUSE)
                self.wake()

    def _turn(self) -> Generator["int | _Rest", None, _Rest | None]:
        self._changed = False
        if self._stale or self._world.ms >= self._look_again:
            self._stale = False
            self._seen = yield from self._reconciler.look()
        if self._seen is None:
            return None
        plan = yield from self._reconciler.plan(self._seen)
        if plan is None:
            self.wake()
            return _Rest(self._world.ms)
        self._look_again = self._world.ms_of(plan.wake_at)
        yield from self._reconciler.act(plan, self._seen)
        if plan.done and not self._stale:
            return None
        return _Rest(self._look_again)
