"""A dbt project for measurements: 2 seeds, 4 tables that read them, and views and tables in three levels below these.

Wide, as most projects are: almost all nodes may be executed at the same time. Every tenth model has a data test. The
same arguments give the same files. `archive` is what a ConfigMap holds of it, with a profile for each warehouse.
"""

import io
import tarfile
from collections.abc import Iterator

ROOTS = 4
VIEWS = 24  # of each 190 nodes
PROFILE = """\
bench:
  target: {target}
  outputs:
    duckdb: {{type: duckdb, path: /tmp/bench.duckdb, threads: {threads}}}
    postgres:
      {{type: postgres, host: warehouse, port: 5432, user: dbt, password: correct-horse-battery-staple,
       dbname: warehouse, schema: bench, threads: {threads}}}
"""
PROJECT = """\
name: bench
version: "1.0"
config-version: 2
profile: bench
flags: {send_anonymous_usage_stats: false}
"""


def files(nodes: int, *, seconds: float = 0) -> Iterator[tuple[str, str]]:
    """Name and content of each file. `nodes`: seeds and models; `seconds`: that a model takes on Postgres."""
    yield "dbt_project.yml", PROJECT
    for number in (1, 2):
        rows = "\n".join(f"{row},{row % 7}" for row in range(100))
        yield f"seeds/seed_{number}.csv", f"id,kind\n{rows}\n"
    names = [f"m{number:05}" for number in range(nodes - 2)]
    for number, name in enumerate(names):
        yield f"models/{name}.sql", _model(number, names, len(names), seconds)
    tested = "".join(f"  - name: {name}\n    columns: [{{name: id, data_tests: [not_null]}}]\n" for name in names[::10])
    yield "models/schema.yml", f"models:\n{tested}"


def _model(number: int, names: list[str], count: int, seconds: float) -> str:
    view = number % 190 in range(ROOTS, ROOTS + VIEWS)
    level = 0 if number < ROOTS else 1 + 3 * (number - ROOTS) // max(1, count - ROOTS)
    first = ROOTS + (level - 2) * (count - ROOTS) // 3 if level > 1 else 0
    parent = f"seed_{1 + number % 2}" if level == 0 else names[number % ROOTS if level == 1 else first + number % 20]
    waits = f" where pg_sleep({seconds}) is not null" if seconds else ""
    kind = "view" if view and not seconds else "table"
    return f"{{{{ config(materialized='{kind}') }}}}\nselect id, kind from {{{{ ref('{parent}') }}}}{waits}\n"


def archive(nodes: int, *, target: str, threads: int, seconds: float = 0) -> bytes:
    """The project as a .tgz, with its profiles.yml."""
    buffer = io.BytesIO()
    profile = PROFILE.format(target=target, threads=threads)
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in [*files(nodes, seconds=seconds), ("profiles.yml", profile)]:
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            packed.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()
