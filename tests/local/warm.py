"""A Python whose processes have imported dbt already: they are forks of one that has done nothing else.

Half of what a short run costs is Python's import of dbt, the same each time. `warm` makes a program `python`, to which
the script `dbt` beside it leads, as to any dbt's Python. It hands its arguments and variables, and the file for what is
printed, over to the process that is forked, and lives and ends with it: by the same signals, with the same code. Tests
of what is killed have a real Python instead.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tests.unit.runner.forks import execute

_SOCKET = "orders"
# Without the modules of a site it starts in a hundredth of a second.
_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
orders = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
orders.connect({socket!r})
orders.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
order = {{"argv": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd()}}
kept = {{signal.SIGTERM, signal.SIGINT}}
signal.pthread_sigmask(signal.SIG_BLOCK, kept)
socket.send_fds(orders, [json.dumps(order).encode()], [1])
pid = int(orders.recv(64))
for number in kept:
    signal.signal(number, lambda number, _: os.kill(pid, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, kept)
code = int(orders.recv(64))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextmanager
def warm(python: Path, folder: Path, *, adapter: str = "duckdb") -> Iterator[Path]:
    """A program that is like this Python, in the folder, for as long as the context lasts. It has imported dbt."""
    address, program = folder / _SOCKET, folder / "python"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(address))
        listening.listen(16)
        argv = [str(python), "-m", __name__, str(listening.fileno()), adapter]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        server = subprocess.Popen(argv, pass_fds=[listening.fileno()], env=environ, stdin=subprocess.DEVNULL)
    program.write_text(_CLIENT.format(python=sys.executable, socket=str(address)))
    (folder / "dbt").write_text(f"#!{program}\n")
    for file in (program, folder / "dbt"):
        file.chmod(0o755)
    try:
        yield program
    finally:
        server.kill()
        server.wait()


def _serve(listening: socket.socket, adapter: str) -> None:
    for module in ("dbt.cli.main", f"dbt.adapters.{adapter}"):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who watch a process
    while True:
        orders, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _watch(orders)
        orders.close()


def _watch(orders: socket.socket) -> NoReturn:
    """Make the process, say how it ends, and let it not outlive who has asked for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    order, (output,), _, _ = socket.recv_fds(orders, 1 << 20, 1)
    pid = os.fork()
    if pid == 0:
        orders.close()
        execute(output=output, **json.loads(order))
    orders.send(str(pid).encode())
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended, orders.fileno()], [], [])
    if ended not in ready:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        orders.send(str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
