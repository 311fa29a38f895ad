"""A dbt that does not stop when it is told to is left in time for the record to be written."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dbt_operator.runner.signals import cancelling_seconds

# What a driver does that waits and swallows what interrupts it, wherever that comes from. It writes without Python's
# buffers, as a signal handler may interrupt a print. The times are those of a patient test.
STUBBORN = """
import os, time
from dbt_operator.runner.signals import Cancellation

def say(what):
    os.write(1, f"{what}\\n".encode())

def give_up():
    say("left")
    os._exit(2)

cancellation = Cancellation(help_seconds=0.1)
cancellation.install()
cancellation.start(announce=say, cancel_queries=lambda: say("queries cancelled"), give_up=give_up, grace_seconds=4)
with cancellation.interruptible():
    while True:
        try:
            say("at work")
            while True:
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    say("interrupted")
        except KeyboardInterrupt:
            say("interrupted")
"""


@pytest.mark.parametrize(("pod", "dbt"), [(30, 25), (60, 55), (600, 595), (10, 5), (4, 2), (0, 0)])
def test_dbt_has_the_grace_period_of_the_pod_but_for_what_the_record_needs(pod: float, dbt: float) -> None:
    assert cancelling_seconds(grace_seconds=pod) == dbt


def test_a_dbt_that_does_not_stop_is_helped_and_then_left() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read().splitlines()
    assert process.returncode == 2
    assert (said[0], said[-1]) == ("SIGTERM", "left")
    assert said.count("SIGTERM") == 1
    assert "queries cancelled" in said
    assert said.count("interrupted") > 1  # an interrupt can get lost: there is more than one


# What psycopg2 does for the query of a hook: it waits in C, where Python's signal handlers do not run.
IN_C = """
import ctypes, os, threading
from dbt_operator.runner.signals import Cancellation

libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)  # zeros are an unlocked pthread mutex
libc.pthread_mutex_lock(mutex)  # a second lock waits until somebody unlocks it, whatever signals come

def say(what):
    os.write(1, f"{what}\\n".encode())

def cancel_queries():
    say("queries cancelled")
    libc.pthread_mutex_unlock(mutex)

cancellation = Cancellation(help_seconds=0.1)
cancellation.install()
cancellation.start(announce=say, cancel_queries=cancel_queries, give_up=lambda: os._exit(3), grace_seconds=60)
try:
    with cancellation.interruptible():
        say("at work")
        libc.pthread_mutex_lock(mutex)
        say("the query has ended")
except KeyboardInterrupt:
    say("stopped")
"""


def _waits_in_c(pid: int) -> None:
    """Return once the main thread waits for the mutex: before that its signal handler could still run."""
    seen: list[str] = []
    while len(seen) < 5 or len(set(seen[-5:])) > 1 or "futex" not in seen[-1]:
        seen.append(Path(f"/proc/{pid}/wchan").read_text())
        time.sleep(0.02)


def test_a_query_that_keeps_the_main_thread_in_its_driver_is_cancelled_too() -> None:
    with subprocess.Popen([sys.executable, "-c", IN_C], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        _waits_in_c(process.pid)
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert said.index("SIGTERM") < said.index("queries cancelled") < said.index("stopped")
    assert said.count("SIGTERM") == 1


# Kubernetes and a person may both tell it to stop at the same moment.
HURRIED = """
import os, signal
from dbt_operator.runner.signals import Cancellation

def announce(name):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass
    os.write(1, f"{name} announced\\n".encode())

cancellation = Cancellation(help_seconds=60)
cancellation.install()
cancellation.start(announce=announce, cancel_queries=lambda: None, give_up=lambda: None, grace_seconds=60)
try:
    with cancellation.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
"""


def test_a_signal_that_comes_while_another_one_is_announced_does_not_swallow_the_announcement() -> None:
    done = subprocess.run([sys.executable, "-c", HURRIED], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["SIGTERM announced", "interrupted"]
