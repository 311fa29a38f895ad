"""A Postgres of this machine, which knows when a statement failed in it."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.project import SEQUENCE
from tests.unit.runner.postgres_server import programs

DATABASE, SCHEMA, USER = "warehouse", "bench", "dbt"
_CONNECTIONS = 300  # Airflow's processes have one or more each
_ERROR = re.compile(r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) UTC \[\d+\] ERROR:  division by zero")


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs. `pid`: of its first process."""

    pid: int
    port: int
    password: str
    log: Path

    def query(self, sql: str, *, database: str = DATABASE) -> list[list[str]]:
        """The rows, with their values as words."""
        line = [_program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-qAt", "-F", "\t", "-c", sql]
        environ = {"PGPASSWORD": self.password, "PGOPTIONS": "--client-min-messages=warning"}
        done = subprocess.run([*line, database], env=environ, check=True, capture_output=True, text=True)
        return [row.split("\t") for row in done.stdout.splitlines()]

    def reset(self) -> None:
        """As if nothing had been executed."""
        drop = f"drop schema if exists {SCHEMA} cascade; drop sequence if exists {SEQUENCE}"
        self.query(f"{drop}; create sequence {SEQUENCE}")

    def failures(self) -> list[float]:
        """When statements divided by zero."""
        return failures(self.log.read_text())

    def tables(self) -> int:
        """How many tables and views dbt has left."""
        counted = f"select count(*) from information_schema.tables where table_schema = '{SCHEMA}'"  # noqa: S608 - ours
        return int(self.query(counted)[0][0])

    def profile(self, *, host: str, threads: int) -> dict[str, Any]:
        """The profiles.yml with which dbt comes here."""
        where = {"host": host, "port": self.port, "dbname": DATABASE, "schema": SCHEMA}
        output = {"type": "postgres", **where, "user": USER, "password": self.password, "threads": threads}
        return {"bench": {"target": "postgres", "outputs": {"postgres": output}}}


def failures(log: str) -> list[float]:
    """When statements divided by zero, from what the server has logged."""
    found = [match["at"] for match in _ERROR.finditer(log)]
    return [datetime.fromisoformat(f"{at}+00:00").timestamp() for at in found]


@contextmanager
def server(folder: Path, *, databases: Sequence[str], addresses: Sequence[str] = ("127.0.0.1",)) -> Iterator[Server]:
    """A new server with its data below the folder, which everybody has to be allowed to enter."""
    # The server refuses to run as root.
    other: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    data, password, port, log = folder / "data", secrets.token_hex(16), free_port(), folder / "log"
    folder.mkdir()
    data.mkdir()
    if other:
        shutil.chown(data, "nobody")
    line = [_program("initdb"), "-D", str(data), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    subprocess.run([*line, "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd="/", **other)
    rules = "local all all trust\nhost all all all scram-sha-256\n"  # pods come from addresses of their own
    (data / "pg_hba.conf").write_text(rules)
    settings = {
        "fsync": "off",
        "listen_addresses": ",".join(addresses),
        "log_line_prefix": "%m [%p] ",
        "log_timezone": "UTC",
        "max_connections": _CONNECTIONS,
        "unix_socket_directories": data,
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    line = [_program("postgres"), "-D", str(data), "-p", str(port), *options]
    with log.open("w") as output, subprocess.Popen(line, stderr=output, cwd="/", **other) as process:
        try:
            _prepare(process, data, port, password, databases)
            yield Server(pid=process.pid, port=port, password=password, log=log)
        finally:
            process.send_signal(signal.SIGINT)  # without waiting for its clients


def _prepare(process: subprocess.Popen[bytes], data: Path, port: int, password: str, databases: Sequence[str]) -> None:
    """Wait for the server, and make its user and databases."""
    at = ["-h", str(data), "-p", str(port), "-U", USER]
    while subprocess.run([_program("pg_isready"), "-q", *at], check=False).returncode:
        if process.poll() is not None:
            raise SystemExit(f"Postgres has ended with {process.returncode}.")
        time.sleep(0.1)
    sqls = [f"alter user {USER} password '{password}'", *(f"create database {name}" for name in databases)]
    for sql in sqls:
        subprocess.run([_program("psql"), "-q", *at, "-c", sql, "postgres"], check=True)


def _program(name: str) -> str:
    place = programs()
    if place is None:
        raise SystemExit("There is no Postgres here: `initdb` is neither on the PATH nor where Debian has it.")
    own = place / name
    return str(own) if own.exists() else str(shutil.which(name))


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
