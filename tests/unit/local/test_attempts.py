"""One attempt: claimed once whatever happens, alive as long as one of its processes, and how it ended."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.local.attempts import LocalAttempt
from dbt_operator.local.pod import Program, Recipe

JOB: dict[str, Any] = {
    "metadata": {"name": "run-producer-1"},
    "spec": {"template": {"spec": {"containers": [{"name": "dbt"}]}}},
}


def recipe(code: str, *, steps: tuple[str, ...] = (), grace: int = 30, memory: int = 0) -> Recipe:
    """A recipe whose dbt is this Python code, as are the steps before it."""
    programs = [
        Program(name=f"dbt-operator-{index}", argv=(sys.executable, "-c", one), env=dict(os.environ), message_file="")
        for index, one in enumerate(steps)
    ]
    return Recipe(
        folders=(),
        files={"mounts/secret/key": b"a secret"},
        steps=tuple(programs),
        dbt=Program(name="dbt", argv=(sys.executable, "-c", code), env=dict(os.environ), message_file=""),
        cwd="/",
        grace_seconds=grace,
        memory_bytes=memory,
    )


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[LocalAttempt]:
    made = LocalAttempt(tmp_path / "run-producer-1")
    made.create(JOB, uid="uid", now=datetime.now(UTC))
    yield made
    made.kill()
    if made.spawned is not None:
        made.spawned.wait(timeout=30)


def wait(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(attempt: LocalAttempt) -> Any:
    wait(lambda: (pod := attempt.pod_facts()) is not None and pod.ended)
    return attempt.pod_facts()


def test_it_is_held_until_it_is_started_and_then_runs_and_ends(attempt: LocalAttempt) -> None:
    pod = attempt.pod_facts()
    assert pod is not None
    assert pod.held
    attempt.start(recipe("import time; print('{}', flush=True); time.sleep(1)"))
    wait(lambda: (pod := attempt.pod_facts()) is not None and pod.running)
    assert attempt.alive
    pod = ended(attempt)
    assert (pod.phase, pod.terminated.exit_code, pod.terminated.reason) == ("Succeeded", 0, "Completed")
    job = attempt.job_facts()
    assert job is not None
    assert job.complete
    assert attempt.log.read_bytes() == b"{}\n"


def test_what_was_mounted_goes_with_it(attempt: LocalAttempt) -> None:
    attempt.start(recipe("assert open('%s').read()" % (attempt.folder / "mounts/secret/key")))
    assert ended(attempt).terminated.exit_code == 0
    assert not (attempt.folder / "mounts").exists()


def test_of_many_who_start_it_one_does(attempt: LocalAttempt) -> None:
    code = f"import os, time; open(f'{attempt.folder}/began.{{os.getpid()}}', 'w'); time.sleep(0.5)"
    others = [LocalAttempt(attempt.folder) for _ in range(4)]
    threads = [threading.Thread(target=one.start, args=(recipe(code),)) for one in (attempt, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in (attempt, *others):
        assert one.spawned is not None
        one.spawned.wait(timeout=60)
    again = LocalAttempt(attempt.folder)
    again.start(recipe(code))
    assert again.spawned is not None
    again.spawned.wait(timeout=60)
    assert len(list(attempt.folder.glob("began.*"))) == 1


def test_the_process_lives_while_its_supervisor_was_killed(attempt: LocalAttempt) -> None:
    attempt.start(recipe(f"import time; open('{attempt.folder}/began', 'w'); time.sleep(60)"))
    wait((attempt.folder / "began").exists)
    assert attempt.spawned is not None
    attempt.spawned.kill()
    attempt.spawned.wait()
    assert attempt.alive
    assert attempt.pod_facts() is not None
    attempt.stop()  # there is nobody between it and us
    pod = ended(attempt)
    assert pod.terminated.reason == "ContainerStatusUnknown"


def test_when_both_were_killed_nobody_knows_how_it_ended(attempt: LocalAttempt) -> None:
    attempt.start(recipe("import time; time.sleep(60)"))
    wait(lambda: (pod := attempt.pod_facts()) is not None and pod.running)
    attempt.kill()
    pod = ended(attempt)
    assert (pod.phase, pod.terminated.reason) == ("Failed", "ContainerStatusUnknown")
    assert (attempt.folder / "mounts").exists()
    attempt.clear()
    assert not (attempt.folder / "mounts").exists()


def test_it_is_told_to_end_and_says_how(attempt: LocalAttempt) -> None:
    handler = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7))"
    code = f"{handler}; open('{attempt.folder}/began', 'w'); time.sleep(60)"
    attempt.start(recipe(code))
    wait((attempt.folder / "began").exists)
    attempt.stop()
    assert ended(attempt).terminated.exit_code == 7
    assert attempt.job_facts() is None


def test_what_does_not_end_in_time_is_killed(attempt: LocalAttempt) -> None:
    code = (
        f"import signal, time; signal.signal(15, signal.SIG_IGN); open('{attempt.folder}/began', 'w'); time.sleep(60)"
    )
    attempt.start(recipe(code, grace=1))
    wait((attempt.folder / "began").exists)
    attempt.stop()
    assert ended(attempt).terminated.exit_code == 128 + signal.SIGKILL


def test_what_was_stopped_before_its_start_never_begins(attempt: LocalAttempt) -> None:
    attempt.stop()
    attempt.start(recipe(f"open('{attempt.folder}/began', 'w')"))
    assert attempt.spawned is not None
    attempt.spawned.wait(timeout=60)
    assert not (attempt.folder / "began").exists()
    assert (attempt.job_facts(), attempt.pod_facts()) == (None, None)


def test_a_step_that_fails_keeps_dbt_from_beginning(attempt: LocalAttempt) -> None:
    attempt.start(recipe(f"open('{attempt.folder}/began', 'w')", steps=("print(1)", "raise SystemExit(3)", "print(2)")))
    pod = ended(attempt)
    assert pod.init_failure.name == "dbt-operator-1"
    assert pod.init_failure.ended.exit_code == 3
    assert pod.terminated is None
    assert not (attempt.folder / "began").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not say how much memory is used")
def test_more_memory_than_the_limit_is_the_end(attempt: LocalAttempt) -> None:
    attempt.start(recipe("held = bytearray(200_000_000); import time; time.sleep(60)", memory=100_000_000))
    assert ended(attempt).terminated.reason == "OOMKilled"


def test_a_program_that_cannot_be_started_says_so(attempt: LocalAttempt) -> None:
    broken = recipe("")
    object.__setattr__(broken, "dbt", Program(name="dbt", argv=("/no/such/program",), env={}, message_file=""))
    attempt.start(broken)
    assert ended(attempt).terminated.reason == "StartError"


def test_who_is_killed_before_it_has_said_what_to_do_starts_nothing(attempt: LocalAttempt) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbt_operator.local.supervisor"],
        input=b'{"folder": "', check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0
    pod = attempt.pod_facts()
    assert pod is not None
    assert pod.held
