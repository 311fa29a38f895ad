"""The step `environment` as pods run it: a process of its own, with a real uv or pip and an index of the test's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.runner.package_index import PackageIndex

INSTALLERS = ("uv", "pip")
MakePod = Callable[[], "Pod"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step ended: what it has found, or what it says to the run; and its log."""

    code: int
    found: dict[str, str]
    said: dict[str, str]
    log: str

    @property
    def message(self) -> str:
        assert self.code == 1, self.log
        return self.said["message"]


@dataclass(frozen=True, slots=True)
class Started:
    """A step that is at work."""

    process: subprocess.Popen[str]
    folder: Path

    def kill(self) -> None:
        """Kill it with its children, as a container is killed."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> Ended:
        """Wait for its end."""
        log, _ = self.process.communicate()
        found, said = self.folder / "found.json", self.folder / "said.json"
        return Ended(
            code=self.process.returncode,
            found=json.loads(found.read_text()) if found.exists() else {},
            said=json.loads(said.read_text()) if said.exists() else {},
            log=log,
        )


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that has a volume for its environment."""

    archive: Path
    index: PackageIndex
    folder: Path

    @property
    def into(self) -> Path:
        return self.folder / "environment"

    def start(self, *options: str, installer: str = "uv", secret: str = "") -> Started:
        """Begin the step; `secret`: the content of the Secret with the index, which is that of the test otherwise."""
        self.into.mkdir(parents=True)
        (self.folder / "index").write_text(f"{secret or self.index.url}\n")
        own = [
            *(f"--into={self.into}", f"--index-file={self.folder / 'index'}", f"--found={self.folder / 'found.json'}"),
            f"--termination-message={self.folder / 'said.json'}",
        ]
        process = subprocess.Popen(
            [sys.executable, str(self.archive), "environment", *own, *options],
            env={"PATH": path_with(installer), "TMPDIR": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Started(process, self.folder)

    def run(self, *options: str, installer: str = "uv", secret: str = "") -> Ended:
        """The step from its beginning to its end."""
        return self.start(*options, installer=installer, secret=secret).end()

    @property
    def place(self) -> dict[str, str]:
        """Where the environment is, as the runner reads it."""
        place: dict[str, str] = json.loads((self.into / "environment.json").read_text())
        return place

    @property
    def venv(self) -> Path:
        return Path(self.place["venv"])

    def runner(self) -> dict[str, Any]:
        """The first line of the runner in this pod."""
        return self._runner()[0]

    def runner_end(self) -> dict[str, Any]:
        """Its last line."""
        return self._runner()[-1]

    def _runner(self) -> list[dict[str, Any]]:
        command = [sys.executable, str(self.archive), f"--environment={self.into}", "--", "build"]
        done = subprocess.run(command, env={"PATH": path_with("pip")}, capture_output=True, check=False)
        return [json.loads(line)["data"] for line in done.stdout.splitlines()]


def path_with(installer: str) -> str:
    """A PATH on which this installer is the one to be found."""
    system = "/usr/bin:/bin"
    if installer != "uv":
        return system
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "uv is a part of the development environment: run `make venv`"
    return f"{Path(uv).parent}{os.pathsep}{system}"
