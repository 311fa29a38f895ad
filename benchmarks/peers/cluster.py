"""dbt-operator on the development cluster: a DbtRun."""

import base64
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.bench import ENDED, IMAGES, LIMITS
from benchmarks.observing import PARTS
from benchmarks.operator import KUBECONFIG, operator
from benchmarks.peers.local import RUN, manifest, shown
from benchmarks.peers.peer import Look, NotHereError, Peer, Session, State, Task
from benchmarks.peers.processes import Processes, Sampler, named, of_pods
from benchmarks.peers.warehouse import free_port
from benchmarks.project import packed
from dev.cluster.network import node_address
from tests.api import Api
from tests.conftest import new_namespace


class Cluster(Peer):
    """See above."""

    name = "cluster"
    title = "dbt-operator on Kubernetes"

    def about(self) -> str:
        """See Peer."""
        return (
            f"the image {IMAGES['postgres']}, which has the same dbt; its pods begin anew each time and parse"
            " the project first; what is shown is what `kubectl get dbtmodels` shows. The operator and all pods of the"
            " run count; what else a cluster of one node needs (API server, etcd, kubelet and so on) has a line of its"
            " own, as others share it."
        )

    @contextmanager
    def ready(self, task: Task, folder: Path) -> Iterator[Session]:
        """See Peer."""
        if not KUBECONFIG.exists():
            raise NotHereError("no development cluster is up: `make images`")
        try:
            with self._deployed(task, folder) as session:
                yield session
        except pytest.fail.Exception as error:  # what Api raises
            raise NotHereError(str(error)) from error

    @contextmanager
    def _deployed(self, task: Task, folder: Path) -> Iterator[Session]:
        api = Api(KUBECONFIG)
        content = base64.b64encode(packed(task.content(host=node_address()))).decode()
        probe, metrics, log = free_port(), free_port(), folder / "printed"
        with (
            new_namespace(api) as namespace,
            operator(namespace, log=log, probe=str(probe), metrics=str(metrics)) as process,
        ):
            metadata = {"name": "project"}
            project = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
            api.apply(project | {"binaryData": {"project.tgz": content}}, namespace=namespace)
            _wait(process, metrics, log)
            yield _Run(api, namespace, task, process.pid)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the operator serves its metrics."""
    while True:
        time.sleep(0.5)
        if process.poll() is not None:
            raise NotHereError(f"the operator does not come up: {' '.join(log.read_text().splitlines()[-1:])}")
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return


class _Run(Session):
    def __init__(self, api: Api, namespace: str, task: Task, operator: int) -> None:
        self._api, self._namespace, self._task, self._operator = api, namespace, task, operator

    def roots(self, seen: Processes) -> Iterable[int]:
        pods = self._api.objects("pods", namespace=self._namespace)
        return [self._operator, *of_pods(seen, [pod["metadata"]["uid"] for pod in pods])]

    def beside(self) -> Sampler:
        # Not with what they have started, as pods descend from the shims.
        return Sampler(lambda seen: named(seen, PARTS), whole=False)

    def begin(self) -> None:
        project = {"archive": {"configMapRef": {"name": "project", "key": "project.tgz"}}}
        pod = {"spec": {"containers": [{"name": "dbt", "resources": LIMITS}]}}
        image = {"image": IMAGES["postgres"], "imagePullPolicy": "IfNotPresent", "podTemplate": pod}
        self._api.apply(manifest(self._task, project=project, **image), namespace=self._namespace)

    def look(self) -> Look:
        models = self._api.objects("dbtmodels", namespace=self._namespace)
        found = [model for model in models if model["spec"]["name"] == self._task.model]
        run = self._api.get("dbtruns", RUN, namespace=self._namespace).get("status") or {}
        state: State = "" if run.get("phase") not in ENDED else "succeeded" if run["phase"] == "Succeeded" else "failed"
        return Look(node=shown(found[0]) if found else "", run=state)
