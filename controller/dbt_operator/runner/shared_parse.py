"""dbt's parse cache on a volume that outlives the run: the next run need not parse what has not changed since.

    parses/KEY.msgpack   the newest parse of a project by a certain dbt, with certain variables and a certain target

dbt itself checks whether a cache still holds. The key is only there so that runs which would each find the cache of
the other of no use have one each. A file is put in place by a rename, so there is never a half one. Whoever writes
last wins: all that is lost by that is time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dbt_operator.runner import parts
from dbt_operator.runner.environment import PARSE_CACHE, UNPACKED
from dbt_operator.runner.interpreter import dbt_version
from dbt_operator.runner.options import Options

# A cache that no run has asked for so long is removed.
UNUSED_SECONDS = 30 * 86400.0
_NAME = re.compile(r"^name\s*:\s*(\S+)", re.MULTILINE)


class SharedParse:
    """The cache of one key in the folder of a volume."""

    def __init__(self, *, folder: Path, project_dir: Path, arguments: Sequence[str]) -> None:
        self._folder = folder / "parses"
        what = json.dumps([_name(project_dir), str(project_dir), dbt_version(), *arguments])
        self._file = self._folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.msgpack"

    def restore(self, *, target: Path) -> None:
        """Put it in place of any other; without one dbt has what there is, and parses what is not in it."""
        with contextlib.suppress(OSError):
            if self._file.stat().st_size:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._file, target / PARSE_CACHE)
                os.utime(target / PARSE_CACHE, UNPACKED)
                os.utime(self._file)  # it was of use

    def keep(self, *, target: Path, has_secret: Callable[[bytes], bool]) -> None:
        """Keep what dbt has parsed, without a secret in it, and remove what nobody has asked for. Raises: OSError."""
        content = (target / PARSE_CACHE).read_bytes()
        if has_secret(content):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        coming = self._folder / f".{secrets.token_hex(8)}"
        try:
            coming.write_bytes(content)
            coming.replace(self._file)
        finally:
            coming.unlink(missing_ok=True)
        for other in self._folder.iterdir():
            with contextlib.suppress(OSError):  # another run may remove it as well
                if time.time() - other.stat().st_mtime > UNUSED_SECONDS:
                    other.unlink()


def shared_parse(*, options: Options, arguments: Sequence[str]) -> SharedParse | None:
    """The cache for what dbt is to parse with these arguments; None where runs share none.

    The second process of an attempt that executes without dbt has what the first one has parsed.
    """
    if not options.shared_parse or options.part == parts.DBT:
        return None
    project_dir = Path(options.project_dir or ".")
    return SharedParse(folder=Path(options.shared_parse), project_dir=project_dir, arguments=arguments)


def _name(project_dir: Path) -> str:
    """The name of the project: several may lie at the same path, each in its own pods."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = _NAME.search((project_dir / "dbt_project.yml").read_text(encoding="utf-8"))
        return found[1] if found else ""
    return ""
