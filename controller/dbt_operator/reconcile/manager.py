"""The loops of the live runs: one each, started when a run is seen, ended when nothing is left to do for it.

Watch events only wake. Each loop looks for itself at what is there, so an event that never came costs time and nothing
else: `resync` lists the runs every now and then and finds what a watch has missed. When it finds so twice in a row,
the watch is dead and the process had better be started anew; `check` says so to the liveness probe.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog

from dbt_operator.api import names
from dbt_operator.api.phases import RunPhase
from dbt_operator.kube.client import ApiError, Client
from dbt_operator.kube.resources import DBT_RUNS
from dbt_operator.kube.writer import Problem
from dbt_operator.metrics import RUNS

_log = structlog.get_logger(__name__)

RESYNC_SECONDS = 30.0
_RESYNC_LIMIT = timedelta(minutes=5)
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A run, told from others that had its name before."""

    namespace: str
    name: str
    uid: str


class Loop(Protocol):
    """What the manager needs of a loop."""

    async def run(self) -> None:
        """Reconcile until nothing is left to do."""

    def wake(self) -> None:
        """Look again at what the cluster shows."""

    def pod_gone(self, pod: Mapping[str, Any]) -> None:
        """A pod of the run is gone, and was like this at last."""

    def problem(self, problem: Problem) -> None:
        """The status writer could not store something of the run."""

    def asked(self, *, unique_id: str, token: str | None) -> None:
        """A DbtModel of the run asks for a retry of its node, or does not any more (None)."""


@dataclass(slots=True)
class _Live:
    loop: Loop
    task: asyncio.Task[None]


