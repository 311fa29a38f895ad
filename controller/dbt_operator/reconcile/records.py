"""The records of a run's attempts: read once, and written at three moments of each attempt.

When it is decided on, when its pod is released, and when it has ended. Each is written against the version that was
read last, so that of two controllers only one writes, and no pod is released of an attempt that has ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_operator.api.names import attempt_record_name
from dbt_operator.kube.client import ApiError, Client, NameConflictError
from dbt_operator.kube.resources import CONFIG_MAPS, owner_uids
from dbt_operator.plan.attempt import Assessment, Decision, Recorded, Release
from dbt_operator.plan.facts import PodFacts
from dbt_operator.pods.record import attempt_record, parse_record, releasing, same_decision, sealing
from dbt_operator.pods.run import RunRef


class UnreadableRecordError(Exception):
    """Somebody has changed a record so that nobody can read it; the text is a sentence that names it."""


@dataclass(slots=True)
class Records:
    """What the records of a run say, by the index of the attempt."""

    run: RunRef
    client: Client
    unreadable: str | None = None  # about a record that somebody has changed
    _known: dict[int, Recorded] = field(default_factory=dict)
    _versions: dict[int, str] = field(default_factory=dict)  # resource versions, as last seen
    _in_doubt: set[int] = field(default_factory=set)  # whose end was sent, and the answer was lost

    async def refresh(self, *, ended: bool = False) -> None:
        """Read those that are new here. They are asked for by their names, so that no right to list is needed.

        To be done before the pods are listed: one that a record calls released and the list does not have is gone.

        ended: so the run's status says. What is not sealed here was sealed by another controller then: an attempt that
            this one has created a moment too late is over, and its Job to be stopped.

        Raises: UnreadableRecordError.
        """
        self.unreadable = None
        await self._read_again(self._unsealed if ended else self._in_doubt)
        while await self._read(max(self._known, default=0) + 1):
            pass
        if self.unreadable is not None:
            # What it says may be alive, or done: on the rest alone nothing may be decided, nor shown.
            raise UnreadableRecordError(self.unreadable)

    async def ended_elsewhere(self) -> bool:
        """Read those again that are not sealed here; whether another controller has sealed one since."""
        before = self._unsealed
        await self._read_again(before)
        return self._unsealed != before

    @property
    def _unsealed(self) -> set[int]:
        return {index for index, record in self._known.items() if record.sealed is None}

    async def _read_again(self, indexes: set[int]) -> None:
        for index in sorted(indexes):
            await self._read(index)

    async def _read_changed(self, index: int) -> None:
        if not await self._read(index) and self.unreadable is not None:
            raise UnreadableRecordError(self.unreadable)

    async def _read(self, index: int) -> bool:
        """Read one record; whether there is one that is ours."""
        name = attempt_record_name(self.run.name, index=index)
        record = await self.client.find(resource=CONFIG_MAPS, namespace=self.run.namespace, name=name)
        return record is not None and self.run.uid in owner_uids(record) and self._take(record)

    def _take(self, record: Mapping[str, Any]) -> bool:
        """Remember what a record says; whether it can be read."""
        try:
            said = parse_record(record)
        except ValueError as error:
            # It cannot be decided anew either, as its name is taken.
            self.unreadable = f"{error}."
            return False
        index = said.decision.index
        self._in_doubt.discard(index)
        self._known[index] = said
        self._versions[index] = record["metadata"]["resourceVersion"]
        return True

    def all(self) -> list[Recorded]:
        """What is recorded, in the order of the decisions."""
        return [self._known[index] for index in sorted(self._known)]

    async def record(self, decision: Decision) -> bool:
        """Store a decision; False when another controller has decided something else meanwhile, or is about to.

        Raises: NameConflictError where the name is taken by somebody else's object.
        """
        known = self._known.get(decision.index)  # where somebody has deleted a record of ours
        manifest = attempt_record(run=self.run, decision=decision, release=known.release if known is not None else None)
        try:
            found, new = await self.client.create_or_adopt(
                resource=CONFIG_MAPS, manifest=manifest, owner_uid=self.run.uid
            )
        except NameConflictError as error:
            if error.stale:
                return False  # of an earlier run of this name, about to be deleted with it
            raise
        if not (new or same_decision(found, manifest)):
            return False
        # One that another controller has recorded may have ended since: its end must not be stored a second time.
        return self._take(found)

    async def release(self, index: int, pod: PodFacts) -> bool:
        """Store that this is the pod of the attempt; False when that is not so, or not known: look again then.

        Raises: UnreadableRecordError.
        """
        release = Release(pod=pod.uid, at=self.client.now())
        name = attempt_record_name(self.run.name, index=index)
        patch = releasing(release, version=self._versions[index])
        try:
            record = await self.client.patch(resource=CONFIG_MAPS, namespace=self.run.namespace, name=name, patch=patch)
        except ApiError as error:
            if error.conflict:
                await self._read_changed(index)  # another controller has released a pod, or has seen the attempt end
            elif error.not_found:
                await self.record(self._known[index].decision)
            else:
                raise
            return False
        return self._take(record)

    async def seal(self, assessment: Assessment) -> bool:
        """Store how an attempt ended. From then on nothing else is needed to know it.

        False when another controller has written the record meanwhile: it has sealed it, or released a pod, of which
        the last look at the cluster cannot tell what became. Look again then.

        Where the answer is lost, the end may be stored or not. Nothing may be planned before that is known: what the
        attempt says after its stored end is no longer heard by the controller that comes next.

        Raises: UnreadableRecordError.
        """
        decision = assessment.attempt.decision
        if decision is None:
            raise ValueError(f"{assessment.attempt.name} has no record")
        name = attempt_record_name(self.run.name, index=decision.index)
        patch, sealed = sealing(assessment, now=self.client.now(), version=self._versions[decision.index])
        self._in_doubt.add(decision.index)
        try:
            record = await self.client.patch(resource=CONFIG_MAPS, namespace=self.run.namespace, name=name, patch=patch)
        except ApiError as error:
            if error.conflict:
                await self._read_changed(decision.index)  # what is stored stands
                return False
            if not error.not_found:
                raise
            # Somebody has deleted the record: what is known here is all that is left of it.
            await self.record(decision)
            return True
        self._take(record)
        self._known[decision.index] = replace(self._known[decision.index], sealed=sealed)  # stored in a poorer form
        return True
