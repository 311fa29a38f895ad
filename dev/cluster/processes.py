"""Background processes that this package starts, and later recognises as its own.

A process id alone proves nothing: after a crash or a reboot it may belong to somebody else. A record holds the
boot, the start time and the program too, and only a process that matches all of them is ever signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.cluster.commands import clean_environment, tail, write_file

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A sixth of what the API server works is collecting garbage as long as its heap may only double.
ENVIRONMENT = {"GOGC": "400"}
EXEC_PATIENCE = 2.0
START_TIME_FIELD = 19  # of /proc/PID/stat, counted from the field after the program's name


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """What identifies a process for as long as the machine runs; `fingerprint` tells how it was configured."""

    pid: int
    start_time: int
    boot_id: str
    program: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class ProcessFacts:
    """What the kernel says about a process that exists now."""

    start_time: int
    program: str
    zombie: bool


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


def parse_stat(stat: str) -> tuple[str, int]:
    """State and start time from /proc/PID/stat, whose second field may hold spaces and parentheses."""
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[START_TIME_FIELD])


def facts(pid: int) -> ProcessFacts | None:
    directory = Path("/proc") / str(pid)
    try:
        state, start_time = parse_stat((directory / "stat").read_text())
        program = (directory / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except (OSError, ValueError, IndexError):
        return None
    return ProcessFacts(start_time=start_time, program=program, zombie=state in {"Z", "X"})


def is_same(record: ProcessRecord, now: ProcessFacts | None, *, boot: str) -> bool:
    if now is None or now.zombie or record.boot_id != boot:
        return False
    return now.start_time == record.start_time and now.program == record.program


def read_record(path: Path) -> ProcessRecord | None:
    try:
        return ProcessRecord(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def alive(record: ProcessRecord | None) -> bool:
    return record is not None and is_same(record, facts(record.pid), boot=boot_id())


def start(argv: Sequence[str], *, pid_file: Path, log: Path, fingerprint: str, cwd: Path) -> ProcessRecord:
    """Start a daemon in a session of its own, with nothing of the caller's open: a CI step must be able to end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), **ENVIRONMENT},
            cwd=cwd,
            start_new_session=True,
        )
    now = _facts_once_executing(process.pid, program=argv[0])
    record = ProcessRecord(
        pid=process.pid,
        start_time=now.start_time if now else 0,
        boot_id=boot_id(),
        program=argv[0],
        fingerprint=fingerprint,
    )
    write_file(pid_file, json.dumps(asdict(record)))
    process.returncode = 0  # a daemon outlives this command: nobody waits for it
    return record


def _facts_once_executing(pid: int, *, program: str) -> ProcessFacts | None:
    """The kernel shows a new program's command line a moment after the call that started it has returned."""
    deadline = time.monotonic() + EXEC_PATIENCE
    now = facts(pid)
    while now is not None and not now.zombie and now.program != program and time.monotonic() < deadline:
        time.sleep(0.002)
        now = facts(pid)
    return now


def stop(pid_file: Path, *, timeout: float = 15) -> bool:
    """Ask a process to end, insist after a while, and return when it is gone: only then are its ports free."""
    record = read_record(pid_file)
    if record is None or not alive(record):
        pid_file.unlink(missing_ok=True)
        return False
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 10.0)):
        _signal(record.pid, number)
        if wait_until_gone(record, timeout=patience):
            break
    pid_file.unlink(missing_ok=True)
    return True


def wait_until_gone(record: ProcessRecord, *, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def last_lines(log: Path) -> str:
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "    (no log)"
    return tail(text) or "    (the log is empty)"
