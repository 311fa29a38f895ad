"""The records of a run's attempts: read once, written when something is decided and when an attempt has ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dbt_operator.api.names import attempt_record_name
from dbt_operator.kube.client import ApiError, Client, NameConflictError
from dbt_operator.kube.resources import CONFIG_MAPS, owner_uids
from dbt_operator.plan.attempt import Assessment, Decision, Sealed
from dbt_operator.pods.record import attempt_record, parse_record, same_decision, sealing
from dbt_operator.pods.run import RunRef


@dataclass(slots=True)
class Records:
    """What was decided for a run, and how it ended, by the index of the attempt."""

    run: RunRef
    client: Client
    unreadable: str | None = None  # about a record that somebody has changed
    _decisions: dict[int, Decision] = field(default_factory=dict)
    _sealed: dict[int, Sealed] = field(default_factory=dict)
    _versions: dict[int, str] = field(default_factory=dict)  # resource versions, as last seen
    _in_doubt: set[int] = field(default_factory=set)  # whose end was sent, and the answer was lost

    async def refresh(self, *, ended: bool = False) -> None:
        """Read those that are new here. They are asked for by their names, so that no right to list is needed.

        ended: so the run's status says. What is not sealed here was sealed by another controller then: an attempt that
            this one has created a moment too late is over, and its Job to be stopped.
        """
        await self._read_again(self._unsealed if ended else self._in_doubt)
        while await self._read(max(self._decisions, default=0) + 1):
            pass

    async def ended_elsewhere(self) -> bool:
        """Read those again that are not sealed here; whether another controller has sealed one since."""
        before = len(self._sealed)
        await self._read_again(self._unsealed)
        return len(self._sealed) > before

    @property
    def _unsealed(self) -> set[int]:
        return self._decisions.keys() - self._sealed.keys()

    async def _read_again(self, indexes: set[int]) -> None:
        for index in sorted(indexes):
            await self._read(index)

    async def _read(self, index: int) -> bool:
        """Read one record; whether there is one that is ours."""
        name = attempt_record_name(self.run.name, index=index)
        record = await self.client.find(resource=CONFIG_MAPS, namespace=self.run.namespace, name=name)
        return record is not None and self.run.uid in owner_uids(record) and self._take(record)

    def _take(self, record: Mapping[str, Any]) -> bool:
        """Remember what a record says; whether it can be read."""
        try:
            decision, sealed = parse_record(record)
        except ValueError as error:
            # It cannot be decided anew either, as its name is taken.
            self.unreadable = f"{error}. Delete it: the attempt is then decided on anew."
            return False
        self.unreadable = None
        self._in_doubt.discard(decision.index)
        self._decisions[decision.index] = decision
        self._versions[decision.index] = record["metadata"]["resourceVersion"]
        if sealed is not None:
            self._sealed[decision.index] = sealed
        return True

    def all(self) -> list[tuple[Decision, Sealed | None]]:
        """The attempts in the order of their decisions."""
        return [(self._decisions[index], self._sealed.get(index)) for index in sorted(self._decisions)]

    async def record(self, decision: Decision) -> bool:
        """Store a decision; False when another controller has decided something else meanwhile, or is about to.

        Raises: NameConflictError where the name is taken by somebody else's object.
        """
        manifest = attempt_record(run=self.run, decision=decision)
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

    async def seal(self, assessment: Assessment) -> None:
        """Store how an attempt ended. From then on nothing else is needed to know it.

        Where the answer is lost, the end may be stored or not. Nothing may be planned before that is known: what the
        attempt says after its stored end is no longer heard by the controller that comes next.
        """
        decision = assessment.attempt.decision
        if decision is None:
            raise ValueError(f"{assessment.attempt.name} has no record")
        name = attempt_record_name(self.run.name, index=decision.index)
        patch, sealed = sealing(assessment, now=self.client.now(), version=self._versions[decision.index])
        self._in_doubt.add(decision.index)
        try:
            await self.client.patch(resource=CONFIG_MAPS, namespace=self.run.namespace, name=name, patch=patch)
        except ApiError as error:
            if error.conflict:
                await self._read(decision.index)  # another controller may have sealed it: what is stored stands
                return
            if not error.not_found:
                raise
            # Somebody has deleted the record: what is known here is all that is left of it.
            await self.record(decision)
            return
        self._sealed[decision.index] = sealed
        self._in_doubt.discard(decision.index)
