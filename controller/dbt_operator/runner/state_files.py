"""The artifacts of another run that dbt is given (`--state`): put where dbt finds them, and looked at first.

dbt reads all that there are, whether it needs them or not, and of a file that is damaged it does not say which one.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "manifest.json"
FILES = (MANIFEST, "run_results.json", "sources.json")


class StateError(Exception):
    """The artifacts cannot be used; the text says which and why."""


def arguments(directory: str) -> list[str]:
    """What tells dbt where the artifacts of another run are, if there is such a directory. Raises: as `prepare`."""
    return [f"--state={prepare(Path(directory))}"] if directory else []


def prepare(directory: Path) -> Path:
    """A folder with the artifacts of `directory`, unpacked where they are compressed. Raises: StateError, OSError."""
    found = {name: content for name in FILES if (content := _content(directory, name)) is not None}
    if not found:
        raise StateError(f"there is none of {', '.join(FILES)} (or the same with .gz), but {_names(directory)}")
    folder = Path(tempfile.mkdtemp(prefix="dbt-operator-state-"))
    for name, content in found.items():
        _check(name, content)
        (folder / name).write_bytes(content)
    return folder


def without_nodes(directory: Path, unique_ids: Iterable[str]) -> Path:
    """A folder with the manifest of `directory`, which has none of these nodes, so that none of them is deferred."""
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    for unique_id in unique_ids:
        for kind in ("nodes", "functions"):
            (manifest.get(kind) or {}).pop(unique_id, None)
    folder = Path(tempfile.mkdtemp(prefix="dbt-operator-state-"))
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _content(directory: Path, name: str) -> bytes | None:
    plain, packed = directory / name, directory / f"{name}.gz"
    try:
        if plain.is_file():
            return plain.read_bytes()
        return gzip.decompress(packed.read_bytes()) if packed.is_file() else None
    except (OSError, EOFError, zlib.error) as error:
        raise StateError(f"{name} cannot be read ({error})") from error


def _check(name: str, content: bytes) -> None:
    try:
        schema = json.loads(content)["metadata"]["dbt_schema_version"]
    except (ValueError, RecursionError) as error:
        raise StateError(f"{name} is no JSON ({error})") from error
    except (KeyError, TypeError) as error:
        raise StateError(f"{name} is no artifact of dbt, as it has no metadata.dbt_schema_version") from error
    wanted = name.removesuffix(".json").replace("_", "-")
    if f"/{wanted}/" not in str(schema):
        raise StateError(f"{name} is another artifact of dbt ({schema})")


def _names(directory: Path) -> str:
    try:
        names = sorted(entry.name for entry in directory.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        return f"the folder cannot be read ({error.strerror})"
    return ", ".join(names[:5]) or "nothing"
