"""A Postgres on this machine, where it has the server's programs."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


def programs() -> Path | None:
    """Where initdb and pg_ctl are: on the PATH, or where Debian has them."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "pg_ctl").exists()), None)


GUARDED = "guarded"
"""Where somebody makes a user of this name, it needs a password. All others come in without."""


def query(statement: str, environ: Mapping[str, str]) -> list[str]:
    """The rows of a statement, as text."""
    argv = [f"{programs()}/psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-c", statement]
    return subprocess.run(argv, env=dict(environ), check=True, capture_output=True, text=True).stdout.splitlines()


@contextmanager
def postgres_server() -> Iterator[dict[str, str]]:
    """The variables with which clients find a new server, whose data goes with it."""
    place = programs()
    assert place is not None
    # The server refuses to run as root; its user needs a folder that it can come to.
    user = _NOBODY if os.geteuid() == 0 else os.geteuid()
    folder = Path(tempfile.mkdtemp(prefix="dbt-operator-postgres-"))
    os.chown(folder, user, -1)
    port, data = _free_port(), folder / "data"
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"

    def call(program: str, *arguments: str) -> None:
        line = [str(place / program), f"--pgdata={data}", *arguments]
        subprocess.run(line, check=True, user=user, cwd=folder, env={"HOME": str(folder)}, stdout=subprocess.DEVNULL)

    try:
        call("initdb", "--username=dbt", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
        _guard(data / "pg_hba.conf")
        call("pg_ctl", "start", "--wait", f"--log={folder / 'log'}", f"--options={options}")
        found = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "dbt", "PGDATABASE": "postgres"}
        try:
            yield found
        finally:
            call("pg_ctl", "stop", "--mode=immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _guard(file: Path) -> None:
    # The first line that fits decides.
    file.write_text(f"host all {GUARDED} all scram-sha-256\n{file.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
