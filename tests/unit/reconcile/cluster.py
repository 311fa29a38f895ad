"""An API server in memory, for the loop of a run with all of its own code: the test is everybody else.

It takes the place of the HTTP session below the operator's client. Objects are stored by their path; the test plays
the Job controller, the kubelet and the people, refuses requests, and moves the clock. What Kubernetes itself does is
tested against Kubernetes.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import unquote

from dbt_operator.api.names import GATE
from dbt_operator.kube.client import Client, RetryPolicy
from dbt_operator.kube.errors import ApiError
from dbt_operator.kube.session import Request, Session
from dbt_operator.kube.writer import Backoff, StatusWriter
from dbt_operator.reconcile.manager import RunKey
from dbt_operator.reconcile.run_loop import RunLoop
from tests.unit.kube.test_merge_patch import applied

NAMESPACE, RUN, UID = "data", "nightly", "run-uid"
SPEC = {"image": "localhost/dbt:1", "project": {"image": {"path": "/dbt"}}, "profile": {"inProject": True}}
_PATH = re.compile(
    r"/(?:api|apis/[^/]+)/v\w+/namespaces/[^/]+/(?P<plural>\w+)(?:/(?P<name>[^/]+))?(?:/(?P<part>\w+))?$"
)

Refuse = Callable[[str, str, str], ApiError | None]
"""Gets the method, the plural (with the subresource, if any) and the name; the error, or None: it is done."""

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


class _Clock:
    """The server's clock, which the test moves."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


