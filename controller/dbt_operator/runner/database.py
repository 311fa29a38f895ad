"""Which file the nodes of an attempt are built into, where the warehouse is a file, and whether it outlives the pod."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from dbt_operator.runner.output import Line

# What is built into a database. An ephemeral model is part of the text of others.
_BUILT = frozenset(("model", "seed", "snapshot"))
MEMORY = ":memory:"
# DuckDB's word before the path of a database that it attaches: these are files, all others are servers or services.
_PREFIX = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_FILES = frozenset(("duckdb", "sqlite", "ducklake", "file"))


class DatabaseGoneError(Exception):
    """A file in which something was built before is not there."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the database file {path}, with what was built before, is not there in this pod")
        self.path = path


class LostBeforeNextError(Exception):
    """What is built is gone before the next pod can test it, or read it."""

    def __init__(self, path: str, *, per_node: bool) -> None:
        place = "in the memory of the pod (:memory:)" if path == MEMORY else f"the file {path} inside the pod"
        why, instead = "spec.tests is AfterAll, so that another pod executes the tests", "tests: Build"
        if per_node:
            why, instead = "spec.mode is PerNode, so that each node is executed by a pod of its own", "mode: Producer"
        super().__init__(
            f"{why}, and the database is {place}, where the next pod would find nothing: keep it in one file on a"
            f" volume that every pod mounts (spec.podTemplate), or take {instead}"
        )


@dataclass(frozen=True)
class DatabaseFile:
    """A database of this process: a file, or MEMORY. `kept`: it outlives the pod."""

    path: str
    kept: bool


@dataclass(frozen=True)
class Mounts:
    """What is mounted: folders that outlive the pod, and folders that go with it, as all that is not mounted does."""

    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def keep(self, path: str) -> bool:
        """Whether the file is, by the mount that is nearest above it, on a volume that outlives the pod."""
        folders = [(folder, True) for folder in self.kept] + [(folder, False) for folder in self.lost]
        above = [(os.path.realpath(folder), kept) for folder, kept in folders]
        around = [(len(folder), kept) for folder, kept in above if path.startswith(folder.rstrip("/") + "/")]
        return max(around, default=(0, False))[1]


def files_of(
    *, nodes: Iterable[str], known: Mapping[str, Line], manifest: Any, credentials: Any, mounts: Mounts
) -> frozenset[DatabaseFile]:
    """The files that these nodes are built into; there are none where the warehouse is a server or a service."""
    path_of = _PATHS.get(str(getattr(credentials, "type", "")))
    if path_of is None:
        return frozenset()
    built = (
        one for one in nodes if known[one]["resource_type"] in _BUILT and known[one]["materialized"] != "ephemeral"
    )
    paths = {path_of(credentials, manifest.nodes[one]) for one in built} - {""}
    found = {DatabaseFile(path=MEMORY, kept=False)} if MEMORY in paths else set()
    real = (os.path.realpath(Path(path).expanduser()) for path in paths - {MEMORY})
    return frozenset(found.union(DatabaseFile(path=path, kept=mounts.keep(path)) for path in real))


def worst(files: Iterable[DatabaseFile]) -> DatabaseFile | None:
    """The one to speak of: one that is lost with the pod, if there is any."""
    return min(files, key=lambda file: (file.kept, file.path), default=None)


def check_there(files: Iterable[DatabaseFile]) -> None:
    """Raises: DatabaseGoneError when one of the files, in which something was built before, does not exist."""
    missing = sorted(file.path for file in files if file.path != MEMORY and not Path(file.path).exists())
    if missing:
        raise DatabaseGoneError(missing[0])


def _of_duckdb(credentials: Any, node: Any) -> str:
    """The path of the node's database, MEMORY, or "" where it is no file of this process."""
    if getattr(credentials, "remote", None):
        return ""
    database = str(node.database or "").lower()
    for attached in getattr(credentials, "attach", None) or ():
        if database == str(attached.alias or credentials.path_derived_database_name(attached.path)).lower():
            options = getattr(attached, "options", None) or {}
            kind = str(attached.type or options.get("type") or options.get("TYPE") or "duckdb").lower()
            return _file(attached.path) if kind in _FILES else ""
    return _file(credentials.path)


def _file(path: Any) -> str:
    rest, lake = str(path), False
    while True:
        prefix = _PREFIX.match(rest)
        if prefix is None or prefix.group(1).lower() not in _FILES:
            break
        lake = lake or prefix.group(1).lower() == "ducklake"
        rest = rest[prefix.end() :]
    if lake and not re.search("[./:]", rest):
        return ""  # the name of a secret, which alone knows where the lake is
    if not rest or rest.startswith(MEMORY):
        return MEMORY
    return "" if prefix is not None else rest


def _of_sqlite(credentials: Any, node: Any) -> str:
    named: Mapping[str, str] = credentials.schemas_and_paths
    return named.get(node.schema) or str(Path(credentials.schema_directory, f"{node.schema}.db"))


_PATHS: Mapping[str, Callable[[Any, Any], str]] = {"duckdb": _of_duckdb, "sqlite": _of_sqlite}
