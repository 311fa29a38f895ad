"""Runs of the project `chaos` that take more than one attempt: a namespace and a warehouse for all tests of a module.

The tests of a module that use them belong into one class, so that they follow each other on one worker.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dev.chaos.project import SCHEMA
from tests.api import Api
from tests.conftest import Kubectl
from tests.e2e.conftest import PATIENCE, Cluster, own_cluster
from tests.e2e.postgres import Postgres, chaos

QUICK = {"backoff": {"duration": "1s", "factor": 1}}
"""A retry that does not keep a test waiting."""
ANNOTATION = "dbt-operator.io/retry"

# The seeds are there as if an earlier run had loaded them, so that a run can be of a few models only.
FRESH = f"""
drop schema if exists {SCHEMA} cascade;
create schema {SCHEMA};
create table {SCHEMA}.tries (
    node text, at timestamptz default clock_timestamp(), pid int default pg_backend_pid(), invocation text,
    alone boolean);
create table {SCHEMA}.executions (
    node text, at timestamptz default clock_timestamp(), pid int default pg_backend_pid(), invocation text);
""" + "".join(f"create table {SCHEMA}.seed_{n} as select {n + 1} as id;\n" for n in range(1, 6))


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs in one namespace, and the warehouse in which their executions are counted."""

    cluster: Cluster
    postgres: Postgres

    def prepare(self) -> None:
        """Wait until nothing is at work, and leave a warehouse in which no model was built."""
        self.cluster.until("no pod of a run is alive", lambda: not self.live_pods())
        self.postgres.sql(FRESH)

    def clear(self) -> None:
        """Take the runs away."""
        self.cluster.kubectl("delete", "dbtruns", "--all", "-n", self.cluster.namespace, "--wait=false")

    def start(self, name: str, *select: str, **spec: Any) -> None:
        """Create a run of some models of the project; `spec` adds fields, all others have their defaults."""
        run = {"apiVersion": "dbt-operator.io/v1alpha1", "kind": "DbtRun", "metadata": {"name": name}}
        self.cluster.apply({**run, "spec": {"imagePullPolicy": "IfNotPresent"} | chaos(select=list(select), **spec)})

    def end(self, name: str) -> dict[str, Any]:
        """Wait for the end of the run; returns its status."""
        return self.cluster.wait_for_end(name)

    def set(self, name: str, **spec: Any) -> None:
        """Change fields of a run's spec."""
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "dbtrun", name, "-n", self.cluster.namespace, "--type=merge", "-p", patch)

    def ask(self, kind: str, name: str, token: str) -> None:
        """Ask for a retry of a dbtrun or a dbtmodel with the annotation."""
        annotation = f"{ANNOTATION}={token}"
        self.cluster.kubectl("annotate", kind, name, "-n", self.cluster.namespace, "--overwrite", annotation)

    def wait_for_condition(self, name: str, condition: str) -> None:
        """Wait for a condition of the run, as a script does."""
        wait = ("wait", f"dbtrun/{name}", f"--for=condition={condition}", f"--timeout={PATIENCE:.0f}s")
        self.cluster.kubectl(*wait, "-n", self.cluster.namespace)

    def status(self, name: str) -> dict[str, Any]:
        """The status of a run, empty as long as no operator has seen it."""
        status: dict[str, Any] = self.cluster.run(name).get("status", {})
        return status

    def nodes(self, name: str) -> dict[str, dict[str, Any]]:
        """The statuses of a run's DbtModels, by dbt's name."""
        models = self.cluster.objects("dbtmodels", labels=f"dbt-operator.io/run={name}")
        return {model["spec"]["name"]: model["status"] for model in models}

    def phases(self, name: str) -> dict[str, str]:
        """The phases of a run's DbtModels, by dbt's name."""
        return {node: status["phase"] for node, status in self.nodes(name).items()}

    def wait_for_phase(self, name: str, phase: str, *nodes: str) -> None:
        """Wait until these nodes of a run are in the phase."""

        def there() -> bool:
            shown = self.phases(name)
            return all(shown.get(node) == phase for node in nodes)

        self.cluster.until(f"{', '.join(nodes)} in phase {phase}", there)

    def wait_for_work(self, name: str, job: str) -> None:
        """Wait until an attempt of a run has executed a node, and executes another one."""

        def at_work() -> bool:
            last = [status["attempts"][-1] for status in self.nodes(name).values() if status.get("attempts")]
            return {"Succeeded", "Running"} <= {attempt["phase"] for attempt in last if attempt["job"] == job}

        self.cluster.until(f"{job} is in the middle of its work", at_work)

    def attempts(self, name: str) -> list[dict[str, Any]]:
        """What a run's status says of its attempts, oldest first."""
        attempts: list[dict[str, Any]] = self.status(name).get("attempts", [])
        return attempts

    def jobs(self, name: str) -> list[str]:
        """Names of the Jobs of a run."""
        found = self.cluster.objects("jobs", labels=f"dbt-operator.io/run={name}")
        return sorted(job["metadata"]["name"] for job in found)

    def pod(self, job: str) -> str:
        """Name of the pod of a Job."""
        name: str = self._pod_of(job)["metadata"]["name"]
        return name

    def has_pod(self, job: str) -> bool:
        """Whether the Job has its pod."""
        return bool(self._pods_of(job))

    def image(self, job: str) -> str:
        """The image of the container that ran dbt for a Job."""
        image: str = self._pod_of(job)["spec"]["containers"][0]["image"]
        return image

    def labels(self, job: str) -> dict[str, str]:
        """The labels of the pod of a Job."""
        labels: dict[str, str] = self._pod_of(job)["metadata"]["labels"]
        return labels

    def resources(self, job: str) -> dict[str, Any]:
        """The requests and limits of the container that ran dbt for a Job."""
        resources: dict[str, Any] = self._pod_of(job)["spec"]["containers"][0]["resources"]
        return resources

    def live_pods(self) -> list[str]:
        """Names of the pods, of all runs, that have a process or will have one."""
        pods = self.cluster.objects("pods", labels="dbt-operator.io/run")
        live = [pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running")]
        return [pod["metadata"]["name"] for pod in live]

    def _pod_of(self, job: str) -> dict[str, Any]:
        (pod,) = self._pods_of(job)
        return pod

    def _pods_of(self, job: str) -> list[dict[str, Any]]:
        return self.cluster.objects("pods", labels=f"batch.kubernetes.io/job-name={job}")

    def messages(self, job: str) -> list[str]:
        """The names of the events that dbt logged in an attempt."""
        log = self.cluster.kubectl("logs", "-n", self.cluster.namespace, f"job/{job}", "-c", "dbt")
        return [json.loads(line)["info"]["name"] for line in log.splitlines()]

    def columns(self, name: str) -> dict[str, str]:
        """The line that kubectl prints for a run, by the heads of its columns."""
        shown = self.cluster.kubectl("get", "dbtrun", name, "-n", self.cluster.namespace)
        heads, line = shown.splitlines()
        columns = list(re.finditer(r"\S+\s*", heads))
        return {column[0].strip(): line[column.start() : column.end()].strip() for column in columns}


@pytest.fixture(scope="module")
def shared(kubectl: Kubectl, api: Api) -> Iterator[Runs]:
    """A namespace with a warehouse for the tests of a module."""
    with own_cluster(kubectl, api) as cluster:
        postgres = Postgres(cluster=cluster)
        postgres.deploy()
        yield Runs(cluster=cluster, postgres=postgres)


@pytest.fixture
def runs(shared: Runs) -> Iterator[Runs]:
    """The module's namespace without runs, and with a warehouse in which no model was built."""
    shared.prepare()
    yield shared
    shared.clear()
