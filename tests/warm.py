"""Pythons whose processes have imported dbt, or the operator, already: they are forks of one that has done so.

Four fifths of what a short run costs are the same each time: Python's import of dbt, and what dbt makes of its own
classes and macros. The latter it keeps where its own tests ask for that. `warm_dbt` and `warm_operator` make a program
`python`, to which the script `dbt` beside it leads, as to any dbt's Python. It hands its arguments, its variables and
its open files over to the process that is forked, and lives and ends with it: by the same signals, with the same code.
A file that it holds a lock on is held by both. Only what is stopped by a signal, or has to be gone at once, has to be a
real Python.

Run as a program this file is the process that is forked, one for all workers of a session. It ends with the session,
and runs under dbt's Python, which may be the oldest that the runner supports.
"""

from __future__ import annotations

import _imp
import atexit
import contextlib
import contextvars
import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import zipimport
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

_CHECKOUT = Path(__file__).resolve().parents[1]
_PROJECT = _CHECKOUT / "tests" / "projects" / "everything"
_SOURCES = _CHECKOUT / "controller" / "dbt_operator"
_OPERATOR = "operator"
_PROFILES = {
    "duckdb": {"type": "duckdb", "path": ":memory:"},
    "bigquery": {"type": "bigquery", "method": "oauth-secrets", "token": "any", "project": "local", "dataset": "any"},
}
_AWAY = 200  # numbers of descriptors that are in nobody's way
# Without the modules of a site it starts in a hundredth of a second.
_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
orders = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
orders.connect({address!r})
orders.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
files = [int(each) for each in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + each)]
files = [each for each in files if os.get_inheritable(each)]
order = {{"argv": sys.argv, "environment": dict(os.environ), "directory": os.getcwd(), "files": files}}
kept = {{signal.SIGTERM, signal.SIGINT}}
signal.pthread_sigmask(signal.SIG_BLOCK, kept)
socket.send_fds(orders, [json.dumps(order).encode()], files)
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


def warm_dbt(python: Path, *, session: Path, adapter: str = "duckdb") -> Path:
    """A program that is like this Python. session: the folder of the whole session."""
    return _program(python, adapter, session=session, path="")


def warm_operator(*, session: Path) -> Path:
    """A program that is like this Python, for `-m dbt_operator local`."""
    return _program(Path(sys.executable), _OPERATOR, session=session, path=os.pathsep.join(filter(None, sys.path)))


def _program(python: Path, what: str, *, session: Path, path: str) -> Path:
    folder = session / f"warm-{what}"
    program = folder / "python"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers come here at the same time
        if not program.exists():
            address = str(folder / "orders")
            _serve_apart([str(python), __file__, what], address=address, path=path)
            for name, text in (
                ("dbt", f"#!{program}\n"),
                ("python", _CLIENT.format(python=sys.executable, address=address)),
            ):
                (folder / name).write_text(text)
                (folder / name).chmod(0o755)
    return program


def _serve_apart(argv: list[str], *, address: str, path: str) -> None:
    # A worker of pytest-xdist is a child of the process that the session is.
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    environ = {**os.environ, "PYTHONPATH": path}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen(64)
        listening.set_inheritable(True)
        nothing = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        os.posix_spawn(argv[0], [*argv, str(listening.fileno()), str(owner)], environ, file_actions=nothing)


def _serve(what: str, listening: socket.socket, owner: int) -> None:
    os.setsid()
    ends = os.pidfd_open(owner)  # can be read when it is over
    listening.set_inheritable(False)
    if what == _OPERATOR:
        _prepare_operator()
    else:
        _prepare_dbt(what)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who watch a process
    while True:
        ready, _, _ = select.select([listening.fileno(), ends], [], [])
        if ends in ready:
            os._exit(0)
        orders, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _watch(orders)
        orders.close()


def _prepare_operator() -> None:
    importlib.import_module("dbt_operator.cli.local")
    for module in pkgutil.iter_modules([str(_SOURCES / "local")], "dbt_operator.local."):
        importlib.import_module(module.name)


