"""Where the virtual environment of a pod is: what its step leaves for the runner."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from dbt_operator.runner.venv_cache import TOUCH_SECONDS

_FILE = "environment.json"


@dataclass(frozen=True)
class Place:
    """A virtual environment. mark: a file to be touched every now and then while it is in use, "" where it is none."""

    venv: str
    mark: str = ""

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(Path(self.venv, "bin", "python"))

    @property
    def here(self) -> bool:
        """Whether this process runs in it."""
        return sys.prefix == self.venv

    def write(self, folder: Path) -> None:
        """Leave it in a folder. Raises: OSError."""
        (folder / _FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    def enter(self) -> None:
        """Let programs that this process starts be those of the environment."""
        os.environ["VIRTUAL_ENV"] = self.venv
        os.environ["PATH"] = f"{Path(self.venv, 'bin')}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    def keep(self) -> None:
        """Keep it from being removed while this process lives."""
        if self.mark:
            threading.Thread(target=self._touch, name="runner-environment", daemon=True).start()

    def _touch(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                Path(self.mark).touch()
            threading.Event().wait(TOUCH_SECONDS)


def read_place(folder: str) -> Place:
    """What a step has left in the folder. Raises: OSError, ValueError, TypeError where there is nothing to be read."""
    return Place(**json.loads(Path(folder, _FILE).read_text(encoding="utf-8")))
