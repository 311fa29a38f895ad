"""A mirror of the project that can be written to: its folders are real, its files are links to those of the project.

Nothing is copied, however large it is. What lies beside the project, or beside a folder that it lies in, is linked as
well: a package of the project may be somewhere above it (`local: ../shared`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_NOT_MIRRORED = frozenset((".git",))


def mirrored(project: Path, *, top: Path, without: Iterable[Path]) -> Path:
    """The mirror of this project below `top`, with nothing in the place of the paths in `without`.

    Its path follows from that of the project, and so is the same in each attempt: dbt's parse cache has it.
    """
    absent = {Path(os.path.normpath(path)) for path in without}
    real = {
        folder for path in (project, *absent) for folder in path.parents if project not in (folder, *folder.parents)
    }
    for folder in sorted(real):
        _link(_entries(folder) - absent - real - {project}, into=_at(top, folder))
    for name, folders, files in os.walk(project):
        here = Path(name)
        folders[:] = [each for each in folders if each not in _NOT_MIRRORED and here / each not in absent]
        linked = (*files, *(each for each in folders if (here / each).is_symlink()))
        _link({here / each for each in linked} - absent, into=_at(top, here))
    return _at(top, project)


def _at(top: Path, path: Path) -> Path:
    return top / path.relative_to(path.anchor)


def _entries(folder: Path) -> set[Path]:
    try:
        return {*folder.iterdir()}
    except OSError:  # one that may be entered only, or is not there
        return set()


def _link(paths: Iterable[Path], *, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with contextlib.suppress(FileExistsError):
            os.symlink(path, os.path.join(into, path.name))  # noqa: PTH118, PTH211 - there may be thousands: no objects
