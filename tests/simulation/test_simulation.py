"""The planner against many simulated runs: two shares of seeds, and those that have shown something before."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY
from dbt_operator.plan.attempt import Attempt, Decision, LogFacts
from dbt_operator.plan.repair import RetryRules
from dbt_operator.plan.run import Observation, Plan, Rules, plan_run
from tests.simulation import lines
from tests.simulation.cluster import Job, Pod
from tests.simulation.many import play
from tests.simulation.project import Node, Project
from tests.simulation.story import Story
from tests.simulation.world import OLD, Odds, World

SEEDS = 10_000
# Where the tests are spread over processes already, a share has one of them for itself.
_PROCESSES = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count() or 1

# Each of these seeds breaks an invariant in a planner that does not do what the name says, …
SHOWN_WITHOUT_WATCH = {
    "a Job whose log was read is not created again": 37,
    "pods that are lost together are one loss": 369,
    "an ephemeral model of a lost attempt does not keep the run from success": 393,
    "a test whose node was built again since it ran is run again": 394,
    "a process that may live on is waited for": 398,
    "a pod that starts at its deadline is waited for": 486,
    "a node that dbt never ends is not executed for ever": 494,
    "a pod that is lost after the warehouse was out of reach is followed by another one": 901,
    "what is being executed is not executed by a retry as well": 1178,
    "a run that was suspended after its last node is not Cancelled": 1388,
    "an ended run seals before it answers a request": 1475,
    "what a resume selects does not stand for what the run selects": 1645,
    "an attempt whose record was read is not lost with its pod": 2828,
    "hooks of which nothing was heard are no success": 2962,
    "a test that cannot run yet does not keep the retry of another one back": 3364,
    "a run of which one operator has not seen the start gets no Job": 10699,
    "a Job that was seen may have had a process": 11207,
    "a run that is stopped before its hooks and rests is no success": 20769,
    "a run that failed before it was suspended is not Cancelled": 43690,
}
SHOWN = {
    "a Job that was refused before it existed is not created again": 48305,
    "a Job that one operator creates after another one has ended the run is stopped": 99286,
    "what is left is not built while a retry reads it": 116179,
    "a pod that did not start in time may start all the same": 140974,
    "a pod that was seen and is gone may have started": 237843,
    "a pod whose Job is gone tells that there was one": 268547,
    "a failure of which only half was said is no failure yet": 367857,
    "a failure of which only half was said uses up a try": 57454,
    "nothing is built that is read through another node": 56790,
    "nothing is built that is read because a person asks for it": 872466,
    "what another operator has sealed is read before a decision": 512972,
    "whether an end was stored is known before the next plan": 395934,
}
_STORIES = [(OLD, *item) for item in SHOWN_WITHOUT_WATCH.items()] + [(Odds(), *item) for item in SHOWN.items()]


@pytest.mark.timeout(1800)  # a minute of work; a busy machine may take its time
@pytest.mark.parametrize("share", [0, 1])
def test_no_invariant_is_broken(share: int) -> None:
    seeds = range(share * SEEDS // 2, (share + 1) * SEEDS // 2)
    reports = [report for batch in play(seeds, processes=_PROCESSES) for report in batch]
    assert len(reports) == SEEDS // 2
    assert [f"seed {report.seed}: {report.message}" for report in reports if report.broken is not None] == []
    # A simulation in which nothing happens would find nothing.
    assert {report.phase for report in reports} >= {"Succeeded", "Failed", "Cancelled", "Suspended"}
    assert sum(report.attempts > 1 for report in reports) > SEEDS // 10


@pytest.mark.parametrize(
    ("odds", "seed"),
    [(odds, seed) for odds, _, seed in _STORIES],
    ids=[name.replace(" ", "_") for _, name, _ in _STORIES],
)
def test_what_was_shown_before_stays_mended(odds: Odds, seed: int) -> None:
    report = Story(seed=seed, odds=odds).run()
    assert report.broken is None, report.message


def test_a_seed_tells_the_same_story_whatever_the_order_of_sets() -> None:
    told = {_story(hash_seed="1"), _story(hash_seed="2")}
    assert len(told) == 1
    assert len(json.loads(told.pop())) > 100


def _story(*, hash_seed: str) -> str:
    program = (
        "import json; from tests.simulation.story import Story;"
        "print(json.dumps([line for seed in range(20) for line in Story(seed=seed, tracing=True).run().trace]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


# Two moments that the seeds come to once in many thousands.

_WORLD = World(seed=0, tracing=False, odds=OLD)
_MODEL = Node("model.p.a", materialized="table")
_PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name="r-producer-1")


def _planned(*attempts: Attempt) -> Plan:
    rules = Rules(start_deadline=timedelta(minutes=5), retry=RetryRules(first_wait=timedelta()))
    return plan_run(Observation(run="r", now=_WORLD.now, attempts=attempts, started=True, rules=rules))


def test_an_attempt_that_others_follow_is_not_created_again() -> None:
    retry = Decision(index=2, kind=AttemptKind.RETRY, name="r-retry-1", nodes=frozenset({_MODEL.unique_id}))
    absent = [Attempt(name=one.name, decision=one) for one in (_PRODUCER, retry)]
    assert _planned(absent[0]).create == ("r-producer-1",)
    plan = _planned(*absent)
    assert ([each.attempt.name for each in plan.seal], plan.create) == (["r-producer-1"], ())


def test_a_retry_waits_until_the_log_has_said_how_its_node_failed() -> None:
    project = Project({_MODEL.unique_id: _MODEL}, threads=1, adapter="postgres")
    listed = lines.listed(project, project.nodes, able=frozenset(project.nodes))
    name, result, level = lines.logged(_MODEL, "error")
    log = [
        lines.event(1, _WORLD.now, "RunnerStarted", {}),
        lines.event(2, _WORLD.now, "SelectedNodes", {"part": 1, "parts": 1, "total": 1, "nodes": listed}),
        lines.event(3, _WORLD.now, name, result, level=level),
    ]
    said = lines.result(_MODEL, "error", began=_WORLD.now, ended=_WORLD.now)
    for more, decided in (([], []), ([lines.event(4, _WORLD.now, *said)], [AttemptKind.RETRY])):
        state = fold_lines(state=EMPTY, lines=[*log, *more])
        assert state.nodes[_MODEL.unique_id].phase is NodePhase.FAILED
        job = Job(_PRODUCER.name, 1, _PRODUCER, created=0)
        pod = Pod("pod", job, created=0, waiting=None, started=0, phase="Running")
        producer = Attempt(
            name=job.name,
            job=job.facts(_WORLD),
            pod=pod.facts(_WORLD),
            log=LogFacts(state=state),
            decision=_PRODUCER,
        )
        assert [decision.kind for decision in _planned(producer).record] == decided
