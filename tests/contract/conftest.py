"""What the contract tests share; and an API server that nobody restarts meanwhile, which they need."""

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from dbt_operator.kube.client import Client
from dbt_operator.pods.run import RunRef
from tests.conftest import CLUSTER, Kubectl
from tests.contract.held_runs import apply_crds, held_run
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


@pytest.fixture
async def client(kubeconfig: Path) -> AsyncIterator[Client]:
    """The operator's own client, connected to the cluster."""
    async with await Client.connect(kubeconfig=str(kubeconfig)) as connected:
        yield connected


@pytest.fixture
def run(kubectl: Kubectl, namespace: str) -> Iterator[RunRef]:
    """A DbtRun that no operator touches."""
    apply_crds(kubectl)
    with held_run(kubectl, namespace) as held:
        yield held
