"""`dbt-operator local` as its users meet it: the command, a real dbt, real processes."""

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.kube.resources import CONFIG_MAPS, DBT_MODELS, DBT_RUNS, Object, Resource
from dbt_operator.local.attempts import LocalAttempt
from dbt_operator.local.manifests import PROJECT_ANNOTATION
from dbt_operator.local.place import NAMESPACE, Place
from dbt_operator.local.store import Store

PROJECTS = Path(__file__).resolve().parents[1] / "projects"

PROJECT = {
    "name": "small",
    "version": "1.0",
    "profile": "small",
    "flags": {"send_anonymous_usage_stats": False},
    "models": {
        "+materialized": "table",
        # A file for each time that a node begins, and for each that it ends.
        "+pre-hook": [
            "copy (select 1) to '{{ env_var(\"COUNTS\") }}/{{ this.name }}.begun.{{ invocation_id }}'",
            "select sleep_ms({{ (env_var('PAUSE', '0') | float * 1000) | int }})",
        ],
        "+post-hook": "copy (select 1) to '{{ env_var(\"COUNTS\") }}/{{ this.name }}.done.{{ invocation_id }}'",
    },
}
PROFILE = {
    "small": {
        "target": "dev",
        "outputs": {"dev": {"type": "duckdb", "path": "{{ env_var('DATABASE') }}", "threads": 1}},
    }
}
MODELS = {
    "first": "select 1 as id",
    "second": "select id from {{ ref('first') }}",
    "third": "select id + {{ var('more', '0') }} as id from {{ ref('second') }}",
    "fourth": "select id from {{ ref('third') }}",
    "beside": "select 5 as id",
}


def manifest(name: str = "small", *, at: str = "project", **spec: object) -> dict[str, Any]:
    """A DbtRun of the project that is there."""
    return {
        "apiVersion": "dbt-operator.io/v1alpha1",
        "kind": "DbtRun",
        "metadata": {"name": name, "annotations": {PROJECT_ANNOTATION: at}},
        "spec": {"project": {"image": {"path": "/dbt/small"}}, "profile": {"inProject": True}, **spec},
    }


@dataclass
class Desk:
    """A folder where a developer works. `dbt`: the Python of the dbt that is on PATH; `python`: the operator's."""

    folder: Path
    dbt: Path
    environ: dict[str, str] = field(default_factory=dict)
    python: Path = Path(sys.executable)

    @property
    def place(self) -> Place:
        return Place(self.folder / ".dbt-operator")

    @property
    def database(self) -> Path:
        return self.folder / "small.duckdb"

    def write(self, *documents: Mapping[str, Any], file: str = "run.yaml") -> str:
        """Write a manifest."""
        (self.folder / file).write_text(yaml.safe_dump_all(documents))
        return file

    def model(self, name: str, sql: str) -> None:
        """Write a model of the project."""
        (self.folder / "project" / "models" / f"{name}.sql").write_text(sql)

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Begin a command."""
        return subprocess.Popen(
            [str(self.python), "-m", "dbt_operator", "local", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self.dbt.parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(sys.path),
                "DATABASE": str(self.database),
                "COUNTS": str(self.folder / "counts"),
                **self.environ,
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, *arguments: str, code: int | None = 0, **environ: str) -> str:
        """Do a command, and return all that it says. code: None where it is told by what the run has become."""
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code or (code is None and process.returncode in (0, 1)), (
            f"{arguments} ended with {process.returncode}:\n{out}\n{err}"
        )
        return out + err

    def get(self, kind: str, *more: str) -> dict[str, dict[str, Any]]:
        """Objects by their name."""
        found = json.loads(self.start("get", kind, *more, "-o", "json").communicate(timeout=60)[0])
        return {item["metadata"]["name"]: item for item in found.get("items", [found])}

    def run(self, name: str, project: str | Path = "", /, *others: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
        """The status of a run of one of the tests' own projects, once it has ended; others: documents beside it.

        With `project` in its spec it has that one.
        """
        run = manifest(name, at=str(PROJECTS / project), **spec)
        self.do("run", "-f", self.write(*others, run, file=f"{name}.yaml"), code=None)
        return self.status(name)

    def find(self, resource: Resource, name: str) -> Object:
        """An object as it is kept."""
        with Store(self.place.state) as store:
            found = store.get(resource, name, namespace=NAMESPACE)
        assert found is not None, name
        return found

    def models(self, run: str = "small") -> dict[str, Object]:
        """The DbtModels of a run, by dbt's name."""
        uid = self.find(DBT_RUNS, run)["metadata"]["uid"]
        with Store(self.place.state) as store:
            return {model["spec"]["name"]: model for model in store.all(DBT_MODELS, run=uid)}

    def phases(self, run: str = "small") -> dict[str, str]:
        """The phases of the nodes of a run, by name."""
        return {name: model["status"]["phase"] for name, model in self.models(run).items()}

    def status(self, run: str = "small") -> dict[str, Any]:
        """The status of a run."""
        status: dict[str, Any] = self.find(DBT_RUNS, run)["status"]
        return status

    def kept(self, name: str, key: str) -> str:
        """A file that is kept of a run in a ConfigMap."""
        content = self.find(CONFIG_MAPS, name)["binaryData"][key]
        return gzip.decompress(base64.b64decode(content)).decode()

    def log(self, run: str, attempt: str = "producer-1") -> str:
        """What an attempt has printed."""
        return LocalAttempt(self.place.attempts(run) / f"{run}-{attempt}").log.read_text()

    def counted(self, what: str) -> Counter[str]:
        """How often each node has begun, or was done."""
        return Counter(file.name.split(".")[0] for file in (self.folder / "counts").glob(f"*.{what}.*"))

    def attempt(self, run: str = "small") -> LocalAttempt:
        """The last attempt of a run."""
        folders = sorted(self.place.attempts(run).iterdir(), key=lambda each: each.stat().st_ctime)
        return LocalAttempt(folders[-1])

    def wait(self, holds: Callable[[], object], *, process: "subprocess.Popen[str] | None" = None) -> None:
        """Wait until something holds; a process that ends before is a failure."""
        deadline = time.monotonic() + 120
        while not holds():
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = process.communicate() if process is not None and ended else ""
                pytest.fail(f"this did not come: {said}")
            time.sleep(0.02)


def signal_group(attempt: LocalAttempt, number: signal.Signals) -> None:
    """Send a signal to dbt and to the process that watches it."""
    pid = json.loads((attempt.folder / "claim").read_bytes())["pid"]
    os.killpg(pid, number)


def make_desk(folder: Path, dbt: Path, python: Path = Path(sys.executable)) -> Desk:
    """A folder with the project and a manifest."""
    models = folder / "project" / "models"
    models.mkdir(parents=True)
    (folder / "counts").mkdir()
    (folder / "project" / "dbt_project.yml").write_text(yaml.safe_dump(PROJECT))
    (folder / "project" / "profiles.yml").write_text(yaml.safe_dump(PROFILE))
    desk = Desk(folder, dbt, python=python)
    for name, sql in MODELS.items():
        desk.model(name, sql)
    desk.write(manifest())
    return desk
