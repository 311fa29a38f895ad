"""A Postgres server for one run, in which every execution leaves a row that only its commit makes lasting."""

from __future__ import annotations

import csv
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dev.chaos.cluster import ChaosCluster, ChaosError
from dev.chaos.evidence import Execution, Try
from dev.chaos.project import SCHEMA

EXAMPLE = Path("examples/postgres")
_SERVER = "deployment/warehouse"
_NOTICES_LOST_CLIENTS = "alter role dbt set client_connection_check_interval = '100ms'"
"""Else a query of a process that was killed goes on until its end, as if somebody still wanted it."""
_END = "that is all"
_TRIES = 5
_HOST = "warehouse"  # of its Service
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
            self.cluster.kubectl("apply", "-n", self.namespace, "-f", str(path))
        wait = ("rollout", "status", _SERVER, "-n", self.namespace, "--timeout=120s", "--request-timeout=0")
        self.cluster.kubectl(*wait, seconds=120)
        self._wait_until_reachable()
        self._sql(_NOTICES_LOST_CLIENTS)

    def _wait_until_reachable(self) -> None:
        """Wait until its Service leads to it.

        A server that is ready is among the Service's endpoints some time later: tens of seconds where a fault of
        another run has just taken the API server or etcd away. Without it a run fails, and rightly says so.
        """
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
