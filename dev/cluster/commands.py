"""Running other programs, and saying what happens."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dev.cluster.settings import ClusterError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ERROR_LINES = 15


def say(text: str) -> None:
    """Flush at once: CI shows what a pipe holds back only at the end."""
    print(text, flush=True)


def clean_environment() -> dict[str, str]:
    """What a daemon gets: nothing of the caller's shell, which would outlive the shell otherwise."""
    return {"PATH": SYSTEM_PATH, "HOME": os.environ.get("HOME", "/root"), "LANG": "C.UTF-8"}


def find_program(name: str) -> str | None:
    """Look in sbin too: it is missing from the PATH of many users."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)


def tail(text: str, *, lines: int = ERROR_LINES) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])


def run(
    argv: Sequence[str],
    *,
    doing: str,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end and return its output; a failure names the intention, not only the program."""
    try:
        done = subprocess.run(list(argv), input=stdin, capture_output=True, text=True, env=env, cwd=cwd, check=False)
    except OSError as error:
        raise ClusterError(f"{doing} failed: {argv[0]} cannot be started ({error.strerror}).") from error
    if done.returncode != 0:
        output = tail(done.stderr or done.stdout)
        raise ClusterError(f"{doing} failed ({Path(argv[0]).name}, exit code {done.returncode}):\n{output}")
    return done.stdout


def succeeds(argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 60) -> bool:
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextmanager
def locked(path: Path, *, purpose: str) -> Iterator[None]:
    """Hold a lock that ends with this process, whatever ends it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another command that {purpose} …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_file(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Replace a file in one step, so that no reader ever sees half of it, or a secret with open permissions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    temporary.replace(path)
