"""What gives dbt the artifacts of another run (`--state`): state files, as `spec.state` says."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import join
from typing import Any

import msgspec

from dbt_operator.api import names
from dbt_operator.api.state_source import StateSource, StateVolume
from dbt_operator.dbt.found import STATE_CONFIG_MAP, STATE_DIGEST, STATE_RUN
from dbt_operator.pods.fetching import archive_part, fetched_part
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.run import RunRef, child_config_map

MANIFEST = "manifest.json"
_NAMES = (MANIFEST, "run_results.json", "sources.json")
STATE_KEYS = frozenset((*_NAMES, *(f"{name}.gz" for name in _NAMES)))
"""The keys of a ConfigMap that are artifacts."""

_VOLUME, _DIRECTORY = "dbt-operator-state", "/dbt-operator/state"
_FOUND_FILE = "found.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFiles:
    """Artifacts that a ConfigMap has, in its own `data` and `binaryData`.

    name: what messages call their source. found: the same for the run's status.
    """

    name: str
    data: Mapping[str, str]
    binary: Mapping[str, str]
    found: Mapping[str, str]

    @classmethod
    def of_run(cls, run: str, config_map: Mapping[str, Any]) -> "StateFiles":
        """Those that the run of this name has kept in this ConfigMap."""
        return cls._of(config_map, name=f"DbtRun {run}", found={STATE_RUN: run})

    @classmethod
    def of_config_map(cls, config_map: Mapping[str, Any]) -> "StateFiles":
        """Those that somebody has put into this ConfigMap."""
        name = config_map["metadata"]["name"]
        return cls._of(config_map, name=f"ConfigMap {name}", found={STATE_CONFIG_MAP: name})

    @classmethod
    def _of(cls, config_map: Mapping[str, Any], *, name: str, found: Mapping[str, str]) -> "StateFiles":
        data, binary = (
            {key: value for key, value in (config_map.get(field) or {}).items() if key in STATE_KEYS}
            for field in ("data", "binaryData")
        )
        return cls(name=name, data=data, binary=binary, found=found)

    @property
    def keys(self) -> frozenset[str]:
        """Of the artifacts that there are."""
        return frozenset((*self.data, *self.binary))

    @property
    def manifest(self) -> bool:
        """Whether a manifest is among them."""
        return not self.keys.isdisjoint((MANIFEST, f"{MANIFEST}.gz"))


def state_config_map(run: RunRef, files: StateFiles) -> dict[str, Any]:
    """The ConfigMap that keeps them for all attempts of the run, whatever becomes of where they came from."""
    found = msgspec.json.encode(dict(files.found)).decode()
    contents = {"data": {**files.data, _FOUND_FILE: found}, "binaryData": dict(files.binary)}
    return child_config_map(run, name=names.state_name(run.name)) | {"immutable": True} | contents


def size_of(config_map: Mapping[str, Any]) -> int:
    """How many bytes the files of a ConfigMap have, as Kubernetes counts them."""
    binary = (len(base64.b64decode(value)) for value in config_map["binaryData"].values())
    return sum(len(value.encode()) for value in config_map["data"].values()) + sum(binary)


def state_part(source: StateSource | None, *, run: RunRef, found: Mapping[str, str], tools_image: str) -> Part:
    """The part for `spec.state`. found: what an earlier attempt has found out, which is kept to."""
    if source is None:
        return Part()
    place = source.artifacts_from
    if place is not None and place.volume is not None:
        return _on_volume(place.volume)
    if place is not None and place.archive is not None:
        fetching = archive_part(place.archive, prefix=_VOLUME, as_before=found.get(STATE_DIGEST))
        return fetched_part(
            fetching,
            program="fetch-state",
            volume=_VOLUME,
            directory=_DIRECTORY,
            path=place.archive.path,
            option="--state-dir",
            tools_image=tools_image,
        )
    return Part(
        volumes=({"name": _VOLUME, "configMap": {"name": names.state_name(run.name)}},),
        mounts=(read_only(volume=_VOLUME, path=_DIRECTORY),),
        arguments=(f"--state-dir={_DIRECTORY}", "--found", f"{_DIRECTORY}/{_FOUND_FILE}"),
    )


def _on_volume(volume: StateVolume) -> Part:
    return Part(
        volumes=({"name": _VOLUME, **volume.source},),
        mounts=(read_only(volume=_VOLUME, path=_DIRECTORY),),
        arguments=(f"--state-dir={join(_DIRECTORY, volume.path or '').rstrip('/')}",),
    )
