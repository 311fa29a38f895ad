"""A Postgres of the test's own, and the dbt project `chaos` that counts in it what was executed.

The server is the one of examples/postgres, so that what users are told to apply is what the tests use.
"""

import csv
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.chaos.project import SCHEMA, fields
from tests.conftest import CHECKOUT
from tests.e2e.conftest import Cluster

EXAMPLE = CHECKOUT / "examples" / "postgres"
HOST, PORT = "warehouse", 5432
_SERVER = "deployment/warehouse"
_HOLDER = "psql holds"


def chaos(*, settings: dict[str, Any] | None = None, pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """The fields of the spec for a run of the project `chaos`; `spec` adds fields. For the others see `fields`."""
    return fields(settings=settings or {}, pod=pod or {}) | spec


def manifests(name: str) -> list[dict[str, Any]]:
    """The manifests of a file of the example."""
    return list(yaml.safe_load_all(Path(EXAMPLE / name).read_text()))


@dataclass(frozen=True, slots=True)
class Postgres:
    """The server in the test's namespace. It is reached as runs reach it, and asked from inside its own pod."""

    cluster: Cluster

    @property
    def password(self) -> str:
        """The password that is right, from the example's Secret."""
        (secret,) = manifests("secret.yaml")
        password: str = secret["stringData"]["password"]
        return password

    def deploy(self) -> None:
        """Apply the server and the Secret with profiles.yml, and wait until connections are accepted."""
        for manifest in (*manifests("secret.yaml"), *manifests("server.yaml")):
            self.cluster.apply(manifest)
        self.wait_until_ready()

    def use_password(self, password: str) -> None:
        """Let runs that start from now on use this password; the server keeps the right one."""
        (secret,) = manifests("secret.yaml")
        secret["stringData"]["profiles.yml"] = secret["stringData"]["profiles.yml"].replace(self.password, password)
        self.cluster.apply(secret)

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the server, whether it succeeds or not."""
        return self.cluster.kubectl.run("exec", "-n", self.cluster.namespace, _SERVER, "--", *command)

    def sql(self, statement: str) -> list[tuple[str, ...]]:
        """Execute a statement; returns its rows as text. Fails the test with the server's words."""
        done = self.exec(*_psql(statement))
        if done.returncode != 0:
            pytest.fail(f"{statement}: {done.stderr}", pytrace=False)
        return [tuple(row) for row in csv.reader(done.stdout.splitlines())]

    def executions(self) -> Counter[str]:
        """How often the warehouse committed the work of each node."""
        return self._counted("executions")

    def tries(self) -> Counter[str]:
        """How often each node was begun."""
        return self._counted("tries")

    def _counted(self, table: str) -> Counter[str]:
        rows = self.sql(f"select node, count(*) from {SCHEMA}.{table} group by node")  # noqa: S608 - names of our own
        return Counter({node: int(count) for node, count in rows})

    def active_queries(self) -> list[str]:
        """What other sessions execute at this moment."""
        running = "backend_type = 'client backend' and state = 'active' and application_name not like 'psql%'"
        return [query for (query,) in self.sql(f"select query from pg_stat_activity where {running}")]  # noqa: S608 - as above

    def interrupt(self) -> None:
        """Break all connections and refuse new ones until `resume`; the data stays."""
        done = self.exec("sh", "-c", "touch /data/paused && pg_ctl stop -D /data/main --silent --mode=immediate")
        assert done.returncode == 0, done.stderr

    def resume(self) -> None:
        """The end of an interruption."""
        assert self.exec("rm", "-f", "/data/paused").returncode == 0
        self.wait_until_ready()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Let nobody connect any more over the network; the connections that are there go on."""
        self._edit_hba("s/^host all all all /#&/")
        probe = ("psql", f"--host={HOST}", "--no-password", "--command=")
        self.cluster.until("nobody gets in", lambda: "no pg_hba.conf entry" in self.exec(*probe).stderr)
        try:
            yield
        finally:
            self._edit_hba("s/^#host all all all /host all all all /")

    def _edit_hba(self, script: str) -> None:
        command = f"sed -i '{script}' /data/main/pg_hba.conf && pg_ctl reload -D /data/main --silent"
        done = self.exec("sh", "-c", command)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def locked(self, table: str, *, readable: bool = False) -> Iterator[None]:
        """Hold a table so that nobody else can write it, nor read it unless it is to stay readable.

        A process beside the server holds it. A session of kubectl's would have to last as long as the lock, and breaks
        where the machine stands still for some seconds.
        """
        mode = "exclusive" if readable else "access exclusive"
        holder = f"{_HOLDER} {table}"
        hold = f"begin; lock table {SCHEMA}.{table} in {mode} mode; select pg_sleep(3600)"
        held = f"select pid from pg_stat_activity where application_name = '{holder}' and wait_event = 'PgSleep'"  # noqa: S608 - names of our own
        release = f"select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{holder}'"  # noqa: S608 - as above
        detached = f"PGAPPNAME='{holder}' setsid psql --no-psqlrc --command=\"{hold}\" </dev/null >/dev/null 2>&1 &"
        done = self.exec("sh", "-c", detached)
        assert done.returncode == 0, done.stderr
        self.cluster.until(f"{table} is locked", lambda: bool(self.sql(held)))
        try:
            yield
        finally:
            self.sql(release)

    def wait_until_ready(self) -> None:
        """Wait until the Service leads to a server that accepts connections."""
        probe = ("pg_isready", "--quiet", f"--host={HOST}", f"--port={PORT}")
        self.cluster.until("the server accepts connections", lambda: self.exec(*probe).returncode == 0)


def _psql(statement: str) -> tuple[str, ...]:
    return ("psql", "--no-psqlrc", "--quiet", "--csv", "--tuples-only", "--set=ON_ERROR_STOP=1", "-c", statement)


def producer_pod(cluster: Cluster, run: str) -> str:
    """Name of the run's producer pod; the server's pod is in the same namespace."""
    selected = f"dbt-operator.io/run={run},dbt-operator.io/attempt-kind=producer"
    (pod,) = cluster.objects("pods", labels=selected)
    name: str = pod["metadata"]["name"]
    return name


def everything_said(cluster: Cluster, run: str) -> str:
    """All that a user can read of a run, as one text."""
    return json.dumps([cluster.run(run), cluster.models(), cluster.events()]) + cluster.log(run)


@pytest.fixture
def postgres(cluster: Cluster) -> Postgres:
    """A server in the test's namespace that accepts connections; it goes with the namespace."""
    server = Postgres(cluster=cluster)
    server.deploy()
    return server
