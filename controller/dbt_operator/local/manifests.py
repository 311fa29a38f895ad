"""Manifests as kubectl takes them: files of YAML or JSON with several documents, folders of them, standard input."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dbt_operator.api import names
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_CONNECTIONS, DBT_RUNS, Object, Resource
from dbt_operator.local.place import NAMESPACE
from dbt_operator.local.pod import bytes_of

PROJECT_ANNOTATION = f"{names.GROUP}/local-project"
"""On a DbtRun: where the project of its image is on a developer's machine, relative to the file of the manifest."""
STDIN = "-"
_SUFFIXES = (".yaml", ".yml", ".json")
_KEPT: Mapping[tuple[str, str], Resource] = {
    (each.api_version, each.kind): each for each in (DBT_RUNS, DBT_CONNECTIONS, CONFIG_MAPS)
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class InvalidManifest(Exception):  # noqa: N818 - reads as the sentence it carries
    """What was given with -f cannot be used; the text is a sentence that names the file."""


@dataclass(frozen=True, slots=True)
class Document:
    """An object of a manifest. `file`: where it stands; None: it came from standard input."""

    obj: Object
    file: Path | None
    resource: Resource

    @property
    def name(self) -> str:
        """The name of the object."""
        name: str = self.obj["metadata"]["name"]
        return name


@dataclass(slots=True)
class Manifests:
    """What the files have, each kind by itself, in the order of the files."""

    runs: list[Document] = field(default_factory=list)
    others: list[Document] = field(default_factory=list)  # DbtConnections and ConfigMaps
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)  # kinds that mean nothing without a cluster


def load(sources: Sequence[str]) -> Manifests:
    """Read all that is given with -f. Raises: InvalidManifest."""
    found = Manifests()
    for source in sources:
        for text, file in _texts(source):
            for obj in _documents(text, file):
                _take(found, obj, file)
    _check_names(found.runs)
    return found


def _texts(source: str) -> Iterator[tuple[str, Path | None]]:
    if source == STDIN:
        yield sys.stdin.read(), None
        return
    path = Path(source)
    files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise InvalidManifest(f"The folder {source} has no file that ends with {', '.join(_SUFFIXES)}.")
    for file in files:
        try:
            yield file.read_text(encoding="utf-8"), file.resolve()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise InvalidManifest(f"{file} cannot be read: {why}.") from error


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - what the base class has, less one
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _documents(text: str, file: Path | None) -> Iterator[Any]:
    try:
        found = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InvalidManifest(f"{_called(file)} is no YAML{where}: {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"{_called(file)} is no YAML that can be read.") from error
    for document in found:
        if isinstance(document, Mapping) and document.get("kind") == "List":
            yield from document.get("items") or ()
        elif document is not None:
            yield document


def _take(found: Manifests, obj: Any, file: Path | None) -> None:
    if not isinstance(obj, Mapping) or not isinstance(obj.get("kind"), str):
        raise InvalidManifest(f"{_called(file)} has a document that is no object of Kubernetes: it has no kind.")
    kind, version = obj["kind"], str(obj.get("apiVersion"))
    name = _name_of(obj, file)
    if (version, kind) == ("v1", "Secret"):
        found.secrets[name] = _contents(obj, name)
        return
    resource = _KEPT.get((version, kind))
    if resource is None:
        if kind in ("DbtRun", "DbtConnection"):
            raise InvalidManifest(f"{_called(file)}: {kind} {name} has apiVersion {version}, not {names.API_VERSION}.")
        found.passed_over.append(f"{kind} {name}")
        return
    if resource is not CONFIG_MAPS and not isinstance(obj.get("spec"), Mapping):
        raise InvalidManifest(f"{_called(file)}: {kind} {name} has no spec.")
    metadata = {**obj["metadata"], "name": name, "namespace": NAMESPACE}
    kept = {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}
    (found.runs if resource is DBT_RUNS else found.others).append(Document(kept, file, resource))


def _name_of(obj: Mapping[str, Any], file: Path | None) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str):
        raise InvalidManifest(f"{_called(file)}: a {obj['kind']} has no metadata.name, by which it is found again.")
    if _NAME.fullmatch(name) is None:
        raise InvalidManifest(
            f"{_called(file)}: the name {name!r} of a {obj['kind']} can only have small letters, digits, - and dots."
        )
    return name


def _contents(obj: Mapping[str, Any], name: str) -> dict[str, bytes]:
    try:
        return bytes_of(obj)
    except ValueError as error:
        raise InvalidManifest(f"Secret {name} has a value in data that is not base64.") from error


def _check_names(runs: Iterable[Document]) -> None:
    seen: set[str] = set()
    for run in runs:
        if run.name in seen:
            raise InvalidManifest(f"There are two DbtRuns of the name {run.name}.")
        seen.add(run.name)


def _called(file: Path | None) -> str:
    return "Standard input" if file is None else str(file)
