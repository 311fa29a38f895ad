"""The objects of local runs, in one SQLite file: what an API server is to a cluster.

SQLite, because several processes use it at once (one executes a run, others look at it or ask for a retry), and because
what is killed at any moment leaves either all of a change there or nothing. Each object is a row with its JSON:

    sqlite3 .dbt-operator/state.db "select name, body->>'$.status.phase' from objects where plural = 'dbtruns'"
"""

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from dbt_operator.api import names
from dbt_operator.api.values import format_time
from dbt_operator.kube.api_error import ApiError, NameConflictError
from dbt_operator.kube.event_manifest import EventType, event_manifest
from dbt_operator.kube.merge_patch import applied, without_nulls
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, EVENTS, Object, Resource, owner_uids

# What the CRDs say of an object that was created a moment ago.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    DBT_RUNS.plural: {"status": {"phase": "Pending"}},
    DBT_MODELS.plural: {"status": {"phase": "Pending"}},
}
_WAIT_SECONDS = 30.0  # for another process that writes at this moment

_TABLES = """
create table if not exists objects (
    plural text not null, namespace text not null, name text not null,
    owner text not null,  -- the uid of the DbtRun that it belongs to
    version integer not null, body text not null,
    primary key (plural, namespace, name)
);
create index if not exists objects_by_owner on objects (owner, plural);
create table if not exists versions (last integer not null);
insert into versions select 0 where not exists (select * from versions);
"""

ObjectList = list[Object]  # inside the class `list` is the verb


