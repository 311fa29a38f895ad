"""The operator against many simulated runs, in two shares of seeds."""

import json
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.api.spec import Retry
from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY
from dbt_operator.plan.attempt import Attempt, Decision, LogFacts, Release, Shown
from dbt_operator.plan.facts import job_facts, pod_facts
from dbt_operator.plan.observation import Observation, Plan, Rules
from dbt_operator.plan.run import plan_run
from tests.simulation import lines
from tests.simulation.many import play
from tests.simulation.objects import Job, Pod
from tests.simulation.project import Node, Project
from tests.simulation.told import told
from tests.simulation.world import BEGINNING

SEEDS = 3000
# Where the tests are spread over processes already, a share has one of them for itself.
_PROCESSES = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count() or 1


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
    assert sum(report.at_once > 1 for report in reports) > SEEDS // 20


def test_a_seed_tells_the_same_story_whatever_the_order_of_sets() -> None:
    stories = told("story", "Story", seeds=20)
    assert len(stories) == 1
    assert len(json.loads(stories.pop())) > 100


# Two moments that the seeds come to once in many thousands.

_MODEL = Node("model.p.a", materialized="table")
_PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name="r-producer-1")


def _planned(*attempts: Attempt) -> Plan:
    rules = Rules(start_deadline=timedelta(minutes=5), retry=Retry.model_validate({"backoff": {"duration": "0s"}}))
    return plan_run(Observation(run="r", now=BEGINNING, attempts=attempts, started=True, rules=rules))


def test_an_attempt_whose_pod_was_released_is_not_created_again() -> None:
    absent = Attempt(decision=_PRODUCER)
    assert _planned(absent).create == ("r-producer-1",)
    plan = _planned(replace(absent, release=Release(pod="pod", at=BEGINNING)))
    assert ([each.attempt.name for each in plan.seal], plan.create) == (["r-producer-1"], ())


def test_a_retry_waits_until_the_log_has_said_how_its_node_failed() -> None:
    project = Project({_MODEL.unique_id: _MODEL}, threads=1, adapter="postgres")
    listed = lines.listed(project, project.nodes)
    name, result, level = lines.logged(_MODEL, "error")
    log = [
        lines.event(1, BEGINNING, "RunnerStarted", {}),
        lines.event(2, BEGINNING, "AdapterRegistered", {"adapter_name": project.adapter, "adapter_version": "=1.0.0"}),
        lines.event(3, BEGINNING, "SelectedNodes", {"part": 1, "parts": 1, "total": 1, "nodes": listed}),
        lines.event(4, BEGINNING, name, result, level=level),
    ]
    said = lines.result(_MODEL, "error", began=BEGINNING, ended=BEGINNING)
    for more, decided in (([], []), ([lines.event(5, BEGINNING, *said)], [AttemptKind.RETRY])):
        state = fold_lines(state=EMPTY, lines=[*log, *more])
        assert state.nodes[_MODEL.unique_id].phase is NodePhase.FAILED
        job = Job(_PRODUCER.name, 1, _PRODUCER, created=0)
        pod = Pod("pod", job, created=0, waiting=None, started=0, phase="Running")
        producer = Attempt(
            decision=_PRODUCER,
            shown=Shown(job=job_facts(job.shown()), pod=pod_facts(pod.shown())),
            log=LogFacts(state=state),
        )
        assert [decision.kind for decision in _planned(producer).record] == decided
