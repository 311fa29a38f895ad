"""Kills local runs at any moment, and counts on a real Postgres what was executed: `python -m dev.local_chaos`.

A server of its own is started from the programs of this machine. Of a run of the project `chaos` now and then the
command is killed, or dbt with the process that watches it, or all of them, or that process alone; then the same
command is given again, until all kills are done and the run has ended. What must hold then:

- each node has succeeded, and its work is in the warehouse;
- no node was begun by two processes at once;
- what was shown as done before a kill was not executed again;
- of one that was executed again, a process was killed while it was at work on it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.local.place import NAMESPACE, Place
from dbt_operator.local.store import Store
from dev import dbt_venv
from dev.chaos.project import NODES, RUN, SCHEMA

CHECKOUT = Path(__file__).resolve().parent.parent
PROJECT = CHECKOUT / "tests" / "projects" / "chaos"
FAULTS = ("command", "dbt", "both", "supervisor")
MODES: dict[str, dict[str, Any]] = {
    "Producer": {},
    "PerNode": {"mode": "PerNode", "perNode": {"parallelism": 4}},
    "Async": {"mode": "Async", "async": {"maxInFlight": 8}},
}
_NODE_MS = 400
# What the hooks of the project do. What is rolled back has counted nothing: neither a try nor an execution.
_FUNCTION = """
create schema {schema};
create table {schema}.tries (node text, invocation text, alone boolean);
create table {schema}.executions (node text, invocation text);
create function {schema}.chaos_work(name text, id bigint) returns bigint language plpgsql as $$ begin
    insert into {schema}.tries (node, alone) values (name, pg_try_advisory_xact_lock(61, hashtext(name)));
    perform pg_sleep({seconds});
    insert into {schema}.executions (node) values (name);
    return id;
