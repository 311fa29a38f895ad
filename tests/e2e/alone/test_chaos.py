"""Runs that are disturbed in every way there is: what is shown at the end is what happened, and nothing more than once.

A short form of `make chaos`, with faults that are the same each time.
"""

from collections.abc import Iterator

import pytest

from dev.chaos import report
from dev.chaos.cluster import ChaosCluster
from dev.chaos.faults import FAULTS
from dev.chaos.run import Outcome
from dev.chaos.session import Session, execute
from dev.cluster.settings import load
from tests.conftest import CLUSTER
from tests.e2e.turns import Turns

RUNS = 2
FAULTS_PER_RUN = 11
"""Each fault of the table comes once, one of them twice. With the seed a node fails by itself, and tests of two do."""


@pytest.fixture
def cluster_for_oneself() -> Iterator[None]:
    """Other tests than those of this folder use the API server as well, and wait."""
    turns = Turns(CLUSTER / "cluster-turns")
    turns.take(alone=True)
    yield
    turns.give_back()


# An API server that is killed resets connections before their handshake, and then ssl.SSLSocket._create raises without
# closing what it has made (Lib/ssl.py of 3.11.7: recv(1) where there is no peer); urllib has nothing to close.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("cluster_for_oneself")
def test_disturbed_runs_end_right() -> None:
    settings = load()
    if settings.kind_file.read_text().strip() != "local":
        pytest.skip("kubelet and API server can be restarted on the local cluster only")
    session = Session(seed=14, runs=RUNS, faults=RUNS * FAULTS_PER_RUN, per_run=FAULTS_PER_RUN, failing=1)

    def seen(outcome: Outcome) -> None:
        # Shown when the test fails, with the place where all is kept that is known of a wrong run.
        print(report.told(outcome, session, folder=settings.checkout / report.FOLDER))  # noqa: T201

    outcomes = execute(ChaosCluster(settings=settings), session, seen=seen)
    print(report.summary(outcomes, session, seconds=sum(one.seconds for one in outcomes)))  # noqa: T201 - as above
    assert len(outcomes) == RUNS
    assert [one.plan.number for one in outcomes if not one.findings.clean] == []
    # A fault that no longer finds what it is to disturb would make the test prove nothing.
    happened = {one.moment.fault for outcome in outcomes for one in outcome.happened if one.done}
    assert len(FAULTS) <= RUNS * FAULTS_PER_RUN
    assert len(happened) > len(FAULTS) // 2
