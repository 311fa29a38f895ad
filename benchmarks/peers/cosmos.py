"""Airflow with Astronomer Cosmos: a process of dbt for each node (LOCAL), or one that sensors watch (WATCHER)."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import (
    Look,
    NotHereError,
    Peer,
    Session,
    State,
    Task,
    environ_of,
    environment,
    parsed,
    versions,
)
from benchmarks.peers.processes import Processes, started
from benchmarks.peers.warehouse import Server, free_port, server

DAG, RUN, METADATA = "bench", "bench-1", "airflow"
DEFINITION = Path(__file__).parent / "definitions" / "airflow_dag.py"
_STARTS = 240  # seconds, after which Airflow is not waited for any more


@dataclass(frozen=True, slots=True)
class Mode:
    """How Cosmos executes nodes. `tasks`: at once; 0 for as many as dbt has threads."""

    title: str
    tasks: int
    retries: int


MODES = {
    "local": Mode("Airflow, Cosmos LOCAL", tasks=0, retries=2),
    # Sensors are tasks too. One whose node failed fails as often as it is tried while the producer still runs.
    "watcher": Mode("Airflow, Cosmos WATCHER", tasks=16, retries=20),
}


class Cosmos(Peer):
    """See above."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self.name, self.title = f"cosmos-{mode}", MODES[mode].title

    def about(self) -> str:
        """See Peer."""
        mode = MODES[self._mode]
        found = versions("peer-airflow", "apache-airflow", "astronomer-cosmos", "dbt-core", "dbt-postgres")
        at_once = f"{mode.tasks} tasks" if mode.tasks else "as many tasks as dbt has threads"
        return (
            f"{found}; `airflow standalone` with the LocalExecutor, {at_once} at once, {mode.retries} retries a"
            " task, the manifest made before; its metadata are in a Postgres of its own, which is counted; what is"
            " shown is what its metadata say of the task."
        )

    @contextmanager
    def ready(self, task: Task, folder: Path) -> Iterator[Session]:
        """See Peer."""
        programs = environment("peer-airflow")
        project = parsed(task, folder, programs)
        (folder / "dags").mkdir()
        shutil.copy(DEFINITION, folder / "dags")
        port, mode = free_port(), MODES[self._mode]
        with server(folder / "metadata", databases=[METADATA]) as metadata:
            environ = environ_of(
                programs,
                **_settings(folder, metadata, port),
                BENCH_PROJECT=str(project),
                BENCH_MODE=self._mode,
                BENCH_TASKS=str(mode.tasks or task.threads),
                BENCH_RETRIES=str(mode.retries),
                BENCH_DELAY=str(task.delay),
            )
            line: list[str | Path] = [programs / "airflow", "standalone"]
            with started(line, cwd=folder, environ=environ, log=folder / "printed") as process:
                session = _Airflow(process, metadata, port, task.model)
                session.wait(folder / "printed")
                yield session


def _settings(folder: Path, metadata: Server, port: int) -> dict[str, str]:
    """Its settings, where they are not as Airflow has them."""
    at = f"postgresql+psycopg2://dbt:{metadata.password}@127.0.0.1:{metadata.port}/{METADATA}"
    settings = {
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__DAGS_FOLDER": str(folder / "dags"),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "16",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "API__PORT": str(port),
        "COSMOS__ENABLE_TELEMETRY": "False",
        "DATABASE__SQL_ALCHEMY_CONN": at,
    }
    return {f"AIRFLOW__{name}": value for name, value in settings.items()} | {"AIRFLOW_HOME": str(folder / "airflow")}


class _Airflow(Session):
    def __init__(self, process: subprocess.Popen[bytes], metadata: Server, port: int, model: str) -> None:
        self._process, self._metadata, self._model = process, metadata, model
        self._url = f"http://127.0.0.1:{port}"

    def roots(self, seen: Processes) -> Iterable[int]:
        del seen
        return [self._process.pid, self._metadata.pid]

    def wait(self, log: Path) -> None:
        """Until the DAG can be executed."""
        until = time.monotonic() + _STARTS
        known = f"select 1 from serialized_dag where dag_id = '{DAG}'"  # noqa: S608 - ours
        while True:
            if self._process.poll() is not None or time.monotonic() > until:
                lines = log.read_text(errors="replace").splitlines()
                raise NotHereError(f"Airflow does not come up: {' '.join(lines[-3:])}")
            time.sleep(2)
            try:
                if self._metadata.query(known, database=METADATA):
                    self._token()
                    return
            except (subprocess.CalledProcessError, OSError):  # its tables, or its API, are not there yet
                continue

    def begin(self) -> None:
        body = {"dag_run_id": RUN, "logical_date": None}
        self._ask(f"/api/v2/dags/{DAG}/dagRuns", body=body, token=self._token())

    def look(self) -> Look:
        tasks = f"('{self._model}_run', '{self._model}.run')"  # the second where it has tests
        sql = (
            f"select 'node', state from task_instance where dag_id = '{DAG}' and task_id in {tasks}"  # noqa: S608 - ours
            f" union all select 'run', state from dag_run where dag_id = '{DAG}'"
        )
        return looked(dict(self._metadata.query(sql, database=METADATA)))

    def _token(self) -> str:
        return str(self._ask("/auth/token")["access_token"])

    def _ask(self, path: str, *, body: Mapping[str, Any] | None = None, token: str = "") -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(self._url + path, data=data, headers=headers)  # noqa: S310 - of this machine
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            told: dict[str, Any] = json.loads(answer.read())
        return told


_NODE: Mapping[str, State] = {"success": "succeeded", "failed": "failed", "up_for_retry": "failed"}
_RUN: Mapping[str, State] = {"success": "succeeded", "failed": "failed"}


def looked(states: Mapping[str, str]) -> Look:
    """What the states of a task and of a DAG's run say."""
    return Look(node=_NODE.get(states.get("node", ""), ""), run=_RUN.get(states.get("run", ""), ""))
