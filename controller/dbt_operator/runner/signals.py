"""SIGTERM becomes dbt's own cancel: a KeyboardInterrupt in the main thread, which is the only cancel dbt knows."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Callable, NoReturn

# How long dbt may take before its cancelling is helped along, and how often it is interrupted.
HELP_SECONDS = 1.5
MOST_INTERRUPTS = 5
# How long after SIGTERM Kubernetes kills a pod that says nothing else.
GRACE_SECONDS = 30.0
# What is needed of that for the record.
_RECORD_SECONDS = 5.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def cancelling_seconds(*, grace_seconds: float) -> float:
    """How long dbt may take to cancel its queries in a pod with this grace period, before we stop waiting for it."""
    return max(grace_seconds - _RECORD_SECONDS, grace_seconds / 2)


class Cancellation:
    """The state of a wish to stop, from the first signal to the end of the process.

    `announce` is called at most once, from within the signal handler, so it must be reentrant;
    `cancel_queries` is called from a thread of its own while dbt has not ended;
    `give_up` is called from a thread of its own when dbt has not ended in time, and must not return.
    """

    def __init__(self, *, help_seconds: float = HELP_SECONDS) -> None:
        self.requested = ""
        self._announce: Callable[[str], None] | None = None
        self._give_up: Callable[[], None] | None = None
        self._cancel_queries: Callable[[], None] | None = None
        self._announced = threading.Lock()
        self._ended = False
        self._in_handler = False
        self._interruptible = False
        self._interrupts = 0
        self._cancelling_seconds = cancelling_seconds(grace_seconds=GRACE_SECONDS)
        self._help_seconds = help_seconds
        # Python's own handler runs in the main thread, and only between two steps of Python: not while a driver waits
        # there for its warehouse, as psycopg2 does for the query of a hook. The pipe is written to at once.
        self._heard, self._tell = os.pipe()
        self._over = threading.Event()

    def install(self) -> None:
        """Handle the signals from now on. As PID 1 of a container a signal without a handler is ignored."""
        os.set_blocking(self._tell, False)
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(SIGNALS))

    def start(
        self,
        *,
        announce: Callable[[str], None],
        cancel_queries: Callable[[], None],
        give_up: Callable[[], None],
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """From here the wish can be announced, and is watched over; one that came before is announced now.

        grace_seconds: the grace period of the pod.
        """
        self._cancelling_seconds = cancelling_seconds(grace_seconds=grace_seconds)
        self._cancel_queries = cancel_queries
        self._give_up = give_up
        threading.Thread(target=self._watch, name="runner-cancel", daemon=True).start()
        self._announce = announce
        self._announce_once()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around code that a signal interrupts; elsewhere it is noted, and takes effect at the next such place."""
        self._interruptible = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._interruptible = False

    def ended(self) -> None:
        """Nothing is left to interrupt: from now on a signal does not make a finished run a cancelled one."""
        self._ended = True

    def over(self) -> None:
        """The last line is being written: stop watching."""
        self._ended = True
        self._over.set()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        # A second signal that comes while the first one is announced must not interrupt that: it would be lost. The
        # first one interrupts dbt in a moment, for both.
        if self._ended or self._in_handler:
            return
        self._in_handler = True
        try:
            self.requested = self.requested or signal.Signals(number).name
            self._announce_once()
        finally:
            self._in_handler = False
        # An interrupt on top of one that dbt is already handling would break off the cancelling of its queries.
        if self._interruptible and self._interrupts < MOST_INTERRUPTS and not _handling_interrupt():
            self._interrupts += 1
            raise KeyboardInterrupt

    def _announce_once(self) -> None:
        # The handler and the watching thread may both come here. The lock is taken once and never given back.
        if self.requested and self._announce is not None and self._announced.acquire(blocking=False):
            self._announce(self.requested)

    def _hear(self) -> None:
        """Wait for a signal that asks to stop before there is nothing left to stop."""
        while True:
            (number,) = os.read(self._heard, 1)
            if number in SIGNALS and not self._ended:
                self.requested = self.requested or signal.Signals(number).name
                return

    def _watch(self) -> None:
        self._hear()
        deadline = time.monotonic() + self._cancelling_seconds
        helper: threading.Thread | None = None
        while not self._over.wait(self._help_seconds):
            self._announce_once()
            if time.monotonic() >= deadline:
                if self._give_up is not None:
                    self._give_up()
                return
            # An interrupt can get lost where Python has to swallow exceptions (a destructor, a callback from C) or in a
            # bare except. The handler itself sees whether dbt is on it; a real signal also ends blocking calls.
            # dbt cancels the queries it finds once: not one that a thread is about to start, nor a hook's, which
            # keeps the main thread itself from noticing. A thread, as drivers may block here too.
            if helper is None or not helper.is_alive():
                helper = threading.Thread(target=self._cancel_queries, name="runner-cancel-queries", daemon=True)
                helper.start()
            main = threading.main_thread().ident
            if main is not None:
                signal.pthread_kill(main, signal.SIGTERM)


def _handling_interrupt() -> bool:
    # A signal handler runs on top of the main thread's frames, so this is the exception those frames are handling.
    error: BaseException | None = sys.exc_info()[1]
    seen = 0
    while error is not None and seen < 50:
        if isinstance(error, KeyboardInterrupt):
            return True
        error, seen = error.__context__, seen + 1
    return False


def leave(*, code: int, cancelled: bool) -> NoReturn:
    """End the process with this code.

    Python waits for every non-daemon thread at exit. After a cancellation one may hang in a warehouse's driver for as
    long as its query runs, and nothing is left to be said or cleaned up then: it is left without waiting.
    """
    deadline = time.monotonic() + (0 if cancelled else 5)
    while _others_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    if cancelled or _others_alive():
        os._exit(code)
    sys.exit(code)


def _others_alive() -> bool:
    main = threading.main_thread()
    return any(thread is not main and not thread.daemon and thread.is_alive() for thread in threading.enumerate())
