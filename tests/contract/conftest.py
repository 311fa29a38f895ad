"""The contract tests need an API server that nobody restarts meanwhile."""

from collections.abc import Generator

import pytest

from tests.conftest import CLUSTER
from tests.e2e.turns import Turns

TURNS = Turns(CLUSTER / "cluster-turns")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait, before the test's timeout begins, while a test restarts parts of the cluster."""
    if not item.path.is_relative_to(CLUSTER.parent / "tests" / "contract"):
        return (yield)
    TURNS.take(alone=False)
    try:
        return (yield)
    finally:
        TURNS.give_back()
