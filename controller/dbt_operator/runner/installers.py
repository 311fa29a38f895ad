"""uv and pip: how each makes a virtual environment and installs into it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from dbt_operator.runner.installer_words import failure
from dbt_operator.runner.steps import StepError

# How long an installer waits for an answer of an index, and how often it asks again.
_ANSWER_SECONDS, _RETRIES = 20, 2
_KEPT_LINES = 200

# What an image says about indexes; those of a run take the place of all of it.
INDEX_VARIABLES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX"),
)


@dataclass(frozen=True)
class Order:
    """What is to be installed, as the spec of the run says it."""

    requirements: str  # the text of a requirements file
    constraints: str = ""
    options: tuple[str, ...] = ()  # that both installers know
    find_links: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()  # from a Secret; the first one is asked first
    system_site_packages: bool = False


@dataclass(frozen=True)
class Installer:
    """A program that makes a virtual environment and installs into it.

    compiled, not_compiled: what has it compile the modules, which takes longer than to compile those that one process
        imports, and what keeps it from that.
    """

    name: str
    create: tuple[str, ...]
    install: Callable[[str], tuple[str, ...]]
    compiled: tuple[str, ...]
    not_compiled: tuple[str, ...]
    variables: Callable[[Order, Path], Mapping[str, str]]


def _uv_variables(order: Order, scratch: Path) -> dict[str, str]:
    own = {
        # On the file system of the environment, so that its files are links to what was unpacked.
        "UV_CACHE_DIR": str(scratch / "uv"),
        "UV_HTTP_TIMEOUT": str(_ANSWER_SECONDS),
        "UV_HTTP_RETRIES": str(_RETRIES),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
    }
    if order.indexes:
        # Of uv the further indexes are asked before the other one. Old versions know these names, too.
        own.update(UV_INDEX_URL=order.indexes[-1], UV_EXTRA_INDEX_URL=" ".join(order.indexes[:-1]))
    return own


def _pip_variables(order: Order, _scratch: Path) -> dict[str, str]:
    own = {
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DEFAULT_TIMEOUT": str(_ANSWER_SECONDS),
        "PIP_RETRIES": str(_RETRIES),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
    }
    if order.indexes:
        own.update(PIP_INDEX_URL=order.indexes[0], PIP_EXTRA_INDEX_URL=" ".join(order.indexes[1:]))
    return own


UV = Installer(
    name="uv",
    create=("uv", "venv", "--quiet", "--no-project", "--python", sys.executable),
    install=lambda python: ("uv", "pip", "install", "--python", python),
    compiled=("--compile-bytecode",),
    not_compiled=(),
    variables=_uv_variables,
)
PIP = Installer(
    name="pip",
    create=(sys.executable, "-m", "venv"),
    install=lambda python: (python, "-m", "pip", "install"),
    compiled=(),
    not_compiled=("--no-compile",),
    variables=_pip_variables,
)


def installer() -> Installer:
    """uv where the image has it, as it is many times faster; else what Python itself brings along."""
    return UV if shutil.which("uv") else PIP


class Installation:
    """One environment that is being made. scratch: a folder for all that is not needed afterwards.

    `log` is called with each line of the installer.
    """

    def __init__(self, order: Order, *, by: Installer, scratch: Path, seconds: float, log: Callable[[str], None]):
        self._order, self._by, self._scratch, self._log = order, by, scratch, log
        self._seconds, self._until = seconds, time.monotonic() + seconds
        dropped = INDEX_VARIABLES if order.indexes else ()
        self._environ = {name: value for name, value in os.environ.items() if name not in dropped}
        self._environ.update(by.variables(order, scratch), NO_COLOR="1", HOME=str(scratch), TMPDIR=str(scratch))

    def create(self, venv: Path) -> None:
        """Make the environment, without any packages. Raises: StepError."""
        system = ("--system-site-packages",) if self._order.system_site_packages else ()
        self._run((*self._by.create, *system, str(venv)))

    def install(self, venv: Path, *, compiled: bool) -> None:
        """Install the packages. Raises: StepError, with the installer's own words."""
        order, files = self._order, []
        for option, text in (("-r", order.requirements), ("-c", order.constraints)):
            file = self._scratch / f"list{option}.txt"
            file.write_text(f"{text}\n", encoding="utf-8")
            files += [option, str(file)]
        links = (f"--find-links={place}" for place in order.find_links)
        compiling = self._by.compiled if compiled else self._by.not_compiled
        self._run((*self._by.install(str(venv / "bin" / "python")), *compiling, *order.options, *links, *files))

    def _run(self, command: tuple[str, ...]) -> None:
        tail: deque[str] = deque(maxlen=_KEPT_LINES)
        # In a session of its own, as an installer starts other programs to build a package: they end with it.
        with subprocess.Popen(  # noqa: S603 - the installer, without a shell
            command,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            late = threading.Event()

            def end() -> None:
                late.set()
                _kill(process)

            timer = threading.Timer(self._until - time.monotonic(), end)
            timer.start()
            try:
                for line in process.stdout or ():
                    tail.append(line.decode("utf-8", "replace").rstrip())
                    self._log(tail[-1])
            finally:
                timer.cancel()
                if process.poll() is None:
                    _kill(process)
        if late.is_set():
            raise StepError(
                f"The packages of spec.environment were not installed within {self._seconds:.0f} s: look at the log of"
                " the init container, or set spec.environment.virtualenv.timeoutSeconds and"
                " spec.producer.startDeadlineSeconds higher.",
                passing=True,
            )
        if process.returncode != 0:
            raise failure(tail, by=self._by.name)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
