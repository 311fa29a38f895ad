"""Reads the corpus."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER / "project"


class _Loader(yaml.SafeLoader):
    """YAML with two tags of its own, for what is too long to be written down."""


def _times(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    """!times [x, 3]: the text three times, or a list of three."""
    assert isinstance(node, yaml.SequenceNode)
    value, count = loader.construct_sequence(node, deep=True)
    return value * count


_Loader.add_constructor("!times", _times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest that the API server refuses. spec, manifest: what is laid over the smallest one that it takes."""

    case: str
    message: str
    kind: str = "DbtRun"
    spec: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A spec that the operator refuses. defaults: what the ConfigMap with those of the namespace says."""

    case: str
    message: str
    reason: str = "InvalidSpec"
    spec: dict[str, Any] = field(default_factory=dict)
    defaults: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A run that is played to its end: what is laid over the small project and its spec, and what the user is told.

    files: by path; None: the file is taken away. many: files that are made of a pattern.
    nodes: the phases of DbtModels, by the names of their nodes, where that is of interest.
    """

    case: str
    message: str
    reason: str
    phase: str = "Failed"
    spec: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str | None] = field(default_factory=dict)
    many: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1
    nodes: dict[str, str] = field(default_factory=dict)

    def lay_over(self, project: Path) -> None:
        """Write the files of the case into a copy of the small project."""
        for path, text in self.files.items():
            file = project / path
            if text is None:
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        for number in range(self.many.get("count", 0)):
            numbers = {"<n>": f"{number:04}", "<next>": f"{(number + 1) % self.many['count']:04}"}
            path, text = self.many["path"], self.many["text"]
            for sign, value in numbers.items():
                path, text = path.replace(sign, value), text.replace(sign, value)
            file = project / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)


def read(name: str) -> list[dict[str, Any]]:
    """The cases of a file."""
    found: list[dict[str, Any]] = yaml.load((FOLDER / name).read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    return found


def specs() -> list[Spec]:
    """Specs that the operator refuses."""
    return [Spec(**each) for each in read("specs.yaml")]


def played(*names: str) -> list[Played]:
    """The cases of some files that are runs."""
    return [Played(**each) for name in names for each in read(name)]


def manifests() -> list[Manifest]:
    """Manifests that the API server refuses."""
    return [Manifest(**each) for each in read("manifests.yaml")]
