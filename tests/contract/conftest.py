"""What the contract tests share; and an API server that nobody restarts meanwhile, which they need."""

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from dbt_operator.kube.client import Client
from dbt_operator.pods.run import RunRef
from tests.api import Api
from tests.conftest import CLUSTER
from tests.contract.crd_copies import crd_of, install
from tests.contract.held_runs import held_run
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


@pytest.fixture(scope="session")
def crds(api: Api) -> None:
    """The CRDs as they are in the checkout."""
    for plural in ("dbtruns", "dbtmodels", "dbtconnections"):
        install(api, crd_of(plural))


@pytest.fixture
def run(api: Api, crds: None, namespace: str) -> Iterator[RunRef]:
    """A DbtRun that no operator touches."""
    del crds  # they have to be there
    with held_run(api, namespace) as held:
        yield held
