"""Postgres by psycopg2, which dbt-postgres has installed: one connection for each node, and no thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2  # type: ignore[import-untyped]  # of dbt's environment
from psycopg2 import extensions

from dbt_operator.runner.executors import Answer, ChangedError, Context, StatementError, Work
from dbt_operator.runner.output import Line

# The same as dbt's own list of what is there; types in dbt's words.
_RELATIONS = """
select tablename, 'table' from pg_tables where schemaname = %s and tablename = any(%s)
union all select viewname, 'view' from pg_views where schemaname = %s and viewname = any(%s)
union all select matviewname, 'materialized_view' from pg_matviews where schemaname = %s and matviewname = any(%s)
"""


def make(*, connection: Line, settings: Line, context: Context) -> PostgresExecutor:  # noqa: ARG001 - as others do
    """The executor of a run: it has no settings of its own, and gives no ids to what it executes."""
    return PostgresExecutor(connection)


class PostgresExecutor:
    """Executes each node on a connection of its own, as dbt does."""

    def __init__(self, connection: Line) -> None:
        self.limit = max(int(connection["threads"]), 1)
        self._arguments: Line = connection["arguments"]
        self._role: str | None = connection["role"]
        self._autocommit = bool(connection["autocommit"])
        self._tries = int(connection["retries"]) + 1
        self._open: dict[str, Any] = {}

    async def execute(self, work: Work) -> Answer:
        """All statements of the node; of the main one the answer. Raises: StatementError, ChangedError."""
        at = 0
        try:
            connection = self._open[work.unique_id] = await self._connected()
            await self._look(connection, work)
            session = _Session(connection, autocommit=self._autocommit)
            if self._role:
                await session.execute(f"set role {self._role}")
            answer = Answer(message="")
            for at, statement in enumerate(work.statements):
                if "end" in statement:
                    await session.end(str(statement["end"]))
                    continue
                cursor = await session.execute(str(statement["sql"]))
                if at == work.main:
                    answer = _answer(cursor, fetches=work.fetches)
            return answer
        except psycopg2.Error as error:
            raise StatementError(str(error).strip(), at=at) from error
        finally:
            # What is not committed is rolled back by the server, as when dbt closes a connection.
            opened = self._open.pop(work.unique_id, None)
            if opened is not None:
                opened.close()

    async def cancel(self, unique_id: str) -> None:
        """Cancel the statement that runs on the node's connection."""
        connection = self._open.get(unique_id)
        if connection is None:
            return
        with contextlib.suppress(psycopg2.Error):
            # It opens a connection of its own, and waits for that.
            await asyncio.get_running_loop().run_in_executor(None, connection.cancel)

    async def close(self) -> None:
        """Close what is open."""
        for connection in list(self._open.values()):
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    async def _connected(self) -> Any:
        """A connection like dbt's. Raises: psycopg2.Error."""
        timeout = float(self._arguments.get("connect_timeout") or 10)
        for number in range(1, self._tries + 1):
            try:
                connection = psycopg2.connect(**self._arguments, async_=True)
                try:
                    await asyncio.wait_for(_ready(connection), timeout)
                except (psycopg2.Error, asyncio.TimeoutError):
                    connection.close()
                    raise
                return connection
            except asyncio.TimeoutError as error:
                if number == self._tries:
                    raise psycopg2.OperationalError(f"no connection within {timeout:.0f} seconds") from error
            except psycopg2.OperationalError:
                if number == self._tries:
                    raise
            await asyncio.sleep(number * number)  # as dbt does
        raise AssertionError("the last try has returned or raised")

    async def _look(self, connection: Any, work: Work) -> None:
        """Compare what is there with what the statements were made for. Raises: ChangedError."""
        for schema in sorted({str(each["schema"]) for each in work.expects}):
            names = [str(each["name"]) for each in work.expects if each["schema"] == schema]
            with connection.cursor() as cursor:
                cursor.execute(_RELATIONS, (schema, names) * 3)
                await _ready(connection)
                found = dict(cursor.fetchall())
            for each in (one for one in work.expects if one["schema"] == schema):
                there = found.get(each["name"])
                if there != each["type"]:
                    was, now = (found or "not there" for found in (each["type"], there))
                    name = f"{schema}.{each['name']}"
                    raise ChangedError(f"{name} was {was} when it was rendered, and is {now} now")


class _Session:
    """Statements in the transactions in which psycopg2 executes them for dbt.

    On a connection that is not asynchronous, as dbt's are, it begins a transaction before the first statement, and
    again only after a commit or rollback of its own. What comes after dbt's COMMIT, which is a statement, is in none.
    """

    def __init__(self, connection: Any, *, autocommit: bool) -> None:
        self._connection = connection
        self._autocommit = autocommit
        self._begun = False

    async def execute(self, sql: str) -> Any:
        """Execute a statement; returns its cursor. Raises: psycopg2.Error."""
        if not self._autocommit and not self._begun:
            await self._execute("begin")
            self._begun = True
        return await self._execute(sql)

    async def end(self, how: str) -> None:
        """Commit, or roll back. Raises: psycopg2.Error."""
        if self._begun:
            await self._execute(how)
            self._begun = False

    async def _execute(self, sql: str) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(sql)
        await _ready(self._connection)
        return cursor


def _answer(cursor: Any, *, fetches: bool) -> Answer:
    message, count = str(cursor.statusmessage), cursor.rowcount
    code = " ".join(word for word in message.split() if not word.isdigit())
    response = {"_message": message, "code": code, "rows_affected": count}
    if not fetches:
        return Answer(message=message, response=response)
    columns = tuple(column[0] for column in cursor.description or ())
    return Answer(message=message, response=response, columns=columns, rows=tuple(map(tuple, cursor.fetchall())))


async def _ready(connection: Any) -> None:
    """Until the connection waits for nothing. Raises: psycopg2.Error."""
    loop = asyncio.get_running_loop()
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        with _heard(loop, connection.fileno(), writing=state == extensions.POLL_WRITE) as ready:
            await ready


@contextlib.contextmanager
def _heard(loop: asyncio.AbstractEventLoop, descriptor: int, *, writing: bool) -> Iterator[asyncio.Future[None]]:
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, tell)
    try:
        yield ready
    finally:
        remove(descriptor)
