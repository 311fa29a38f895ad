"""The time as the API server has it.

Deadlines and backoffs are measured against times that the API server and the kubelets have written. A controller whose
own clock is wrong would miss or hurry all of them, so it goes by the clock of the server that it talks to.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# The header has whole seconds, and the answer was on its way for a while: less than this is no difference.
_TOLERANCE = timedelta(seconds=5)


@dataclass(slots=True)
class ServerClock:
    """Learns from the Date header of each answer how far the own clock is from the server's."""

    offset: timedelta = timedelta()

    def heard(self, date: str, *, local: datetime) -> None:
        """Take note of the Date header of an answer that has just arrived; one that is absent or damaged is ignored."""
        try:
            told = parsedate_to_datetime(date)
        except (TypeError, ValueError):
            return
        if told.tzinfo is None:
            return
        offset = told - local
        self.offset = offset if abs(offset) > _TOLERANCE else timedelta()

    def now(self) -> datetime:
        """The server's time, as well as it is known."""
        return datetime.now(UTC) + self.offset
