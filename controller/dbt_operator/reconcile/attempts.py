"""The attempts of one run: their records, the logs that are followed, and what became of their pods."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.api_error import ApiError, NameConflictError
from dbt_operator.plan.attempt import (
    Assessment,
    Attempt,
    Decision,
    LogFacts,
    Recorded,
    Refusal,
    Release,
    Request,
    Shown,
)
from dbt_operator.plan.facts import PodFacts
from dbt_operator.reconcile.announce import Announcer
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.checkpoints import Checkpoints
from dbt_operator.reconcile.follower import Follower
from dbt_operator.reconcile.keep import Keeper
from dbt_operator.reconcile.observe import Cluster
from dbt_operator.reconcile.records import Records
from dbt_operator.reconcile.refusals import refusal_of

_log = structlog.get_logger(__name__)

_AT_ONCE = datetime.min.replace(tzinfo=UTC)
_RECORD_PAUSE = timedelta(seconds=1)
_REFUSED_PAUSE = timedelta(seconds=5)  # whatever wakes the loop meanwhile


@dataclass(slots=True)
class Attempts:
    """Knows the attempts of a run: records what is decided and how they end, creates their Jobs, releases their pods.

    `gone_pods`: pods that are gone, by their Job, as they were seen at last. The watch adds to it.
    `changed` is called when a log has said something, `wake` when the cluster's facts have to be read again.
    """

    backend: Backend
    announcer: Announcer
    gone_pods: dict[str, PodFacts]
    changed: Callable[[], None]
    wake: Callable[[], None]
    records: Records
    not_before: datetime = _AT_ONCE  # when the next decision may be recorded
    conflict: str | None = None  # the name of a record is taken by somebody else's object
    _pods: Mapping[str, PodFacts] = field(default_factory=dict)  # of each Job, as the last look showed it
    _released: Mapping[str, Release] = field(default_factory=dict)  # by their Job, as recorded before that look
    _followers: dict[str, Follower] = field(default_factory=dict)  # of those that have not been sealed, by their Job
    _refusals: dict[str, Refusal] = field(default_factory=dict)  # of Jobs
    _withheld: dict[str, Refusal] = field(default_factory=dict)  # of the start of their pods
    _let_go: dict[str, datetime] = field(default_factory=dict)  # when their pods were
    _not_again_before: dict[str, datetime] = field(default_factory=dict)  # what was refused
    _created: set[str] = field(default_factory=set)  # Jobs that we have created, in case the status does not say so yet
    _checkpoints: Checkpoints = field(init=False)

    def __post_init__(self) -> None:
        self._checkpoints = Checkpoints(backend=self.backend, records=self.records)

    # observe

    async def read_records(self, *, ended: bool) -> None:
        """Read what was decided since the last look, before the cluster is looked at.

        ended: so the run's status says.
        """
        await self.records.refresh(ended=ended)
        self.announcer.unreadable_record(None)
        self._released = {each.decision.name: each.release for each in self.records.all() if each.release is not None}

    def look(self, cluster: Cluster) -> Cluster:
        """Take what a look at the cluster has shown.

        Returns the cluster with a run that lives again, where a retry was decided on after its status said that it
        ended.
        """
        known = self.records.all()
        before, shown = self._pods, {each.decision.name: self._pod_of(each, cluster) for each in known}
        self._pods = {job: pod for job, pod in shown.items() if pod is not None}
        for job, pod in before.items():
            if job not in self._pods and not pod.held:  # the watch has not told how it went, or will do so later
                self.gone_pods.setdefault(job, pod)
        if cluster.record.ended is None or not known or known[-1].decision.name in cluster.record.attempts:
            return cluster
        return replace(cluster, record=replace(cluster.record, ended=None, completion_time=None))

    def _pod_of(self, record: Recorded, cluster: Cluster) -> PodFacts | None:
        """The pod of the attempt. There may be others, but only the released one ever has a process."""
        release = self._released.get(record.decision.name)
        pods = cluster.pods.get(record.decision.name, ())
        if release is not None:
            return next((pod for pod in pods if pod.uid == release.pod), None)
        # One that another controller has released since the records were read; else the newest.
        return next((pod for pod in pods if not pod.held), pods[-1] if pods else None)

    async def follow(self) -> None:
        """Follow the logs of the pods that are there, of attempts that have not been sealed.

        Returns when they are read up to the present: nobody plans, or shows, what was true a while ago.
        """
        begun: list[Follower] = []
        for record in self.records.all():
            job, pod = record.decision.name, self._pods.get(record.decision.name)
            follower = self._followers.get(job)
            if follower is not None and record.sealed is not None:
                await follower.stop()
                del self._followers[job]
            elif follower is not None and record.checkpoint is not None:
                follower.take_up(record.checkpoint)
            elif follower is None and record.sealed is None and pod is not None and (pod.has_started or pod.ended):
                begun.append(self._begin(record, pod))
        await asyncio.gather(*(follower.caught_up() for follower in begun))

    def _begin(self, record: Recorded, pod: PodFacts) -> Follower:
        follower = Follower(backend=self.backend, pod=pod, changed=self.changed)
        if record.checkpoint is not None:
            follower.state, follower.position = record.checkpoint.state, record.checkpoint.position
        # The log says it too, in its first lines, which may be rotated away before anybody reads them.
        follower.state = replace(follower.state, found={**pod.found, **follower.state.found})
        follower.start()
        self._followers[record.decision.name] = follower
        return follower

    @property
    def begun(self) -> bool:
        """Whether there was a decision for any."""
        return bool(self.records.all())

    def all(self, cluster: Cluster) -> tuple[Attempt, ...]:
        """What is known of each attempt, in the order of their decisions."""
        return tuple(self._attempt(record, cluster=cluster) for record in self.records.all())

    def _attempt(self, record: Recorded, *, cluster: Cluster) -> Attempt:
        name, before = record.decision.name, cluster.record.attempts.get(record.decision.name)
        shown = Shown(
            job=cluster.jobs.get(name),
            pod=self._pods.get(name),
            last_pod=self.gone_pods.get(name),
            refusal=(self._withheld if name in self._pods else self._refusals).get(name),
            created=before is not None or name in self._created,
            began=before.start_time if before is not None else None,
            let_go=self._let_go.get(name),
        )
        release, log = self._released.get(name), self._log_of(record)
        return Attempt(
            decision=record.decision,
            decided_at=record.at,
            release=release,
            sealed=record.sealed,
            shown=shown,
            log=log,
        )

    def _log_of(self, record: Recorded) -> LogFacts:
        follower, checkpoint = self._followers.get(record.decision.name), record.checkpoint
        if record.sealed is not None:
            return LogFacts()
        if follower is not None:
            return follower.facts()
        if checkpoint is not None:  # its pod is gone, or else it would be followed: this is all that is left of its log
            return LogFacts(state=checkpoint.state, position=checkpoint.position, read=True, incomplete=True)
        return LogFacts()

    def answered(self) -> set[Request]:
        """The retries that recorded decisions answer."""
        return {request for record in self.records.all() for request in record.decision.requests}

    def recorded(self, decisions: Sequence[Decision]) -> bool:
        """Whether all of these are recorded."""
        known = [record.decision for record in self.records.all()]
        return all(decision in known for decision in decisions)

    # act

    async def seal(self, assessments: Sequence[Assessment]) -> bool:
        """Store how attempts ended; False when another controller has written one of their records: look again then."""
        for assessment in assessments:
            if not await self.records.seal(assessment):
                return False
            _log.info("an attempt has ended", job=assessment.attempt.name, reason=assessment.reason.value)
        return True

    async def record(self, decisions: Sequence[Decision]) -> None:
        """Store what was decided, in its order: an attempt that another controller has decided on ends it."""
        if not decisions or self.backend.now() < self.not_before:
            return
        if await self.records.ended_elsewhere():
            # Of two controllers the one that seals an attempt decides how it ended, even if it has read less of the
            # log. A plan that rests on more might use a try, or a restart, that is not left.
            self.wake()
            return
        for decision in decisions:
            try:
                recorded = await self.records.record(decision)
            except NameConflictError as error:
                self.conflict = f"{error}: delete or rename it, and create the run anew."
                self.wake()
                return
            if not recorded:
                # Another controller was faster, an earlier run of this name is not yet gone, or somebody has damaged
                # the record. To look again at once helps in none of these cases.
                self.not_before = self.backend.now() + _RECORD_PAUSE
                return
            self.wake()
            self.announcer.decided(decision)

    async def create(self, name: str, *, spec: DbtRunSpec) -> None:
        """Create the Job of an attempt that was decided on, or remember why that was refused."""
        if self._too_soon(name):
            return
        done = await self.backend.create_attempt(self._recorded(name).decision, spec=spec)
        if done.created:
            self._created.add(name)
            _log.info("created an attempt", job=name)
            self.wake()
        self._note(self._refusals, name, done.refusal)

    def _too_soon(self, name: str) -> bool:
        return self.backend.now() < self._not_again_before.get(name, _AT_ONCE)

    def _note(self, refusals: dict[str, Refusal], name: str, refusal: Refusal | None) -> None:
        """Remember what was refused, or is no longer. The same refusal is tried again when the plan says so."""
        before = refusals.pop(name, None)
        if refusal is not None:
            refusals[name] = refusal
            self._not_again_before[name] = self.backend.now() + _REFUSED_PAUSE
        if refusal != before:
            self.wake()
            if refusal is not None:
                _log.warning("an attempt was refused", job=name, message=refusal.message)

    async def release(self, name: str) -> None:
        """Let the pod of an attempt be scheduled, after it is recorded as the only one that may be."""
        if self._too_soon(name):
            return
        record, pod = self._recorded(name), self._pods[name]
        if record.release is None and not await self.records.release(record.decision.index, pod):
            self.wake()
            return  # it is another pod, or there is none any more: the next look will show
        try:
            await self.backend.start_pod(pod)
        except ApiError as error:
            # It is invalid if somebody has removed another gate meanwhile, as gates cannot be added. Then the next look
            # helps. If it does not, something in the cluster changes the request.
            refusal = refusal_of(error, what=f"the start of pod {pod.name}")
            if refusal is not None:
                self._note(self._withheld, name, refusal)
            elif error.not_found or error.conflict:
                self.wake()
            else:
                raise
            return
        self.wake()
        self._let_go[name] = self.backend.now()
        self._note(self._withheld, name, None)
        _log.info("a pod may start", job=name, pod=pod.name)

    def _recorded(self, name: str) -> Recorded:
        return next(record for record in self.records.all() if record.decision.name == name)

    async def keep_artifacts(self, keeper: Keeper, *, run_ended: bool) -> None:
        """Store the files that the logs have brought."""
        for job, follower in self._followers.items():
            while follower.artifacts:
                index = self._recorded(job).decision.index
                await keeper.keep(follower.artifacts[0], attempt=index, run_ended=run_ended)
                del follower.artifacts[0]

    async def store_checkpoints(self, *, last: bool = False) -> list[datetime]:
        """Store how far the logs were read. Returns when there will be more to store. `last`: store it now."""
        followed = [(self._recorded(job), follower) for job, follower in self._followers.items()]
        due = [await self._checkpoints.store(record, follower, last=last) for record, follower in followed]
        for record, follower in followed:
            stored = self._recorded(record.decision.name).checkpoint
            if stored is not None:  # another controller was faster: no end is stored without what that one has read
                follower.take_up(stored)
        return [at for at in due if at is not None]

    async def stop(self) -> None:
        """Follow the logs no longer."""
        for follower in self._followers.values():
            await follower.stop()
