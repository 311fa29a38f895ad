"""dbt's own materializations, whose statements are recorded and not executed.

dbt renders each node as ever, with the relations that are really there. Only what it then asks of the warehouse for a
node goes to a handle that keeps the statement. A node that asks for more than that, such as the result of a statement,
or a relation other than its own (which may be built anew before this node is executed), cannot be rendered so: it is
refused, and executed by dbt.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from dbt_operator.runner.output import Line

MARK = "recorded"
# What dbt calls the relations that it makes beside that of the node.
_OWN_SUFFIXES = ("__dbt_tmp", "__dbt_backup", "__dbt_new")


# What of dbt-bigquery's credentials is needed to connect, by one of these methods (`executors.bigquery_client`).
GOOGLE_FIELDS = (
    *("method", "keyfile", "keyfile_json", "token", "refresh_token", "client_id", "client_secret", "token_uri"),
    *("scopes", "impersonate_service_account", "execution_project", "quota_project", "api_endpoint", "location"),
)
GOOGLE_METHODS = ("oauth", "service-account", "service-account-json", "oauth-secrets")


class RefusedError(Exception):
    """The node asks for something that only an execution can tell."""


class RecordedError(Exception):
    """All is recorded: dbt would now read what a test has found."""


@dataclass
class Recording:
    """What a node asks of the warehouse. `main`: the place of the statement whose answer is that of the node.

    expects: what was there when it was recorded, by the names of its own relations: a type, or None.
    """

    node: Any
    is_test: bool
    executing: bool = False
    statements: list[Line] = field(default_factory=list)
    expects: list[Line] = field(default_factory=list)
    main: int | None = None
    refused: str = ""

    def refuse(self, reason: str) -> RefusedError:
        """The error that ends the rendering of this node, which is dbt's from now on."""
        self.refused = self.refused or reason
        return RefusedError(reason)

    def add(self, statement: Line) -> int:
        """Keep a statement, and tell its place. Raises: RefusedError."""
        if not self.executing:
            raise self.refuse("it asks the warehouse for something while it is compiled")
        self.statements.append(statement)
        return len(self.statements) - 1

    def asked(self) -> Exception:
        """What is answered to the question for the rows of the last statement."""
        if not self.is_test:
            return self.refuse("its materialization needs the result of a query")
        self.main = len(self.statements) - 1
        return RecordedError("recorded")

    def saw(self, relation: Any, *, name: str, schema: str, database: str | None) -> None:
        """It has looked for a relation. Raises: RefusedError."""
        node = self.node
        own = name == node.alias or name.endswith(_OWN_SUFFIXES)
        if not own or schema.lower() != str(node.schema).lower():
            raise self.refuse(f"it looks for the relation {schema}.{name}, which may be built before it")
        if all(each["name"] != name for each in self.expects):
            kind = getattr(relation, "type", None)
            found = None if relation is None else str(getattr(kind, "value", kind) or "")
            self.expects.append({"database": database, "schema": schema, "name": name, "type": found})


class Recorder:
    """The recordings of the nodes that are rendered, by their unique ids, which are dbt's names of the connections."""

    def __init__(self, nodes: Mapping[str, Any], *, normalised: Callable[[str], str] = str) -> None:
        # A statement without what is another one in each process of dbt.
        self.normalised = normalised
        self.recordings = {
            one: Recording(node=node, is_test=str(getattr(node.resource_type, "value", node.resource_type)) == "test")
            for one, node in nodes.items()
        }
        # The arguments with which dbt connects: what executes the statements has to do the same.
        self.connects: Line = {}
        self._lock = threading.Lock()

    def of(self, connection: Any) -> Recording | None:
        """That of the node that uses the connection; None where it is no node's."""
        return self.recordings.get(str(connection.name or ""))

    def connected(self, arguments: Line) -> None:
        """dbt has connected with these arguments."""
        with self._lock:
            self.connects = self.connects or arguments

    def saw_event(self, message: Any) -> None:
        """A callback for dbt's events: whether a node is compiled yet."""
        if message.info.name == "NodeExecuting":
            recording = self.recordings.get(message.data.node_info.unique_id)
            if recording is not None:
                recording.executing = True


def place_of(answer: Line) -> int | None:
    """Which of the statements was that of the node, by what dbt has taken for its answer."""
    said = (answer.get("adapter_response") or {}).get("job_id") or answer["message"]
    words = str(said or "").split()
    return int(words[1]) if words[:1] == [MARK] else None


