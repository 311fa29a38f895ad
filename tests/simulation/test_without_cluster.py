"""Runs of `dbt-operator local` on a simulated machine, where everything is killed at any moment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.many import play

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
    program = (
        "import json; from tests.simulation.local_story import LocalStory;"
        "print(json.dumps([line for seed in range(8) for line in LocalStory(seed=seed, tracing=True).run().trace]))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(told) == 1
    assert len(json.loads(told.pop())) > 20
