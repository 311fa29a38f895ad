"""How pytest-xdist spreads the tests: what stays together on one worker, and what is begun first.

pytest-xdist's own marks of groups (`--dist loadgroup`) have no effect with pytest 9.2, and do not order anything.
"""

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # the package has no types


def together(nodeid: str) -> str:
    """Tests with the same answer run one after the other on one worker.

    Unit and contract tests share what is expensive to make by file, those of the runner by folder. End-to-end tests,
    which wait more than they work, are spread one by one; but for those of a class, which look at one run, and those
    that want the operator to themselves. The parts of the simulation share nothing, and are spread one by one, too.
    """
    file, *inside = nodeid.partition("[")[0].split("::")
    path = PurePosixPath(file)
    if path.parts[1] == "simulation":
        return nodeid
    if path.parts[1] != "e2e":
        return str(path.parent) if "runner" in path.parts else file
    if "alone" in path.parts:
        return str(path.parent)
    return f"{file}::{inside[0]}" if len(inside) > 1 else nodeid


def place(nodeid: str) -> int:
    """Where in the order a test stands.

    Beside the tests that are alone with the cluster or its operator run those without one, what takes long first: a
    worker that waits for its turn does nothing.
    """
    parts = PurePosixPath(nodeid.partition("::")[0]).parts
    if parts[1] == "e2e":
        return 0 if "alone" in parts else 4
    if parts[1] == "contract":
        return 3
    return 1 if parts[1] in ("simulation", "local") or "runner" in parts else 2


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """Hands out whole groups, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)