class _Cursor:
    """A cursor of DB-API 2 that keeps what it is to execute."""

    rowcount = -1

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.statusmessage = ""

    def execute(self, sql: str, bindings: Any = None) -> None:
        if bindings:
            raise self._recording.refuse("one of its statements has bound values")
        self.statusmessage = f"{MARK} {self._recording.add({'sql': sql})}"

    @property
    def description(self) -> Any:
        raise self._recording.asked()

    def fetchone(self) -> Any:
        raise self._recording.asked()

    def fetchall(self) -> Any:
        raise self._recording.asked()

    def fetchmany(self, _size: int = 1) -> Any:
        raise self._recording.asked()

    def close(self) -> None:
        """Nothing is open."""


class _Job:
    """In the place of a job of BigQuery that has succeeded; of it nothing is known but that dbt has asked for it."""

    location = project = None
    total_bytes_processed = total_bytes_billed = slot_millis = num_dml_affected_rows = destination = None
    statement_type = "CREATE_VIEW"  # of which dbt asks nothing more
    state = "DONE"

    def __init__(self, recording: Recording, at: int) -> None:
        self._recording = recording
        self.job_id = f"{MARK} {at}"

    def result(self, *_args: Any, **_kwargs: Any) -> Any:
        """What reads the rows is told that there are none to be read."""
        return self

    @property
    def schema(self) -> Any:
        raise self._recording.asked()

    def __iter__(self) -> Any:
        raise self._recording.asked()


class Client:
    """In the place of Google's client: records for nodes, which may look at their own table besides."""

    def __init__(self, connection: Any, *, recorder: Recorder, real: Any) -> None:
        self._connection = connection
        self._recorder = recorder
        self._real = real

    def __getattr__(self, name: str) -> Any:
        seen = self._recorder.of(self._connection)
        if seen is None or name in ("close", "project", "location"):
            return getattr(self._real, name)
        if name == "query":
            return lambda *args, **kwargs: self._query(seen, *args, **kwargs)
        if name == "get_table":
            return lambda table, **kwargs: self._get_table(seen, table, **kwargs)
        raise seen.refuse(f"it asks BigQuery for more than statements ({name})")

    def _query(self, seen: Recording, query: str, job_config: Any = None, **_kwargs: Any) -> _Job:
        config = job_config.to_api_repr() if job_config is not None else {}
        if config.get("dryRun"):
            raise seen.refuse("it asks what a query would read")
        return _Job(seen, seen.add({"sql": query, "config": config, "text": self._recorder.normalised(query)}))

    def _get_table(self, seen: Recording, table: Any, **kwargs: Any) -> Any:
        node = seen.node
        if (table.project, table.dataset_id, table.table_id) != (node.database, node.schema, node.alias):
            raise seen.refuse(
                f"it looks at the table {table.dataset_id}.{table.table_id}, which may be built before it"
            )
        return self._real.get_table(table, **kwargs)


class Handle:
    """In the place of a connection of psycopg2: records for nodes, and is a real one for everything else.

    A connection of dbt goes from one use to the next with its handle, so that the name that it has now decides.
    """

    def __init__(self, connection: Any, *, recorder: Recorder, open_real: Callable[[], Any]) -> None:
        self._connection = connection
        self._recorder = recorder
        self._open_real = open_real
        self._real: Any = None

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """As of psycopg2."""
        recording = self._recorder.of(self._connection)
        return self._opened().cursor(*args, **kwargs) if recording is None else _Cursor(recording)

    def commit(self) -> None:
        """As of psycopg2."""
        self._end("commit")

    def rollback(self) -> None:
        """As of psycopg2."""
        self._end("rollback")

    def close(self) -> None:
        """As of psycopg2."""
        if self._real is not None:
            self._real.close()

    def _end(self, how: str) -> None:
        recording = self._recorder.of(self._connection)
        if recording is None:
            getattr(self._opened(), how)()
        elif recording.executing:
            recording.add({"end": how})

    def _opened(self) -> Any:
        if self._real is None:
            self._real = self._open_real()
        return self._real

    def __getattr__(self, name: str) -> Any:
        recording = self._recorder.of(self._connection)
        if recording is not None:
            raise recording.refuse(f"it uses its connection in another way ({name})")
        return getattr(self._opened(), name)