class Server:
    """The objects, the logs of the pods, and what is refused."""

    def __init__(self) -> None:
        self.clock = _Clock()
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.logs: dict[str, list[bytes] | ApiError] = {}  # by pod; the error with which reading it fails
        self.refuse: Refuse = lambda *_: None
        self.looks = 0  # how often the pods were listed
        self.missed: list[str] = []  # the names of objects that were asked for and are not there
        self.slow: dict[str, asyncio.Event] = {}  # by plural: a list of it takes until then, once
        self.changed: Callable[[], None] = lambda: None  # somebody but the operator has changed something
        self._version = 0

    # what the client asks

    async def send(self, request: Request, *, seconds: float) -> bytes:
        """The answer to one request."""
        del seconds
        match = _PATH.match(unquote(request.path))
        assert match is not None, request.path
        plural, name, part = match["plural"], match["name"] or "", match["part"] or ""
        body: Any = json.loads(json.dumps(request.body)) if request.body is not None else {}
        name = name or body.get("metadata", {}).get("name", "")
        await asyncio.sleep(0)
        error = self.refuse(request.method, f"{plural}/{part}" if part else plural, name)
        if error is not None:
            raise error
        if request.method == "GET" and not match["name"]:
            self.looks += plural == "pods"
            found = self._listed(plural, dict(request.query))
            if plural in self.slow:
                await self.slow[plural].wait()
                del self.slow[plural]
            return json.dumps({"items": found}).encode()
        return json.dumps(self._answer(request.method, plural, name, part, body)).encode()

    def _answer(self, method: str, plural: str, name: str, part: str, body: dict[str, Any]) -> dict[str, Any]:
        key = (plural, name)
        if method == "POST":
            if key in self.objects:
                raise ApiError(status=409, reason="AlreadyExists", message=f'{plural} "{name}" already exists')
            return self.put(plural, body)
        if key not in self.objects:
            self.missed.append(name)
            raise ApiError(status=404, reason="NotFound", message=f'{plural} "{name}" not found')
        before = self.objects[key]
        if method == "DELETE":
            return self._removed(plural, name)
        if method == "PATCH":
            metadata = body.get("metadata", {})
            if any(metadata.get(one, before["metadata"][one]) != before["metadata"][one] for one in _CONDITIONS):
                raise ApiError(status=409, reason="Conflict", message="the object has been modified")
            body = {"status": body["status"]} if part == "status" else body
            if applied(before, body) != before:
                self._store(plural, applied(before, body))
        return self.objects[key]

    def _listed(self, plural: str, query: dict[str, str]) -> list[dict[str, Any]]:
        labels = [one.split("=") for one in query.get("labelSelector", "").split(",") if one]
        uid = query.get("fieldSelector", "").removeprefix("involvedObject.uid=")
        return [
            obj
            for (kind, _), obj in self.objects.items()
            if kind == plural
            and all((obj["metadata"].get("labels") or {}).get(label) == value for label, value in labels)
            and (not uid or obj["involvedObject"]["uid"] == uid)
        ]

    @asynccontextmanager
    async def stream(self, request: Request, *, read_timeout: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The log of a pod, so far. Who follows it gets an end and asks again."""
        del read_timeout
        match = _PATH.match(request.path)
        assert match is not None
        log = self.logs.get(match["name"], [])
        if isinstance(log, ApiError):
            raise log
        yield _pieces([b"%s %s\n" % (_stamp(index), line) for index, line in enumerate(log)])

    # what the test does

    def put(self, plural: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Store a new object as the server does."""
        metadata = {"uid": f"uid-{self._version}", "generation": 1, "creationTimestamp": self.clock.now().isoformat()}
        status = {"status": {"phase": "Pending"}} if plural == "dbtmodels" else {}
        return self._store(plural, applied({**status, **obj}, {"metadata": {**metadata, **obj["metadata"]}}))

    def change(self, plural: str, name: str, patch: dict[str, Any]) -> None:
        """Somebody else changes an object."""
        before = self.objects[(plural, name)]
        if "spec" in patch:
            patch = applied(patch, {"metadata": {"generation": before["metadata"]["generation"] + 1}})
        self._store(plural, applied(before, patch))
        self.changed()

    def remove(self, plural: str, name: str) -> None:
        """Somebody else deletes an object."""
        self._removed(plural, name)
        self.changed()

    def later(self, **duration: float) -> None:
        """Move the clock."""
        self.clock.offset += timedelta(**duration)
        self.changed()

    def all(self, plural: str) -> list[dict[str, Any]]:
        """The objects of a kind, in the order of their creation."""
        return [obj for (kind, _), obj in self.objects.items() if kind == plural]

    def names(self, plural: str) -> list[str]:
        """Their names."""
        return [obj["metadata"]["name"] for obj in self.all(plural)]

    def get(self, plural: str, name: str) -> dict[str, Any]:
        """One object."""
        return self.objects[(plural, name)]

    def add_pod(self, job: str, **status: Any) -> str:
        """The Job controller creates the pod of a Job, held by its gate; returns its name."""
        owner = self.get("jobs", job)
        name = f"{job}-abcde"
        labels = owner["spec"]["template"]["metadata"]["labels"] | {
            "batch.kubernetes.io/job-name": job,
            "batch.kubernetes.io/controller-uid": owner["metadata"]["uid"],
        }
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
        spec = {"schedulingGates": [{"name": GATE}], "containers": [{"name": "dbt"}]}
        self.put("pods", {"metadata": metadata, "spec": spec, "status": {"phase": "Pending", **status}})
        self.changed()
        return name

    def run_pod(self, pod: str, *log: bytes) -> None:
        """The kubelet starts the container, which prints this."""
        self.logs[pod] = list(log)
        state = {"running": {"startedAt": self.clock.now().isoformat()}}
        status = {"phase": "Running", "containerStatuses": [{"name": "dbt", "state": state}]}
        self.change("pods", pod, {"spec": {"nodeName": "node-1"}, "status": status})

    def end_pod(self, pod: str, *log: bytes, exit_code: int = 0, phase: str = "", others: tuple[str, ...] = ()) -> None:
        """The container has printed this at last, and ends. `others`: containers that go on."""
        before = self.logs.get(pod)
        self.logs[pod] = [*(before if isinstance(before, list) else ()), *log]
        times = {"startedAt": self.clock.now().isoformat(), "finishedAt": self.clock.now().isoformat()}
        ended = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed", **times}
        found = [{"name": "dbt", "state": {"terminated": ended}}]
        found += [{"name": one, "state": {"running": {"startedAt": times["startedAt"]}}} for one in others]
        phase = phase or ("Running" if others else "Failed" if exit_code else "Succeeded")
        self.change("pods", pod, {"status": {"phase": phase, "containerStatuses": found}})

    def _removed(self, plural: str, name: str) -> dict[str, Any]:
        removed = self.objects.pop((plural, name))
        if plural == "jobs":  # the garbage collector
            for pod in [pod for pod in self.names("pods") if pod.startswith(f"{name}-")]:
                self.objects.pop(("pods", pod))
        return removed

    def _store(self, plural: str, obj: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        stored = applied(obj, {"metadata": {"resourceVersion": str(self._version)}})
        self.objects[(plural, obj["metadata"]["name"])] = stored
        return cast(dict[str, Any], stored)


_CONDITIONS = ("uid", "resourceVersion")


def _stamp(index: int) -> bytes:
    return b"2026-11-20T03:%02d:%02d.000000000Z" % divmod(index, 60)


async def _pieces(lines: list[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


@dataclass
class Given:
    """A run, its loop and its cluster."""

    server: Server = field(default_factory=Server)
    spec: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    start_deadline: timedelta = timedelta(minutes=5)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        metadata = {"name": RUN, "namespace": NAMESPACE, "uid": UID, "annotations": self.annotations}
        run = {"apiVersion": "dbt-operator.io/v1alpha1", "kind": "DbtRun", "metadata": metadata}
        self.server.put("dbtruns", {**run, "spec": SPEC | self.spec, "status": self.status})

    async def __aenter__(self) -> "Given":
        self.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    def begin(self) -> None:
        """An operator begins with the run."""
        client = Client(session=cast(Session, self.server), retry=RetryPolicy(attempts=1))
        self.writer = StatusWriter(
            client=client, quiet_interval=0.0, lazy_interval=0.0, backoff=Backoff(first=0.01, longest=0.05, slow=0.05)
        )
        key = RunKey(namespace=NAMESPACE, name=RUN, uid=UID)
        self.loop = RunLoop(key=key, client=client, writer=self.writer, start_deadline=self.start_deadline)
        self.writer.on_problem = self.loop.problem
        self.server.changed = self.loop.wake
        self._tasks = [asyncio.create_task(self.writer.run()), asyncio.create_task(self.loop.run())]

    async def die(self) -> None:
        """The operator dies, with all that it knows."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def restart(self) -> None:
        """Another operator takes its place."""
        await self.die()
        self.begin()

    async def down(self, down: bool, happens: Callable[[], None]) -> None:
        """Something happens while the operator is down; or, for comparison, while it is not."""
        if down:
            await self.die()
        happens()
        if down:
            self.begin()

    @property
    def over(self) -> bool:
        """Whether the loop has nothing left to do."""
        return self._tasks[1].done()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so; fail where the loop dies before."""
        for _ in range(500):
            if condition():
                return
            if self.over:
                self._tasks[1].result()
            await asyncio.sleep(0.01)
        raise AssertionError(f"this does not come; the run says {self.said()}, its nodes {self.models()}")

    async def rests(self) -> None:
        """Wait until the loop has looked, and come to its rest, after all that has happened by now."""
        for _ in range(2):
            before = self.server.looks
            self.server.changed()
            await self.until(lambda before=before: self.server.looks > before)  # type: ignore[misc]  # bound at once

    def said(self) -> tuple[str, str, str]:
        """Phase, reason and message of the run; empty texts where there are none."""
        status = self.server.get("dbtruns", RUN)["status"]
        return status.get("phase", ""), status.get("reason", ""), status.get("message", "")

    def conditions(self) -> dict[str, str]:
        """The conditions of the run."""
        found = self.server.get("dbtruns", RUN)["status"].get("conditions") or ()
        return {condition["type"]: condition["status"] for condition in found}

    def events(self, reason: str) -> list[str]:
        """What was posted about the run with this reason."""
        return [event["message"] for event in self.server.all("events") if event["reason"] == reason]

    def models(self) -> dict[str, dict[str, Any]]:
        """The statuses of the DbtModels, by the names of their nodes."""
        return {model["spec"]["name"]: model["status"] for model in self.server.all("dbtmodels")}

    async def pod(self, job: str) -> str:
        """The pod of a Job that is to come, once the operator has released it."""
        await self.until(lambda: job in self.server.names("jobs"))
        pod = self.server.add_pod(job)
        await self.until(lambda: not self.server.get("pods", pod)["spec"].get("schedulingGates"))
        return pod
