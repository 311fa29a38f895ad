"""A kopf operator as a source of events: it watches some resources of a namespace, and writes nothing anywhere.

kopf takes all tasks of its event loop for its own, and ends when anything that it watches is refused. So each namespace
has an operator of its own, in a thread with a loop of its own. When one ends (a right was taken away, the namespace or
a CRD is gone) it is begun again after a while, beside the others.

Only `on.event` is used. The handlers that detect changes would write finalizers and annotations to every object they
watch, and their state machine is driven by edges that a restart can lose.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import kopf
import structlog

# Not exported: which resources kopf has found on the server. It watches those and says nothing of the rest.
from kopf._cogs.structs.references import Insights

# Not exported either.
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from dbt_operator.api import names
from dbt_operator.kube.own_thread import cancel_others, in_own_thread
from dbt_operator.kube.resources import Resource, label_selector
from dbt_operator.kube.watch import Change

_log = structlog.get_logger(__name__)

Login = Callable[[], Awaitable[kopf.ConnectionInfo]]
_Problem = asyncio.Future[None]  # what is to end kopf, which does not see it itself


@dataclass(frozen=True, slots=True)
class Subscription:
    """`sink` gets every change of the objects of a resource that have these labels, in their order."""

    resource: Resource
    sink: Callable[[Change], None]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restarts:
    """Seconds."""

    first: float = 1.0  # the pause before kopf is begun again, growing …
    longest: float = 60.0  # … to this
    settled: float = 60.0  # it watches again when it has lasted so long: longer than any request
    grace: float = 3.0  # for its end


class KopfWatch:
    """Of a namespace (None: of all at once). The sinks are called in the loop in which it runs."""

    def __init__(
        self,
        *,
        namespace: str | None,
        subscriptions: Iterable[Subscription],
        login: Login,
        restarts: Restarts | None = None,
    ) -> None:
        self._namespace, self._subscriptions, self._login = namespace, tuple(subscriptions), login
        self._restarts = restarts or Restarts()
        self._events: asyncio.Queue[tuple[Subscription, Change]] = asyncio.Queue()
        self._failures = 0

    async def run(self) -> None:
        """Watch for ever. An error of a sink is a defect: it is raised."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hand_on())
            group.create_task(self._watch())

    async def _hand_on(self) -> None:
        while True:
            subscription, change = await self._events.get()
            subscription.sink(change)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()

        name = f"kopf {self._namespace or 'all'}"
        while True:
            settled = loop.call_later(self._restarts.settled, self._recovered)
            try:
                await in_own_thread(partial(self._operate, main=loop), name=name, grace=self._restarts.grace)
                reason = "kopf has ended"
            except Exception as error:  # noqa: BLE001 - whatever ends kopf concerns this namespace only
                reason = _described(error)
            finally:
                settled.cancel()
            await asyncio.sleep(self._failed(reason))

    async def _operate(self, *, main: asyncio.AbstractEventLoop) -> None:
        """Run kopf, in its thread. Raises what ended it."""
        problem: _Problem = asyncio.get_running_loop().create_future()
        insights = Insights()
        # Begun before kopf, which takes what comes later for its own.
        looking = asyncio.create_task(self._look_for_missing(insights, problem))
        try:
            await kopf.operator(
                registry=self._registry(problem, main=main),
                settings=_settings(self._subscriptions),
                insights=insights,
                memories=_NoMemories(),
                standalone=True,
                # kopf would ask for the name of the user, and the pod's has none.
                identity="dbt-operator",  # type: ignore[arg-type]  # a NewType of kopf's that is not public
                clusterwide=self._namespace is None,
                namespaces=() if self._namespace is None else (self._namespace,),
                stop_flag=problem,
            )
        finally:
            looking.cancel()

    async def _look_for_missing(self, insights: Insights, problem: _Problem) -> None:
        """kopf looks once for what the server serves, and never for what was not there yet (its CRD is to come)."""
        await insights.ready_resources.wait()
        found = {(one.group, one.version, one.plural) for one in insights.watched_resources}
        for resource in (one.resource for one in self._subscriptions):
            if (resource.group, resource.version, resource.plural) not in found:
                _end(problem, LookupError(f"the server does not serve {resource.plural} of {resource.api_version}"))

    def _registry(self, problem: _Problem, *, main: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            try:
                return await self._login()
            except Exception as error:
                # kopf would wait for credentials for ever, also where this raised.
                _end(problem, error)
                await asyncio.Event().wait()
                raise

        operating = asyncio.current_task()

        @kopf.on.cleanup(registry=registry)
        async def end_all_watches(**_: Any) -> None:
            # When one fails kopf leaves the others as they are. It would wait for them, and may do so for ever: one
            # that is cancelled amid a request does not notice.
            await cancel_others(operating)

        for subscription in self._subscriptions:
            self._subscribe(subscription, registry=registry, main=main)
        return registry

    def _subscribe(
        self, subscription: Subscription, *, registry: kopf.OperatorRegistry, main: asyncio.AbstractEventLoop
    ) -> None:
        resource = subscription.resource

        @kopf.on.event(resource.group, resource.version, resource.plural, id=resource.plural, registry=registry)
        async def tell(event: Mapping[str, Any], **_: Any) -> None:
            change = Change(event["object"], gone=event["type"] == "DELETED")
            main.call_soon_threadsafe(self._events.put_nowait, (subscription, change))

    def _failed(self, reason: str) -> float:
        """Take note of an end; how long to wait."""
        if not self._failures:
            _log.warning("cannot watch", in_namespace=self._namespace or "all", error=reason)
        pause = min(self._restarts.longest, self._restarts.first * 2.0 ** min(self._failures, 10))
        self._failures += 1
        # What failed together does not come back together.
        return pause * random.uniform(0.7, 1.0)  # noqa: S311  # jitter, no secret

    def _recovered(self) -> None:
        if self._failures:
            _log.info("watches again", in_namespace=self._namespace or "all")
        self._failures = 0


class _NoMemories(ResourceMemories):
    """Nothing is kept of an object: only handlers of other kinds need what kopf would keep, and errors of handlers."""

    async def recall(self, raw_body: Any, **options: Any) -> ResourceMemory:
        """A new memory each time."""
        return await super().recall(raw_body, **(options | {"ephemeral": True}))


def _end(problem: _Problem, error: Exception) -> None:
    if not problem.done():
        problem.set_exception(error)


def _described(error: Exception) -> str:
    """The words of the server where kopf has them, without the rest of its answer."""
    return str(getattr(error, "message", None) or str(error) or repr(error))


def _settings(subscriptions: Iterable[Subscription]) -> kopf.OperatorSettings:
    """How kopf behaves: it watches, and writes nothing anywhere."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP, v1=False)
    settings.posting.enabled = False  # our Events are posted where the transitions are known
    settings.peering.standalone = True  # a foreign peering object must not pause this operator
    settings.scanning.disabled = True  # what is watched is fixed: no rights on CRDs and namespaces are needed
    settings.process.ultimate_exiting_timeout = None  # it would kill the process where one thread does not end
    # A stream that the server does not end is ended by us a little later: a dead connection is noticed by then.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.inactivity_timeout = 90.0  # the server sends a bookmark about once a minute
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 100
    settings.queueing.idle_timeout = 0.1  # of the task that each object has after an event
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = ()  # what fails ends kopf, which is begun again: one way to try again
    for one in subscriptions:
        if one.labels:
            key = (one.resource.group, one.resource.version, one.resource.plural)
            settings.watching.label_selectors[key] = label_selector(one.labels)
    return settings
