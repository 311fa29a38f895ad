"""Cutting a byte stream into lines with bounded memory."""

LINE_LIMIT = 1024 * 1024


class LineSplitter:
    """Cuts at b"\\n" and nowhere else: texts inside events hold other characters that editors call line ends.

    A line longer than `limit` is dropped as a whole and counted, so that a child process that prints without ever
    ending its line cannot fill the memory.
    """

    def __init__(self, *, limit: int = LINE_LIMIT) -> None:
        self.dropped = 0
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._overlong = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without their line ends."""
        *complete, rest = chunk.split(b"\n")
        lines = []
        for piece in complete:
            line = self._take(piece)
            if line is not None:
                lines.append(line)
        self._keep(rest)
        return lines

    def flush(self) -> bytes | None:
        """What is left when the stream has ended: a last line that nobody ended, or None."""
        return self._take(b"") or None

    def _take(self, piece: bytes) -> bytes | None:
        self._keep(piece)
        parts, overlong = self._parts, self._overlong
        self._parts, self._size, self._overlong = [], 0, False
        if overlong:
            self.dropped += 1
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _keep(self, piece: bytes) -> None:
        if self._overlong or not piece:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self._parts, self._overlong = [], True
        else:
            self._parts.append(piece)