end $$
"""
_LONGEST_PAUSE = 4.0
_PATIENCE = 900
# Else the query of a process that was killed goes on, as if somebody still wanted it.
_NOTICES_LOST_CLIENTS = "client_connection_check_interval=100ms"


@contextmanager
def postgres(folder: Path) -> Iterator[Path]:
    """A server below this folder; yields the folder of its socket."""
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    data, socket = folder / "data", folder / "socket"
    for each in (data, socket):
        each.mkdir()
        if user:
            shutil.chown(each, "nobody")
    initdb = ["initdb", "-D", str(data), "-U", "dbt", "--auth=trust", "--encoding=UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)  # type: ignore[call-overload]
    options = ["-c", _NOTICES_LOST_CLIENTS, "-c", "fsync=off", "-c", "listen_addresses=", "-k", str(socket)]
    log = (folder / "log").open("w")
    server = subprocess.Popen(["postgres", "-D", str(data), *options], stderr=log, cwd="/", **user)  # type: ignore[call-overload]
    try:
        while subprocess.run(["pg_isready", "-q", "-h", str(socket), "-U", "dbt"], check=False).returncode:
            time.sleep(0.1)
        subprocess.run(["createdb", "-h", str(socket), "-U", "dbt", "warehouse"], check=True)
        yield socket
    finally:
        server.terminate()
        server.wait()
        log.close()


@dataclass
class Chaos:
    """One run, and what was done to it."""

    folder: Path
    socket: Path
    chance: random.Random
    dbt: Path
    mode: str = "Producer"
    kills: Counter[str] = field(default_factory=Counter)
    done: dict[str, int] = field(default_factory=dict)  # executions of nodes when they were first shown as done
    wrong: list[str] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return Place(self.folder / ".dbt-operator")

    def prepare(self) -> None:
        """Write the project, the profile and the manifest."""
        shutil.copytree(PROJECT / "project", self.folder / "project")
        subprocess.run([sys.executable, PROJECT / "generate.py", self.folder / "project"], check=True)
        if self.mode == "Async":
            self._count_without_hooks()
        target = {"type": "postgres", "host": str(self.socket), "port": 5432, "user": "dbt", "password": "",
                  "dbname": "warehouse", "schema": SCHEMA, "threads": 4}  # fmt: skip
        profile = {"warehouse": {"target": "dev", "outputs": {"dev": target}}}
        (self.folder / "project" / "profiles.yml").write_text(yaml.safe_dump(profile))
        run = {
            "apiVersion": "dbt-operator.io/v1alpha1",
            "kind": "DbtRun",
            "metadata": {"name": RUN, "annotations": {"dbt-operator.io/local-project": "project"}},
            "spec": {
                "project": {"image": {"path": "/dbt/chaos"}},
                "profile": {"inProject": True},
                "producer": {"maxRestarts": 100},
                **MODES[self.mode],
                "retry": {"limit": 20, "backoff": {"duration": "1s", "factor": 1}},
            },
        }
        (self.folder / "run.yaml").write_text(yaml.safe_dump(run))

    def _count_without_hooks(self) -> None:
        """Have the models' own queries count, as what has hooks is executed by dbt; and tables in place of views."""
        self._query(_FUNCTION.format(schema=SCHEMA, seconds=_NODE_MS / 1000))
        project = self.folder / "project"
        settings = yaml.safe_load((project / "dbt_project.yml").read_text())
        del settings["on-run-start"], settings["models"]
        (project / "dbt_project.yml").write_text(yaml.safe_dump(settings))
        for path in (project / "models").glob("*.sql"):
            path.write_text(path.read_text().replace("materialized='view'", "materialized='table'"))

    def command(self) -> subprocess.Popen[bytes]:
        """The same command, each time."""
        environ = {
            **os.environ,
            "PATH": f"{self.dbt.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "CHAOS": json.dumps({"sleep_ms": _NODE_MS, "by_function": self.mode == "Async"}),
        }
        argv = [sys.executable, "-m", "dbt_operator", "local", "run", "-f", "run.yaml", "--no-watch"]
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(argv, cwd=self.folder, env=environ, stdout=said, stderr=said)

    def play(self, kills: int) -> None:
        """Kill so often, then let it come to its end."""
        began, process = time.monotonic(), self.command()
        while process.poll() is None or self._phase() != "Succeeded":
            if time.monotonic() - began > _PATIENCE:
                self.wrong.append(f"the run has not ended in {_PATIENCE} s")
                process.kill()
                return
            if process.poll() is not None:
                if self._ended():
                    self.wrong.append(f"the run has ended as {self._phase()}")
                    return
                process = self.command()
            if self.kills.total() < kills:
                time.sleep(self.chance.uniform(0.1, _LONGEST_PAUSE))
                self._note_done()
                self._kill(self.chance.choice(FAULTS), process)
            else:
                time.sleep(0.2)

    def _kill(self, fault: str, process: subprocess.Popen[bytes]) -> None:
        supervisors = [pid for pid in map(self._supervisor, self._attempts()) if pid is not None]
        if process.poll() is not None or (fault != "command" and not supervisors):
            return
        self.kills[fault] += 1
        order = [fault] if fault != "both" else self.chance.sample(["command", "dbt"], k=2)
        for one in order:
            if one == "command":
                process.kill()
                process.wait()
            else:
                kill = os.killpg if one == "dbt" else os.kill
                for pid in supervisors:
                    with_nobody = subprocess.run(["kill", "-0", str(pid)], check=False, capture_output=True).returncode
                    if not with_nobody:
                        kill(pid, signal.SIGKILL)

    def _attempts(self) -> list[Path]:
        folder = self.place.attempts(RUN)
        return list(folder.iterdir()) if folder.is_dir() else []

    def _supervisor(self, attempt: Path) -> int | None:
        try:
            claimed: int | None = json.loads((attempt / "claim").read_bytes())["pid"]
        except (OSError, ValueError):
            return None
        return claimed

    # what is shown, and what is

    def run(self) -> Object | None:
        if not self.place.state.exists():
            return None
        with Store(self.place.state) as store:
            return store.get(DBT_RUNS, RUN, namespace=NAMESPACE)

    def _phase(self) -> str:
        return str(((self.run() or {}).get("status") or {}).get("phase"))

    def _ended(self) -> bool:
        return self._phase() in ("Succeeded", "Failed", "Cancelled")

    def _note_done(self) -> None:
        """How often what is shown as done was executed when it was shown so. The statuses are read first."""
        if not self.place.state.exists():
            return
        with Store(self.place.state) as store:
            shown = [
                model["spec"]["name"]
                for model in store.all(DBT_MODELS)
                if (model.get("status") or {}).get("phase") == "Succeeded"
            ]
        executed = self.executed()
        for name in shown:
            self.done.setdefault(name, executed[name])

    def _query(self, sql: str) -> list[list[str]]:
        argv = ["psql", "-h", str(self.socket), "-U", "dbt", "-At", "-F", "\t", "-c", sql, "warehouse"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def executed(self) -> Counter[str]:
        """How often the work of each node was committed."""
        return Counter(row[0] for row in self._query(f"select node from {SCHEMA}.executions"))  # noqa: S608

    def check(self) -> None:
        """Hold what is shown against what is."""
        executed = self.executed()
        if len(executed) != NODES:
            self.wrong.append(f"{len(executed)} of {NODES} nodes are in the warehouse")
        for name, count in self.done.items():
            if not count:
                self.wrong.append(f"{name} was shown as done, and was not in the warehouse")
            if executed[name] > count:
                self.wrong.append(f"{name} was executed again after it was shown as done")
        begun = self._query(f"select node from {SCHEMA}.tries where not alone")  # noqa: S608
        self.wrong += [f"{row[0]} was begun while another process had it" for row in begun]


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m dev.local_chaos", description=__doc__.partition(":")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mode", choices=MODES, default="Producer", help="spec.mode of the run")
    options = parser.parse_args(argv)
    dbt = Path(os.environ.get("DBT_OPERATOR_TEST_DBT_PYTHON") or dbt_venv.ensure())
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)  # noqa: S311 - no secret
    left = options.kills
    while left > 0:  # a run may come to its end before so many kills
        folder = Path(tempfile.mkdtemp(prefix="local-chaos-"))
        folder.chmod(0o755)
        (folder / "postgres").mkdir()
        with postgres(folder / "postgres") as socket:
            chaos = Chaos(folder, socket, chance, dbt, mode=options.mode)
            chaos.prepare()
            chaos.play(left)
            chaos.check()
            report(chaos)
        if chaos.wrong:
            print(f"What is left of it is in {folder}.")
            return 1
        shutil.rmtree(folder)
        left -= chaos.kills.total()
    return 0


def report(chaos: Chaos) -> None:
    """Say what was done, and what came of it."""
    executed = chaos.executed()
    attempts: list[Any] = ((chaos.run() or {}).get("status") or {}).get("attempts") or []
    print(f"kills: {dict(chaos.kills)}; attempts: {len(attempts)}")
    print(f"executions: {executed.total()} of {NODES} nodes; more than once: {sum(n > 1 for n in executed.values())}")
    print("\n".join(chaos.wrong) or "Nothing lost, nothing doubled.")


if __name__ == "__main__":
    sys.exit(main())
