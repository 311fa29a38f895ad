"""The runner with a real dbt-bigquery, against the fake."""

import gzip
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import dbt_venv
from tests.bigquery.fake import FakeBigQuery
from tests.bigquery.server import serve
from tests.local.conftest import operator
from tests.unit.runner.conftest import archive, session_folder
from tests.warm import warm_dbt

__all__ = ["archive", "operator", "session_folder"]

PYTHON = "DBT_OPERATOR_TEST_BIGQUERY_PYTHON"
REQUIREMENTS = dbt_venv.FOLDER / "dbt-bigquery.txt"
PROJECT = {
    "name": "shop",
    "version": "1.0",
    "profile": "shop",
    "flags": {"send_anonymous_usage_stats": False},
    "models": {"shop": {"+materialized": "table"}},
    "on-run-start": ["select 'the hook'"],
}
PROFILE = {
    "shop": {
        "target": "dev",
        "outputs": {
            "dev": {
                "type": "bigquery",
                "method": "oauth-secrets",
                "token": "any",
                "project": "local",
                "dataset": "shop",
                "location": "US",
                "threads": 4,
                "job_retries": 1,
                "api_endpoint": "{{ env_var('BIGQUERY') }}",
            }
        },
    }
}
MODELS = {
    "orders": "select 1 as id",
    "report": "select * from {{ ref('orders') }}",
}
Event = dict[str, Any]


@dataclass
class Attempt:
    """A process of the runner. `lines` once it has ended."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def events(self) -> list[Event]:
        """What it has printed so far, whole lines only."""
        return [json.loads(line) for line in self.log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def named(self, name: str) -> list[Event]:
        """The data of the events of this name."""
        return [event["data"] for event in self.events if event["info"]["name"] == name]

    def ends(self) -> int:
        """Wait for its end."""
        return self.process.wait(120)

    def kill(self) -> None:
        """As a node that loses its power."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """As a pod that is deleted."""
        self.process.send_signal(signal.SIGTERM)

    @property
    def statuses(self) -> dict[str, str]:
        """How each node ended."""
        return {result["unique_id"].split(".")[2]: result["status"] for result in self.named("NodeResult")}


@dataclass
class Warehouse:
    """A project and the fake that it is built in; each attempt is a process with a folder of its own."""

    fake: FakeBigQuery
    url: str
    python: Path
    warm: Path  # the same, whose processes need not import dbt
    archive: Path
    folder: Path
    attempts: list[Attempt] = field(default_factory=list)

    def write(self, models: Mapping[str, str], **more: str) -> None:
        """The project's models, and other files by their path with `__` for `/` and `.` for the last `_`."""
        for name, sql in models.items():
            self.file(f"models/{name}.sql", sql)
        for name, text in more.items():
            self.file(".".join(name.replace("__", "/").rsplit("_", 1)), text)

    def file(self, path: str, text: str) -> None:
        """A file of the project."""
        place = self.folder / "project" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def begin(
        self,
        command: str = "build",
        *dbt: str,
        nodes: Sequence[Mapping[str, object]] | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Attempt:
        """An attempt: the first at all that is selected, each other one at what is left, as the operator says it."""
        number = len(self.attempts) + 1
        home = self.folder / f"attempt-{number}"
        home.mkdir()
        name = f"{'producer' if nodes is None else 'resume'}-{number}"
        own = ["--attempt", name, "--run-uid", "uid-1", "--run", "nightly", "--namespace", "dwh"]
        own += [f"--began-in={number}", "--project-dir", str(self.folder / "project"), *options]
        if nodes is not None:
            (home / "nodes.json.gz").write_bytes(gzip.compress(json.dumps(list(nodes)).encode()))
            own += ["--attempt-kind", "resume", "--nodes", str(home / "nodes.json.gz")]
        environ = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "BIGQUERY": self.url}
        # Older versions of dbt-bigquery know no api_endpoint; Google's client knows this variable.
        environ["BIGQUERY_EMULATOR_HOST"] = self.url
        environ |= {"DBT_TARGET_PATH": str(home / "target"), "DBT_LOG_PATH": str(home / "logs"), **(environment or {})}
        log = home / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(self.warm), str(self.archive), *own, "--", command, *dbt],
                env=environ,
                cwd=home,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        attempt = Attempt(process, log)
        self.attempts.append(attempt)
        return attempt

    def resume(self, *nodes: str, command: str = "build", began_in: int | None = 1, **options: Any) -> Attempt:
        """An attempt that goes on with these models, whose execution began in an earlier one."""
        listed = [{"unique_id": one if "." in one else f"model.shop.{one}", "began_in": began_in} for one in nodes]
        return self.begin(command, nodes=listed, **options)

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds; an attempt that ends before is a failure."""
        deadline = time.monotonic() + 120
        while not holds():
            ended = self.attempts[-1].process.poll() is not None
            if (ended and not holds()) or time.monotonic() > deadline:
                pytest.fail(f"this did not come: {self.attempts[-1].log.read_text()[-3000:]}")
            time.sleep(0.02)

    def version(self) -> tuple[int, ...]:
        """Of dbt-bigquery, the first two numbers."""
        ask = "from importlib.metadata import version; print(version('dbt-bigquery'))"
        found = subprocess.check_output([str(self.python), "-c", ask], text=True)
        return tuple(int(number) for number in found.split(".")[:2])

    def statements(self, match: str = "") -> list[str]:
        """The kinds of the statements of which there are jobs."""
        return [job.statement.kind for job in self.fake.created(match)]


@pytest.fixture(scope="session")
def bigquery_python() -> Path:
    """The Python with dbt-bigquery, built by `make` or by `python -m dev.dbt_venv dbt-bigquery`."""
    python = Path(os.environ.get(PYTHON) or dbt_venv.location(requirements=REQUIREMENTS) / "bin" / "python")
    if not python.exists():
        pytest.fail(f"{python} does not exist: build it with `python -m dev.dbt_venv dbt-bigquery`.", pytrace=False)
    return python


@pytest.fixture(scope="session")
def warm_python(bigquery_python: Path, session_folder: Path) -> Path:
    """The same, but its processes need not import dbt; they are killed, and told to stop, as any."""
    return warm_dbt(bigquery_python, session=session_folder, adapter="bigquery")


@pytest.fixture
def warehouse(bigquery_python: Path, warm_python: Path, archive: Path, tmp_path: Path) -> Iterator[Warehouse]:
    with serve() as server:
        made = Warehouse(server.fake, server.url, bigquery_python, warm_python, archive, tmp_path)
        made.file("dbt_project.yml", yaml.safe_dump(PROJECT))
        made.file("profiles.yml", yaml.safe_dump(PROFILE))
        made.write(MODELS)
        yield made
        for attempt in made.attempts:
            if attempt.process.poll() is None:
                attempt.kill()
