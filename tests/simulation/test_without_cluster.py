"""Runs of `dbt-operator local` on a simulated machine, where everything is killed at any moment."""

import json

import pytest

from tests.simulation.many import play
from tests.simulation.told import told

SEEDS = 150


@pytest.mark.timeout(1800)
def test_no_invariant_is_broken_where_processes_are_killed() -> None:
    reports = [report for batch in play(range(SEEDS), processes=1, local=True) for report in batch]
    assert [f"seed {report.seed}: {report.message}" for report in reports if report.broken is not None] == []
    # A simulation in which nothing happens would find nothing.
    assert {report.phase for report in reports} >= {"Succeeded", "Failed", "Cancelled", "Suspended"}
    assert sum(report.attempts > 1 for report in reports) > SEEDS // 4
    assert sum(report.at_once > 2 for report in reports) > SEEDS // 4


def test_a_seed_tells_the_same_story_each_time() -> None:
    stories = told("local_story", "LocalStory", seeds=8)
    assert len(stories) == 1
    assert len(json.loads(stories.pop())) > 20
