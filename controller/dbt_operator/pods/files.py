"""The ConfigMaps that hold dbt's files: artifacts, for the user, and packages and parse cache, for later attempts.

The compiled code of the attempts lies beside the cache until the run ends, and is put into its results then. The cache
is of no use to anybody any more then, and goes: a retry that is asked for later parses anew.

What an attempt has parsed takes the place of what an earlier one has parsed, as its image may be another; attempts
that parse nothing new print nothing. The index of the attempt stands beside the file: an older attempt whose log is
read once more, or by another controller, changes nothing.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbt_operator.api import names
from dbt_operator.dbt import compiled
from dbt_operator.dbt.artifacts import PACKAGES
from dbt_operator.pods.run import RunRef, child_config_map

CACHE_FILE = "partial_parse.msgpack.gz"
MANIFEST_FILE = "manifest.json.gz"
PACKAGES_FILE = f"{PACKAGES}.gz"
RESULTS_FILE = "run_results.json.gz"
SOURCES_FILE = "sources.json.gz"
COMPILED_FILE = f"{compiled.FILE}.gz"

RESULTS_LIMIT = 960 * 1024
# What Kubernetes allows for all files of a ConfigMap together, before they are encoded.
CONFIG_MAP_LIMIT = 1024 * 1024
# What is left out where not everything fits, the first one first. Every dbt brings the same index.html.
_DISPENSABLE = (COMPILED_FILE, MANIFEST_FILE, "index.html.gz", "static_index.html.gz")
_PARSED_BY = f"{names.GROUP}/parsed-by"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to be kept, compressed; without content: what there is of an earlier attempt is not to be kept any more.

    `parsed_by`: the index of the attempt that has parsed it; None: it is of the whole run.
    """

    key: str
    content: bytes | None
    parsed_by: int | None = None


def file_config_map(*, run: RunRef, name: str, file: File) -> dict[str, Any]:
    """The ConfigMap of a file."""
    manifest = child_config_map(run, name=name)
    manifest["metadata"] |= _marked(file)
    return manifest | {"binaryData": {file.key: _encoded(file)}}


def file_patch(config_map: Mapping[str, Any], *, file: File) -> dict[str, Any] | None:
    """The patch that puts a file into a ConfigMap; None where it has that of the same attempt, or any of a later one.

    Where not everything fits the compiled code and the manifest are left out: dbt can make them again at any time, and
    the results never. The server refuses the patch when another controller has changed the ConfigMap since it was read.
    """
    if file.parsed_by is not None:
        has = file.key in _contents(config_map)
        if file.parsed_by < _parsed_by(config_map) or (file.parsed_by == _parsed_by(config_map) and has):
            return None
    changes = {file.key: _encoded(file)}
    sizes = {key: _size(data) for key, data in _contents(config_map).items()} | {file.key: len(file.content or b"")}
    for key in _DISPENSABLE:
        if sum(sizes.values()) > CONFIG_MAP_LIMIT and sizes.pop(key, None) is not None:
            changes[key] = None
    version = {"resourceVersion": config_map["metadata"]["resourceVersion"]}
    return {"metadata": version | _marked(file), "binaryData": changes}


def compiled_file(config_map: Mapping[str, Any] | None, *, came: bytes, attempt: int) -> File:
    """The file that has the compiled code of this attempt beside that of the others, as far as there is room."""
    codes = compiled.merged(kept_codes(config_map), compiled.read(came), attempt=attempt)
    room = room_beside(config_map, COMPILED_FILE) if config_map is not None else CONFIG_MAP_LIMIT
    return File(key=COMPILED_FILE, content=compiled.packed(codes, limit=min(compiled.LIMIT, room)))


def kept_codes(config_map: Mapping[str, Any] | None) -> tuple[compiled.Code, ...]:
    """The compiled codes that a ConfigMap has."""
    data = _contents(config_map or {}).get(COMPILED_FILE)
    return compiled.read(None if data is None else base64.b64decode(data))


def kept_results(config_map: Mapping[str, Any] | None) -> bytes | None:
    """The results that a ConfigMap has, of an end of the run before this one."""
    data = _contents(config_map or {}).get(RESULTS_FILE)
    return None if data is None else base64.b64decode(data)


def room_beside(config_map: Mapping[str, Any] | None, key: str) -> int:
    """How many bytes the file of this key may have, if no other one is to give way to it."""
    return CONFIG_MAP_LIMIT - sum(_size(data) for other, data in _contents(config_map or {}).items() if other != key)


def kept_files(config_map: Mapping[str, Any]) -> frozenset[str]:
    """The keys of the files that a ConfigMap has."""
    return frozenset(_contents(config_map))


def _contents(config_map: Mapping[str, Any]) -> Mapping[str, str]:
    contents: Mapping[str, str] = config_map.get("binaryData") or {}
    return contents


def _size(data: str) -> int:
    return len(base64.b64decode(data))


def _marked(file: File) -> dict[str, Any]:
    return {} if file.parsed_by is None else {"annotations": {_PARSED_BY: str(file.parsed_by)}}


def _parsed_by(config_map: Mapping[str, Any]) -> int:
    said: str = (config_map["metadata"].get("annotations") or {}).get(_PARSED_BY, "")
    return int(said) if said.isdecimal() else 0


def _encoded(file: File) -> str | None:
    return None if file.content is None else base64.b64encode(file.content).decode()
