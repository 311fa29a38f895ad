"""The kubelet's time stamps before log lines, and what a reader has to skip after a reconnect. Pure."""

import re
from datetime import UTC, datetime, timedelta

# "2026-11-20T17:11:13.219457123Z " or with an offset, where the node's clock is not set to UTC.
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) ?")
_LONGEST = 37
_CLOCK_STEP = timedelta(seconds=2)  # a clock that steps back by more starts a new time


def split_stamp(raw: bytes) -> tuple[bytes, bytes]:
    """The stamp and the line without it; an empty stamp where there is none (the kubelet's own words have none)."""
    match = _STAMP.match(raw[:_LONGEST])
    return (match[1], raw[match.end() :]) if match else (b"", raw)


def parse_stamp(stamp: bytes) -> datetime | None:
    """The time of a stamp, cut to microseconds."""
    try:
        return datetime.fromisoformat(stamp.decode("ascii")).astimezone(UTC) if stamp else None
    except (ValueError, OverflowError):
        return None


class Deduplicator:
    """Drops what a reconnected stream repeats.

    The server cuts `sinceTime` to the whole second, so a new stream begins with lines that were delivered already. It
    repeats them in the order of the log file: all up to and including the last delivered one is old. Comparing times
    alone would lose lines, as stdout and stderr are stamped before they are ordered, and clocks step back. A line may
    come several times with the same stamp, where a clock is coarse: then the last of as many copies as were delivered
    is the one. Should it not come again, since the file was rotated away, a stamp later than all delivered ones ends
    the search.
    """

    def __init__(self) -> None:
        self.position: datetime | None = None  # of the last delivered line with a stamp
        self.repeated = 0
        self._latest: datetime | None = None  # of all lines delivered about then; not always the last one's
        self._last = 0
        self._copies = 0  # of that line that were delivered one after the other
        self._missing = 0  # of these, in this stream
        self._searching = False

    def reconnected(self) -> None:
        """A new stream begins at `position`."""
        self._searching = self.position is not None
        self._missing = self._copies

    def fresh(self, raws: list[bytes]) -> list[bytes]:
        """The lines of these (with their stamps) that are news."""
        if not self._searching:
            return raws
        for index, raw in enumerate(raws):
            if hash(raw) == self._last:
                self._missing -= 1
                if self._missing:
                    continue
                self._searching = False
                self.repeated += index + 1
                return raws[index + 1 :]
            stamp = parse_stamp(split_stamp(raw)[0])
            if stamp is not None and self._latest is not None and stamp > self._latest:
                self._searching = False
                self.repeated += index
                return raws[index:]
        self.repeated += len(raws)
        return []

    def delivered(self, raws: list[bytes]) -> None:
        """The sink has these lines: later streams begin behind them."""
        for raw in reversed(raws):
            stamp = parse_stamp(split_stamp(raw)[0])
            if stamp is not None:
                before = self._copies if hash(raw) == self._last else 0
                self.position, self._last, self._copies = stamp, hash(raw), before + raws.count(raw)
                self._note_latest(raws, stamp)
                return

    def _note_latest(self, raws: list[bytes], last: datetime) -> None:
        # The stamps of a log have all the same form, so they are ordered like their bytes, which is much cheaper.
        latest = parse_stamp(split_stamp(max(raw[:_LONGEST] for raw in raws))[0]) or last
        if self._latest is None or latest > self._latest or self._latest - last > _CLOCK_STEP:
            self._latest = latest
