"""dbt-operator without a cluster: `dbt-operator local run`."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.peers.command import Command
from benchmarks.peers.peer import Peer, Session, State, Task, environment, versions
from dbt_operator.kube.resources import DBT_MODELS
from dbt_operator.local.manifests import PROJECT_ANNOTATION
from dbt_operator.local.place import Place
from dbt_operator.local.store import Store

RUN = "bench"


class Local(Peer):
    """See above."""

    name = "local"
    title = "`dbt-operator local run`"

    def about(self) -> str:
        """See Peer."""
        return (
            f"{versions('dbt', 'dbt-core', 'dbt-postgres')}; it parses the project first; what is shown is what its"
            " `get dbtmodels` shows."
        )

    @contextmanager
    def ready(self, task: Task, folder: Path) -> Iterator[Session]:
        """See Peer."""
        task.write(folder / "project")
        (folder / "run.yaml").write_text(yaml.safe_dump(manifest(task, project={"image": {"path": "/dbt/bench"}})))
        environ = {
            **os.environ,
            "PATH": f"{environment('dbt')}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        line = [sys.executable, "-m", "dbt_operator", "local", "run", "-f", "run.yaml", "--no-watch"]
        with ExitStack() as stack:
            yield _Shown(stack, line, folder=folder, environ=environ, model=task.model)


def manifest(task: Task, *, project: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A DbtRun of the project."""
    retry = {"limit": 2, "backoff": {"duration": f"{task.delay}s", "factor": 1}}
    given = {"project": project, "profile": {"inProject": True}, "command": "build", "retry": retry}
    return {
        "apiVersion": "dbt-operator.io/v1alpha1",
        "kind": "DbtRun",
        "metadata": {"name": RUN, "annotations": {PROJECT_ANNOTATION: "project"}},
        "spec": {**given, **spec},
    }


def shown(model: dict[str, Any]) -> State:
    """What a DbtModel shows."""
    phase = (model.get("status") or {}).get("phase")
    return "succeeded" if phase == "Succeeded" else "failed" if phase == "Failed" else ""


class _Shown(Command):
    def __init__(self, stack: ExitStack, line: list[str], *, folder: Path, environ: dict[str, str], model: str) -> None:
        super().__init__(stack, line, folder=folder, environ=environ)
        self._model, self._place = model, Place(folder / ".dbt-operator")

    def node(self) -> State:
        if not self._place.state.exists():
            return ""
        with Store(self._place.state) as store:
            found = [model for model in store.all(DBT_MODELS) if model["spec"]["name"] == self._model]
        return shown(found[0]) if found else ""
