"""Dagster with dagster-dbt: `dbt build` as one step, and each node an asset."""

import json
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
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
from benchmarks.peers.warehouse import free_port

JOB = "everything"
DEFINITION = Path(__file__).parent / "definitions" / "dagster_defs.py"
_STARTS = 180  # seconds, after which Dagster is not waited for any more
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }
"""
_LOCATIONS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"


class Dagster(Peer):
    """See above."""

    name = "dagster"
    title = "Dagster, dagster-dbt"

    def about(self) -> str:
        """See Peer."""
        found = versions("peer-dagster", "dagster", "dagster-dbt", "dbt-core", "dbt-postgres")
        return (
            f"{found}; `dagster dev` with SQLite, the manifest made before; `dbt build` as one step, after whose"
            " failure its function executes `dbt retry` at once, as a retry of the step would execute all nodes again;"
            " what is shown is what the events of the asset say: that a model failed is in the step's log alone."
        )

    @contextmanager
    def ready(self, task: Task, folder: Path) -> Iterator[Session]:
        """See Peer."""
        programs = environment("peer-dagster")
        project = parsed(task, folder, programs)
        shutil.copy(DEFINITION, folder)
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        port = free_port()
        environ = environ_of(programs, BENCH_PROJECT=str(project), DAGSTER_HOME=str(folder / "home"))
        line: list[str | Path] = [
            programs / "dagster",
            "dev",
            "-f",
            DEFINITION.name,
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
        ]
        with started(line, cwd=folder, environ=environ, log=folder / "printed") as process:
            session = _Dagster(process, folder / "home", port, task.model)
            session.wait(folder / "printed")
            yield session


class _Dagster(Session):
    def __init__(self, process: subprocess.Popen[bytes], home: Path, port: int, model: str) -> None:
        self._process, self._home, self._model = process, home, model
        self._url = f"http://127.0.0.1:{port}/graphql"
        self._where: dict[str, str] = {}
        self._run = ""

    def roots(self, seen: Processes) -> Iterable[int]:
        del seen
        return [self._process.pid]

    def wait(self, log: Path) -> None:
        """Until the job can be executed."""
        until = time.monotonic() + _STARTS
        while not self._where:
            if self._process.poll() is not None or time.monotonic() > until:
                lines = log.read_text(errors="replace").splitlines()
                raise NotHereError(f"Dagster does not come up: {' '.join(lines[-3:])}")
            time.sleep(2)
            try:
                nodes = self._ask(_LOCATIONS)["repositoriesOrError"].get("nodes", [])
            except OSError:  # nothing answers yet
                continue
            for node in nodes:
                names = {"repositoryName": node["name"], "repositoryLocationName": node["location"]["name"]}
                self._where = names | {"jobName": JOB}

    def begin(self) -> None:
        told = self._ask(_LAUNCH, params={"selector": self._where, "runConfigData": {}, "mode": "default"})["launchRun"]
        if "run" not in told:
            raise NotHereError(f"Dagster does not begin the run: {told}")
        self._run = told["run"]["runId"]

    def look(self) -> Look:
        status = self._rows(self._home / "history" / "runs.db", "select status from runs where run_id = ?", self._run)
        sql = "select dagster_event_type, asset_key from event_logs where run_id = ? order by id"
        events = self._rows(self._home / "history" / "runs" / f"{self._run}.db", sql, self._run)
        return looked(status[0][0] if status else "", events, self._model)

    def _rows(self, file: Path, sql: str, value: str) -> list[tuple[str, str]]:
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
            try:
                return list(database.execute(sql, (value,)))
            except sqlite3.OperationalError:  # its tables are not there yet
                return []

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - of this machine
            self._url, data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            told: dict[str, Any] = json.loads(answer.read())["data"]
        return told


_RUN: Mapping[str, State] = {"SUCCESS": "succeeded", "FAILURE": "failed", "CANCELED": "failed"}
_EVENT: Mapping[str, State] = {"ASSET_MATERIALIZATION": "succeeded", "ASSET_FAILED_TO_MATERIALIZE": "failed"}


def looked(status: str, events: Iterable[tuple[str | None, str | None]], model: str) -> Look:
    """What the status of a run and its events say."""
    states = [_EVENT[kind] for kind, key in events if kind and kind in _EVENT and key and json.loads(key)[-1] == model]
    return Look(node=states[-1] if states else "", run=_RUN.get(status, ""))
