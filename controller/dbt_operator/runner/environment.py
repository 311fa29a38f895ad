"""What dbt finds around it: writable directories, and defaults that suit a pod."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import MutableMapping
from pathlib import Path

_DEFAULTS = {
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DBT_VERSION_CHECK": "false",
    # dbt's log file repeats everything at debug level: tens of megabytes that nobody looks at.
    "DBT_LOG_LEVEL_FILE": "none",
    "DBT_USE_COLORS": "false",
}
PARSE_CACHE = "partial_parse.msgpack"
# For a project whose hooks shall not run again when a part of it is executed again.
ATTEMPT_KIND = "DBT_OPERATOR_ATTEMPT_KIND"


def prepare(*, environ: MutableMapping[str, str], project_dir: Path, profiles_dir: str, attempt_kind: str) -> list[str]:
    """Complete the environment for dbt; returns what went wrong, one sentence each."""
    environ[ATTEMPT_KIND] = attempt_kind
    for name, value in _DEFAULTS.items():
        environ.setdefault(name, value)
    if profiles_dir:
        environ["DBT_PROFILES_DIR"] = profiles_dir
    scratch = _scratch()
    if scratch is None:
        return ["no directory for temporary files is writable: dbt will write below the project's directory, if it can"]
    _home(environ, scratch, project_dir)
    environ.setdefault("DBT_LOG_PATH", str(scratch / "logs"))
    if "DBT_TARGET_PATH" not in environ:
        # Fresh for each start, so that no artifact of an earlier run can be taken for this one's.
        environ["DBT_TARGET_PATH"] = str(scratch / "target")
        _keep_parse_cache(source=project_dir / "target" / PARSE_CACHE, target=scratch / "target")
    return []


def _scratch() -> Path | None:
    try:
        base = Path(tempfile.gettempdir(), "dbt-operator")
        with contextlib.suppress(OSError):
            base.mkdir(exist_ok=True)
            return Path(tempfile.mkdtemp(dir=base))
        # The name is taken, by a file or by somebody else's directory.
        return Path(tempfile.mkdtemp(prefix="dbt-operator-"))
    except OSError:
        return None


def _home(environ: MutableMapping[str, str], scratch: Path, project_dir: Path) -> None:
    # Drivers and extensions keep caches in the home directory, which a pod with an arbitrary uid often does not have.
    old = Path(environ.get("HOME") or "/")
    if old.is_dir() and os.access(old, os.W_OK | os.X_OK):
        return
    profiles = old / ".dbt" / "profiles.yml"
    in_project = (project_dir / "profiles.yml").exists()
    if "DBT_PROFILES_DIR" not in environ and not in_project and os.access(profiles, os.R_OK):
        environ["DBT_PROFILES_DIR"] = str(profiles.parent)
    home = scratch / "home"
    home.mkdir()
    environ["HOME"] = str(home)


def _keep_parse_cache(*, source: Path, target: Path) -> None:
    """Take over dbt's parse cache from the project's own target directory; dbt checks itself whether it still holds."""
    # Without it parsing takes longer, that is all.
    with contextlib.suppress(OSError):
        target.mkdir(exist_ok=True)
        if source.is_file():
            shutil.copyfile(source, target / PARSE_CACHE)


def unpack_parse_cache(*, source: Path, target: Path) -> bool:
    """Put the parse cache of an earlier attempt in place of any other; without one, or with a damaged one, dbt parses.

    dbt checks itself whether the cache still holds, and whether it can be read. Returns whether there is one.
    """
    with contextlib.suppress(OSError, EOFError, zlib.error):
        content = gzip.decompress(source.read_bytes())
        # What is unpacked of an empty file is nothing.
        if content:
            target.mkdir(parents=True, exist_ok=True)
            (target / PARSE_CACHE).write_bytes(content)
            os.utime(target / PARSE_CACHE, (0, 0))  # no file that dbt writes is so old
            return True
    return False


def parse_cache_stands(*, target: Path) -> bool:
    """Whether the parse cache is the one that was unpacked: dbt writes it anew when it has parsed anything at all."""
    with contextlib.suppress(OSError):
        return (target / PARSE_CACHE).stat().st_mtime == 0
    return False