@contextlib.contextmanager
def recording(adapter_class: Any, manager_class: Any, recorder: Recorder) -> Iterator[None]:
    """Have dbt record. Changes the classes, as each call of dbt makes an adapter of its own."""
    way = WAYS[manager_class.TYPE]
    with _looking(adapter_class, recorder), way(manager_class, recorder), _without_skipping():
        yield


@contextlib.contextmanager
def _looking(adapter_class: Any, recorder: Recorder) -> Iterator[None]:
    real = adapter_class.get_relation

    def get_relation(self: Any, database: str, schema: str, identifier: str) -> Any:
        found = real(self, database, schema, identifier)
        connection = self.connections.get_if_exists()
        seen = recorder.of(connection) if connection is not None else None
        if seen is not None:
            seen.saw(found, name=identifier, schema=schema, database=database)
        return found

    with _replaced(adapter_class, "get_relation", get_relation):
        yield


@contextlib.contextmanager
def _without_skipping() -> Iterator[None]:
    """A node that is refused fails for dbt: what reads it is rendered all the same."""
    task = importlib.import_module("dbt.task.runnable").GraphRunnableTask

    def mark_none(_self: Any, _node: Any, _result: Any, _cause: Any) -> None:
        return None

    with _replaced(task, "_mark_dependent_errors", mark_none):
        yield


@contextlib.contextmanager
def _of_psycopg2(manager_class: Any, recorder: Recorder) -> Iterator[None]:
    psycopg2 = importlib.import_module("psycopg2")
    real_open = manager_class.open
    real_connect = psycopg2.connect

    def connect(*args: Any, **kwargs: Any) -> Any:
        recorder.connected(kwargs)
        return real_connect(*args, **kwargs)

    def opened(_cls: Any, connection: Any) -> Any:
        def open_real() -> Any:
            connection.state = "init"  # else there is nothing to open
            real_open(connection)
            handle, connection.handle = connection.handle, mine
            return handle

        if connection.state == "open":
            return connection
        mine = Handle(connection, recorder=recorder, open_real=open_real)
        connection.handle, connection.state = mine, "open"
        return connection

    with _replaced(psycopg2, "connect", connect), _replaced(manager_class, "open", classmethod(opened)):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """The attribute of a class or module is another one meanwhile."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextlib.contextmanager
def _of_google(manager_class: Any, recorder: Recorder) -> Iterator[None]:
    real_open = manager_class.open

    def opened(_cls: Any, connection: Any) -> Any:
        if connection.state != "open":
            real_open(connection)
            connection.handle = Client(connection, recorder=recorder, real=connection.handle)
        return connection

    with _replaced(manager_class, "open", classmethod(opened)):
        yield


WAYS: Mapping[str, Callable[[Any, Recorder], Any]] = {"postgres": _of_psycopg2, "bigquery": _of_google}


def _psycopg2_connection(recorder: Recorder, adapter: Any) -> Line:
    credentials = adapter.config.credentials
    return {
        "arguments": {name: value for name, value in recorder.connects.items() if value is not None},
        "role": getattr(credentials, "role", None),
        "autocommit": bool(getattr(credentials, "autocommit", False)),
        "retries": int(getattr(credentials, "retries", 1)),
        "threads": int(adapter.config.threads),
    }


def _google_connection(_recorder: Recorder, adapter: Any) -> Line:
    credentials = adapter.config.credentials
    found = {name: getattr(credentials, name, None) for name in GOOGLE_FIELDS}
    found["method"] = str(getattr(found["method"], "value", found["method"]))
    found["scopes"] = list(found["scopes"] or ())
    return {**found, "job_retries": int(getattr(credentials, "job_retries", 1) or 0)}


CONNECTIONS: Mapping[str, Callable[[Recorder, Any], Line]] = {
    "postgres": _psycopg2_connection,
    "bigquery": _google_connection,
}


def unknown_connection(adapter: Any) -> str:
    """Why nothing but dbt knows how to connect, if that is so."""
    method = getattr(adapter.config.credentials, "method", None)
    method = str(getattr(method, "value", method))
    if adapter.type() != "bigquery" or method in GOOGLE_METHODS:
        return ""
    return f"only dbt knows how to connect by the method {method}"
