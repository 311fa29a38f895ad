"""What is measured of each peer, and how: all are looked at in the same rhythm, where they show people their states."""

import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from benchmarks.peers.processes import Processes, Sampler, busy
from benchmarks.peers.warehouse import Server
from benchmarks.project import failing, files
from dev import dbt_venv

RHYTHM = 0.2
"""Seconds between two looks; a state is shown up to so much earlier than it is seen."""

State = Literal["", "failed", "succeeded"]


class NotHereError(Exception):
    """A peer that cannot be measured on this machine, with the reason."""


@dataclass(frozen=True, slots=True)
class Task:
    """What all peers are given. `delay`: seconds before a retry, where a peer lets one say."""

    nodes: int
    seconds: float
    threads: int
    warehouse: Server
    patience: float
    delay: int = 1

    @property
    def model(self) -> str:
        """The one that fails the first time."""
        return failing(self.nodes)

    def content(self, *, host: str = "127.0.0.1") -> Iterator[tuple[str, str]]:
        """The files of the project, with its profiles.yml."""
        yield from files(self.nodes, seconds=self.seconds, fails_once=True)
        yield "profiles.yml", yaml.safe_dump(self.warehouse.profile(host=host, threads=self.threads))

    def write(self, folder: Path) -> Path:
        """Write the project into a new folder."""
        for name, text in self.content():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder


@dataclass(frozen=True, slots=True)
class Look:
    """What a peer shows at a moment. `run`: how it has ended; "" while it goes on."""

    node: State = ""
    run: State = ""


class Session(ABC):
    """A peer that is ready to run."""

    @abstractmethod
    def roots(self, seen: Processes) -> Iterable[int]:
        """The processes from which all that it needs descends."""

    @abstractmethod
    def begin(self) -> None:
        """Begin the run. Returns at once."""

    @abstractmethod
    def look(self) -> Look:
        """What it shows now."""

    def beside(self) -> "Sampler | None":
        """What is measured apart from it, as others share it."""
        return None


class Peer(ABC):
    """A way to execute a dbt project. Methods raise NotHereError where it does not work on this machine."""

    name: str
    title: str

    @abstractmethod
    def about(self) -> str:
        """Versions, and how it was told to execute the project."""

    @abstractmethod
    def ready(self, task: Task, folder: Path) -> AbstractContextManager[Session]:
        """Whatever has to be there before a run begins: its programs, the project, its services."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """When a peer has shown what, and how the run ended."""

    began: float
    failed: float | None = None
    green: float | None = None
    ended: float | None = None
    state: State = ""

    def after(self, look: Look, at: float) -> "Timeline":
        """With one more look."""
        return Timeline(
            began=self.began,
            failed=at if self.failed is None and look.node == "failed" else self.failed,
            green=at if self.green is None and look.node == "succeeded" else self.green,
            ended=at if self.ended is None and look.run else self.ended,
            state=self.state or look.run,
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one run. Seconds and MiB; None where it was not seen. `others`: processor time of all else on the machine."""

    wall: float | None
    shown: float | None
    green: float | None
    processor: float
    idle: float
    memory: float
    others: float
    beside: tuple[float, float] | None = None  # seconds and MiB of what others share
    remark: str = ""


def figures(timeline: Timeline, failures: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Of a run: how long it took, and after the failure in the warehouse when it was shown, and the node was green."""
    failure = failures[0] if failures else None

    def since(start: float | None, end: float | None) -> float | None:
        return None if start is None or end is None else round(end - start, 2)

    return (
        since(timeline.began, timeline.ended),
        since(failure, timeline.failed),
        since(failure, timeline.green),
    )


def measure(peer: Peer, task: Task, folder: Path) -> Measured:
    """One run of a peer."""
    with peer.ready(task, folder) as session:
        task.warehouse.reset()
        before = len(task.warehouse.failures())
        beside, sampler = session.beside(), Sampler(session.roots)
        warehouse = Sampler(lambda _: [task.warehouse.pid])
        samplers = [sampler, warehouse] if beside is None else [sampler, warehouse, beside]
        was_busy = busy()
        with ExitStack() as stack:
            for one in samplers:
                stack.enter_context(one)
            timeline = _follow(session, patience=task.patience)
        others = busy() - was_busy - sum(one.seconds for one in samplers)
    failures = task.warehouse.failures()[before:]
    wall, shown, green = figures(timeline, failures)
    return Measured(
        wall=wall,
        shown=shown,
        green=green,
        processor=round(sampler.seconds, 1),
        idle=round(sampler.idle),
        memory=round(sampler.memory),
        others=round(max(0, others), 1),
        beside=None if beside is None else (round(beside.seconds, 1), round(beside.memory)),
        remark=_remark(timeline, task, failures=len(failures)),
    )


def _follow(session: Session, *, patience: float) -> Timeline:
    timeline = Timeline(began=time.time())
    session.begin()
    while timeline.ended is None and time.time() - timeline.began < patience:
        time.sleep(RHYTHM)
        timeline = timeline.after(session.look(), time.time())
    return timeline


def _remark(timeline: Timeline, task: Task, *, failures: int) -> str:
    tables = task.warehouse.tables()
    if timeline.ended is None:
        return f"stopped after {task.patience:.0f} s, with {tables} of {task.nodes} nodes in the warehouse"
    if timeline.state == "failed" or tables != task.nodes:
        return f"the run ended as {timeline.state}, with {tables} of {task.nodes} nodes in the warehouse"
    return "" if failures == 1 else f"the model failed {failures} times"


def requirements(name: str) -> Path:
    """The list of packages of an environment."""
    return dbt_venv.FOLDER / f"{name}.txt"


def versions(name: str, *packages: str) -> str:
    """What an environment has of these packages."""
    lines = requirements(name).read_text().splitlines()
    pins = dict(line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith(" "))
    return ", ".join(f"{package} {pins[package]}" for package in packages)


def environment(name: str) -> Path:
    """The folder with the programs of an environment, which is built where it is not there yet.

    Raises: NotHereError where its packages cannot be installed.
    """
    try:
        return dbt_venv.ensure(requirements=requirements(name)).parent
    except subprocess.CalledProcessError as error:
        raise NotHereError(f"its packages cannot be installed: {error}") from error


def environ_of(programs: Path, **more: str) -> dict[str, str]:
    """The variables of a peer: its own programs first, nothing of this checkout, no proxy, no telemetry."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    own = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "*", "no_proxy": "*", "DO_NOT_TRACK": "1"}
    return {**kept, **own, **more}


def parsed(task: Task, folder: Path, programs: Path) -> Path:
    """The project with its manifest."""
    project = task.write(folder / "project")
    parse: list[str | Path] = [
        programs / "dbt",
        "--quiet",
        "parse",
        "--project-dir",
        project,
        "--profiles-dir",
        project,
    ]
    subprocess.run(parse, check=True, cwd=project)
    return project
