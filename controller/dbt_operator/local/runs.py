"""What comes of asking for a run: whether it begins, goes on, or has only to be told of."""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from dbt_operator.api import names
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.local.attempts import LocalAttempt
from dbt_operator.local.manifests import Document, InvalidManifest
from dbt_operator.local.origin import REPORTED, Origin
from dbt_operator.local.place import NAMESPACE, Place
from dbt_operator.local.store import Store

_CHANGEABLE = (
    "suspend",
    "cancel",
    "ttlSecondsAfterFinished",
)  # as the rules of the CRD have it of a run that has started


class Begin(Enum):
    """What comes of asking for a run."""

    NEW = auto()
    AGAIN = auto()  # there was one of this name, which has ended
    GOES_ON = auto()  # somebody has begun it, and was stopped
    TOLD = auto()  # it has ended, and nobody was told


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that a command has asked for."""

    run: Object
    begin: Begin


def ask(document: Document, *, origin: Origin, store: Store, place: Place, fresh: bool) -> Asked:
    """Bring the store to what the manifest says. Nobody else may have the run.

    fresh: what there is of a run of this name is forgotten, whatever it is.

    Raises: InvalidManifest.
    """
    found = store.get(DBT_RUNS, document.name, namespace=NAMESPACE)
    if found is None:
        return Asked(_create(document, origin, store=store, place=place), Begin.NEW)
    ended = status_of(found).ended
    if not fresh and ended and not reported(found) and _same(found, document):
        return Asked(found, Begin.TOLD)
    if not fresh and not ended:
        return Asked(_apply(found, document, origin, store=store), Begin.GOES_ON)
    forget(found, store=store, place=place)
    return Asked(_create(document, origin, store=store, place=place), Begin.AGAIN)


def _create(document: Document, origin: Origin, *, store: Store, place: Place) -> Object:
    # Of a run that was forgotten when its process was killed something may have stayed.
    _remove_files(document.name, place=place)
    return store.create(DBT_RUNS, _with_origin(document, origin))


def _with_origin(document: Document, origin: Origin) -> dict[str, Any]:
    metadata = document.obj["metadata"]
    annotations = {**(metadata.get("annotations") or {}), **origin.annotation()}
    return {**document.obj, "metadata": {**metadata, "annotations": annotations}}


def _apply(found: Object, document: Document, origin: Origin, *, store: Store) -> Object:
    started = "startTime" in (found.get("status") or {})
    if started and not _same(found, document):
        raise InvalidManifest(
            f"The run {document.name} is under way, and its spec can no longer change: give it the manifest it began"
            " with, or begin it anew with --fresh."
        )
    asked = document.obj["spec"]
    gone = {key: None for key in found["spec"] if key not in asked}
    patch = {"metadata": _with_origin(document, origin)["metadata"], "spec": {**gone, **asked}}
    if started:
        patch["spec"] = {key: asked.get(key) for key in _CHANGEABLE}
    del patch["metadata"]["name"], patch["metadata"]["namespace"]
    return store.change(DBT_RUNS, document.name, patch, namespace=NAMESPACE)


def _same(found: Object, document: Document) -> bool:
    """Whether the manifest asks for what the run was begun with."""
    return _fixed(found["spec"]) == _fixed(document.obj["spec"])


def _fixed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in spec.items() if key not in _CHANGEABLE and value is not None}


def forget(run: Object, *, store: Store, place: Place) -> None:
    """Forget a run, and end whatever is left of its processes."""
    name = run["metadata"]["name"]
    store.remove(DBT_RUNS, name, namespace=NAMESPACE)
    _remove_files(name, place=place)


def _remove_files(name: str, *, place: Place) -> None:
    folder = place.attempts(name)
    for each in folder.iterdir() if folder.is_dir() else ():
        LocalAttempt(each).kill()
    for old in (folder, place.artifacts(name)):
        shutil.rmtree(old, ignore_errors=True)


def want_retry(run: Object, *, store: Store, model: Object | None, reset_cancel: bool) -> None:
    """Ask for a retry of a run, or of one of its nodes, as the annotation does on a cluster."""
    token = str(uuid.uuid4())
    patch: dict[str, Any] = {"metadata": {"annotations": {names.ANNOTATION_RETRY: token}}}
    if reset_cancel:
        wishes = {"metadata": {"annotations": {REPORTED: None}}, "spec": {"cancel": None, "suspend": None}}
        store.change(DBT_RUNS, run["metadata"]["name"], wishes, namespace=NAMESPACE)
    resource, obj = (DBT_RUNS, run) if model is None else (DBT_MODELS, model)
    store.change(resource, obj["metadata"]["name"], patch, namespace=NAMESPACE)


def status_of(run: Object) -> DbtRunStatus:
    """The status of a run."""
    return DbtRunStatus.parse(run.get("status") or {}) or DbtRunStatus()


def reported(run: Object) -> bool:
    """Whether somebody was told how it has ended."""
    annotations = run["metadata"].get("annotations") or {}
    return annotations.get(REPORTED) == _end_of(run)


def report(run: Object, *, store: Store) -> None:
    """Somebody was told how it has ended."""
    patch = {"metadata": {"annotations": {REPORTED: _end_of(run)}}}
    store.change(DBT_RUNS, run["metadata"]["name"], patch, namespace=NAMESPACE)


def _end_of(run: Object) -> str:
    end: str = (run.get("status") or {}).get("completionTime") or ""
    return end