class Store:
    """See `kube.objects.Objects`. A call takes a fraction of a millisecond, so none waits for anything."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        # A process that dies loses nothing. If the machine does, its last moments may be forgotten.
        self._db.execute("pragma synchronous = normal")
        with self._changing():
            for statement in _TABLES.split(";\n"):
                self._db.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    @property
    def version(self) -> int:
        """It grows with every change, of whichever process."""
        (version,) = self._db.execute("select last from versions").fetchone()
        return int(version)

    def now(self) -> datetime:
        """The time of this machine."""
        return datetime.now(UTC)

    # reading

    async def find(self, *, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object, or None where there is none."""
        return self.get(resource, name, namespace=namespace)

    def get(self, resource: Resource, name: str, *, namespace: str) -> Object | None:
        """The same, for who does not wait."""
        row = self._db.execute(
            "select body from objects where plural = ? and namespace = ? and name = ?",
            (resource.plural, namespace, name),
        ).fetchone()
        return None if row is None else _read(row[0])

    async def list(
        self, *, resource: Resource, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        """All objects with these labels. There is one namespace."""
        del namespace
        run = (labels or {}).get(names.LABEL_RUN_UID)
        found = self.all(resource, run=run)
        wanted = (labels or {}).items()
        return [obj for obj in found if wanted <= (obj["metadata"].get("labels") or {}).items()]

    def all(self, resource: Resource, *, run: str | None = None, since: int = 0) -> ObjectList:
        """All objects of a kind, by name.

        run: only those that belong to the run of this uid. since: only those that have changed after this version.
        """
        rows = self._db.execute(
            "select body from objects where plural = ? and (? is null or owner = ?) and version > ? order by name",
            (resource.plural, run, run, since),
        )
        return [_read(body) for (body,) in rows]

    # writing

    async def create_or_adopt(
        self,
        *,
        resource: Resource,
        manifest: Mapping[str, Any],
        owner_uid: str,
        retry: bool = True,
        strict: bool = False,
    ) -> tuple[Object, bool]:
        """The object, and whether it is new."""
        del retry, strict
        metadata = manifest["metadata"]
        with self._changing():
            found = self.get(resource, metadata["name"], namespace=metadata["namespace"])
            if found is None:
                return self._create(resource, manifest), True
        if owner_uid not in owner_uids(found):
            raise NameConflictError(f"{resource.kind} {metadata['name']} exists already", stale=False)
        return found, False

    def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Create an object. Raises: ApiError where there is one of its name."""
        metadata = manifest["metadata"]
        with self._changing():
            if self.get(resource, metadata["name"], namespace=metadata["namespace"]) is not None:
                raise ApiError(status=409, reason="AlreadyExists", message=f"{metadata['name']} already exists")
            return self._create(resource, manifest)

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
        """Merge-patch an object. A `metadata.resourceVersion` in the patch makes it conditional."""
        del subresource, retry
        return self.change(resource, name, patch, namespace=namespace)

    def change(self, resource: Resource, name: str, patch: Mapping[str, Any], *, namespace: str) -> Object:
        """The same, for who does not wait."""
        metadata = dict(patch.get("metadata") or {})
        version = metadata.pop("resourceVersion", None)
        with self._changing():
            found = self.get(resource, name, namespace=namespace)
            if found is None:
                raise ApiError(status=404, reason="NotFound", message=f"{resource.plural} {name} not found")
            if version not in (None, found["metadata"]["resourceVersion"]):
                raise ApiError(status=409, reason="Conflict", message=f"{name} has been modified")
            new = applied(old=found, patch={**patch, "metadata": metadata})
            if new.get("spec") != found.get("spec"):
                new["metadata"]["generation"] = found["metadata"]["generation"] + 1
            return self._put(resource, new)

    async def delete(
        self, *, resource: Resource, namespace: str, name: str, uid: str | None = None, version: str | None = None
    ) -> bool:
        """Delete an object, with what belongs to it."""
        return self.remove(resource, name, namespace=namespace, uid=uid, version=version)

    def remove(
        self, resource: Resource, name: str, *, namespace: str, uid: str | None = None, version: str | None = None
    ) -> bool:
        """The same, for who does not wait."""
        with self._changing():
            found = self.get(resource, name, namespace=namespace)
            if found is None:
                return False
            metadata = found["metadata"]
            if uid not in (None, metadata["uid"]) or version not in (None, metadata["resourceVersion"]):
                return False
            self._db.execute(
                "delete from objects where owner = ? or (plural = ? and namespace = ? and name = ?)",
                (metadata["uid"], resource.plural, namespace, name),
            )
            self._next_version()
        return True

    async def record_event(
        self, *, regarding: Mapping[str, Any], kind: EventType, reason: str, message: str, key: str = ""
    ) -> None:
        """Keep an Event, once for the same words and key."""
        manifest = event_manifest(
            regarding=regarding, kind=kind, reason=reason, message=message, key=key, now=self.now()
        )
        run = (regarding["metadata"].get("labels") or {}).get(names.LABEL_RUN_UID) or regarding["metadata"]["uid"]
        manifest["metadata"]["labels"] = {names.LABEL_RUN_UID: run}
        with self._changing():
            if self.get(EVENTS, manifest["metadata"]["name"], namespace=manifest["metadata"]["namespace"]) is None:
                self._create(EVENTS, manifest)

    def _create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        made = without_nulls(manifest)
        made["metadata"] |= {
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": format_time(self.now().replace(microsecond=0)),  # as an API server has it
        }
        defaults = _DEFAULTS.get(resource.plural, {})
        return self._put(resource, {"apiVersion": resource.api_version, "kind": resource.kind, **defaults, **made})

    def _put(self, resource: Resource, obj: Object) -> Object:
        version = self._next_version()
        metadata = obj["metadata"] | {"resourceVersion": str(version)}
        stored = {**obj, "metadata": metadata}
        owner = (metadata.get("labels") or {}).get(names.LABEL_RUN_UID, "")
        self._db.execute(
            "insert or replace into objects values (?, ?, ?, ?, ?, ?)",
            (resource.plural, metadata["namespace"], metadata["name"], owner, version, json.dumps(stored)),
        )
        return stored

    def _next_version(self) -> int:
        (version,) = self._db.execute("update versions set last = last + 1 returning last").fetchone()
        return int(version)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A change that is there as a whole or not at all, and that no other process comes in between of."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")


def _read(body: str) -> Object:
    obj: Object = json.loads(body)
    return obj
