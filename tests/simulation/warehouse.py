"""What all dbt processes share: the warehouse, and the truth about who executed what."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.project import Project

if TYPE_CHECKING:
    from tests.simulation.process import Process

# Of sources: "aged" is one that is stale where that is no failure of the run, "old" one where it is.
BAD = frozenset({"error", "fail", "compile", "partial", "lost", "late", "old", "unread"})
GOOD = frozenset({"success", "pass", "warn", "aged"})


@dataclass
class Execution:
    """What really happened: one execution of one node by one process."""

    node: str
    process: "Process"
    began: int
    ended: int | None = None
    ending: str = ""  # how it ended; "" while it runs, "killed" when its process died


@dataclass
class Warehouse:
    """What all processes share: whether it can be reached, and who executes what."""

    project: Project
    executions: list[Execution] = field(default_factory=list)
    down: list[tuple[int, int]] = field(default_factory=list)
    processes: list["Process"] = field(default_factory=list)
    on_start: Callable[["Process", str], None] = lambda _process, _node: None

    def good(self, node: str) -> bool:
        """Whether the last execution of the node has ended well."""
        last = next((each for each in reversed(self.executions) if each.node == node), None)
        return last is not None and last.ending in GOOD

    def reachable(self, ms: int) -> bool:
        """Whether it can be reached at this time."""
        return not any(since <= ms < until for since, until in self.down)
