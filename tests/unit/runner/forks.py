"""Processes that have imported dbt already: forks of one that has done nothing else.

Half of what a short run costs is Python's import of dbt, the same each time. Run as a program, under dbt's Python, this
file is the process that is forked; `forks` is how tests get at it. It has to run on the oldest Python of the runner.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from typing import Self


class Fork:
    """A process, as far as it is like one of subprocess: a context that ends with it."""

    def __init__(self, orders: socket.socket, output: int) -> None:
        self._orders = orders
        self.pid = int(orders.recv(64))
        self.stdout = os.fdopen(output, "rb")
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.returncode = int(self._orders.recv(64))


class Forks:
    """Makes processes, one at a time."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders

    def start(self, argv: Sequence[str], *, environment: Mapping[str, str], directory: Path) -> Fork:
        """Execute a script or zipapp with its arguments, as Python would; what it prints goes to `stdout`."""
        order = {"argv": list(argv), "environment": dict(environment), "directory": str(directory)}
        ours, theirs = os.pipe()
        socket.send_fds(self._orders, [json.dumps(order).encode()], [theirs])
        os.close(theirs)
        return Fork(self._orders, ours)


@contextmanager
def forks(python: str) -> Iterator[Forks]:
    """Forks of a process of this Python, which is there for as long as the context lasts."""
    orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen([python, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    with process, orders:
        yield Forks(orders)


def _serve(orders: socket.socket) -> None:
    for module in ("dbt.cli.main", "dbt.adapters.duckdb"):
        importlib.import_module(module)
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 1)
        if not order:  # the other end is closed
            return
        pid = os.fork()
        if pid == 0:
            orders.close()
            execute(output=descriptors[0], **json.loads(order))
        os.close(descriptors[0])
        orders.send(str(pid).encode())
        orders.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def execute(*, output: int, argv: list[str], environment: dict[str, str], directory: str) -> NoReturn:
    """Be a script or zipapp with its arguments, until its end."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it depends on the environment
    sys.argv = argv
    code: object = 0
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    # As Python ends a process, but without the destructors of native modules: with old versions these abort in a fork.
    threading._shutdown()  # type: ignore[attr-defined]  # what waits for threads has no public name
    atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
