"""The loops of the live runs: one each, started when a run is seen, ended when nothing is left to do for it.

Watch events only wake. Each loop looks at the cluster itself, so a missed event only costs time: `resync` lists the
runs now and then, and finds what a watch has missed. A run that has ended needs no loop until it is to be deleted; the
retention starts one then.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from dbt_operator.api import names
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.kube.client import ApiError, Client
from dbt_operator.kube.resources import DBT_RUNS
from dbt_operator.kube.writer import Problem
from dbt_operator.metrics import RUNS
from dbt_operator.reconcile.retention import Retention, rests
from dbt_operator.reconcile.run_key import RunKey, key_of
from dbt_operator.reconcile.supersession import Supersession

_log = structlog.get_logger(__name__)

RESYNC_SECONDS = 30.0
_SILENCE_LIMIT = 300.0
_LONGEST_PAUSE = 60.0


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
class _Known:
    """A run that exists. There may be thousands, so this is all that is kept of those that have ended."""

    change: str  # the identity of the last change that was acted upon
    phase: RunPhase | None = None  # None where only a list has shown it


@dataclass(slots=True)
class Manager:
    """Starts, wakes and ends the loops.

    `make_loop` builds the loop of a run; `forget` drops what else is kept of a run that is gone. `retention` says when
    a run that has ended is to be deleted: its loop, which does so, is started then. `supersession` wakes the loops of
    runs that are superseded, or no longer have to wait for these.
    """

    client: Client
    make_loop: Callable[[RunKey], Loop]
    forget: Callable[[RunKey], None]
    retention: Retention
    supersession: Supersession
    namespaces: tuple[str, ...]  # empty: all
    clock: Callable[[], float] = time.monotonic
    _live: dict[RunKey, _Live] = field(default_factory=dict)
    _known: dict[RunKey, _Known] = field(default_factory=dict)
    _refused: dict[str | None, str] = field(default_factory=dict)  # why namespaces cannot be listed
    _answered: float = -1.0  # when the server has answered last
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._answered = self.clock()
        self.retention.due = self._due
        self.supersession.wake = self._wake

    @property
    def watched(self) -> tuple[str | None, ...]:
        """The namespaces, None for all of them at once."""
        return self.namespaces or (None,)

    def observed(self, run: Mapping[str, Any]) -> None:
        """The watch has shown a run."""
        key, status = key_of(run), _status(run)
        new = self._note(key, change=_change(run))
        known, phase = self._known[key], status.phase or RunPhase.PENDING
        # Another operator, about to end, has written over the end that ours had stored.
        overwritten = known.phase is not None and known.phase.terminal and not phase.terminal
        if known.phase != phase:
            known.phase = phase
            self._count()
        self.retention.observed(run, status)
        self.supersession.observed(run, status)
        if new or overwritten:
            self._wake_or_start(key, ended=rests(run, status))

    def deleted(self, run: Mapping[str, Any]) -> None:
        """The watch has shown that a run is gone. Kubernetes deletes what belonged to it."""
        self._forget(key_of(run))

    def child_changed(self, child: Mapping[str, Any], *, alive: bool) -> None:
        """A Job or pod of a run has changed. One that is alive starts the loop even of a run that has ended.

        So an attempt is stopped whose controller died after it had stored the run's end.
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
        """List all runs for ever, every half minute: so what a watch has missed is acted on."""
        async with asyncio.TaskGroup() as group:
            for namespace in self.watched:
                group.create_task(self._resync_for_ever(namespace))

    async def resync_once(self) -> None:
        """List all runs; wake the loops of those that the watch has not shown as they are."""
        await asyncio.gather(*(self._resync(namespace) for namespace in self.watched))

    async def _resync_for_ever(self, namespace: str | None) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            await self._resync(namespace)

    async def _resync(self, namespace: str | None) -> None:
        """One namespace. It may be gone, or the right to see it, which must not keep the others from being listed."""
        before = {key: known.change for key, known in self._known.items() if namespace in (None, key.namespace)}
        try:
            runs = await self.client.list(resource=DBT_RUNS, namespace=namespace, metadata_only=True)
        except ApiError as error:
            self._not_listed(namespace, error)
            return
        self._refused.pop(namespace, None)
        self._answered = self.clock()
        listed = {key_of(run): _change(run) for run in runs}
        # What the watch has shown while the list was under way is newer than the list.
        for key, change in listed.items():
            known = self._known.get(key)
            if (known.change if known is not None else None) == before.get(key) != change:
                self._note(key, change=change)
                self._wake_or_start(key, ended=False)
        for key in before.keys() - listed.keys():
            self._forget(key)

    def _not_listed(self, namespace: str | None, error: ApiError) -> None:
        if not error.transient:
            self._answered = self.clock()  # the server is there, and has nothing to show
        if self._refused.get(namespace) != str(error):
            self._refused[namespace] = str(error)
            _log.warning("could not list the runs", in_namespace=namespace or "all", error=str(error))

    def check(self) -> str | None:
        """What is wrong with the process, if anything: a sentence for the liveness probe.

        A refusal is nothing wrong: another process would be refused as well. If the server does not answer at all,
        another process may get an answer.
        """
        if self.clock() - self._answered > _SILENCE_LIMIT:
            return "The API server has not answered for five minutes."
        return None

    async def stop(self) -> None:
        """End all loops, and start no more. Their last statuses are in the status writer's queue."""
        self._stopping = True
        self.retention.stop()
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

    def _wake(self, key: RunKey) -> None:
        live = self._live.get(key)
        if live is not None:
            live.loop.wake()

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
                    live = self._live.get(key)
                    if live is None:
                        return  # it failed because its run is gone
                    # What happens from now on goes to the next loop.
                    loop = live.loop = self.make_loop(key)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
            finally:
                live = self._live.get(key)
                if live is not None and live.task is asyncio.current_task():
                    del self._live[key]

    def _note(self, key: RunKey, *, change: str) -> bool:
        """Remember a change; whether it is new."""
        known = self._known.setdefault(key, _Known(change=""))
        new, known.change = known.change != change, change
        return new

    def _forget(self, key: RunKey) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self._count()
        self.retention.forget(key)
        self.supersession.forget(key)
        live = self._live.pop(key, None)
        if live is not None:
            live.task.cancel()
        self.forget(key)

    def _due(self, key: RunKey) -> None:
        self._wake_or_start(key, ended=False)

    def _count(self) -> None:
        phases = Counter(known.phase for known in self._known.values())
        for phase in RunPhase:
            RUNS.labels(phase=phase.value).set(phases[phase])


def _change(run: Mapping[str, Any]) -> str:
    """What differs after a change of somebody else, and not after our own status writes."""
    metadata = run["metadata"]
    token = names.retry_token(metadata)
    return f"{metadata.get('generation')} {metadata.get('deletionTimestamp')} {token}"


def _status(run: Mapping[str, Any]) -> DbtRunStatus:
    return DbtRunStatus.parse(run.get("status") or {}) or DbtRunStatus()
