"""A run on an API server in memory, with the operator's own code from the watches down: the test is everybody else.

It plays the Job controller, the kubelet and the people, refuses requests and moves the clock. What Kubernetes itself
does is tested against Kubernetes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from dbt_operator.api.names import GATE
from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.client import Client, RetryPolicy
from dbt_operator.kube.session import Request, Session
from dbt_operator.pods.record import parse_record
from tests.unit.reconcile.api_server import ApiServer, Target
from tests.unit.reconcile.operator import Operator, run, until

NAMESPACE, RUN = "data", "nightly"

Refuse = Callable[[str, str], ApiError | None]
"""Gets the method and the plural; the error, or None: it is done."""

WEBHOOK_FAILS = ApiError(
    status=500,
    reason="InternalError",
    message='Internal error occurred: failed calling webhook "guard.example": connect: connection refused',
)
DENIED = ApiError(
    status=422,
    reason="Invalid",
    message="ValidatingAdmissionPolicy 'frozen' with binding 'frozen' denied request: pods are frozen",
)
FORBIDDEN = ApiError(
    status=403,
    reason="Forbidden",
    message='User "system:serviceaccount:dbt-operator-system:dbt-operator" cannot create resource "jobs"',
)
FULL = ApiError(status=403, reason="Forbidden", message="exceeded quota: few, used: count/jobs.batch=1, limited: 1")


def nothing(*_: str) -> None:
    """Refuses nothing."""


class Cluster(ApiServer):
    """An API server with pods, their logs, and requests that are refused or take long."""

    def __init__(self) -> None:
        super().__init__(before=self._refuse, after=self._wait)
        self.logs: dict[str, list[bytes] | ApiError] = {}  # by pod; the error with which reading it fails
        self.refuse: Refuse = nothing
        self.slow: dict[str, asyncio.Event] = {}  # by plural: the answer to a list of it comes then, once
        self.read_from: list[str | None] = []  # since when logs were asked for
        self.looks = 0  # how often the pods were listed
        self.missed: list[str] = []  # the names of objects that were asked for and are not there

    @property
    def client(self) -> Client:
        """The operator's own client, which does not try anything twice by itself."""
        return Client(session=cast(Session, self), retry=RetryPolicy(attempts=1))

    async def _refuse(self, request: Request, target: Target) -> None:
        await asyncio.sleep(0)
        watch = "watch" in dict(request.query)
        error = None if watch else self.refuse(request.method, target.plural)
        if error is not None:  # an exception that was raised once keeps hold of whoever had it then
            raise ApiError(status=error.status, reason=error.reason, message=error.message)
        if request.method == "GET" and target.name and (target.plural, NAMESPACE, target.name) not in self.objects:
            self.missed.append(target.name)
        self.looks += (request.method, target.plural, target.name, watch) == ("GET", "pods", "", False)

    async def _wait(self, request: Request, target: Target) -> None:
        if request.method == "GET" and not target.name and target.plural in self.slow:
            await self.slow[target.plural].wait()
            self.slow.pop(target.plural, None)

    @asynccontextmanager
    async def stream(self, request: Request, *, read_timeout: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """A watch; or the log of a pod so far: who follows it gets an end, and asks again."""
        if not request.path.endswith("/log"):
            async with super().stream(request, read_timeout=read_timeout) as watch:
                yield watch
            return
        self.read_from.append(dict(request.query).get("sinceTime"))
        log = self.logs.get(Target.of(request.path).name, [])
        if isinstance(log, ApiError):
            raise log
        yield _pieces([b"%s %s\n" % (_stamp(index), line) for index, line in enumerate(log)])

    def put(self, plural: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Store an object, with the defaults of the CRD."""
        default = {"status": {"phase": "Pending"}} if plural == "dbtmodels" else {}
        manifest["metadata"].setdefault("generation", 1)
        return super().put(plural, {**default, **manifest})

    def get(self, plural: str, name: str) -> dict[str, Any]:
        """One object."""
        return self.objects[plural, NAMESPACE, name]

    def nodes_of(self, record: str) -> set[str]:
        """The nodes that an attempt is to execute."""
        return set(parse_record(self.get("configmaps", record)).decision.nodes or ())

    def all(self, plural: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return [obj for (kind, *_), obj in self.objects.items() if kind == plural]

    def change(self, plural: str, name: str, **parts: dict[str, Any]) -> None:
        """Somebody else changes parts of an object."""
        before = self.get(plural, name)
        metadata = before["metadata"] | parts.pop("metadata", {})
        if "spec" in parts:
            metadata["generation"] = before["metadata"]["generation"] + 1
        changed = {part: {**before.get(part, {}), **fields} for part, fields in parts.items()}
        self.put(plural, {**before, **changed, "metadata": metadata})

    def take(self, plural: str, name: str) -> None:
        """Somebody else deletes an object."""
        self.remove(plural, NAMESPACE, name)

    # the Job controller, the kubelet and the garbage collector

    def add_pod(self, job: str) -> str:
        """The pod of a Job, held by its gate; returns its name."""
        owner = self.get("jobs", job)
        name = f"{job}-abcde"
        labels = owner["spec"]["template"]["metadata"]["labels"] | {
            "batch.kubernetes.io/job-name": job,
            "batch.kubernetes.io/controller-uid": owner["metadata"]["uid"],
        }
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels, "creationTimestamp": self._now()}
        spec = {"schedulingGates": [{"name": GATE}], "containers": [{"name": "dbt"}]}
        self.put("pods", {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})
        return name

    def run_pod(self, pod: str, *log: bytes) -> None:
        """The container starts, and prints this."""
        self.logs[pod] = list(log)
        containers = [{"name": "dbt", "state": {"running": {"startedAt": self._now()}}}]
        status = {"phase": "Running", "containerStatuses": containers}
        self.change("pods", pod, spec={"nodeName": "node-1"}, status=status)

    def end_pod(self, pod: str, *log: bytes, exit_code: int = 0, others: tuple[str, ...] = ()) -> None:
        """The container has printed this at last, and ends. `others`: containers that go on."""
        before = self.logs.get(pod)
        self.logs[pod] = [*(before if isinstance(before, list) else ()), *log]
        reason = "Error" if exit_code else "Completed"
        ended = {"exitCode": exit_code, "reason": reason, "startedAt": self._now(), "finishedAt": self._now()}
        containers = [{"name": "dbt", "state": {"terminated": ended}}]
        containers += [{"name": one, "state": {"running": {"startedAt": self._now()}}} for one in others]
        phase = "Running" if others else "Failed" if exit_code else "Succeeded"
        self.change("pods", pod, status={"phase": phase, "containerStatuses": containers})

    def _now(self) -> str:
        return self.clock.now().isoformat()

    def _store(self, kind: str, key: tuple[str, str, str], obj: dict[str, Any]) -> None:
        super()._store(kind, key, obj)
        if kind == "DELETED" and key[0] == "jobs":
            for pod in [pod for pod in self.names("pods") if pod.startswith(f"{key[2]}-")]:
                self.take("pods", pod)


def _stamp(index: int) -> bytes:
    return b"2026-11-20T03:%02d:%02d.000000000Z" % divmod(index, 60)


async def _pieces(lines: list[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


@dataclass
class Given:
    """A run, and the operator that has it."""

    spec: dict[str, Any] = field(default_factory=dict)
    server: Cluster = field(default_factory=Cluster)
    _alive: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        manifest = run(RUN, **self.spec)
        manifest["metadata"]["uid"] = "run-uid"
        self.server.put("dbtruns", manifest)

    async def __aenter__(self) -> "Given":
        await self.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def begin(self) -> None:
        """An operator begins."""
        self.operator = Operator(self.server)
        await self._alive.enter_async_context(self.operator.at_work())

    async def stop(self) -> None:
        """The operator is told to stop, and ends in order."""
        await self._alive.aclose()

    async def die(self) -> None:
        """The operator dies, with all that it knows and has not stored."""

        async def unheard(*_: object) -> None:
            raise ApiError(status=0, message="the operator is dead")

        before, self.server.before = self.server.before, unheard
        await self.stop()
        self.server.before = before

    async def down(self, down: bool, happens: Callable[[], None]) -> None:
        """Something happens while the operator is down; or, for comparison, while it is not."""
        if down:
            await self.die()
        happens()
        if down:
            await self.begin()

    def later(self, **duration: float) -> None:
        """Time passes."""
        self.server.clock.offset += timedelta(**duration)
        self._wake()

    async def stored(self, pod: str) -> None:
        """Time passes, until the record of the pod's attempt says all that the pod has printed."""
        self.later(seconds=10)
        log = self.server.logs[pod]
        state = fold_lines(state=EMPTY, lines=log if isinstance(log, list) else ())

        def known() -> bool:
            records = [
                parse_record(one) for one in self.server.all("configmaps") if "-attempt-" in one["metadata"]["name"]
            ]
            found = next(one for one in records if pod.startswith(f"{one.decision.name}-"))
            return found.checkpoint is not None and found.checkpoint.state == state

        await self.until(known)

    def _wake(self) -> None:
        for _, loop in self.operator.made:
            alive = loop()
            if alive is not None:
                alive.wake()

    @property
    def over(self) -> bool:
        """Whether the operator has nothing left to do for the run."""
        return bool(self.operator.made) and not self.operator.loops

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        try:
            await until(condition)
        except TimeoutError:
            raise AssertionError(f"this does not come; the run says {self.said()}, its nodes {self.models()}") from None

    async def rests(self) -> None:
        """Wait until the operator has looked at all that has happened by now, and done what there was to do."""
        for _ in range(2):
            before = self.server.looks
            self._wake()
            await self.until(lambda before=before: self.server.looks > before)  # type: ignore[misc]  # bound at once

    def status(self) -> dict[str, Any]:
        """The status of the run."""
        found: dict[str, Any] = self.server.get("dbtruns", RUN).get("status") or {}
        return found

    def said(self) -> tuple[str, str, str]:
        """Phase, reason and message of the run; empty texts where there are none."""
        status = self.status()
        return status.get("phase", ""), status.get("reason", ""), status.get("message", "")

    def conditions(self) -> dict[str, str]:
        """The conditions of the run."""
        return {condition["type"]: condition["status"] for condition in self.status().get("conditions") or ()}

    def events(self, reason: str) -> list[str]:
        """What was posted about the run with this reason."""
        return [event["message"] for event in self.server.all("events") if event["reason"] == reason]

    def models(self) -> dict[str, dict[str, Any]]:
        """The statuses of the DbtModels, by the names of their nodes."""
        return {model["spec"]["name"]: model["status"] for model in self.server.all("dbtmodels")}

    def phases(self) -> dict[str, str]:
        """The phases among them."""
        return {name: status["phase"] for name, status in self.models().items()}

    async def pod(self, job: str) -> str:
        """The pod of a Job that is to come, once the operator has let it go."""
        await self.until(lambda: job in self.server.names("jobs"))
        pod = self.server.add_pod(job)
        await self.until(lambda: not self.server.get("pods", pod)["spec"].get("schedulingGates"))
        return pod
