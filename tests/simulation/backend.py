"""The backend of an operator's loop: the simulated cluster, through calls that may fail."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.dbt import stored
from dbt_operator.dbt.lines import LineSplitter
from dbt_operator.kube.api_error import ApiError, NameConflictError
from dbt_operator.kube.logs import Ended, EndReason, Sink
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.plan.attempt import Checkpoint, Decision, Recorded, Release, Sealed
from dbt_operator.plan.facts import PodFacts, job_facts, pod_facts
from dbt_operator.pods.files import File, file_config_map
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Creation, Seen, StoredRecord
from dbt_operator.reconcile.refusals import job_refusal_of
from dbt_operator.reconcile.statuses import Statuses
from tests.simulation.api import Calls
from tests.simulation.checks import Checks
from tests.simulation.cluster import Cluster
from tests.simulation.objects import NAMESPACE, RUN, RUN_UID, Record
from tests.simulation.process import Process
from tests.simulation.world import BEGINNING, broken

if TYPE_CHECKING:
    from tests.simulation.operator import Operator

RUN_REF = RunRef(namespace=NAMESPACE, name=RUN, uid=RUN_UID, labels={})
_FILES = "ConfigMap"
_PATIENCE = 3  # failures to read a log, one after the other
_NO_ANSWER = "the kubelet does not answer"


class SimulatedBackend:
    """See `Backend`."""

    def __init__(self, *, operator: "Operator", cluster: Cluster, checks: Checks) -> None:
        self._operator, self._cluster, self._checks = operator, cluster, checks
        self._call = Calls(operator=operator, cluster=cluster, checks=checks)
        self._read: dict[str, int] = {}  # by the Job: how many lines of its log
        self.statuses = Statuses(RUN_REF, operator.writer)

    def now(self) -> datetime:
        """The time."""
        return self._cluster.world.now

    # the run

    async def find_run(self) -> Object | None:
        """Read the DbtRun."""
        return await self._call("read run", lambda: self._cluster.find(DBT_RUNS.kind, RUN))

    async def find_defaults(self) -> Object | None:
        """The namespace gives none."""

    async def may_delete_run(self, *, version: str) -> bool:
        """Whether it is still this version."""
        return await self._call("ask", lambda: self._cluster.run["metadata"]["resourceVersion"] == version)

    async def delete_run(self, *, version: str) -> None:
        """Delete it, if it is still this version."""

        with suppress(ApiError):  # what is left is the garbage collector's
            await self._call("sweep", self._cluster.delete_models)

        def delete() -> None:
            if self._cluster.run["metadata"]["resourceVersion"] == version:
                self._cluster.delete_run()

        await self._call("expire", delete)

    async def find_models(self) -> list[Object]:
        """List the DbtModels."""
        return await self._call("list models", lambda: self._cluster.models)

    async def find_model(self, name: str) -> Object | None:
        """Read a DbtModel."""
        return self._cluster.find(DBT_MODELS.kind, name)

    async def post_event(self, *, regarding: Object, kind: str, reason: str, message: str, key: str) -> None:
        """Events are for people."""

    # records

    async def read_record(self, index: int) -> StoredRecord | None:
        """Read a record."""

        def read() -> StoredRecord | None:
            record = self._cluster.records.get(index)
            return None if record is None else _stored(record)

        return await self._call("read record", read)

    async def create_record(self, decision: Decision, *, release: Release | None = None) -> StoredRecord | None:
        """Create a record."""
        self._operator.decides(decision)

        def create() -> StoredRecord | None:
            if decision.index == self._cluster.foreign:
                raise NameConflictError("ConfigMap r-attempt exists already and has no owner", stale=False)
            record = self._cluster.records.setdefault(decision.index, Record(Recorded(decision, release=release)))
            return _stored(record) if record.decision == decision else None

        return await self._call("record", create, creates=True)

    async def store_release(self, index: int, release: Release, *, version: str) -> StoredRecord:
        """Store which pod may start."""
        return await self._call("choose", lambda: _stored(self._change(index, version=version, release=release)))

    async def store_checkpoint(self, index: int, state: bytes, *, position: datetime | None, version: str) -> str:
        """Store how far a log was read."""
        name = self._cluster.records[index].decision.name
        lines = self._read.get(name, 0)
        known = stored.decode(state)
        if known is None:
            broken("what is stored can be read", f"the checkpoint of {name} cannot")

        def store() -> str:
            record = self._change(index, version=version, checkpoint=Checkpoint(known, position))
            record.lines = max(record.lines, lines)
            self._operator.say_if(f"has stored {name} up to line {lines}")
            return str(record.version)

        return await self._call("checkpoint", store)

    async def store_end(self, decision: Decision, sealed: Sealed, *, version: str) -> StoredRecord:
        """Store how an attempt ended."""
        index, lines = decision.index, self._read.get(decision.name, 0)

        def seal() -> StoredRecord:
            # Whoever reads it later gets what comes out of the stored form.
            state = stored.decode(stored.encode(sealed.state))
            if state is None:
                broken("what is stored can be read", f"the state of {decision.name} cannot")
            record = self._change(index, version=version, checkpoint=None, sealed=replace(sealed, state=state))
            self._operator.say_if(f"sealed {decision.name}: {sealed.outcome.phase} {sealed.outcome.reason}")
            self._checks.oracle.sealed(sealed, decision, max(lines, record.lines))
            return _stored(record)

        return await self._call("seal", seal)

    def _change(self, index: int, *, version: str, **what: Any) -> Record:
        record = self._cluster.records[index]
        if str(record.version) != version:
            raise ApiError(status=409, reason="Conflict", message="the record has been modified")
        record.change(**what)
        return record

    # attempts

    runners: frozenset[str] = frozenset()

    async def look(self) -> Seen:
        """List the Jobs, then the pods."""
        cluster = self._cluster
        jobs = await self._call(
            "list jobs",
            lambda: {name: job_facts(job.shown(), events=job.events()) for name, job in cluster.jobs.items()},
        )
        pods = await self._call(
            "list pods", lambda: [(pod.job.name, pod_facts(pod.shown())) for pod in cluster.pods.values()]
        )
        by_job: dict[str, tuple[PodFacts, ...]] = {}
        for job, facts in pods:
            by_job[job] = (*by_job.get(job, ()), facts)
        return Seen(jobs=jobs, pods=by_job)

    async def create_attempt(self, decision: Decision, *, spec: DbtRunSpec) -> Creation:
        """Create a Job."""
        del spec
        try:
            await self._call("create", lambda: self._cluster.create_job(decision))
        except ApiError as error:
            refusal = job_refusal_of(error)
            if refusal is None:
                raise
            return Creation(refusal=refusal)
        return Creation(created=True)

    async def start_pod(self, pod: PodFacts) -> None:
        """Remove the gate of a pod."""

        def release() -> None:
            found = self._cluster.pods.get(pod.name)
            if found is None:
                raise ApiError(status=404, reason="NotFound", message=f"{pod.name} not found")
            self._cluster.release_pod(found)

        await self._call("release", release)

    async def stop_attempt(self, name: str) -> None:
        """Delete a Job."""
        await self._call("stop", lambda: self._cluster.delete_job(name))

    async def follow_log(
        self,
        pod: PodFacts,
        *,
        since: datetime | None,
        sink: Sink,
        caught_up: Callable[[], None],
        stalled: Callable[[str | None], None],
    ) -> Ended:
        """Read the log of a pod in pieces, some of them twice, until the container has ended and all of it was read."""
        found, chance, failures, behind = self._cluster.all_pods[pod.name], self._operator.chance, 0, True
        position = _line_of(since)
        while True:
            await asyncio.sleep(chance.choice((0.02, 0.4, 1.5, 4.0)))
            await self._operator.goes_on()
            over, process = found.terminated is not None, found.process
            if found.removed or process is None:
                return Ended(EndReason.POD_GONE if found.removed else EndReason.TERMINATED, lines=position)
            if found.unreachable or (not self._cluster.calm and chance.random() < self._cluster.scenario.api_errors):
                failures += 1
                if over and failures > _PATIENCE:
                    return Ended(EndReason.UNREADABLE, message=_NO_ANSWER)
                if failures > _PATIENCE:
                    stalled(_NO_ANSWER)
                continue
            if failures > _PATIENCE:
                stalled(None)
            failures = 0
            if over or position < len(process.log) or behind:
                lines, position = self._piece(process, position, over=over, all_there_is=over or behind)
                self._read[found.job.name] = position
                result = sink(lines, _time_of(position))
                assert result is None
            if over:
                return Ended(EndReason.TERMINATED, lines=position)
            if behind:
                behind = False
                caught_up()

    def _piece(self, process: Process, position: int, *, over: bool, all_there_is: bool) -> tuple[list[bytes], int]:
        """What comes next of the log, and how many whole lines were read then. `over`: nothing more is printed."""
        log, chance = process.log, self._operator.chance
        again = chance.choice((0, 0, 0, 1, 5)) if position else 0
        since = max(0, position - again)
        fresh = len(log) - position
        until = len(log) if all_there_is or fresh < 2 or chance.random() < 0.6 else position + chance.randint(0, fresh)
        data = b"".join(line + b"\n" for line in log[since:until])
        if until < len(log) and chance.random() < 0.3:  # cut in the middle of a line, or before its end
            data += log[until][: chance.randint(1, len(log[until]))]
            until += data.endswith(log[until])
        if over:
            data += process.piece
        splitter = LineSplitter()
        cut = chance.randint(0, len(data)) if chance.random() < 0.2 else len(data)
        found = [*splitter.feed(data[:cut]), *splitter.feed(data[cut:])]
        last = splitter.flush()
        return ([*found, last] if last is not None else found), until

    # files

    async def find_files(self, name: str) -> Object | None:
        """Read a ConfigMap."""
        return await self._call("read files", lambda: self._cluster.find(_FILES, name))

    async def create_files(self, name: str, file: File) -> tuple[Object, bool]:
        """Create a ConfigMap."""

        def create() -> tuple[Object, bool]:
            found = self._cluster.find(_FILES, name)
            made = file_config_map(run=RUN_REF, name=name, file=file)
            return (found, False) if found is not None else (self._cluster.put(_FILES, made), True)

        return await self._call("create files", create, creates=True)

    async def patch_files(self, name: str, patch: Mapping[str, Any]) -> Object:
        """Patch a ConfigMap."""
        return await self._call("patch files", lambda: self._cluster.patch(_FILES, name, patch))


def _time_of(line: int) -> datetime | None:
    """The kubelet's stamp: a second for each line. The next reader begins with the lines of that second again."""
    return BEGINNING + timedelta(seconds=line) if line else None


def _line_of(time: datetime | None) -> int:
    return 0 if time is None else int((time - BEGINNING).total_seconds())


def _stored(record: Record) -> StoredRecord:
    return StoredRecord(record.content, str(record.version))
