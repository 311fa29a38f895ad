"""The records of a run's attempts: read once, and written at three moments of each attempt.

When it is decided on, when its pod is released, and when it has ended; in between, checkpoints of how far its log was
read. Each is written against the version that was read last, so that of two controllers only one writes, and no pod is
released of an attempt that has ended.
"""

from dataclasses import dataclass, field, replace

from dbt_operator.dbt import stored
from dbt_operator.kube.api_error import ApiError
from dbt_operator.plan.attempt import Assessment, Checkpoint, Decision, Recorded, Release, Sealed
from dbt_operator.plan.facts import PodFacts
from dbt_operator.pods.record import room_for_state
from dbt_operator.reconcile.backend import Backend, StoredRecord


@dataclass(slots=True)
class Records:
    """What the records of a run say, by the index of the attempt.

    Each method may raise UnreadableRecordError. The attempt of that record may be alive, or done, so nothing may be
    decided or shown from the other records alone.
    """

    backend: Backend
    _known: dict[int, StoredRecord] = field(default_factory=dict)
    _in_doubt: set[int] = field(default_factory=set)  # whose end was sent, and the answer was lost

    async def refresh(self, *, ended: bool = False) -> None:
        """Read those that are new here.

        Read the records before the pods are listed: then a released pod that is not listed is gone.

        ended: so the run's status says. What is not sealed here was sealed by another controller then: an attempt that
            this one has created a moment too late is over, and its Job to be stopped.
        """
        await self._read_again(self._unsealed if ended else self._in_doubt)
        while await self._read(max(self._known, default=0) + 1):
            pass

    async def ended_elsewhere(self) -> bool:
        """Read those again that are not sealed here; whether another controller has sealed one since."""
        before = self._unsealed
        await self._read_again(before)
        return self._unsealed != before

    @property
    def _unsealed(self) -> set[int]:
        return {index for index, record in self._known.items() if record.content.sealed is None}

    async def _read_again(self, indexes: set[int]) -> None:
        for index in sorted(indexes):
            await self._read(index)

    async def _read(self, index: int) -> bool:
        """Read one record; whether there is one that is ours."""
        record = await self.backend.read_record(index)
        return record is not None and self._take(record)

    def _take(self, record: StoredRecord) -> bool:
        index = record.content.decision.index
        self._in_doubt.discard(index)
        self._known[index] = record
        return True

    def all(self) -> list[Recorded]:
        """What is recorded, in the order of the decisions."""
        return [self._known[index].content for index in sorted(self._known)]

    async def record(self, decision: Decision) -> bool:
        """Store a decision; False when another controller has decided something else meanwhile, or is about to.

        Raises: NameConflictError where the name is taken by somebody else's object.
        """
        known = self._known.get(decision.index)  # where somebody has deleted a record of ours
        release = known.content.release if known is not None else None
        record = await self.backend.create_record(decision, release=release)
        # One that another controller has recorded may have ended since: its end must not be stored a second time.
        return record is not None and self._take(record)

    async def release(self, index: int, pod: PodFacts) -> bool:
        """Store that this is the pod of the attempt; False when that is not so, or not known: look again then."""
        known = self._known[index]
        release = Release(pod=pod.uid, at=self.backend.now())
        try:
            return self._take(await self.backend.store_release(index, release, version=known.version))
        except ApiError as error:
            if error.conflict:
                await self._read(index)  # another controller has released a pod, or has seen the attempt end
            elif error.not_found:
                await self.record(known.content.decision)
            else:
                raise
            return False

    async def checkpoint(self, index: int, checkpoint: Checkpoint) -> int:
        """Store how far the log of an attempt was read. Returns how large that is, in bytes.

        What does not fit as it is, is not stored: then the log is read from its beginning. Nor is it where another
        controller has written the record meanwhile; what that one has stored is read.
        """
        state, known = stored.encode(checkpoint.state), self._known[index]
        if len(state) > room_for_state(known.content.decision):
            return len(state)
        try:
            version = await self.backend.store_checkpoint(
                index, state, position=checkpoint.position, version=known.version
            )
        except ApiError as error:
            if not error.conflict:
                raise
            await self._read(index)
            return len(state)
        # What was read is not read again: the version alone is news.
        self._known[index] = StoredRecord(replace(known.content, checkpoint=checkpoint), version)
        return len(state)

    async def seal(self, assessment: Assessment) -> bool:
        """Store how an attempt ended. From then on nothing else is needed to know it.

        False when another controller has written the record meanwhile: it has sealed the attempt, or released a pod
        that the last look at the cluster could not see. Look again then.

        If the answer is lost, the end may be stored or not. Nothing may be planned before that is known: the next
        controller no longer reads what the attempt prints after its stored end.
        """
        decision = assessment.attempt.decision
        if decision is None:
            raise ValueError(f"{assessment.attempt.name} has no record")
        index = decision.index
        sealed = Sealed.of(assessment, now=self.backend.now())
        self._in_doubt.add(index)
        try:
            record = await self.backend.store_end(decision, sealed, version=self._known[index].version)
        except ApiError as error:
            if error.conflict:
                await self._read(index)  # what is stored stands
                return False
            if not error.not_found:
                raise
            # Somebody has deleted the record: what is known here is all that is left of it.
            await self.record(decision)
            return True
        # It is stored in a poorer form.
        return self._take(record._replace(content=replace(record.content, checkpoint=None, sealed=sealed)))
