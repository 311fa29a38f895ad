"""The calls that an operator makes, and what comes between."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from dbt_operator.kube.api_error import NETWORK, ApiError
from dbt_operator.kube.resources import DBT_RUNS, Object, Resource
from tests.simulation.checks import Checks
from tests.simulation.cluster import Cluster

if TYPE_CHECKING:
    from tests.simulation.operator import Operator

_T = TypeVar("_T")

# Milliseconds. The longest is what a call takes that times out as often as it is tried: a look may last for minutes.
_STALLS = (300, 300, 2000, 2000, 8000, 8000, 65_000)
_WRITES = (0, 0, 20, 300)  # what is not written when its operator dies is lost
_MISSING = 'User "dbt-operator" cannot create resource "things"'
_FULL = "exceeded quota: few, used: count/configmaps=9, limited: 9"


class Calls:
    """Makes the calls of one operator."""

    def __init__(self, *, operator: "Operator", cluster: Cluster, checks: Checks) -> None:
        self._operator, self._cluster, self._checks = operator, cluster, checks

    async def __call__(self, what: str, call: Callable[[], _T], *, creates: bool = False) -> _T:
        """One call: it takes its time, may fail before or after it was done, and the operator may die.

        Raises: ApiError. creates: a quota may be full.
        """
        await self._operator.goes_on()
        scenario, chance = self._cluster.scenario, self._operator.chance
        self._checks.called(what)
        if not self._cluster.calm and chance.random() < scenario.stalls:
            await asyncio.sleep(chance.choice(_STALLS) / 1000)
            await self._operator.goes_on()
        if self._cluster.calm:
            return call()
        if chance.random() < scenario.crashes:
            await self._die()
        failing = chance.random() < scenario.api_errors
        if failing and creates and chance.random() < 0.2:
            self._fail(what, "is refused", status=403, message=chance.choice((_FULL, _MISSING)))
        if failing and chance.random() < 0.5:
            self._fail(what, "failed")
        try:
            answer = call()
        except ApiError as error:
            if error.conflict:  # nothing was done, and it is to be tried again
                self._checks.failed(what)
            raise
        if chance.random() < scenario.crashes:
            await self._die()
        if failing:
            self._fail(what, "was done, but failed")
        return answer

    async def _die(self) -> None:
        self._operator.die()
        await self._operator.goes_on()

    def _fail(self, what: str, how: str, *, status: int = NETWORK, message: str = "no answer") -> NoReturn:
        if self._operator.world.tracing:
            self._operator.say(f"{what} {how}")
        self._checks.failed(what)
        raise ApiError(status=status, message=message, request=what)


class Api:
    """The verbs of the client that the status writer and the manager use."""

    def __init__(self, *, operator: "Operator", cluster: Cluster, checks: Checks) -> None:
        self._operator, self._cluster, self._checks = operator, cluster, checks
        self._call = Calls(operator=operator, cluster=cluster, checks=checks)

    def now(self) -> datetime:
        """The time."""
        return self._cluster.world.now

    async def list(self, *, resource: Resource, namespace: str | None, metadata_only: bool) -> list[Object]:
        """The DbtRun. What it was when the list began: the answer may take a while."""
        del resource, namespace, metadata_only
        runs = [self._cluster.run] if self._cluster.exists else []
        return await self._call("list runs", lambda: runs)

    async def find(self, *, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object."""
        del namespace
        return await self._call(f"get {resource.kind}", lambda: self._cluster.find(resource.kind, name))

    async def create_or_adopt(
        self, *, resource: Resource, manifest: Object, owner_uid: str, retry: bool
    ) -> tuple[Object, bool]:
        """A DbtModel, and whether it is new."""
        del owner_uid, retry
        kind, name = resource.kind, manifest["metadata"]["name"]

        def create() -> tuple[Object, bool]:
            found = self._cluster.find(kind, name)
            return (found, False) if found else (self._cluster.put(kind, manifest | {"status": _DEFAULT}), True)

        return await self._call(f"create {kind}", create, creates=True)

    async def patch(
        self,
        *,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        subresource: str,
        retry: bool = True,
    ) -> Object:
        """Patch a status; the writer's own patches are not retried."""
        del namespace, subresource
        kind = resource.kind
        if not retry and not self._cluster.calm:
            await asyncio.sleep(self._operator.chance.choice(_WRITES) / 1000)

        def store() -> Object:
            before = self._cluster.find(kind, name)
            after = self._cluster.patch(kind, name, patch)
            if kind == DBT_RUNS.kind:
                self._operator.run_shown(after["status"])
            elif before is not None:
                self._checks.model_shown(before, after)
            return after

        what = "status" if not retry else "start" if "startTime" in patch["status"] else "handled"
        return await self._call(what, store)


_DEFAULT = {"phase": "Pending"}
