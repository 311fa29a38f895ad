"""Prefect with prefect-dbt: each node is a task, with a process of dbt of its own."""

import shutil
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.peers.command import Command
from benchmarks.peers.peer import NotHereError, Peer, Session, State, Task, environ_of, environment, parsed, versions
from benchmarks.peers.processes import started
from benchmarks.peers.warehouse import free_port

DEFINITION = Path(__file__).parent / "definitions" / "prefect_flow.py"
_STARTS = 180  # seconds, after which its server is not waited for any more


class Prefect(Peer):
    """See above."""

    name = "prefect"
    title = "Prefect, prefect-dbt"

    def about(self) -> str:
        """See Peer."""
        found = versions("peer-prefect", "prefect", "prefect-dbt", "dbt-core", "dbt-postgres")
        return (
            f"{found}; a server with SQLite, and the flow as a command beside it; `PrefectDbtOrchestrator` with"
            " PER_NODE, as only that retries a node; as many nodes at once as dbt has threads; the manifest made"
            " before; what is shown is what the server says of the task."
        )

    @contextmanager
    def ready(self, task: Task, folder: Path) -> Iterator[Session]:
        """See Peer."""
        programs = environment("peer-prefect")
        project = parsed(task, folder, programs)
        shutil.copy(DEFINITION, folder)
        port, home = free_port(), folder / "home"
        environ = environ_of(
            programs,
            BENCH_PROJECT=str(project),
            BENCH_TASKS=str(task.threads),
            BENCH_DELAY=str(task.delay),
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
            PREFECT_HOME=str(home),
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
        )
        line: list[str | Path] = [programs / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        with ExitStack() as stack:
            server = stack.enter_context(started(line, cwd=folder, environ=environ, log=folder / "server"))
            _wait(server, f"http://127.0.0.1:{port}/api/health", folder / "server")
            line = [programs / "python", DEFINITION.name]
            yield _Flow(stack, line, folder=folder, environ=environ, services=[server.pid], home=home, model=task.model)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _STARTS
    while True:
        if server.poll() is not None or time.monotonic() > until:
            lines = log.read_text(errors="replace").splitlines()
            raise NotHereError(f"Prefect's server does not come up: {' '.join(lines[-3:])}")
        time.sleep(1)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10):
                return
        except OSError:  # nothing answers yet
            continue


class _Flow(Command):
    def __init__(
        self,
        stack: ExitStack,
        line: list[str | Path],
        *,
        folder: Path,
        environ: Mapping[str, str],
        services: list[int],
        home: Path,
        model: str,
    ) -> None:
        super().__init__(stack, line, folder=folder, environ=environ, services=services)
        self._file, self._model = home / "prefect.db", model

    def node(self) -> State:
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)) as database:
            sql = "select name, state_type, state_name from task_run order by updated"
            return task_state(database.execute(sql), self._model)


_STATES: Mapping[str, State] = {"COMPLETED": "succeeded", "FAILED": "failed", "CRASHED": "failed"}


def task_state(rows: Iterator[tuple[str, str | None, str | None]], model: str) -> State:
    """What the server says of a model's task. One that waits for its retry, or is retried, has failed."""
    for name, kind, state in rows:
        if model in name:
            return _STATES.get(kind or "", "failed" if state in ("AwaitingRetry", "Retrying") else "")
    return ""
