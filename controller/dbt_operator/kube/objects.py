"""What is needed of the place where objects are kept: an API server, or a file on a developer's machine."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Protocol

from dbt_operator.kube.event_manifest import EventType
from dbt_operator.kube.resources import Object, Resource


class Objects(Protocol):
    """The verbs on objects, with the promises of a Kubernetes API server.

    A name is taken by one creator only, and a patch that names a resource version changes that version or nothing.
    Where nothing else is said a method raises ApiError.
    """

    def now(self) -> datetime:
        """The time as it is stamped on objects."""

    async def find(self, *, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object, or None where there is none."""

    async def list(
        self, *, resource: Resource, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """All objects of a namespace, or of all namespaces, with these labels."""

    async def create_or_adopt(
        self,
        *,
        resource: Resource,
        manifest: Mapping[str, Any],
        owner_uid: str,
        retry: bool = True,
        strict: bool = False,
    ) -> tuple[Object, bool]:
        """The object, and whether it is new. Raises: ApiError, and NameConflictError where it has another owner."""

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
        """Merge-patch an object or its status."""

    async def delete(
        self, *, resource: Resource, namespace: str, name: str, uid: str | None = None, version: str | None = None
    ) -> bool:
        """Delete an object, with what belongs to it; False where it (of this uid, in this version) does not exist."""

    async def record_event(
        self, *, regarding: Mapping[str, Any], kind: EventType, reason: str, message: str, key: str = ""
    ) -> None:
        """Tell people of something about an object. Its failure never matters."""
