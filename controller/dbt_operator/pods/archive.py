"""The runner as a zipapp: one file that any Python of an image can run."""

import functools
import io
import zipfile
from importlib import resources

# The kernel drops a signal that PID 1 of a container has no handler for, but keeps one that is blocked: SIGTERM waits
# until the runner's own handler is there and unblocks it.
_MAIN = """\
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})

from dbt_operator.runner.main import main

main()
"""
_FOLDERS = ("runner", "runner/executors")
# Equal sources give equal bytes, so that the ConfigMap that holds the archive changes only with the runner.
_TIMESTAMP = (2020, 1, 1, 0, 0, 0)


@functools.cache
def build_archive() -> bytes:
    """A zip with the runner's sources and an entry point; the same bytes each time."""
    package = resources.files("dbt_operator")
    sources = {"__main__.py": _MAIN, "dbt_operator/__init__.py": package.joinpath("__init__.py").read_text("utf-8")}
    for folder in _FOLDERS:
        for entry in package.joinpath(folder).iterdir():
            if entry.name.endswith(".py"):
                sources[f"dbt_operator/{folder}/{entry.name}"] = entry.read_text("utf-8")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(sources):
            info = zipfile.ZipInfo(name, date_time=_TIMESTAMP)
            info.external_attr = 0o644 << 16
            archive.writestr(info, sources[name], compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()
