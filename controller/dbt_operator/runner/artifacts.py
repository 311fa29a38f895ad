"""Files that dbt wrote, printed in pieces: so that they outlive the pod without a volume."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import queue
import threading
from collections.abc import Iterable
from pathlib import Path

from dbt_operator.runner.masking import Masker
from dbt_operator.runner.output import Output

# What fits into a ConfigMap beside its metadata.
LIMIT = 960 << 10
# Each piece is whole groups of base64, and leaves room for the envelope in a line.
PIECE = 3 * 1900
_POLL_SECONDS = 0.2


class Artifacts:
    """Prints files from a thread of its own, a piece at a time, so that neither dbt nor its events wait for them."""

    def __init__(self, *, output: Output, masker: Masker) -> None:
        self._output = output
        self._masker = masker
        self._stopping = threading.Event()
        self._waiting: queue.SimpleQueue[tuple[str, bytes, bool] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, *, files: Iterable[Path]) -> None:
        """Print the files that are there, as they are now: dbt writes some of them again at the end."""
        for file in files:
            with contextlib.suppress(OSError):
                self._put(file.name, file.read_bytes(), masked=False)

    def add(self, *, name: str, content: bytes) -> None:
        """Print a file that is masked already."""
        self._put(name, content, masked=True)

    def add_text(self, *, name: str, text: str) -> None:
        """Print a file of this text, if there is any."""
        if text:
            self._put(name, self._masker.text(text).encode("utf-8", "replace"), masked=True)

    def has_secret(self, content: bytes) -> bool:
        """Whether a secret is in a file. Nobody can mask what is compressed or packed."""
        return self._masker.occurs_in(content)

    def finish(self, *, timeout: float) -> None:
        """Wait until all is printed, or leave the rest out; nothing is printed afterwards."""
        if self._thread is None:
            return
        self._waiting.put(None)
        self._thread.join(timeout)
        self._stopping.set()
        self._thread.join(2 * _POLL_SECONDS)

    def _put(self, name: str, content: bytes, *, masked: bool) -> None:
        self._waiting.put((name, content, masked))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="runner-artifacts", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                file = self._waiting.get()
                if file is None:
                    return
                name, content, masked = file
                # Nobody can mask what is compressed, and dbt would not accept a parse cache that was changed before: a
                # file with a secret in it is not printed at all.
                if not masked and self._masker.occurs_in(content):
                    self._output.event("ArtifactOmitted", {"name": name, "reason": "Secret"})
                else:
                    self._print(name, content)
        except Exception as error:  # noqa: BLE001 - only what speeds a later attempt up: no reason to fail this one
            message = f"the files of this attempt were not all printed: {error!r}"
            self._output.event("RunnerWarning", {"message": message}, level="warn")

    def _print(self, name: str, content: bytes) -> None:
        packed = gzip.compress(content, compresslevel=6, mtime=0)
        size = len(packed)
        if size > LIMIT:
            self._output.event("ArtifactOmitted", {"name": name, "reason": "TooLarge", "size": size, "limit": LIMIT})
            return
        pieces = [packed[at : at + PIECE] for at in range(0, size, PIECE)]
        whole = {"name": name, "parts": len(pieces), "size": size, "sha256": hashlib.sha256(packed).hexdigest()}
        for part, piece in enumerate(pieces):
            data = base64.b64encode(piece).decode("ascii")
            self._output.event("Artifact", {**whole, "part": part, "data": data}, masked=False)
            # dbt's own events come between the pieces: at most one of these is ever ahead of them.
            while not self._output.drain(timeout=_POLL_SECONDS):
                if self._stopping.is_set():
                    return
            if self._stopping.is_set():
                return
