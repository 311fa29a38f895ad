"""dbt's types of nodes and what each of them means here: the one table that everything else asks."""

from enum import Enum
from typing import NamedTuple


class Shown(Enum):
    """When a node of the type has a DbtModel of its own. What has one is counted among the nodes of the run."""

    SELECTED = "selected"  # dbt selected it, or tests that are listed on it
    FAILED = "failed"  # dbt reported that it failed
    UNLISTED = "unlisted"  # a test: it is listed on no other node
    NEVER = "never"


class NodeType(NamedTuple):
    """One row of the table.

    executed: an attempt can be asked to execute such a node by itself. So it is announced, retried and resumed.
    built: to execute it changes what others read.
    needed: a run is successful only when all such nodes that dbt mentioned have succeeded.
    """

    executed: bool
    needed: bool
    shown: Shown
    built: bool = False


_BUILT = NodeType(executed=True, needed=True, shown=Shown.SELECTED, built=True)
_TEST = NodeType(executed=True, needed=True, shown=Shown.UNLISTED)
# dbt calls these a no-op. Types that do not exist yet are treated alike: a node that no attempt can execute again must
# not keep a run from success.
_NOTHING_TO_DO = NodeType(executed=False, needed=False, shown=Shown.FAILED)
_TYPES = {
    "model": _BUILT,
    "seed": _BUILT,
    "snapshot": _BUILT,
    "function": _BUILT,
    "test": _TEST,
    "unit_test": _TEST,
    # It is selected where it is looked at: by `dbt source freshness`, or before a build. Others only read or test it.
    "source": NodeType(executed=True, needed=True, shown=Shown.SELECTED),
    # Hooks are executed in every attempt, whatever else it executes.
    "operation": NodeType(executed=False, needed=True, shown=Shown.NEVER),
    "exposure": _NOTHING_TO_DO,
    "saved_query": _NOTHING_TO_DO,
}
TEST_TYPES = frozenset(name for name, each in _TYPES.items() if each is _TEST)


def node_type(resource_type: str) -> NodeType:
    """The row for nodes of dbt's type."""
    return _TYPES.get(resource_type, _NOTHING_TO_DO)
