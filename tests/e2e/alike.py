"""The runs of the end-to-end tests once more, without a cluster: node for node they have to end alike.

Nothing is executed on the cluster for that: what a test has in its namespace, the run, its ConfigMaps, connections and
Secrets, is written to a file, which `dbt-operator local` is given.
"""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.local.manifests import PROJECT_ANNOTATION
from dbt_operator.local.place import NAMESPACE
from dbt_operator.local.store import Store
from dev import dbt_venv
from tests.e2e.conftest import Cluster
from tests.ends import OF_A_RUN, shown
from tests.unit.runner.postgres_server import postgres_server, programs
from tests.warm import warm_dbt, warm_operator

_GIVEN = {"configmaps": "ConfigMap", "secrets": "Secret", "dbtconnections": "DbtConnection"}


def assert_alike(
    cluster: Cluster,
    *runs: str,
    folder: Path,
    project: Path | None = None,
    environ: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Execute the runs of the namespace here, one after the other, and compare how they end.

    folder: the test's `tmp_path`. project: what the image has. environ: for dbt. elsewhere: texts of Secrets and
    connections, and what stands for them here.
    """
    given = list(_given(cluster, elsewhere or {}))
    for name in runs:
        cluster.wait_for_end(name)
        _execute([*given, _manifest(cluster.run(name), project)], folder=folder, environ=environ or {})
    with Store(folder / ".dbt-operator" / "state.db") as store:
        for name in runs:
            _compare(cluster, store, name)


@contextmanager
def warehouse() -> Iterator[dict[str, str]]:
    """A Postgres of this machine with a database of the same name; the variables with which it is found."""
    with postgres_server() as environ:
        subprocess.run([f"{programs()}/createdb", "warehouse"], env=environ, check=True)
        yield environ | {"PGDATABASE": "warehouse"}


def of_profiles(environ: Mapping[str, str]) -> dict[str, str]:
    """What is other in profiles and connections that find the warehouse of the namespace."""
    return {"host: warehouse\n": f"host: {environ['PGHOST']}\n", "port: 5432\n": f"port: {environ['PGPORT']}\n"}


def execute_sql(statements: str, environ: Mapping[str, str]) -> None:
    """Execute statements in it."""
    subprocess.run([f"{programs()}/psql", "--quiet"], env=environ, input=statements, text=True, check=True)


def _manifest(run: Object, project: Path | None) -> Object:
    annotations = {} if project is None else {PROJECT_ANNOTATION: str(project)}
    metadata = {
        "name": run["metadata"]["name"],
        "labels": run["metadata"].get("labels", {}),
        "annotations": annotations,
    }
    return {"apiVersion": run["apiVersion"], "kind": run["kind"], "metadata": metadata, "spec": run["spec"]}


def _given(cluster: Cluster, elsewhere: Mapping[str, str]) -> list[Object]:
    """What a person has put into the namespace. The rest belongs to runs, or to the cluster."""
    found: list[Object] = []
    for plural, kind in _GIVEN.items():
        for obj in cluster.objects(plural):
            if obj["metadata"].get("ownerReferences") or obj["metadata"]["name"] == "kube-root-ca.crt":
                continue
            content: dict[str, Any] = {field: obj[field] for field in ("data", "binaryData", "spec") if field in obj}
            if kind == "DbtConnection":
                content["spec"] = yaml.safe_load(_moved(yaml.safe_dump(obj["spec"]), elsewhere))
            if kind == "Secret":
                content["data"] = {key: _moved_secret(value, elsewhere) for key, value in obj.get("data", {}).items()}
            metadata: dict[str, Any] = {"name": obj["metadata"]["name"]}
            api_version = "dbt-operator.io/v1alpha1" if kind == "DbtConnection" else "v1"
            found.append({"apiVersion": api_version, "kind": kind, "metadata": metadata, **content})
    return found


def _moved(text: str, elsewhere: Mapping[str, str]) -> str:
    for there, here in elsewhere.items():
        text = text.replace(there, here)
    return text


def _moved_secret(encoded: str, elsewhere: Mapping[str, str]) -> str:
    return base64.b64encode(_moved(base64.b64decode(encoded).decode(), elsewhere).encode()).decode()


def _execute(documents: list[Object], *, folder: Path, environ: Mapping[str, str]) -> None:
    (folder / "run.yaml").write_text(yaml.safe_dump_all(documents))
    session = _session(folder)
    dbt, python = warm_dbt(dbt_venv.ensure(), session=session), warm_operator(session=session)
    path = f"{dbt.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(python), "-m", "dbt_operator", "local", "run", "-f", "run.yaml"],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr.decode()


def _session(tmp_path: Path) -> Path:
    """The folder that all workers share, where the tests without a cluster have their warm Pythons."""
    own = tmp_path.parent
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def _compare(cluster: Cluster, store: Store, name: str) -> None:
    run, run_there = store.get(DBT_RUNS, name, namespace=NAMESPACE), cluster.run(name)
    assert run is not None
    ends = [{each: one["status"].get(each) for each in OF_A_RUN} for one in (run, run_there)]
    assert ends[0] == ends[1], run["status"]["message"]
    models = store.all(DBT_MODELS, run=run["metadata"]["uid"])
    models_there = [one for one in cluster.objects("dbtmodels") if one["spec"]["runName"] == name]
    here = {model["spec"]["uniqueId"]: shown(model) for model in models}
    assert here == {model["spec"]["uniqueId"]: shown(model) for model in models_there}
    if "podDatabase" not in run_there["status"]["dbt"]:  # then nothing but the whole command can be retried there
        kinds = [[attempt["kind"] for attempt in one["status"]["attempts"]] for one in (run, run_there)]
        assert kinds[0] == kinds[1]
    specs = {model["metadata"]["name"]: model["spec"] for model in models}
    assert specs == {model["metadata"]["name"]: model["spec"] for model in models_there}
