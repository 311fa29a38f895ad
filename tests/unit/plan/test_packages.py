"""An attempt that could not install the packages of the project has come to no node."""

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from tests.unit.dbt.logs import model
from tests.unit.plan.story import Story

GONE = "A server of the project's packages could not be reached, or did not answer (connection refused)."


def test_a_hub_that_does_not_answer_is_asked_again_as_often_as_pods_may_be_lost() -> None:
    run = Story(model("orders"), max_restarts=1)
    run["Producer"].starts(loaded=False).gives_up("source", GONE)
    assert run.later(seconds=600) == ["Producer"]
    run["Producer"].starts(loaded=False).gives_up("source", GONE)
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.SOURCE_UNAVAILABLE)
    assert GONE in run.message()


def test_a_retry_that_could_not_have_its_packages_uses_up_no_try_of_the_node() -> None:
    run = Story(model("orders"), limit=1)
    run["Producer"].builds(orders="error: deadlock")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].starts(loaded=False).gives_up("source", GONE)
    assert run.later(seconds=600) == ["Retry orders"]
    run["Retry orders"].builds(orders="success")
    assert (run.phase(), run.shows("orders")) == (RunPhase.SUCCEEDED, NodePhase.SUCCEEDED)


def test_packages_that_cannot_be_had_at_all_end_the_run() -> None:
    sentence = "dbt could not install the packages of the project: no such package."
    run = Story(model("orders"))
    run["Producer"].starts(loaded=False).gives_up("deps", sentence)
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason(), run.message()) == (RunPhase.FAILED, RunReason.DEPS_FAILED, sentence)
