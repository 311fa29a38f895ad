"""A simulated machine: what `dbt-operator local` works with where processes are killed, and what survives that.

The file of objects is the real one, in memory; the folders of attempts and the locks in them are real, too. What is
simulated is whatever is a process: the operator, the supervisor of an attempt, and its dbt.
"""

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

from dbt_operator.dbt.found import COMMIT
from dbt_operator.kube.event_manifest import EventType
from dbt_operator.kube.resources import Object, Resource
from dbt_operator.local.attempts import LocalAttempt
from dbt_operator.local.place import Place
from dbt_operator.local.store import ObjectList, Store
from dbt_operator.local.supervisor import CLAIM, STATUS, claim, write
from dbt_operator.plan.attempt import Decision
from tests.simulation.process import Process
from tests.simulation.scenario import Scenario
from tests.simulation.warehouse import Warehouse
from tests.simulation.world import World, broken

FATES = ("dbt", "group", "supervisor", "crash", "everything", "everything")
_KILLED, _TOLD = 128 + 9, 128 + 15
_NO_PROCESS = -1


class Mortal:
    """A process of the operator, as far as it can be killed between two steps."""

    def __init__(self, *, world: World, scenario: Scenario, name: str) -> None:
        self.world, self.scenario, self.name = world, scenario, name
        self.dead = False
        self.task: asyncio.Task[Any] | None = None
        self._grave = asyncio.Event()
        self._chance = world.chance(f"operator {name}")

    def die(self) -> None:
        """SIGKILL."""
        if not self.dead:
            self.dead = True
            if self.world.tracing:
                self.world.say(f"operator {self.name} is killed")
            if self.task is not None:
                self.task.cancel()

    def bury(self) -> None:
        """Let what waits for ever come to its end."""
        self.dead = True
        self._grave.set()

    async def step(self) -> None:
        """Between two steps: it may die now, and the dead do nothing more."""
        if not self.dead and self.world.ms < self.scenario.calm and self._chance.random() < self.scenario.crashes:
            self.die()
        if self.dead:
            await self._grave.wait()
            raise asyncio.CancelledError


