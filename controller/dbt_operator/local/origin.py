"""Where a run came from: what a later command needs to go on with it, without any value of a secret."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from dbt_operator.api import names
from dbt_operator.kube.resources import Object

_ANNOTATION = f"{names.GROUP}/local-origin"
REPORTED = f"{names.GROUP}/local-reported"
"""On a run that has ended: somebody was told how. Until then the same command tells it, and executes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Paths, all of them absolute. `files`: what was given with -f; `folder`: of the manifest of the run."""

    files: tuple[str, ...]
    folder: str
    project: str | None = None  # given with --project-dir
    secrets: str | None = None  # with --secrets
    env_file: str | None = None  # with --env-file

    def annotation(self) -> dict[str, str]:
        """As the run keeps it."""
        return {_ANNOTATION: msgspec.json.encode(self).decode()}


def origin_of(run: Object) -> Origin:
    """Where a run came from."""
    return msgspec.json.decode(run["metadata"]["annotations"][_ANNOTATION], type=Origin)


def absolute(path: Path | None) -> str | None:
    """The path as any later command finds it."""
    return None if path is None else str(path.resolve())
