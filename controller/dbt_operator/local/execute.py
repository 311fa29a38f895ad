"""The loop of one local run, with all that a cluster would wake it with."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from dbt_operator.api import names
from dbt_operator.api.phases import RunPhase
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.local.backend import LocalBackend, backend_of
from dbt_operator.local.origin import Origin
from dbt_operator.local.place import NAMESPACE, Place
from dbt_operator.local.programs import Programs
from dbt_operator.local.secrets import Secrets
from dbt_operator.local.store import Store
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.observe import run_ref
from dbt_operator.reconcile.retention import Retention
from dbt_operator.reconcile.run_loop import RunLoop
from dbt_operator.reconcile.statuses import Statuses
from dbt_operator.reconcile.supersession import Supersession

_LOOK_SECONDS = 0.1
# A cluster needs an image, of which there is none here.
DEFAULTS = {"image": "local"}
# Nobody else writes to the file, so nothing has to be spared: what dbt says is shown as soon as anybody looks.
_WRITES_PER_SECOND = 5000.0
_QUIET_SECONDS = 0.1
_LAST_WRITES_SECONDS = 10.0


class Stopped(Enum):
    """Why a run is not executed any further although it has not ended."""

    AT_ONCE = auto()  # a person has said so twice
    RESTS = auto()  # it is suspended, and nothing of it is at work


class Kept(Retention):
    """Local runs are kept until a run of their name takes their place."""

    def ttl(self, run: Mapping[str, Any], *, ended_at: datetime | None, asked: bool = False) -> timedelta | None:
        """For ever."""
        del run, ended_at, asked
        return None


@dataclass(slots=True)
class Execution:
    """Executes a run until it has ended, and shows it meanwhile."""

    run: Object
    store: Store
    place: Place
    origin: Origin
    secrets: Secrets
    programs: Programs
    show: Callable[[], None]  # called about ten times a second, and once more at the end
    say: Callable[[str], None]
    _asked: dict[str, str | None] = field(default_factory=dict)
    _stopped: Stopped | None = None
    _signals: int = 0

    def __call__(self) -> Stopped | None:
        """Execute it until it has ended, or until it is stopped."""
        return asyncio.run(self._execute())

    async def _execute(self) -> Stopped | None:
        ref = run_ref(self.run)
        writer = StatusWriter(
            client=self.store, max_per_second=_WRITES_PER_SECOND, burst=1000,
            settle_interval=0, quiet_interval=_QUIET_SECONDS, lazy_interval=_QUIET_SECONDS,
        )  # fmt: skip
        backend = self._backend(ref, writer)
        kept = Kept(now=lambda: self.store.now().timestamp())
        loop = RunLoop(backend=backend, defaults=DEFAULTS, retention=kept, supersession=Supersession())
        writer.on_problem = loop.problem
        writing = asyncio.create_task(writer.run())
        working = asyncio.create_task(loop.run())
        watching = asyncio.create_task(self._watch(loop, backend, working))
        self._hear(backend, working)
        try:
            await _first_of(working, writing, watching)
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
        finally:
            watching.cancel()
            await writer.close(within=_LAST_WRITES_SECONDS)
            await asyncio.gather(watching, writing, return_exceptions=True)
            for attempt in backend.attempts():
                attempt.clear()
        self.show()
        return self._stopped

    def _hear(self, backend: LocalBackend, working: "asyncio.Task[None]") -> None:
        """Signals: the first one cancels the run, as spec.cancel does, the second one stops it where it is."""

        def heard() -> None:
            self._signals += 1
            if self._signals == 1:
                self.say("Cancelling: dbt is told to end its queries. Once more, and it is stopped at once.")
                wish = {"spec": {"cancel": True}}
                self.store.change(DBT_RUNS, self.run["metadata"]["name"], wish, namespace=NAMESPACE)
            else:
                self._stopped = Stopped.AT_ONCE
                for attempt in backend.attempts():
                    attempt.kill()
                working.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, heard)

    def _backend(self, ref: RunRef, writer: StatusWriter) -> LocalBackend:
        return backend_of(
            ref,
            store=self.store,
            place=self.place,
            origin=self.origin,
            secrets=self.secrets,
            programs=self.programs,
            statuses=Statuses(ref, writer),
        )

    async def _watch(self, loop: RunLoop, backend: LocalBackend, working: "asyncio.Task[None]") -> None:
        """Wake the loop when a process has changed, or somebody has asked for something."""
        before: object = None
        wishes: object = None
        while True:
            seen = tuple(attempt.fingerprint() for attempt in backend.attempts())
            wished = self._wishes(loop)
            if (seen, wished) != (before, wishes):
                before, wishes = seen, wished
                loop.wake()
            self.show()
            if self._rests(backend):
                self._stopped = Stopped.RESTS
                working.cancel()
            await asyncio.sleep(_LOOK_SECONDS)

    def _rests(self, backend: LocalBackend) -> bool:
        run = self.store.get(DBT_RUNS, self.run["metadata"]["name"], namespace=NAMESPACE) or self.run
        suspended = (run.get("status") or {}).get("phase") == RunPhase.SUSPENDED
        return suspended and not any(attempt.alive for attempt in backend.attempts())

    def _wishes(self, loop: RunLoop) -> object:
        """What people want of the run. The loop is told which nodes they ask for."""
        run = self.store.get(DBT_RUNS, self.run["metadata"]["name"], namespace=NAMESPACE)
        uid = self.run["metadata"]["uid"]
        if run is None or run["metadata"]["uid"] != uid:
            return None
        for model in self.store.all(DBT_MODELS, run=uid):
            token, unique_id = names.retry_token(model["metadata"]), model["spec"]["uniqueId"]
            if self._asked.get(unique_id) != token:
                self._asked[unique_id] = token
                if token != (model.get("status") or {}).get("handledRetry"):
                    loop.asked(unique_id=unique_id, token=token)
        return run["metadata"]["generation"], names.retry_token(run["metadata"])


async def _first_of(main: "asyncio.Task[None]", *others: "asyncio.Task[None]") -> None:
    """Wait for the main task. If one of the others ends before, that is a defect, and its error is raised."""
    await asyncio.wait([main, *others], return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        if other.done():
            main.cancel()
            other.result()
    await main
