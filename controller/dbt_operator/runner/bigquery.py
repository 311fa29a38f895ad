"""BigQuery's jobs get ids by which a statement is executed once, whatever becomes of the pod that has asked for it.

dbt-bigquery gives each job a random id. Here it is one that the next attempt makes as well (`bigquery_ids`), at the one
place where a statement is handed to Google's client. Where BigQuery answers that it has this job already,

- one that is running is followed,
- one that has ended with success stands for the statement, if what it made is still there,
- one that has failed, or was cancelled, does not count, and the statement gets the next id.

A job of an execution that nobody goes on with, which would write over what comes now, is ended before that comes. What
is there is asked of BigQuery: a table that was made anew since the end of the job, or is gone, is not the job's
any more. dbt-bigquery drops tables by itself between its statements, without any job.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from dbt_operator.runner import bigquery_ids
from dbt_operator.runner.bigquery_ids import StatementId

ADAPTER = "bigquery"
# The methods by which each version of dbt-bigquery hands its statements over: those of its connection manager in which
# one statement is executed, with all retries of its own, and the one that makes an id, where it makes any. Read in the
# code of all releases of these versions.
_STATEMENTS = ("raw_execute", "copy_bq_table")
PLACES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "1.8": (_STATEMENTS, ""),
    **dict.fromkeys(("1.9", "1.10", "1.11", "1.12"), (_STATEMENTS, "generate_job_id")),
}
_SUBMITTING = ("query", "copy_table", "load_table_from_file")
_MOST_NUMBERS = 1000
# BigQuery may say that a job is there, and for a moment not yet show it.
_UNSEEN_SECONDS = (0.2, 0.5, 1, 2, 4, 8)
_LOCATION = re.compile(r"Already Exists: Job [^\s:]+(?::[^\s:]+)?:([\w-]+)\.")
_POLL_SECONDS = 0.5
# How long a node that has failed waits for the end of a job that dbt has given up.
_ABANDON_SECONDS = 15


class StoppedError(Exception):
    """The run was told to stop: nothing more is asked of BigQuery."""


@dataclass
class _Session:
    """What a thread executes of one node, or of something else, from when it takes its connection."""

    node: str
    chain: str
    began_in: str = ""  # of a node that the command executes
    anew: bool = False  # something was executed in it that no job stood for


@dataclass
class _Statement:
    """A statement while it is executed."""

    id: StatementId
    text: str
    session: _Session
    register: Callable[[str], None]
    asked: list[_Asked] = field(default_factory=list)


@dataclass
class _Asked:
    """A job that was asked for. `ended`: it is known that it is not running."""

    job_id: str
    client: Any
    project: str
    location: str | None
    sending: bool = True
    ended: bool = False


class Jobs:
    """The jobs of this attempt.

    `stopped` says whether the run was told to stop; `report` prints an event, `warn` a warning.
    """

    def __init__(
        self,
        *,
        run_uid: str,
        labels: Mapping[str, str],
        stopped: Callable[[], bool],
        report: Callable[..., None],
        warn: Callable[[str], None],
    ) -> None:
        self._run_uid = run_uid
        self._labels = labels  # run, namespace, attempt
        self._stopped = stopped
        self._report = report
        self._warn = warn
        self._began_in: Mapping[str, str] = {}
        self._others = False  # whether earlier executions of the nodes may have left jobs
        self._ending = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._asked: list[_Asked] = []
        self._lock = threading.Lock()
        self._here = threading.local()
        self._taken = False

    def executes(self, began_in: Mapping[str, str], *, again: bool) -> None:
        """Which nodes the command executes, and in which attempt the execution of each began.

        again: another attempt may have executed them before.
        """
        self._began_in, self._others = began_in, again

    def take_over(self, adapter: Any) -> None:
        """Have the jobs of this adapter get ids of ours, or say that they do not. Twice is once."""
        if self._taken or adapter.type() != ADAPTER or not self._run_uid:
            return
        self._taken = True
        manager = type(adapter.connections)
        version = importlib.metadata.version("dbt-bigquery")
        places = PLACES.get(".".join(version.split(".")[:2]))
        client = importlib.import_module("google.cloud.bigquery").Client
        if places is None or not _has(manager, (*places[0], "set_connection_name")) or not _takes_ids(client):
            self._report("JobIdsUnknown", {"program": f"dbt-bigquery {version}"}, level="warn")
            return
        statements, minting = places
        self._extend(manager, "set_connection_name", self._named)
        for name in statements:
            self._extend(manager, name, self._executing)
        if minting:
            self._extend(manager, minting, self._minting)
        for name in _SUBMITTING:
            self._extend(client, name, self._submitting)

    @staticmethod
    def _extend(owner: Any, name: str, around: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def extended(self: Any, *args: Any, **kwargs: Any) -> Any:
            return around(functools.partial(original, self), self, *args, **kwargs)

        setattr(owner, name, extended)

    # What is done around the methods of the adapter.

    def _named(self, original: Callable[..., Any], _manager: Any, *args: Any, **kwargs: Any) -> Any:
        connection = original(*args, **kwargs)
        name = str(connection.name)
        began_in = self._began_in.get(name, "")
        scope = began_in or f"attempt {self._labels.get('attempt', '')}"
        chain = bigquery_ids.first(run_uid=self._run_uid, what=name, began_in=scope)
        self._here.session = _Session(node=name, chain=chain, began_in=began_in)
        return connection

    def _executing(self, original: Callable[..., Any], manager: Any, *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        if given.get("dry_run"):  # no job comes of it
            return original(*args, **kwargs)
        text = given.get("sql")
        if text is None:
            text = "copy " + repr({name: str(value) for name, value in given.items()})
        with self._statement(str(text), manager):
            return original(*args, **kwargs)

    def _minting(self, original: Callable[..., str], _manager: Any) -> str:
        statement = getattr(self._here, "statement", None)
        return original() if statement is None else str(statement.id.job)

    def _submitting(self, original: Callable[..., Any], client: Any, *args: Any, **kwargs: Any) -> Any:
        statement = getattr(self._here, "statement", None)
        if statement is not None:
            return self._submit(statement, client, original, args, kwargs)
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        if getattr(self._here, "session", None) is None or "file_obj" not in given:
            return original(*args, **kwargs)
        # A load is a statement of its own.
        content = hashlib.sha256(given["file_obj"].read()).hexdigest()
        given["file_obj"].seek(0)
        config = given.get("job_config")
        text = f"load {given['destination']} {content} {config.to_api_repr() if config else ''}"
        with self._statement(text, None) as statement:
            return self._submit(statement, client, original, args, kwargs)

    @contextlib.contextmanager
    def _statement(self, text: str, manager: Any) -> Iterator[_Statement]:
        session = getattr(self._here, "session", None) or _Session(node="", chain="")
        text = bigquery_ids.normalised(text, comment=_comment(manager), invocation_id=_invocation_id())
        session.chain = bigquery_ids.following(session.chain, text)
        with self._lock:
            again = self._seen[session.chain]
            self._seen[session.chain] += 1
        statement = _Statement(
            id=StatementId(run_uid=self._run_uid, chain=session.chain, again=again),
            text=text,
            session=session,
            register=_registering(manager),
        )
        self._here.statement = statement
        try:
            yield statement
            # It has ended: there is nothing to cancel any more.
            for asked in statement.asked:
                asked.ended = manager is not None
        except BaseException:
            self._abandon(statement)
            raise
        finally:
            self._here.statement = None

    # Asking for a job.

    def _submit(
        self,
        statement: _Statement,
        client: Any,
        send: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The job of the statement: a new one, or the one that is there. Raises: what the client does, StoppedError."""
        conflict = importlib.import_module("google.cloud.exceptions").Conflict
        given = inspect.signature(send).bind(*args, **kwargs).arguments
        given = {name: value for name, value in given.items() if name not in ("job_id_prefix", "job_retry")}
        given["job_config"] = self._labelled(given.get("job_config"), statement.session)
        if "job_retry" in inspect.signature(send).parameters:
            given["job_retry"] = None  # what Google's client asks for with an id: it cannot use it again
        self._end_others(client)
        for _ in range(_MOST_NUMBERS):
            if self._stopped():
                raise StoppedError("the run was told to stop")
            asked = self._ask(statement, client, location=given.get("location") or client.location)
            if "file_obj" in given:
                given["file_obj"].seek(0)
            try:
                job = send(**{**given, "job_id": asked.job_id})
                statement.session.anew = True
                return self._known(asked, job)
            except conflict as error:
                job = self._known(asked, self._existing(asked, error))
            finally:
                asked.sending = False
            if self._stands(job, statement, client):
                data = {"unique_id": statement.session.node, "job_id": job.job_id, "state": job.state}
                text = f"{statement.session.node} goes on with a job of before ({job.state}): {job.job_id}"
                self._report("JobAdopted", data, msg=text)
                return job
            statement.id = statement.id.following()
        raise RuntimeError(f"{_MOST_NUMBERS} jobs of one statement have failed, the last of them {statement.id.job}")

    def _ask(self, statement: _Statement, client: Any, *, location: str | None) -> _Asked:
        asked = _Asked(statement.id.job, client=client, project=client.project, location=location)
        statement.asked.append(asked)
        statement.register(asked.job_id)
        with self._lock:
            self._asked = [one for one in self._asked if not one.ended]
            self._asked.append(asked)
        return asked

    @staticmethod
    def _known(asked: _Asked, job: Any) -> Any:
        asked.location = job.location or asked.location
        return job

    def _existing(self, asked: _Asked, conflict: Exception) -> Any:
        """The job that BigQuery has under this id. Raises: what the client does, StoppedError."""
        not_found = importlib.import_module("google.cloud.exceptions").NotFound
        if asked.location is None:
            named = _LOCATION.search(str(conflict))
            asked.location = named[1] if named else None
        for pause in _UNSEEN_SECONDS:
            with contextlib.suppress(not_found):
                return asked.client.get_job(asked.job_id, project=asked.project, location=asked.location)
            if self._stopped():
                raise StoppedError("the run was told to stop")
            time.sleep(pause)
        return asked.client.get_job(asked.job_id, project=asked.project, location=asked.location)

    def _labelled(self, config: Any, session: _Session) -> Any:
        if config is None:
            return None
        config = copy.deepcopy(config)
        own = bigquery_ids.labels(node=session.node, began_in=session.began_in, **self._labels)
        config.labels = {**config.labels, **own}
        return config

    # Whether a job stands for a statement.

    def _stands(self, job: Any, statement: _Statement, client: Any) -> bool:
        if job.error_result:
            return False
        own = bigquery_ids.label_value(self._labels.get("attempt", ""))
        if own and (job.labels or {}).get(bigquery_ids.ATTEMPT) == own:
            return True  # of this very process: the answer was lost on its way
        target = getattr(job, "ddl_target_table", None) or job.destination
        # Of another temporary table than the one that is now to be made.
        if target is not None and bigquery_ids.temporary(target.table_id) and target.table_id not in statement.text:
            return False
        if job.state != "DONE":
            return True
        return _in_effect(job, target, client, otherwise=not statement.session.anew)

    # Cancelling.

    def _end_others(self, client: Any) -> None:
        """End what earlier executions of the nodes have left, before anything of this one is asked for."""
        with self._ending:
            if not self._others:
                return
            self._others = False
            try:
                others = [job for state in ("pending", "running") for job in client.list_jobs(state_filter=state)]
            except Exception as error:  # noqa: BLE001 - the account may have no right to list jobs
                self._warn(f"jobs of earlier executions were not looked for: {error!r}")
                return
            for job in filter(self._of_another_execution, others):
                asked = _Asked(job.job_id, client, job.project, job.location, sending=False)
                self._warn(f"a job of an earlier execution is cancelled: {job.job_id}")
                self._cancel(asked)
                while not (asked.ended or self._stopped()):
                    time.sleep(_POLL_SECONDS)
                    self._look(asked)

    def _of_another_execution(self, job: Any) -> bool:
        labels = job.labels or {}
        wanted = {bigquery_ids.label_value(node): began_in for node, began_in in self._began_in.items()}
        began_in = labels.get(bigquery_ids.BEGAN_IN, "")
        ours = job.job_id.startswith(f"{bigquery_ids.PREFIX}-{self._run_uid}-")
        return ours and began_in not in ("", wanted.get(labels.get(bigquery_ids.NODE, ""), began_in))

    def _abandon(self, statement: _Statement) -> None:
        """End the jobs of a statement that has failed for dbt, also where BigQuery still executes one of them."""
        for asked in statement.asked:
            self._cancel(asked)
        until = time.monotonic() + _ABANDON_SECONDS
        while time.monotonic() < until and (left := [one for one in statement.asked if not one.ended]):
            time.sleep(_POLL_SECONDS)
            for asked in left:
                self._look(asked)

    def cancel(self) -> None:
        """Ask that every job that may be running is cancelled. May be called again and again, and by any thread."""
        for asked in self._running():
            self._cancel(asked)

    def follow(self) -> None:
        """Cancel every job that may be running, and wait until each has ended."""
        for asked in self._running():
            self._cancel(asked)
        told = False
        while left := self._running():
            for asked in left:
                self._look(asked)
            if not told and (left := self._running()):
                told = True
                names = ", ".join(asked.job_id for asked in left)
                self._warn(f"it is waited until BigQuery has ended what was cancelled: {names}")
            time.sleep(_POLL_SECONDS if left else 0)

    def _running(self) -> list[_Asked]:
        with self._lock:
            return [one for one in self._asked if not one.ended]

    def _cancel(self, asked: _Asked) -> None:
        not_found = importlib.import_module("google.cloud.exceptions").NotFound
        try:
            job = asked.client.cancel_job(
                asked.job_id, project=asked.project, location=asked.location, retry=None, timeout=10
            )
            asked.ended = job.state == "DONE"
        except not_found:
            # It has not come there yet, or never will.
            asked.ended = not asked.sending
        except Exception as error:  # noqa: BLE001 - the others are to be cancelled too
            self._warn(f"the job {asked.job_id} was not cancelled: {error!r}")

    def _look(self, asked: _Asked) -> None:
        try:
            job = asked.client.get_job(
                asked.job_id, project=asked.project, location=asked.location, retry=None, timeout=10
            )
        except Exception:  # noqa: BLE001 - cancelling it says what is wrong
            self._cancel(asked)
            return
        asked.ended = job.state == "DONE"


