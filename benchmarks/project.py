"""A dbt project for measurements: 2 seeds, 4 tables that read them, and views and tables in three levels below these.

Wide, as most projects are: almost all nodes may be executed at the same time. Every tenth model has a data test. The
same arguments give the same files. `archive` is what a ConfigMap holds of it, with a profile for each warehouse.

On Postgres one model can fail the first time that it is executed: it draws from a sequence, which keeps its place when
the statement fails, and divides by zero at the first number. `SEQUENCE` has to be there anew before each run.
"""

import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator

ROOTS = 4
VIEWS = 24  # of each 190 nodes
SEQUENCE = "public.attempts"
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


def files(nodes: int, *, seconds: float = 0, fails_once: bool = False) -> Iterator[tuple[str, str]]:
    """Name and content of each file. `nodes`: seeds and models; `seconds`: that a model takes on Postgres.

    fails_once: whether the model `failing(nodes)` fails the first time.
    """
    yield "dbt_project.yml", PROJECT
    for number in (1, 2):
        rows = "\n".join(f"{row},{row % 7}" for row in range(100))
        yield f"seeds/seed_{number}.csv", f"id,kind\n{rows}\n"
    models = names(nodes)
    for number, name in enumerate(models):
        fails = fails_once and name == failing(nodes)
        yield f"models/{name}.sql", _model(number, models, seconds=seconds, fails=fails)
    tested = "".join(
        f"  - name: {name}\n    columns: [{{name: id, data_tests: [not_null]}}]\n" for name in models[::10]
    )
    yield "models/schema.yml", f"models:\n{tested}"


def failing(nodes: int) -> str:
    """The model that fails the first time: a table in the second of three levels, which others read."""
    return names(nodes)[_parent(nodes - 3, nodes - 2)]


def names(nodes: int) -> list[str]:
    """The names of its models."""
    return [f"m{number:05}" for number in range(nodes - 2)]


def leaves(nodes: int) -> list[str]:
    """Models that nothing reads: a table that is built again takes the views with it that read it, on Postgres."""
    models = names(nodes)
    read = {_parent(number, len(models)) for number in range(ROOTS, len(models))}
    return [name for number, name in enumerate(models) if number not in read]


def _level(number: int, count: int) -> int:
    return 0 if number < ROOTS else 1 + 3 * (number - ROOTS) // max(1, count - ROOTS)


def _parent(number: int, count: int) -> int:
    """Which model it reads, of the level above: one of 20 there, so that these have many readers."""
    level = _level(number, count)
    if level == 1:
        return number % ROOTS
    above = (count - ROOTS) // 3
    return ROOTS + (level - 2) * above + number % min(20, above)


def _model(number: int, models: list[str], *, seconds: float, fails: bool) -> str:
    count = len(models)
    view = number % 190 in range(ROOTS, ROOTS + VIEWS) and not seconds and not fails
    parent = models[_parent(number, count)] if number >= ROOTS else f"seed_{1 + number % 2}"
    # As a query of its own, else Postgres sleeps for each row.
    conditions = [f"(select pg_sleep({seconds})) is not null"] if seconds else []
    conditions += [f"1 / (nextval('{SEQUENCE}') - 1) is not null"] if fails else []
    where = f" where {' and '.join(conditions)}" if conditions else ""
    kind = "view" if view else "table"
    return f"{{{{ config(materialized='{kind}') }}}}\nselect id, kind from {{{{ ref('{parent}') }}}}{where}\n"


def archive(nodes: int, *, target: str, threads: int, seconds: float = 0) -> bytes:
    """The project as a .tgz, with its profiles.yml."""
    profile = PROFILE.format(target=target, threads=threads)
    return packed([*files(nodes, seconds=seconds), ("profiles.yml", profile)])


def packed(content: Iterable[tuple[str, str]]) -> bytes:
    """Files as a .tgz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archived:
        for name, text in content:
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archived.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def with_file(archived: bytes, *, name: str, content: bytes) -> bytes:
    """A .tgz with one file more."""
    buffer = io.BytesIO(gzip.decompress(archived))
    with tarfile.open(fileobj=buffer, mode="a") as opened:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        opened.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())