def _prepare_dbt(adapter: str) -> None:
    # Forks that are killed leave semaphores behind, which is complained about when all else has ended.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    dbt = importlib.import_module("dbt.cli.main")
    for each in (adapter, "postgres"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"dbt.adapters.{each}")
    importlib.import_module("dbt_common.tests").enable_test_caching()
    with tempfile.TemporaryDirectory() as folder:
        profile = {"everything": {"target": "dev", "outputs": {"dev": _PROFILES[adapter]}}}
        (Path(folder) / "profiles.yml").write_text(json.dumps(profile))
        own = [f"--project-dir={_PROJECT}", f"--profiles-dir={folder}", f"--target-path={folder}/target"]
        # The static parser has threads, and a process with threads cannot be forked.
        common = ["--no-static-parser", "--no-send-anonymous-usage-stats", "--log-level=none", f"--log-path={folder}"]
        for command in ("parse", "list"):
            # In a context of its own: what dbt keeps for an invocation goes with it.
            with contextlib.redirect_stdout(io.StringIO()):
                contextvars.copy_context().run(dbt.dbtRunner().invoke, [*common, command, *own])
    importlib.import_module("dbt.deprecations").reset_deprecations()  # those of that project
    _compile_once()
    _write_json_at_once()
    _find_callers_at_once()


def _compile_once() -> None:
    """Have the modules of the runner compiled already, which Python does each time that it imports from a zip."""
    python: Any = zipimport
    fix: Any = _imp
    compile_source = python._compile_source
    made: dict[bytes, CodeType] = {}

    def compiled(path: str, source: bytes) -> CodeType:
        if source not in made:
            made[source] = compile_source(path, source)
        fix._fix_co_filename(made[source], path)
        return made[source]

    python._compile_source = compiled
    for file in (*_SOURCES.glob("*.py"), *_SOURCES.glob("runner/**/*.py")):
        compiled(str(file), file.read_bytes())


def _write_json_at_once() -> None:
    """Have JSON that goes to a file made by the encoder that is written in C, which Python takes for texts only."""
    python: Any = json
    python.dump = lambda data, file, **options: file.write(json.dumps(data, **options))


def _find_callers_at_once() -> None:
    """Have dbt learn by which module it is called from the frame, for which it reads the source of the whole stack."""

    def caller() -> str:
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_globals["__name__"] == flags.__name__:
            frame = frame.f_back
        return str(frame.f_globals["__name__"])

    with contextlib.suppress(ModuleNotFoundError):  # dbt 1.8
        flags: Any = importlib.import_module("dbt_common.behavior_flags")
        flags.BehaviorFlagRendered._default_source = staticmethod(caller)


def _watch(orders: socket.socket) -> NoReturn:
    """Make the process, say how it ends, and let it not outlive who has asked for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    said, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 32)
    order = json.loads(said)
    pid = os.fork()
    if pid == 0:
        orders.close()
        files = dict(zip(order.pop("files"), descriptors))  # noqa: B905 - Python 3.9 does not know `strict`
        _execute(**order, files=files)
    for each in descriptors:
        os.close(each)
    orders.send(str(pid).encode())
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended, orders.fileno()], [], [])
    if ended not in ready:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        orders.send(str(code).encode())
    os._exit(0)


def _execute(*, argv: list[str], files: Mapping[int, int], environment: dict[str, str], directory: str) -> NoReturn:
    """Be Python with these arguments, until its end. files: the descriptors to have, by their numbers."""
    moved = {number: fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _AWAY) for number, each in files.items()}
    for each in files.values():
        os.close(each)
    for number, each in moved.items():
        os.dup2(each, number)
        os.close(each)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it depends on the environment
    code: object = 0
    try:
        _be(*argv)
    except SystemExit as end:
        code = end.code
    # As Python ends a process, but without the destructors of native modules: with old versions these abort in a fork.
    threading._shutdown()  # type: ignore[attr-defined]  # what waits for threads has no public name
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 0)


def _be(program: str, what: str, *arguments: str) -> None:
    if what == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(arguments[0], {"__name__": "__main__"})  # noqa: S102 - as Python does with the tests' own scripts
    elif what == "-m":
        # What this one starts are leaders of groups, which no fork is: they are of the real Python.
        sys.argv = list(arguments)
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.executable = [what, *arguments], program
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
