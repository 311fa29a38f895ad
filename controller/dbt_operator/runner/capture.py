"""File descriptors 1 and 2 belong to the user's code; what is written there is printed as Output events.

So nothing but the runner can print an event, and nothing in the pod's log is without one.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import sys
import threading
from typing import Callable

from dbt_operator.runner.masking import MaskedStream, Masker

MOST_BYTES = 1 << 20
# A text is cut into pieces of this many characters, so that each fits into a line whatever its letters are.
PIECE = 1800
IDLE_SECONDS = 0.2


class Capture:
    """Pipes in place of stdout and stderr, and the thread that empties them for as long as the process lives.

    `emit` is called with the stream and with a text that is masked.
    """

    def __init__(self, *, emit: Callable[[str, str], None], masker: Masker) -> None:
        self.dropped_bytes = 0
        self._emit = emit
        self._masker = masker
        self._left = MOST_BYTES
        self._lock = threading.Lock()
        self._pipes: dict[int, str] = {}
        self._partial: dict[str, str] = {"stdout": "", "stderr": ""}
        self._masked = {name: MaskedStream(masker) for name in self._partial}
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in self._partial}
        self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._run, name="runner-capture", daemon=True)

    def redirect(self) -> int:
        """Put the pipes in place and return a private descriptor of the original stdout, which no child inherits."""
        private = os.dup(1)
        for name, fd in (("stdout", 1), ("stderr", 2)):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            os.dup2(writer, fd, inheritable=True)
            os.close(writer)
            self._pipes[reader] = name
        # Python chose block buffering when it found a pipe at its start; a print() is worth seeing when it happens.
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(line_buffering=True)
        return private

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def text(self, stream: str, text: str) -> None:
        """Pass on a whole text, in lines and in pieces; more than MOST_BYTES in a run is only counted."""
        self._pass_on(stream, self._masker.text(text))

    def _pass_on(self, stream: str, text: str) -> None:
        """The same of a text that is masked."""
        for line in text.split("\n"):
            if not line.strip():
                continue
            pieces = [line[at : at + PIECE] for at in range(0, len(line), PIECE)]
            for piece in pieces:
                cost = len(piece.encode("utf-8", "replace")) + 1
                with self._lock:
                    fits = self._left >= cost
                    self._left = self._left - cost if fits else 0
                    self.dropped_bytes += 0 if fits else cost
                if fits:
                    self._emit(stream, piece)

    def stop(self, *, timeout: float) -> None:
        """Flush what Python still holds, and read on until the pipes are empty; later writes go nowhere."""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        # No end of file is waited for: a child process may hold the pipes open, as multiprocessing's tracker does.
        os.write(self._stopping[1], b".")
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for reader in self._pipes:
                selector.register(reader, selectors.EVENT_READ)
            selector.register(self._stopping[0], selectors.EVENT_READ)
            stopping = False
            while not stopping:
                ready = selector.select(IDLE_SECONDS if self._sayable() else None)
                if not ready:
                    self._flush_partial()
                for key, _ in ready:
                    if key.fd == self._stopping[0]:
                        stopping = True
                    else:
                        self._read(key.fd)
        for reader in self._pipes:
            while self._read(reader):
                pass
        self._flush()

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, 65536)
        except OSError:
            # Nothing there: the selector said otherwise, or this is the last look at it.
            return False
        name = self._pipes[fd]
        text = self._masked[name].feed(self._decoders[name].decode(data, final=not data))
        whole, newline, rest = (self._partial[name] + text).rpartition("\n")
        if len(rest) > PIECE:
            whole, newline, rest = whole + newline + rest, "\n", ""
        self._partial[name] = rest
        if newline:
            self._pass_on(name, whole)
        return bool(data)

    def _sayable(self) -> list[str]:
        """The streams that end in a line without an end. One that may end within a secret waits for the rest of it."""
        return [name for name, text in self._partial.items() if text and not self._masked[name].holds]

    def _flush_partial(self) -> None:
        for name in self._sayable():
            text, self._partial[name] = self._partial[name], ""
            self._pass_on(name, text)

    def _flush(self) -> None:
        for name, text in self._partial.items():
            self._partial[name] = ""
            self._pass_on(name, text + self._masked[name].end())
