"""A selection that compares with another run may match nothing; any other one is a mistake."""

import pytest

from dbt_operator.api.commands import WhenTested
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from tests.unit.plan.story import Story


@pytest.mark.parametrize("tests", list(WhenTested))
@pytest.mark.parametrize(
    ("compares", "phase", "reason"),
    [
        (True, RunPhase.SUCCEEDED, RunReason.NOTHING_TO_DO),
        (False, RunPhase.FAILED, RunReason.NOTHING_SELECTED),
    ],
)
def test_nothing_has_changed(compares: bool, phase: RunPhase, reason: RunReason, tests: WhenTested) -> None:
    run = Story(compares=compares, tests=tests)
    run["Producer"].starts()
    run["Producer"].log.add("NothingToDo", {}, level="warn", at=run.now)
    run["Producer"].ends()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (phase, reason)
    assert run.later(seconds=3600) == []