@dataclass(slots=True)
class Manager:
    """Starts, wakes and ends the loops. `make_loop` builds the loop of a run."""

    client: Client
    make_loop: Callable[[RunKey], Loop]
    namespaces: tuple[str, ...]  # empty: all
    _live: dict[RunKey, _Live] = field(default_factory=dict)
    _seen: dict[RunKey, str] = field(default_factory=dict)  # what the watch last said: the identity of a change
    _phases: dict[RunKey, RunPhase] = field(default_factory=dict)
    _missed: set[RunKey] = field(default_factory=set)
    _resynced: datetime = field(default_factory=lambda: datetime.now(UTC))
    _stale: bool = False
    _stopping: bool = False

    def observed(self, run: Mapping[str, Any]) -> None:
        """The watch has shown a run."""
        key = _key(run)
        change = _change(run)
        self._note_phase(key, run)
        if self._seen.get(key) != change:
            self._seen[key] = change
            self._wake_or_start(key, ended=_ended(run))

    def deleted(self, run: Mapping[str, Any]) -> None:
        """The watch has shown that a run is gone. Kubernetes deletes what belonged to it."""
        self._forget(_key(run))

    def child_changed(self, child: Mapping[str, Any], *, alive: bool) -> None:
        """A Job or pod of a run has changed. One that is alive starts the loop even of a run that has ended.

        That is how an attempt is stopped whose controller died after it had written the run's end.
        """
        for owner in child["metadata"].get("ownerReferences") or ():
            if owner.get("kind") == DBT_RUNS.kind:
                key = RunKey(namespace=child["metadata"]["namespace"], name=owner["name"], uid=owner["uid"])
                if key in self._live or alive:
                    self._wake_or_start(key, ended=False)

    def model_changed(self, model: Mapping[str, Any]) -> None:
        """The watch has shown a DbtModel. One that asks for a retry starts the loop even of a run that has ended."""
        metadata = model["metadata"]
        token = names.retry_token(metadata)
        handled = (model.get("status") or {}).get("handledRetry")
        if token == handled:
            return
        for owner in metadata.get("ownerReferences") or ():
            key = RunKey(namespace=metadata["namespace"], name=owner["name"], uid=owner["uid"])
            if token is not None:
                self._wake_or_start(key, ended=False)
            live = self._live.get(key)
            if live is not None:
                live.loop.asked(unique_id=model["spec"]["uniqueId"], token=token)

    def pod_changed(self, pod: Mapping[str, Any], *, gone: bool) -> None:
        """A pod of a run has changed, or is gone and was like this at last."""
        uid = (pod["metadata"].get("labels") or {}).get(names.LABEL_RUN_UID)
        for key, live in self._live.items():
            if key.uid == uid:
                if gone:
                    live.loop.pod_gone(pod)
                live.loop.wake()

    def problem(self, problem: Problem) -> None:
        """The status writer could not store something."""
        for key, live in self._live.items():
            if key.uid == problem.run:
                live.loop.problem(problem)

    async def resync(self) -> None:
        """List all runs for ever, every half minute: what the watch has not told is acted on now."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            try:
                await self.resync_once()
            except ApiError as error:
                _log.warning("could not list the runs", error=str(error))

    async def resync_once(self) -> None:
        """List all runs; wake the loops of those that the watch has not shown as they are."""
        runs = [
            run
            for namespace in self.namespaces or (None,)
            for run in await self.client.list(resource=DBT_RUNS, namespace=namespace)
        ]
        missed = {_key(run) for run in runs if self._seen.get(_key(run)) != _change(run)}
        self._stale = bool(missed & self._missed)
        self._missed = missed
        for run in runs:
            if _key(run) in missed:
                self._wake_or_start(_key(run), ended=_ended(run))
        for key in set(self._seen) - {_key(run) for run in runs}:
            self._forget(key)
        self._resynced = datetime.now(UTC)

    def check(self) -> str | None:
        """What is wrong with the process, if anything: a sentence for the liveness probe."""
        if self._stale:
            return "The watch of DbtRuns is dead: it has not shown a change that two lists have shown."
        if datetime.now(UTC) - self._resynced > _RESYNC_LIMIT:
            return "The DbtRuns could not be listed for five minutes."
        return None

    async def stop(self) -> None:
        """End all loops, and start no more. What they had to say is in the status writer's queue."""
        self._stopping = True
        tasks = [live.task for live in self._live.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake_or_start(self, key: RunKey, *, ended: bool) -> None:
        live = self._live.get(key)
        if live is not None:
            live.loop.wake()
        elif not (ended or self._stopping):
            loop = self.make_loop(key)
            task = asyncio.create_task(self._supervise(key, loop), name=f"run {key.namespace}/{key.name}")
            self._live[key] = _Live(loop=loop, task=task)

    async def _supervise(self, key: RunKey, loop: Loop) -> None:
        """Run a loop; one that fails is begun again, after a pause that grows while it goes on failing."""
        pause = 1.0
        with structlog.contextvars.bound_contextvars(namespace=key.namespace, run=key.name):
            try:
                while True:
                    try:
                        await loop.run()
                        return
                    except Exception:  # noqa: BLE001 - the one boundary where a bug of one run is kept from the others
                        _log.exception("the loop of a run failed and is begun again", pause=pause)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    loop = self.make_loop(key)
                    self._live[key].loop = loop
            finally:
                live = self._live.get(key)
                if live is not None and live.task is asyncio.current_task():
                    del self._live[key]

    def _forget(self, key: RunKey) -> None:
        self._seen.pop(key, None)
        self._phases.pop(key, None)
        self._count()
        live = self._live.pop(key, None)
        if live is not None:
            live.task.cancel()

    def _note_phase(self, key: RunKey, run: Mapping[str, Any]) -> None:
        self._phases[key] = RunPhase((run.get("status") or {}).get("phase") or RunPhase.PENDING)
        self._count()

    def _count(self) -> None:
        phases = list(self._phases.values())
        for phase in RunPhase:
            RUNS.labels(phase=phase.value).set(phases.count(phase))


def _key(run: Mapping[str, Any]) -> RunKey:
    metadata = run["metadata"]
    return RunKey(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def _change(run: Mapping[str, Any]) -> str:
    """What distinguishes a change somebody else made from the echo of our own status writes."""
    metadata = run["metadata"]
    token = names.retry_token(metadata)
    return f"{metadata.get('generation')} {metadata.get('deletionTimestamp')} {token}"


def _ended(run: Mapping[str, Any]) -> bool:
    """Whether nothing is left to do for the run: it has ended, nobody asks for a retry, and it is not to be deleted."""
    status = run.get("status") or {}
    phase = status.get("phase")
    token = names.retry_token(run["metadata"])
    if token is not None and token != status.get("handledRetry"):
        return False
    return phase is not None and RunPhase(phase).terminal and run.get("spec", {}).get("ttlSecondsAfterFinished") is None
