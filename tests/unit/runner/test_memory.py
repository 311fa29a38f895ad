"""When the runner tells how much memory dbt has needed."""

import threading

import pytest

from dbt_operator.runner import memory

MIB = 1 << 20


def test_memory_is_told_while_it_grows_and_not_for_each_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([100 * MIB, 103 * MIB, 107 * MIB, 108 * MIB, 140 * MIB, 147 * MIB])
    told, over = list[int](), threading.Event()

    def peak() -> int:
        value = next(peaks, None)
        if value is None:
            watch.stop()
            over.set()
        return value or 0

    monkeypatch.setattr(memory, "SECONDS", 0.001)
    monkeypatch.setattr(memory, "peak_memory_bytes", peak)
    watch = memory.MemoryWatch(report=told.append)
    watch.start()
    assert over.wait(30)
    assert told == [100 * MIB, 108 * MIB, 140 * MIB]
