"""Using up the memory of a container from outside, so that the kernel kills what runs in it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from dev.cluster import processes

CGROUPS = Path("/sys/fs/cgroup")
HEADROOM = 8 * 1024 * 1024
HOG_SECONDS = 10
PATIENCE = 3.0

# Joins the container's group, and then takes more than is left there. Which of the two processes is killed is the
# kernel's choice: it prefers those that Kubernetes has marked, which a pod without guarantees is.
_HOG = f"""
import pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text("0")
taken = []
end = time.monotonic() + {HOG_SECONDS}
while time.monotonic() < end and pathlib.Path("/proc", sys.argv[2]).exists():
    if len(taken) < 64:
        taken.append(bytearray(b"x") * 1024 * 1024)
    else:
        time.sleep(0.05)
"""


def _group(pid: int) -> tuple[Path, str, str] | None:
    """Folder of the process's memory group, and the files of its limit and its use, in either version of cgroups."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers == "memory":
            return CGROUPS / "memory" / path.lstrip("/"), "memory.limit_in_bytes", "memory.usage_in_bytes"
        if not controllers and (CGROUPS / path.lstrip("/") / "memory.max").exists():
            return CGROUPS / path.lstrip("/"), "memory.max", "memory.current"
    return None


def exhaust(pid: int) -> bool:
    """Limit the memory of the process's container to what it uses and a little, and use that up.

    Returns whether the process was killed for it. It is slow when the process is: up to some seconds.
    """
    try:
        found = _group(pid)
        if found is None:
            return False
        folder, limit, use = found
        (folder / limit).write_text(str(int((folder / use).read_text()) + HEADROOM))
        program = [sys.executable, "-c", _HOG, str(folder / "cgroup.procs"), str(pid)]
        subprocess.run(program, check=False, capture_output=True, timeout=HOG_SECONDS * 2)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return _gone(pid)


def _gone(pid: int) -> bool:
    """Whether the process has ended, or does so now: it takes a moment to give back its memory."""
    deadline = time.monotonic() + PATIENCE
    while (now := processes.facts(pid)) is not None and not now.zombie:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
