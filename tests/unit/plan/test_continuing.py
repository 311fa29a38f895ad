"""Which execution of a node an attempt goes on with: what a warehouse was asked for then may still be going on."""

from dbt_operator.api.spec import RetryReason
from dbt_operator.plan.continuing import began_in
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Story


def began(run: Story, what: str) -> dict[str, int]:
    """In which attempt the execution of each node of an attempt began, by the nodes' names."""
    decision = run[what].attempt.decision
    names = {unique_id: name for name, unique_id in run.ids.items()}
    return {names[one]: began_in(decision, one) for one in decision.nodes or ()}


def test_what_a_lost_pod_had_not_ended_is_the_same_execution_as_often_as_pods_are_lost() -> None:
    run = Story(model("orders"), model("report", "orders"), model("other"), max_restarts=3)
    run["Producer"].starts().reports(orders="success", report="running", other="error: deadlock")
    run["Producer"].is_evicted()
    assert run.next() == ["Resume report"]
    assert began(run, "Resume report") == {"report": 1}
    assert run.later(seconds=10) == ["Retry other"]
    assert began(run, "Retry other") == {"other": 3}
    run["Retry other"].starts().reports(other="running")
    run["Retry other"].is_evicted()
    run["Resume report"].starts().reports(report="running")
    run["Resume report"].is_evicted()
    (again,) = run.later(seconds=600)
    assert began(run, again) == {"report": 1, "other": 3}


def test_what_reads_something_that_is_built_again_is_another_execution() -> None:
    reasons = frozenset({RetryReason.TESTS_FAILED})
    run = Story(
        model("orders"), data_test("positive", "orders"), data_test("unique", "orders"), max_restarts=3, reasons=reasons
    )
    run["Producer"].starts().reports(orders="success", positive="fail", unique="running")
    run["Producer"].is_evicted()
    assert run.next() == ["Resume unique"]
    assert began(run, "Resume unique") == {"unique": 1}
    run["Resume unique"].starts().is_evicted()
    (again,) = run.later(seconds=600)
    # The test that was running has looked at a build of before, and its result is of no use any more.
    assert began(run, again) == {"orders": 3, "positive": 3, "unique": 3}
    run[again].starts().reports(orders="success", positive="running", unique="running")
    run[again].is_evicted()
    (left,) = run.later(seconds=600)
    assert began(run, left) == {"positive": 3, "unique": 3}


def test_what_was_cancelled_is_the_same_execution() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="running")
    run.change(suspend=True)
    run["Producer"].stops()
    run.next()
    (resumed,) = run.change(suspend=False)
    assert began(run, resumed) == {"orders": 1, "report": 1}


def test_the_whole_command_goes_on_where_no_node_was_heard_of() -> None:
    run = Story(model("orders"))
    run["Producer"].starts(loaded=False)
    run["Producer"].is_evicted()
    assert run.next() == ["Producer"]
    assert run["Producer"].decision.began_in == 1


def test_where_jobs_have_ids_of_their_own_the_run_says_so() -> None:
    run = Story(model("orders"))
    producer = run["Producer"].starts()
    producer.log.add("JobIdsUnknown", {"program": "dbt-bigquery 2.7.0"}, at=run.now)
    producer.builds()
    run.next()
    text = (
        "What a lost pod has asked of BigQuery is not gone on with, as it is not known where dbt-bigquery 2.7.0 makes"
    )
    assert text in run.message()
