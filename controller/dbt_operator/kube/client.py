"""The verbs of the Kubernetes API on plain JSON, with bounded time, retries of what may pass, and nothing else.

A few verbs and a closed table of resources (`resources.py`) instead of a method per kind. Every call ends within its
time outs; errors that may pass (overload, restarts, the network) are tried again a few times with jitter and the
server's own Retry-After, all others are the caller's to decide on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import msgspec
import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from dbt_operator.api import names
from dbt_operator.kube.api_error import ApiError, NameConflictError
from dbt_operator.kube.event_manifest import EventType, event_manifest
from dbt_operator.kube.resources import EVENTS, PODS, Object, Resource, label_selector, owner_uids
from dbt_operator.kube.session import Request, Session

__all__ = ["ApiError", "Client", "NameConflictError", "RetryPolicy"]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
# Of what is listed the bookkeeping of field managers is most, ten times as much in memory as what is kept of it: it is
# never there for more objects than these.
PAGE = 100
_SWEEP_SECONDS = 70.0  # the server gives itself a minute
_log = structlog.get_logger(__name__)

# Neither spec nor status: the server need not send what nobody looks at.
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Objects = list[Object]  # inside the class `list` is the verb
Propagation = Literal["Background", "Foreground", "Orphan"]


class Page(NamedTuple):
    """A part of a list. `version`: of the whole list, where a watch may go on from."""

    items: Objects
    version: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is repeated after errors that may pass."""

    attempts: int = 4
    initial: float = 0.2
    longest: float = 5.0
    longest_retry_after: float = 30.0

    def wait(self, state: RetryCallState) -> float:
        """Seconds to the next attempt: growing, with jitter, and never less than the server asked for."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after or 0.0 if isinstance(error, ApiError) else 0.0
        grown = wait_exponential(multiplier=self.initial, max=self.longest) + wait_random(max=self.initial)
        return max(grown(state), min(asked, self.longest_retry_after))


class Client:
    """The one door to the cluster."""

    def __init__(self, *, session: Session, request_timeout: float = 15.0, retry: RetryPolicy | None = None) -> None:
        self._session = session
        self._request_timeout = request_timeout
        self._retry = retry or RetryPolicy()
        self._sweeping = asyncio.Lock()

    @classmethod
    async def connect(
        cls, *, kubeconfig: str | None = None, request_timeout: float = 15.0, retry: RetryPolicy | None = None
    ) -> Self:
        """A client with the credentials of a kubeconfig; None: those of the pod, else the user's own kubeconfig."""
        session = Session(kubeconfig=kubeconfig)
        await session.open()
        return cls(session=session, request_timeout=request_timeout, retry=retry)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def now(self) -> datetime:
        """The time as the API server has it."""
        return self._session.clock.now()

    async def get(self, *, resource: Resource, namespace: str, name: str, retry: bool = True) -> Object:
        """One object."""
        return await self._call(Request("GET", resource.path(namespace=namespace, name=name)), retry=retry)

    async def find(self, *, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object, or None where there is none."""
        try:
            return await self.get(resource=resource, namespace=namespace, name=name)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def list(
        self,
        *,
        resource: Resource,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: str = "",
        metadata_only: bool = False,
    ) -> Objects:
        """All objects of a namespace, or of all namespaces, with these labels."""
        while True:
            found: Objects = []
            try:
                async for page in self.pages(
                    resource=resource, namespace=namespace, labels=labels, fields=fields, metadata_only=metadata_only
                ):
                    found += page.items
            except ApiError as error:
                if not (error.expired and found):
                    raise
                continue  # etcd has forgotten the state that the first pages showed: begin again
            return found

    async def pages(
        self,
        *,
        resource: Resource,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: str = "",
        metadata_only: bool = False,
    ) -> AsyncIterator[Page]:
        """The same in pages, of which nothing is kept. Raises: ApiError, `expired` where the list has to begin anew.

        metadata_only: the objects have neither spec nor status.
        """
        query = [("limit", str(PAGE)), *_selectors(labels=labels, fields=fields)]
        path = resource.path(namespace=namespace)
        accept = _METADATA_LIST if metadata_only else "application/json"
        token = ""
        while True:
            more = [("continue", token)] if token else []
            answer = await self._call(Request("GET", path, query=[*query, *more], accept=accept))
            metadata = answer.get("metadata") or {}
            items = [_typed(_lean(item), resource) for item in answer.get("items") or ()]
            yield Page(items, metadata.get("resourceVersion") or "")
            token = metadata.get("continue") or ""
            if not token:
                return

    async def create(
        self,
        *,
        resource: Resource,
        manifest: Mapping[str, Any],
        retry: bool = True,
        strict: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Create an object. "Already exists" may be about our own first attempt: see create_or_adopt.

        strict: fields that the server does not know are an error; otherwise it drops them.
        dry_run: only ask whether it could be created.
        """
        path = resource.path(namespace=manifest["metadata"]["namespace"])
        asked = {"fieldValidation": "Strict" if strict else "", "dryRun": "All" if dry_run else ""}
        query = (*_MANAGER, *((name, value) for name, value in asked.items() if value))
        return await self._call(Request("POST", path, query=query, body=manifest), retry=retry)

    async def create_or_adopt(
        self,
        *,
        resource: Resource,
        manifest: Mapping[str, Any],
        owner_uid: str,
        retry: bool = True,
        strict: bool = False,
    ) -> tuple[Object, bool]:
        """The object, and whether it is new. One that exists is ours if our owner's uid is among its owners'.

        The outcome of a request without an answer is unknown; names are deterministic, so looking decides it.
        """
        metadata = manifest["metadata"]
        try:
            return await self.create(resource=resource, manifest=manifest, retry=retry, strict=strict), True
        except ApiError as error:
            if not (error.already_exists or error.transient):
                raise
            found = await self.find(resource=resource, namespace=metadata["namespace"], name=metadata["name"])
            if found is None:
                raise
            if owner_uid not in owner_uids(found):
                raise _conflict(resource, found, manifest) from error
            return found, False

    async def apply(self, *, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply: make the fields of the manifest so, whoever else has set them."""
        metadata = manifest["metadata"]
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}
        path = resource.path(namespace=metadata["namespace"], name=metadata["name"])
        query = [*_MANAGER, ("force", "true")]
        return await self._call(Request("PATCH", path, query=query, body=body, content_type=APPLY_PATCH))

    async def patch(
        self,
        *,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        subresource: Literal["", "status"] = "",
        retry: bool = True,
    ) -> Object:
        """Merge-patch an object or its status. A `metadata.resourceVersion` in the patch makes it conditional."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        request = Request("PATCH", path, query=_MANAGER, body=patch, content_type=MERGE_PATCH)
        return await self._call(request, retry=retry)

    async def delete(
        self,
        *,
        resource: Resource,
        namespace: str,
        name: str,
        propagation: Propagation = "Background",
        uid: str | None = None,
        version: str | None = None,
        grace_seconds: int | None = None,
        dry_run: bool = False,
    ) -> bool:
        """Delete an object; False where it (the one of this uid, as of this resource version) does not exist.

        dry_run: only ask whether it could be deleted.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": version}
        options["preconditions"] = {name: value for name, value in preconditions.items() if value is not None}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if dry_run:
            options["dryRun"] = ["All"]
        try:
            await self._call(Request("DELETE", resource.path(namespace=namespace, name=name), body=options))
        except ApiError as error:
            if error.not_found or (error.conflict and options["preconditions"]):
                return False
            raise
        return True

    async def delete_all(self, *, resource: Resource, namespace: str, labels: Mapping[str, str]) -> None:
        """Delete all objects of a namespace that have these labels, by one request. One at a time is under way.

        Raises: ApiError, also where the server had not come to the end of them after a minute.
        """
        query, body = [*_selectors(labels=labels)], {"apiVersion": "v1", "kind": "DeleteOptions"}
        request = Request("DELETE", resource.path(namespace=namespace), query=query, body=body)
        async with self._sweeping:
            await self._session.send(request, seconds=_SWEEP_SECONDS)

    async def record_event(
        self, *, regarding: Mapping[str, Any], kind: EventType, reason: str, message: str, key: str = ""
    ) -> None:
        """Post an Event about an object, once per (object, reason, message, key). Its failure never matters."""
        manifest = event_manifest(
            regarding=regarding, kind=kind, reason=reason, message=message, key=key, now=self.now()
        )
        try:
            await self.create(resource=EVENTS, manifest=manifest, retry=False)
        except ApiError as error:
            if not error.already_exists:
                _log.warning("could not post an event", reason=reason, error=str(error))

    def open_log(
        self,
        *,
        namespace: str,
        pod: str,
        container: str,
        since: datetime | None = None,
        follow: bool = True,
        read_timeout: float = 60.0,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A container's log as raw pieces of bytes, each line preceded by the kubelet's time stamp.

        The server cuts `since` to the whole second, so lines of that second come again.
        """
        query = [("container", container), ("timestamps", "true")]
        if follow:
            query.append(("follow", "true"))
        if since is not None:
            query.append(("sinceTime", since.astimezone(UTC).isoformat().replace("+00:00", "Z")))
        path = PODS.path(namespace=namespace, name=pod, subresource="log")
        return self._session.stream(Request("GET", path, query=query, accept="*/*"), read_timeout=read_timeout)

    def open_watch(
        self,
        *,
        resource: Resource,
        namespace: str | None,
        version: str,
        seconds: int,
        read_timeout: float,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The changes since a version as raw pieces of bytes: lines of JSON. The server ends it after `seconds`.

        The objects have neither spec nor status.
        """
        query = [
            *(("watch", "true"), ("allowWatchBookmarks", "true")),
            *(("resourceVersion", version), ("timeoutSeconds", str(seconds))),
        ]
        request = Request("GET", resource.path(namespace=namespace), query=query, accept=_METADATA)
        return self._session.stream(request, read_timeout=read_timeout)

    async def _call(self, request: Request, *, retry: bool = True) -> Object:
        async def once() -> Object:
            answer: Object = msgspec.json.decode(await self._session.send(request, seconds=self._request_timeout))
            return _lean(answer)

        return await self._retrying(once) if retry else await once()

    async def _retrying(self, call: Callable[[], Awaitable[Object]]) -> Object:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._retry.attempts),
            wait=self._retry.wait,
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )
        return await retrying(call)


_MANAGER = (("fieldManager", names.FIELD_MANAGER),)


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.transient


def _selectors(*, labels: Mapping[str, str] | None, fields: str = "") -> Iterable[tuple[str, str]]:
    if labels:
        yield "labelSelector", label_selector(labels)
    if fields:
        yield "fieldSelector", fields


def _lean(obj: Object) -> Object:
    # The bookkeeping of field managers is often larger than the object, and nothing here reads it.
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
    return obj


def _typed(obj: Object, resource: Resource) -> Object:
    # The items of a built-in kind's list come without their kind.
    obj.setdefault("apiVersion", resource.api_version)
    obj.setdefault("kind", resource.kind)
    return obj


def _conflict(resource: Resource, found: Mapping[str, Any], manifest: Mapping[str, Any]) -> NameConflictError:
    metadata = found["metadata"]
    owners = metadata.get("ownerReferences") or ()
    whose = ", ".join(f"{owner.get('kind')} {owner.get('name')}" for owner in owners)
    said = f"belongs to another {whose}" if owners else "has no owner"
    ours = {(owner["kind"], owner["name"]) for owner in manifest["metadata"].get("ownerReferences") or ()}
    stale = any((owner.get("kind"), owner.get("name")) in ours for owner in owners)
    where = f"{resource.kind} {metadata['namespace']}/{metadata['name']}"
    return NameConflictError(f"{where} exists already and {said}", stale=stale)