def _in_effect(job: Any, target: Any, client: Any, *, otherwise: bool) -> bool:
    """Whether what a job did is still there. otherwise: the answer where nothing tells."""
    if target is None:
        return otherwise
    not_found = importlib.import_module("google.cloud.exceptions").NotFound
    dropping = str(getattr(job, "statement_type", None) or "").startswith("DROP")
    try:
        table = client.get_table(target)
    except not_found:
        return dropping
    if dropping or table.created is None or job.ended is None:
        return False
    return bool(table.created <= job.ended)


def _has(owner: Any, names: tuple[str, ...]) -> bool:
    return all(callable(getattr(owner, name, None)) for name in names)


def _takes_ids(client: Any) -> bool:
    return _has(client, _SUBMITTING) and all(
        {"job_id", "job_config"} <= inspect.signature(getattr(client, name)).parameters.keys() for name in _SUBMITTING
    )


def _registering(manager: Any) -> Callable[[str], None]:
    """What tells dbt of a job that it may have to cancel, as its own ids do."""
    jobs = getattr(manager, "jobs_by_thread", None)
    if jobs is None:
        return lambda _: None
    own: list[str] = jobs[manager.get_thread_identifier()]
    return own.append


def _comment(manager: Any) -> str:
    """The comment that dbt puts before each statement, or after it."""
    header = getattr(manager, "query_header", None)
    return str(getattr(getattr(header, "comment", None), "query_comment", None) or "")


def _invocation_id() -> str:
    try:
        return str(importlib.import_module("dbt_common.invocation").get_invocation_id())
    except (ImportError, AttributeError):
        return ""
