"""A process is ours only while it is provably the one that was started."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dev.cluster import processes
from dev.cluster.processes import ProcessFacts, ProcessRecord, is_same, parse_stat

RECORD = ProcessRecord(pid=7, start_time=100, boot_id="boot", program="/bin/etcd", fingerprint="x")
FACTS = ProcessFacts(start_time=100, program="/bin/etcd", zombie=False)


@pytest.mark.parametrize(
    ("now", "boot", "same"),
    [
        (FACTS, "boot", True),
        (None, "boot", False),
        (FACTS, "a later boot", False),
        (replace(FACTS, start_time=101), "boot", False),
        (replace(FACTS, program="/bin/bash"), "boot", False),
        (replace(FACTS, zombie=True), "boot", False),
    ],
)
def test_identity(*, now: ProcessFacts | None, boot: str, same: bool) -> None:
    assert is_same(RECORD, now, boot=boot) is same


def test_stat_of_a_program_with_a_misleading_name() -> None:
    stat = "7 (a) S (b) R 1 7 7 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4242 100 5 18446744073709551615"
    assert parse_stat(stat) == ("R", 4242)


def test_unreadable_record_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "etcd.json"
    assert processes.read_record(path) is None
    path.write_text('{"pid": 1')
    assert processes.read_record(path) is None
    path.write_text('{"pid": 1}')
    assert processes.read_record(path) is None


def test_started_process_is_recognised_and_stopped(tmp_path: Path) -> None:
    pid_file, log = tmp_path / "sleep.json", tmp_path / "sleep.log"
    record = processes.start(["/bin/sleep", "60"], pid_file=pid_file, log=log, fingerprint="f", cwd=tmp_path)
    assert processes.read_record(pid_file) == record
    assert processes.alive(record)
    assert processes.stop(pid_file)
    assert not processes.alive(record)
    assert not processes.stop(pid_file)


def test_process_of_others_is_not_stopped(tmp_path: Path) -> None:
    """Its number was ours before: the start time tells the difference."""
    pid_file, log = tmp_path / "sleep.json", tmp_path / "sleep.log"
    other = processes.start(["/bin/sleep", "60"], pid_file=pid_file, log=log, fingerprint="f", cwd=tmp_path)
    stale = tmp_path / "stale.json"
    stale.write_text(pid_file.read_text().replace(str(other.start_time), str(other.start_time - 1)))
    try:
        assert not processes.stop(stale)
        assert processes.alive(other)
    finally:
        processes.stop(pid_file)


def test_started_process_holds_nothing_of_its_caller(tmp_path: Path) -> None:
    """A pipeline that reads a command's output must end when the command does, not when the daemon does."""
    script = (
        "import sys, pathlib; from dev.cluster import processes; d = pathlib.Path(sys.argv[1]);"
        "r = processes.start(['/bin/sleep', '30'], pid_file=d / 'p', log=d / 'p.log', fingerprint='', cwd=d);"
        "print(r.pid)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).resolve().parents[3]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=root, check=True)
        assert done.stdout.strip().isdigit()
    finally:
        processes.stop(tmp_path / "p")
