"""The growth of this process's memory, while it grows: what is killed for want of memory writes no last line."""

from __future__ import annotations

import threading
from typing import Callable

from dbt_operator.runner.results import peak_memory_bytes

STEP = 8 << 20
SECONDS = 0.5


class MemoryWatch:
    """Looks at the peak twice a second and tells it whenever it has grown by STEP bytes since it was last told."""

    def __init__(self, *, report: Callable[[int], None]) -> None:
        self._report = report
        self._reported = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runner-memory", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            peak = peak_memory_bytes()
            if peak >= self._reported + STEP:
                self._reported = peak
                self._report(peak)
            self._stopping.wait(SECONDS)
