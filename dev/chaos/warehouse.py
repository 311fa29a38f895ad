"""A Postgres server for one run, in which every execution leaves a row that only its commit makes lasting."""

from __future__ import annotations

import csv
import json
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from dev.chaos.cluster import ChaosCluster, ChaosError
from dev.chaos.evidence import Execution, Try
from dev.chaos.project import SCHEMA

EXAMPLE = Path("examples/postgres")
_SERVER = "deployment/warehouse"
_NOTICES_LOST_CLIENTS = "alter role dbt set client_connection_check_interval = '100ms'"
"""Else a query of a process that was killed goes on until its end, as if somebody still wanted it."""
_END = "that is all"
_TRIES = 5
_HOST, _PORT = "warehouse", 5432  # of its Service
_PATIENCE = 300
"""Seconds for the server to start: while other runs take the control plane away no Deployment becomes pods."""
_REACHABLE_TRIES = 120


@dataclass(frozen=True, kw_only=True)
class Warehouse:
    """The server of examples/postgres in a namespace."""

    cluster: ChaosCluster
    namespace: str

    def deploy(self) -> None:
        """Start it, and wait until it accepts connections. Raises: ChaosError."""
        for name in ("secret.yaml", "server.yaml"):
            path = self.cluster.settings.checkout / EXAMPLE / name
            for manifest in yaml.safe_load_all(path.read_text()):
                if manifest["kind"] == "Service":
                    del manifest["spec"]["selector"]
                self._apply(manifest)
        wait = ("rollout", "status", _SERVER, "-n", self.namespace, f"--timeout={_PATIENCE}s", "--request-timeout=0")
        self.cluster.kubectl(*wait, seconds=_PATIENCE)
        self._lead_service_to_server()
        self._wait_until_reachable()
        self._sql(_NOTICES_LOST_CLIENTS)

    def _lead_service_to_server(self) -> None:
        """Let its Service lead to the server as if that were outside of the cluster.

        The endpoints of a Service with a selector come and go with the health of kubelet and controller manager: after
        a restart of both of them and of the API server nobody reaches a server that is well, for more than a minute. A
        run that has no try left then fails, and rightly says so; what is to be seen here is what else it does.
        """
        (pod,) = self.cluster.pods(self.namespace, "app=warehouse")
        labels = {"kubernetes.io/service-name": _HOST, "endpointslice.kubernetes.io/managed-by": "dbt-operator-chaos"}
        self._apply(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": _HOST, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "postgres", "port": _PORT}],
                "endpoints": [{"addresses": [pod["status"]["podIP"]]}],
            }
        )

    def _apply(self, manifest: dict[str, Any]) -> None:
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(manifest))

    def _wait_until_reachable(self) -> None:
        """Wait until its Service leads to it, which it does some time after the server is ready."""
        probe = ("exec", "-n", self.namespace, _SERVER, "--", "pg_isready", "--quiet", f"--host={_HOST}")
        for _ in range(_REACHABLE_TRIES):
            try:
                self.cluster.kubectl(*probe)
            except ChaosError:
                time.sleep(1)
            else:
                return
        raise ChaosError(f"The warehouse in {self.namespace} was not reached through its Service.")

    def tries(self) -> list[Try]:
        """Every beginning of a node, in order."""
        rows = self._sql(f"select node, at, invocation, alone from {SCHEMA}.tries order by at")  # noqa: S608 - our names
        return [
            Try(node=node, at=datetime.fromisoformat(at), invocation=invocation, alone=alone == "t")
            for node, at, invocation, alone in rows
        ]

    def executions(self) -> list[Execution]:
        """Every committed execution of a node, in order."""
        rows = self._sql(f"select node, at, invocation from {SCHEMA}.executions order by at")  # noqa: S608 - our names
        return [
            Execution(node=node, at=datetime.fromisoformat(at), invocation=invocation) for node, at, invocation in rows
        ]

    def _sql(self, statement: str) -> list[list[str]]:
        options = ("--no-psqlrc", "--quiet", "--csv", "--tuples-only", "--set=ON_ERROR_STOP=1", "-c", statement)
        # What comes through a connection that breaks is less than all: the last row says that it is all.
        program = ("psql", *options, "-c", f"select '{_END}'")
        for _ in range(_TRIES):
            try:
                shown = self.cluster.kubectl("exec", "-n", self.namespace, _SERVER, "--", *program)
            except ChaosError as error:
                if re.search(r'relation "[^"]*" does not exist', str(error)):
                    return []  # no attempt has come as far as its first hook
                raise
            rows = list(csv.reader(shown.splitlines()))
            if rows and rows[-1] == [_END]:
                return rows[:-1]
            time.sleep(1)
        raise ChaosError(f"The warehouse in {self.namespace} does not say all that it was asked for.")