class Hand(Store):
    """The file of objects, as one process has it open."""

    def __init__(self, db: sqlite3.Connection, mortal: Mortal) -> None:
        self._db, self._mortal = db, mortal

    def now(self) -> datetime:
        """The time."""
        return self._mortal.world.now

    @contextmanager
    def _changing(self) -> Iterator[None]:
        if self._mortal.dead:
            raise asyncio.CancelledError
        with super()._changing():
            yield

    async def _call(self, call: Callable[[], Any]) -> Any:
        await self._mortal.step()
        answer = call()
        await self._mortal.step()
        return answer

    async def find(self, *, resource: Resource, namespace: str, name: str) -> Object | None:
        """As the real one, but it may die."""
        return cast(Object | None, await self._call(lambda: self.get(resource, name, namespace=namespace)))

    async def list(
        self, *, resource: Resource, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        """As above."""
        await self._mortal.step()
        return await super().list(resource=resource, namespace=namespace, labels=labels)

    async def create_or_adopt(self, **what: Any) -> tuple[Object, bool]:
        """As above."""
        await self._mortal.step()
        answer = await super().create_or_adopt(**what)
        await self._mortal.step()
        return answer

    async def patch(self, **what: Any) -> Object:
        """As above."""
        await self._mortal.step()
        answer = await super().patch(**what)
        await self._mortal.step()
        return answer

    async def record_event(
        self, *, regarding: Mapping[str, Any], kind: EventType, reason: str, message: str, key: str = ""
    ) -> None:
        """Events are for people."""


class _LogFile(RawIOBase):
    """What a process has printed so far."""

    def __init__(self, process: Process) -> None:
        self._process, self._line, self._ended = process, 0, False

    def read(self, _size: int = -1) -> bytes:
        """What was printed since the last time."""
        log = self._process.log
        data = b"".join(line + b"\n" for line in log[self._line :])
        self._line = len(log)
        if not self._process.alive and not self._ended:
            self._ended = True
            data += self._process.piece
        return data


@dataclass
class Life:
    """The processes of an attempt: the one that watches, and dbt. `claim`: the lock that both have."""

    name: str
    folder: Path
    claim: int = _NO_PROCESS
    process: Process | None = None
    watched: bool = True  # the supervisor is alive
    told: bool = False  # to end
    started: bool = True  # it has not ended without having claimed the attempt
    status: dict[str, Any] = field(default_factory=dict)

    def poll(self) -> int | None:
        """As of subprocess: whether the supervisor has ended."""
        return None if self.started and self.watched else _KILLED


class SimulatedAttempt(LocalAttempt):
    """An attempt whose processes are simulated. All else of it is real."""

    __slots__ = ("machine", "mortal")
    machine: "Machine"
    mortal: Mortal

    def start(self, recipe: object) -> None:
        """Start the process that watches."""
        del recipe
        if self.mortal.dead or (self.spawned is not None and self.spawned.poll() is None):
            return
        self.spawned = cast(Any, self.machine.spawn(self.name, self.folder, self.mortal))

    def open_log(self) -> BinaryIO | None:
        """Its log."""
        life = self.machine.lives.get(self.name)
        return None if life is None or life.process is None else cast(BinaryIO, _LogFile(life.process))

    def stop(self) -> None:
        """Tell it to end."""
        if not self.mortal.dead:
            self.machine.stopped.setdefault(self.name, self.machine.world.now)
            super().stop()

    def enforce(self, *, grace_seconds: float) -> None:
        """As the real one, with the time of the simulation."""
        since = self.machine.stopped.get(self.name)
        if since is not None and self.machine.world.now - since > timedelta(seconds=grace_seconds + 5):
            self.machine.kill(self.name)

    def fingerprint(self) -> object:
        """As the real one, which looks at times of files: here all happens at one."""
        life = self.machine.lives.get(self.name)
        return bool(self.job), self.name in self.machine.stopped, str(life and life.status), self.alive

    def kill(self) -> None:
        """End all of its processes at once."""
        self.machine.kill(self.name)

    def _signal(self, number: object) -> None:
        del number
        self.machine.terminate(self.name)


class Machine:
    """Files, and processes that nobody but the kernel watches."""

    def __init__(self, *, world: World, scenario: Scenario, warehouse: Warehouse) -> None:
        self.world, self.scenario, self.warehouse = world, scenario, warehouse
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)  # noqa: S108 - memory
        self.place = Place(Path(self._folder.name))
        self._chance = world.chance("machine")
        self._grace_ms = int(scenario.rules.grace.total_seconds() * 1000)
        self.store = Store(cast(Path, ":memory:"))
        self.decisions: dict[str, Decision] = {}
        self.lives: dict[str, Life] = {}  # by the attempt: the one that has claimed it
        self.stopped: dict[str, datetime] = {}
        self.operator: Mortal | None = None

    def close(self) -> None:
        """Leave nothing behind."""
        for life in self.lives.values():
            self._release(life)
        self.store.__exit__(None, None, None)
        self._folder.cleanup()

    def _say(self, text: str) -> None:
        if self.world.tracing:
            self.world.say(f"machine: {text}")

    # the supervisor

    def spawn(self, name: str, folder: Path, mortal: Mortal) -> Life:
        """A supervisor begins. Before it has claimed the attempt it may end, or its order be cut off."""
        life = Life(name, folder)

        def begin() -> None:
            harmed = self.world.ms < self.scenario.calm and self._chance.random() < self.scenario.fates / 4
            if harmed or (mortal.dead and self._chance.random() < 0.5):
                life.started = False
                return
            descriptor = claim(folder / CLAIM)
            if descriptor is None:
                life.started = False
                return
            life.claim = descriptor
            self.lives[name] = life
            self._say(f"{name} is claimed")
            self._note(life, supervisor=1)
            self.world.later(self._chance.choice((1, 50, 700)), partial(self._run, life))

        self.world.later(self._chance.choice((1, 30, 400, 2500, 40_000)), begin)
        return life

    def _run(self, life: Life) -> None:
        if not life.watched:
            return
        self._note(life, step=None, started=self.world.now.isoformat())
        # It is shown as running a moment before there is a process, and a log.
        self.world.later(self._chance.choice((1, 200, 1500)), partial(self._begin, life))

    def _begin(self, life: Life) -> None:
        if not life.watched:
            return
        if life.told:
            self._exited(life, _TOLD)
            return
        if any(each.job == life.name for each in self.warehouse.processes):
            broken("an attempt has one process", f"{life.name} is begun again")
        decision = self.decisions[life.name]
        life.process = Process(
            world=self.world,
            chance=self.world.chance(f"process {life.name}"),
            warehouse=self.warehouse,
            job=life.name,
            number=decision.index - 1,
            decision=decision,
            commit=decision.found.get(COMMIT) or f"commit-{len(self.warehouse.processes)}",
            exited=partial(self._exited, life),
            hang_until=self.scenario.calm,
        )
        if self.world.ms < self.scenario.calm and self._chance.random() < self.scenario.fates:
            delay = self._chance.choice((10, 600, 2500, 4000, 7000, 15_000, 40_000))
            self.world.later(delay, partial(self._strike, life, self._chance.choice(FATES)))

    def _exited(self, life: Life, code: int) -> None:
        if not life.watched:
            self._release(life)
            return

        def note() -> None:
            if life.watched:
                self._note(life, exit_code=code, ended=self.world.now.isoformat(), oom=False)
                self.world.later(self._chance.choice((1, 100)), partial(self._release, life))

        self.world.later(self._chance.choice((1, 30, 400)), note)

    def _note(self, life: Life, **what: Any) -> None:
        life.status |= what
        write(life.folder / STATUS, life.status)

    def _release(self, life: Life) -> None:
        if life.claim != _NO_PROCESS:
            os.close(life.claim)
            life.claim = _NO_PROCESS

    # signals

    def terminate(self, name: str) -> None:
        """SIGTERM to the supervisor, or to dbt where that is gone."""
        life = self.lives.get(name)
        if life is None:
            return
        life.told = True
        if life.process is None:
            return
        life.process.terminate()
        if life.watched:
            self.world.later(self._grace_ms, partial(self._kill_dbt, life))

    def _kill_dbt(self, life: Life) -> None:
        if life.process is not None and life.process.alive and life.watched:
            life.process.kill()
            self._exited(life, _KILLED)

    def kill(self, name: str) -> None:
        """SIGKILL to all of its processes."""
        life = self.lives.get(name)
        if life is None:
            return
        life.watched = False
        if life.process is not None:
            life.process.kill()
        self._release(life)

    def _strike(self, life: Life, fate: str) -> None:
        """What is killed."""
        process = life.process
        if process is None or not process.alive or self.world.ms >= self.scenario.calm:
            return
        self._say(f"!! {fate}: {life.name}")
        if fate == "dbt":
            process.kill()
            self._exited(life, _KILLED)
        elif fate == "supervisor":
            life.watched = False
        elif fate == "crash":
            process.crash()
        else:
            if fate == "everything" and self.operator is not None:
                self.operator.die()
            self.kill(life.name)
