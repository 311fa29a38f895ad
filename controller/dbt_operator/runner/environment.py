"""What dbt finds around it: writable directories, and defaults that suit a pod."""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
import zlib
from collections.abc import Mapping, MutableMapping
from pathlib import Path

# Of what dbt does by default only this suits no pod. Nothing here may change what dbt executes, or refuses to execute.
_DEFAULTS = {
    "SEND_ANONYMOUS_USAGE_STATS": "false",
    "USE_COLORS": "false",
}
PARSE_CACHE = "partial_parse.msgpack"
# The times of a parse cache that was put in place: no file that dbt writes is so old.
UNPACKED = (0, 0)
# For a project whose hooks shall not run again when a part of it is executed again.
ATTEMPT_KIND = "DBT_OPERATOR_ATTEMPT_KIND"
# dbt looks for a variable under both names, and the first one counts. Before 1.11 it knows the second one only.
_PREFIXES = ("DBT_ENGINE_", "DBT_")


def prepare(*, environ: MutableMapping[str, str], project_dir: Path, profiles_dir: str, attempt_kind: str) -> list[str]:
    """Complete the environment for dbt, which is started in `project_dir`; returns what went wrong, a sentence each."""
    environ[ATTEMPT_KIND] = attempt_kind
    for name, value in _DEFAULTS.items():
        _set(environ, name, _get(environ, name) or value)
    # What the spec of the run says has precedence over what the image says.
    _set(environ, "PROJECT_DIR", str(project_dir))
    if profiles_dir:
        _set(environ, "PROFILES_DIR", profiles_dir)
    scratch = _scratch()
    if scratch is None:
        return ["no directory for temporary files is writable: dbt will write below the project's directory, if it can"]
    _home(environ, scratch, project_dir)
    logs = _writable(environ, "LOG_PATH", project_dir, scratch / "logs")
    # Fresh for each start, so that no artifact of an earlier run can be taken for this one's.
    before = project_dir / (_get(environ, "TARGET_PATH") or "target")
    target = _writable(environ, "TARGET_PATH", project_dir, scratch / "target")
    if environ["DBT_TARGET_PATH"] == str(scratch / "target"):
        _keep_parse_cache(source=before / PARSE_CACHE, target=scratch / "target", project_dir=project_dir)
    return [*logs, *target]


def _get(environ: Mapping[str, str], name: str) -> str:
    return next((environ[prefix + name] for prefix in _PREFIXES if environ.get(prefix + name)), "")


def _set(environ: MutableMapping[str, str], name: str, value: str) -> None:
    for prefix in _PREFIXES:
        environ.pop(prefix + name, None)
    environ["DBT_" + name] = value


def _writable(environ: MutableMapping[str, str], name: str, project_dir: Path, own: Path) -> list[str]:
    """Leave a directory of dbt's where the variable says, if it can be written to, else at `own`; returns why."""
    named = _get(environ, name)
    problem = _obstacle(project_dir / named) if named else ""
    _set(environ, name, str(own) if problem or not named else named)
    return [f"DBT_{name} names {named}, where dbt cannot write ({problem}): it writes to {own}"] if problem else []


def _obstacle(directory: Path) -> str:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


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
    if not _get(environ, "PROFILES_DIR") and not in_project and os.access(profiles, os.R_OK):
        _set(environ, "PROFILES_DIR", str(profiles.parent))
    home = scratch / "home"
    home.mkdir()
    environ["HOME"] = str(home)
    # What the image has there, credentials or extensions of DuckDB, is still found where programs look for it.
    with contextlib.suppress(OSError):
        for entry in old.iterdir() if old != Path("/") else ():
            if entry.name != ".cache":
                (home / entry.name).symlink_to(entry)


def _keep_parse_cache(*, source: Path, target: Path, project_dir: Path) -> None:
    """Take over dbt's parse cache from the project's own target directory; dbt checks itself whether it still holds.

    It does not check the directory: a cache names the one in which it was made, and dbt looks for the files of seeds
    there. One of another directory is left.
    """
    # Without it parsing takes longer, that is all.
    with contextlib.suppress(OSError):
        target.mkdir(exist_ok=True)
        content = source.read_bytes()
        if str(project_dir.resolve()).encode() in content:
            (target / PARSE_CACHE).write_bytes(content)


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
            os.utime(target / PARSE_CACHE, UNPACKED)
            return True
    return False


def parse_cache_stands(*, target: Path) -> bool:
    """Whether the parse cache is the one that was put there: dbt writes it anew when it has parsed anything at all."""
    with contextlib.suppress(OSError):
        return (target / PARSE_CACHE).stat().st_mtime == 0
    return False
