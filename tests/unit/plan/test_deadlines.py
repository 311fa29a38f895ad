"""A node that took longer than its own deadline: what it shows, and whether it is tried again."""

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.spec import NodeOverride, RetryReason
from dbt_operator.dbt import stored
from dbt_operator.dbt.state import AttemptState
from dbt_operator.dbt.view import node_views
from tests.unit.dbt.logs import RunnerLog, model
from tests.unit.plan.story import Story

CLOSED = "Database Error in model {0} (models/{0}.sql)\n  server closed the connection unexpectedly"


def late(run: Story, *names: str) -> None:
    """The nodes are cancelled at their deadline, and dbt reports that the others have succeeded."""
    producer = run["Producer"].starts()
    for name in names:
        producer.log.starts(run.ids[name], at=run.now)
        producer.log.ends(run.ids[name], "error", CLOSED.format(name), at=run.now, deadline_seconds=30)
    producer.builds()


def test_it_has_failed_for_its_deadline_with_the_words_of_dbt() -> None:
    run = Story(model("orders"), model("other"))
    late(run, "orders")
    assert run.later(seconds=600) == []
    node = run.node("orders")
    assert (node.phase, node.reason) == (NodePhase.FAILED, NodeReason.DEADLINE_EXCEEDED)
    assert node.message.startswith("It took longer than its deadline of 30 s, and was cancelled.\nDatabase Error")
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert "It took longer than its deadline of 30 s" in run.message()
    assert run.shows("other") is NodePhase.SUCCEEDED


def test_it_is_tried_again_where_that_is_asked_for() -> None:
    reasons = (RetryReason.DEADLINE_EXCEEDED,)
    nodes = (NodeOverride.model_validate({"select": [{"name": "any"}], "retry": {"reasons": reasons}}),)
    run = Story(model("orders", overrides=[0]), model("other"), nodes=nodes)
    late(run, "orders", "other")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds()
    run.next()
    assert (run.shows("orders"), run.shows("other")) == (NodePhase.SUCCEEDED, NodePhase.FAILED)


def test_the_warehouse_was_not_lost_so_several_have_not_failed_for_one_cause() -> None:
    run = Story(model("a"), model("b"), reasons=frozenset({RetryReason.DEADLINE_EXCEEDED}))
    late(run, "a", "b")
    assert run.later(seconds=10) == ["Retry a", "Retry b"]


def test_it_is_known_from_the_digest_too_and_in_each_form_that_is_stored() -> None:
    log = RunnerLog().select(model("orders")).start("model.shop.orders")
    entry = {"unique_id": "model.shop.orders", "status": "error", "message": "closed", "deadline_seconds": 30}
    log.add("RunResults", {"part": 1, "parts": 1, "total": 1, "results": [entry]}).finish(1)
    for limit in (None, 1):
        state = stored.decode(stored.encode(log.closed, limit=limit))
        assert isinstance(state, AttemptState)
        assert node_views(state=state)["model.shop.orders"].reason is NodeReason.DEADLINE_EXCEEDED


def test_where_deadlines_are_not_kept_to_the_run_says_so() -> None:
    run = Story(model("orders"))
    producer = run["Producer"].starts()
    producer.log.add("DeadlinesIgnored", {"adapter_name": "trino", "nodes": 1}, at=run.now)
    producer.builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED
    assert run.message() == (
        "1 node succeeded. Deadlines of nodes are not kept to, as dbt cannot cancel the queries of one node with the"
        " adapter trino."
    )
