"""An API server in memory, below the operator's own client: objects, lists in pages, patches, deletions, watches.

It knows nothing of kinds. No controller is there: a Job that is created has no pod, and what is deleted is gone at
once, with nothing that belongs to it.
"""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.client import Client
from dbt_operator.kube.clock import ServerClock
from dbt_operator.kube.session import Request, Session


@dataclass(frozen=True, slots=True)
class Target:
    """What a path is about. `namespace` None: all; `name` empty: the whole collection."""

    namespace: str | None
    plural: str
    name: str

    @classmethod
    def of(cls, path: str) -> "Target":
        parts = [unquote(part) for part in path.strip("/").split("/")]
        rest = parts[3:] if parts[0] == "apis" else parts[2:]
        namespace = None
        if rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        return cls(namespace, rest[0], rest[1] if len(rest) > 1 else "")

    def covers(self, key: tuple[str, str, str]) -> bool:
        return key[0] == self.plural and self.namespace in (None, key[1])


@dataclass
class ApiServer:
    """The objects by (plural, namespace, name), and all that ever changed."""

    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    clock: ServerClock = field(default_factory=ServerClock)
    requests: list[Request] = field(default_factory=list)
    before: Callable[[Request, Target], Awaitable[None]] | None = None  # may raise, before a request is served
    after: Callable[[Request, Target], Awaitable[None]] | None = None  # may wait, before its answer is sent
    _events: list[tuple[int, str, tuple[str, str, str], dict[str, Any]]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def client(self) -> Client:
        """The operator's own client, connected to it."""
        return Client(session=cast(Session, self))

    # what a test does to it

    def put(self, plural: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Store an object, whether there is one of its name or not."""
        metadata = manifest["metadata"]
        key = (plural, metadata["namespace"], metadata["name"])
        metadata.setdefault("uid", f"uid-{len(self._events)}")
        metadata.setdefault("creationTimestamp", "2026-11-20T03:00:00Z")
        self._store("MODIFIED" if key in self.objects else "ADDED", key, manifest)
        return self.objects[key]

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Delete an object."""
        key = (plural, namespace, name)
        self._store("DELETED", key, self.objects[key])

    def names(self, plural: str) -> list[str]:
        """The names of all objects of a kind."""
        return sorted(key[2] for key in self.objects if key[0] == plural)

    def watched(self, plural: str) -> bool:
        """Whether somebody has listed all objects of a kind, and watches them now."""
        return any("watch" in dict(one.query) and Target.of(one.path).plural == plural for one in self.requests)

    # what a session does

    async def send(self, request: Request, *, seconds: float) -> bytes:
        """Answer a request."""
        del seconds
        target = Target.of(request.path)
        await self._begin(request, target)
        answer = json.dumps(self._answer(request, target)).encode()
        await asyncio.sleep(0)
        if self.after is not None:
            await self.after(request, target)
        return answer

    @asynccontextmanager
    async def stream(self, request: Request, *, read_timeout: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Answer a watch."""
        del read_timeout
        query, target = dict(request.query), Target.of(request.path)
        await self._begin(request, target)
        if "watch" not in query:
            raise ApiError(status=404, reason="NotFound", message="no logs here")
        yield self._watch(target, since=int(query["resourceVersion"]), request=request)

    async def _begin(self, request: Request, target: Target) -> None:
        self.requests.append(request)
        if self.before is not None:
            await self.before(request, target)

    async def _watch(self, target: Target, *, since: int, request: Request) -> AsyncIterator[bytes]:
        while True:
            for version, kind, key, obj in [event for event in self._events if event[0] > since]:
                since = version
                if target.covers(key) and _selected(obj, request):
                    yield json.dumps({"type": kind, "object": _shown(obj, request)}).encode() + b"\n"
            self._changed.clear()
            await self._changed.wait()

    def _answer(self, request: Request, target: Target) -> dict[str, Any]:
        body = cast(dict[str, Any], copy.deepcopy(request.body) or {})
        if request.method == "POST":
            target = Target(target.namespace, target.plural, body["metadata"]["name"])
        key = (target.plural, target.namespace or "", target.name)
        match request.method:
            case "GET" if not target.name:
                return self._list(request, target)
            case "DELETE" if not target.name:
                return self._delete_all(request, target)
            case "POST" if key in self.objects:
                raise ApiError(status=409, reason="AlreadyExists", message=f"{target.name} already exists")
            case "POST":
                return self.put(target.plural, body)
            case "PATCH" if "apply" in request.content_type and key not in self.objects:
                return self.put(target.plural, body)
        if key not in self.objects:
            raise ApiError(status=404, reason="NotFound", message=f"{target.name} not found")
        found = self.objects[key]
        if request.method == "DELETE":
            self._delete(key, found, body)
        if request.method == "PATCH":
            _check(found, {"resourceVersion": (body.get("metadata") or {}).pop("resourceVersion", None)})
            self._store("MODIFIED", key, merged(found, body))
        return self.objects.get(key, found)

    def _delete(self, key: tuple[str, str, str], found: dict[str, Any], options: dict[str, Any]) -> None:
        _check(found, options.get("preconditions") or {})
        if "dryRun" not in options:
            self._store("DELETED", key, found)

    def _delete_all(self, request: Request, target: Target) -> dict[str, Any]:
        for key, obj in [*self.objects.items()]:
            if target.covers(key) and _selected(obj, request):
                self._store("DELETED", key, obj)
        return {}

    def _list(self, request: Request, target: Target) -> dict[str, Any]:
        found = [obj for key, obj in self.objects.items() if target.covers(key) and _selected(obj, request)]
        first, size = int(dict(request.query).get("continue", "0")), int(dict(request.query)["limit"])
        more = {"continue": str(first + size)} if len(found) > first + size else {}
        items = [_shown(obj, request) for obj in found[first : first + size]]
        return {"metadata": {"resourceVersion": str(len(self._events)), **more}, "items": items}

    def _store(self, kind: str, key: tuple[str, str, str], obj: dict[str, Any]) -> None:
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(len(self._events) + 1)
        if kind == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = obj
        self._events.append((len(self._events) + 1, kind, key, obj))
        self._changed.set()


def _check(obj: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if value not in (None, obj["metadata"][name]):
            raise ApiError(status=409, reason="Conflict", message=f"the object has another {name}")


def _selected(obj: dict[str, Any], request: Request) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in _selector(request))


def _selector(request: Request) -> Iterator[tuple[str, str]]:
    for part in dict(request.query).get("labelSelector", "").split(","):
        name, found, value = part.partition("=")
        if found:
            yield name, value


def _shown(obj: dict[str, Any], request: Request) -> dict[str, Any]:
    return {"metadata": obj["metadata"]} if "PartialObjectMetadata" in request.accept else obj


def merged(old: Any, patch: Any) -> Any:
    """What a merge patch makes of an object."""
    if not isinstance(patch, dict):
        return patch
    found = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found
