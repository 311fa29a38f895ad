"""A warehouse, and dbt processes that execute nodes in it the way `dbt build` does: written apart from the planner."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from dbt_operator.api.phases import AttemptKind
from tests.unit.plan.story import Dbt, Story

_BAD = ("error", "fail", "skipped")
_THREADS = 2


class World:
    """What really is, whatever the operator has heard of it."""

    def __init__(self, run: Story, random: Random) -> None:
        self.run, self.random = run, random
        self.results: dict[str, str] = {}  # how each node was last executed
        self.failed: dict[str, int] = {}  # how often each failed
        self.texts: dict[str, str] = {}  # of the last failure of each
        self.processes: dict[str, Process] = {}
        self.story: list[str] = []

    def say(self, what: str) -> None:
        """For whoever reads a failing example."""
        self.story.append(f"{self.run.now:%H:%M:%S} {what}")

    def live(self) -> "list[Process]":
        """The processes that may execute something at this moment."""
        return [process for process in self.processes.values() if process.alive]

    def check_number(self) -> None:
        """No more processes than are allowed are at work."""
        rules, live = self.run.rules.retry, self.live()
        if self.run.adapter == "duckdb":
            assert len(live) <= 1, "two processes have the database file open"
        seen = [one for one in live if one.ghost_until is None and one.dbt.decision.kind is not AttemptKind.PRODUCER]
        assert len(seen) <= rules.parallelism

    def check_begin(self, unique_id: str) -> None:
        """A node is executed once at a time, and only on top of what is good."""
        others = [one for one in self.live() if unique_id in one.running]
        assert not others, f"{unique_id} is executed by two processes"
        for need in self.needs(unique_id):
            assert not any(need in one.running for one in self.live()), f"{unique_id} reads {need} while that is built"
            assert self.results.get(need) in ("success", "pass"), f"{unique_id} is executed, {need} is not good"

    # the graph, as dbt understands it

    def executed(self, unique_id: str) -> bool:
        node = self.run.nodes[unique_id]
        return node.get("materialized") != "ephemeral"

    def parents(self, unique_id: str) -> Iterator[str]:
        """The nodes that it reads, through ephemeral ones; of a unit test what its model reads."""
        for parent in self.run.nodes[unique_id]["depends_on"]:
            if unique_id.startswith("unit_test.") or not self.executed(parent):
                yield from self.parents(parent)
            else:
                yield parent

    def ancestors(self, unique_id: str) -> set[str]:
        above = set(self.parents(unique_id))
        return above.union(*(self.ancestors(one) for one in above))

    def needs(self, unique_id: str) -> set[str]:
        """What has to be good before dbt executes it."""
        found = set(self.parents(unique_id))
        if unique_id.startswith("test."):
            return found
        above = self.ancestors(unique_id)
        for one, node in self.run.nodes.items():
            if one.startswith("unit_test.") and node["depends_on"] == [unique_id]:
                found.add(one)
            if one.startswith("test.") and above.issuperset(self.parents(one)):
                found.add(one)
        return found


class Process:
    """A dbt that was started for an attempt."""

    def __init__(self, world: World, dbt: Dbt) -> None:
        self.world, self.dbt = world, dbt
        self.said: dict[str, str] = {}
        self.running: set[str] = set()
        self.over = False
        self.cancelling = False
        self.ghost_until: datetime | None = None  # its pod was taken away by force, and it lives on until then
        self.name = " ".join((dbt.decision.kind, dbt.decision.name.removeprefix("nightly-")))
        self.nodes = [one for one in dbt.nodes if world.executed(one)]

    @property
    def alive(self) -> bool:
        if self.ghost_until is not None:
            return self.world.run.now < self.ghost_until
        return not self.over

    def step(self, *, chance_of_failure: float) -> None:
        """One thing happens in it."""
        random = self.world.random
        if self.cancelling or (self.dbt.stopping and random.random() < 0.7):
            self._stop()
            return
        ready = [one for one in self._ready() if one not in self.said and one not in self.running]
        if self.running and (not ready or len(self.running) >= _THREADS or random.random() < 0.5):
            self._finish(random.choice(sorted(self.running)), fails=random.random() < chance_of_failure)
        elif ready:
            self._begin(random.choice(ready))
        else:
            self.dbt.ends()
            self.over = True
            self.world.say(f"{self.name} ends")

    def _ready(self) -> Iterator[str]:
        for one in self.nodes:
            needs = [need for need in self.world.needs(one) if need in self.nodes]
            if all(need in self.said for need in needs):
                yield one

    def _begin(self, unique_id: str) -> None:
        name = self.dbt.run.nodes[unique_id]["name"]
        if any(self.said.get(need) in _BAD for need in self.world.needs(unique_id)):
            self.said[unique_id] = "skipped"
            self.world.results.pop(unique_id, None)  # what was there before it is not what it should be now
            self.dbt.reports(**{name: "skipped"})
            self.world.say(f"{self.name} skips {name}")
            return
        self.world.say(f"{self.name} begins {name}")
        self.world.check_begin(unique_id)
        readers = [one for live in self.world.live() for one in live.running if unique_id in self.world.parents(one)]
        assert not readers, f"{unique_id} is built while {readers} reads it"
        self.running.add(unique_id)
        if not unique_id.startswith(("test.", "unit_test.")):  # what a test had found stands until it has ended again
            self.world.results.pop(unique_id, None)
        for test in self.world.run.nodes:
            if test.startswith("test.") and unique_id in self.world.parents(test):
                self.world.results.pop(test, None)
        self.dbt.reports(**{name: "running"})

    def _finish(self, unique_id: str, *, fails: bool) -> None:
        name = self.dbt.run.nodes[unique_id]["name"]
        test = unique_id.startswith(("test.", "unit_test."))
        kinds = ("fail: Got 3 results", "error: deadlock") if test else ("error: deadlock", "error: Compilation Error")
        bad = self.world.random.choice(kinds)
        said = bad if fails else ("pass" if test else "success")
        status = said.partition(":")[0]
        self.running.discard(unique_id)
        self.said[unique_id] = self.world.results[unique_id] = status
        if fails:
            self.world.failed[unique_id] = self.world.failed.get(unique_id, 0) + 1
            self.world.texts[unique_id] = said
        self.dbt.reports(**{name: said})
        self.world.say(f"{self.name}: {name} {said}")

    def _stop(self) -> None:
        """It does as it is told: cancels one query after the other, and ends."""
        self.cancelling = True
        if self.running and self.world.random.random() < 0.7:
            unique_id = self.world.random.choice(sorted(self.running))
            returned = self.world.random.random() < 0.5
            self.dbt.cancels(self.dbt.run.nodes[unique_id]["name"], returned=returned)
            self.world.say(f"{self.name} cancels {unique_id}{', which returns' if returned else ''}")
            self.running.discard(unique_id)
            self.said[unique_id] = "error"
            return
        self.world.say(f"{self.name} stops")
        self.dbt.stops()
        self.over = True
        self.running.clear()

    def is_lost(self) -> None:
        """Its pod goes, and it with it, or a while later."""
        way = self.world.random.choice(("evicted", "killed", "vanished", "deleted"))
        self.world.say(f"{self.name} is {way}")
        if way == "deleted":
            self.dbt.is_deleted()
            return
        self.over = True
        if way == "vanished":
            self.dbt.vanishes()
            self.ghost_until = self.world.run.now + self.world.run.rules.retry.grace - timedelta(seconds=1)
            return
        (self.dbt.is_evicted if way == "evicted" else self.dbt.is_killed)()
        self.running.clear()
