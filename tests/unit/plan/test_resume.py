"""What a lost pod leaves is taken up again: which nodes, when and how often."""

from datetime import timedelta

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.plan.run import plan_run
from tests.unit.dbt.logs import data_test, ephemeral, model, seed
from tests.unit.plan.given import settled
from tests.unit.plan.story import Dbt, Story


def lost(dbt: Dbt, how: str) -> None:
    """The pod of an attempt ends before dbt does."""
    if how == "evicted":
        dbt.is_evicted()
    else:
        dbt.is_killed(reason="OOMKilled" if how == "out of memory" else "Error")


@pytest.mark.parametrize("how", ["evicted", "killed", "out of memory"])
def test_exactly_the_nodes_that_have_not_succeeded_are_executed_again_those_that_were_running_included(
    how: str,
) -> None:
    run = Story(
        seed("raw"), model("orders", "seed.shop.raw"), data_test("positive", "orders"), model("report", "orders")
    )
    run["Producer"].starts().reports(raw="success", orders="running")
    lost(run["Producer"], how)
    assert run.next() == ["Resume orders positive report"]
    assert (run.shows("raw"), run.shows("orders")) == (NodePhase.SUCCEEDED, NodePhase.PENDING)
    run["Resume orders positive report"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_failed_node_whose_tries_are_used_up_and_what_is_below_it_are_not_taken_up_again() -> None:
    run = Story(model("orders"), model("report", "orders"), model("summary", "report"), model("other"), limit=0)
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped", other="running")
    run["Producer"].is_evicted()
    assert run.next() == ["Resume other"]
    run["Resume other"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert run.shows("summary") is NodePhase.SKIPPED


def test_a_failed_node_with_tries_left_gets_its_retry_and_what_is_below_it_waits_for_that() -> None:
    run = Story(model("orders"), model("report", "orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run["Producer"].is_evicted()
    assert run.next() == ["Resume other"]
    assert run.later(seconds=10) == ["Retry orders"]
    run["Resume other"].builds()
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_failed_node_of_a_lost_pod_is_taken_up_again_where_the_log_ends_before_it_says_what_the_failure_was() -> None:
    run = Story(model("orders"), model("report", "orders"), limit=0)
    run["Producer"].starts().reports(orders="error")
    run["Producer"].is_evicted()
    assert run.next() == ["Resume orders report"]
    run["Resume orders report"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_test_whose_node_was_built_before_the_loss_is_run_without_building_it_again() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="success", positive="running")
    run["Producer"].is_evicted()
    assert run.next() == ["Resume positive report"]


def test_a_node_that_is_running_when_its_retry_is_lost_is_taken_up_again() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=10)
    run["Retry orders"].starts().reports(orders="running")
    run["Retry orders"].is_evicted()
    decided = run.next()
    assert len(decided) == 1
    assert "orders" in decided[0]
    run[decided[0]].builds()
    for label in run.next():
        run[label].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_the_loss_of_a_pod_is_no_try_of_the_node() -> None:
    run = Story(model("orders"), limit=1)
    run["Producer"].starts().reports(orders="running")
    run["Producer"].is_evicted()
    run.next()
    run["Resume orders"].builds(orders="error: deadlock")
    assert run.next() == []
    assert run.later(seconds=10) == ["Retry orders"]


def test_a_retry_that_was_lost_before_it_began_is_made_again() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].starts(loaded=False).is_evicted()
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


# when


def test_the_first_restart_comes_at_once_and_each_later_one_after_a_longer_pause() -> None:
    run = Story(model("orders"), max_restarts=5)
    for attempt, pause in (("Producer", 0), ("Resume orders", 10), ("Resume orders", 20), ("Resume orders", 40)):
        run[attempt].starts().reports(orders="running").is_evicted()
        if pause:
            assert run.next() == []
            assert run.reason() is RunReason.BACKING_OFF
            assert run.later(seconds=pause - 1) == []
            assert run.later(seconds=1) == ["Resume orders"]
        else:
            assert run.next() == ["Resume orders"]


def test_a_pod_that_vanished_may_still_live_and_so_its_grace_period_is_waited_for() -> None:
    run = Story(model("orders"), grace=timedelta(seconds=60))
    run["Producer"].starts().reports(orders="running").vanishes()
    assert run.next() == []
    assert run.later(seconds=59) == []
    assert run.later(seconds=1) == ["Resume orders"]


def test_a_pod_that_was_seen_to_end_needs_no_grace() -> None:
    run = Story(model("orders"), grace=timedelta(hours=1))
    run["Producer"].starts().reports(orders="running").is_killed()
    assert run.next() == ["Resume orders"]


def test_a_retry_that_vanished_before_its_node_began_is_waited_for_too() -> None:
    run = Story(model("orders"), grace=timedelta(seconds=60))
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].starts().vanishes()
    assert run.later(seconds=59) == []
    assert run.later(seconds=1) == ["Retry orders"]


# how often


def test_work_is_taken_up_as_often_as_max_restarts_says_and_then_the_run_fails_for_the_last_loss() -> None:
    run = Story(model("orders"), model("report", "orders"), max_restarts=2)
    run["Producer"].starts().reports(orders="success", report="running").is_killed()
    run.next()
    run["Resume report"].starts().reports(report="running").is_killed(reason="OOMKilled")
    run.later(seconds=600)
    run["Resume report"].starts().reports(report="running").is_evicted()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.EVICTED)
    assert "3 pods were lost" in run.message()
    assert "spec.producer.maxRestarts (2)" in run.message()
    assert "1 of 2 nodes had succeeded" in run.message()  # of the run, not of its last attempt


def test_without_restarts_the_first_loss_ends_the_run() -> None:
    run = Story(model("orders"), max_restarts=0)
    run["Producer"].starts().reports(orders="running").is_killed(reason="OOMKilled")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.OOM_KILLED)
    assert "maxRestarts" not in run.message()
    assert run.shows("orders") is NodePhase.FAILED


def test_what_still_runs_is_let_run_when_the_restarts_are_used_up() -> None:
    run = Story(model("orders"), model("other"), max_restarts=0)
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.later(seconds=10)
    run["Producer"].is_evicted()
    assert run.next() == []
    assert not run.phase().terminal
    run["Retry orders"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.EVICTED)


# before the graph is known


@pytest.mark.parametrize("how", ["evicted", "killed", "out of memory"])
def test_a_producer_that_is_lost_before_dbt_has_said_what_is_selected_is_started_again_as_a_whole(how: str) -> None:
    run = Story(model("orders"))
    lost(run["Producer"].starts(loaded=False), how)
    assert run.next() == ["Producer"]
    assert run["Producer"].decision.name == "nightly-producer-2"
    run["Producer"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_pod_that_never_started_is_taken_away_and_the_command_is_started_again() -> None:
    run = Story(model("orders"), max_restarts=1, grace=timedelta(seconds=60))
    first = run["Producer"].gets_a_pod()
    run.later(seconds=300)
    assert (first.job, first.pod) == (None, None)
    run.later(seconds=60)
    assert run["Producer"].decision.name == "nightly-producer-2"
    run["Producer"].gets_a_pod()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.START_DEADLINE_EXCEEDED)


def test_an_image_that_the_registry_does_not_have_is_asked_for_until_the_first_deadline() -> None:
    run = Story(model("orders"), max_restarts=3)
    run["Producer"].gets_a_pod(waiting=("ImagePullBackOff", 'image "shopp" not found'))
    assert run.later(seconds=299) == []
    assert run.phase() is RunPhase.STARTING
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.IMAGE_PULL_FAILED)
    assert 'image "shopp" not found' in run.message()


def test_a_name_that_no_image_can_have_ends_the_run_at_once() -> None:
    run = Story(model("orders"), max_restarts=3)
    run["Producer"].gets_a_pod(waiting=("InvalidImageName", 'couldn\'t parse image name "SHOP"'))
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.IMAGE_PULL_FAILED)
    assert run["Producer"].job is None


def test_while_a_registry_does_not_answer_the_run_says_so_and_at_the_end_that_nothing_started() -> None:
    run = Story(model("orders"), max_restarts=1, grace=timedelta(seconds=60))
    run["Producer"].gets_a_pod(waiting=("ErrImagePull", "503 Service Unavailable"))
    run.later(seconds=301)
    assert (run.phase(), run.reason()) == (RunPhase.RETRYING, RunReason.BACKING_OFF)
    assert run.message().startswith("Pod nightly-producer-1-abcde is waiting (ErrImagePull): 503 Service Unavailable; ")
    assert run.message().endswith(". The work is taken up again at 03:06:01 UTC.")
    run.later(seconds=60)
    run["Producer"].gets_a_pod(waiting=("ErrImagePull", "503 Service Unavailable"))
    run.later(seconds=301)
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.REGISTRY_UNAVAILABLE)
    assert run.message().startswith(
        "2 pods did not start, and spec.producer.maxRestarts (1) allows no further attempt."
    )
    assert "503 Service Unavailable" in run.message()


def test_pods_that_were_lost_are_told_from_those_that_did_not_start() -> None:
    run = Story(model("orders"), max_restarts=1)
    run["Producer"].starts().reports(orders="running").is_killed()
    run.next()
    run["Resume orders"].gets_a_pod()
    run.later(seconds=600)
    assert run.phase() is RunPhase.FAILED
    assert run.message().startswith("2 pods were lost, 1 of which had not started, and spec.producer.maxRestarts (1)")


def test_a_warehouse_that_is_waited_for_is_named() -> None:
    run = Story(model("orders"), reasons=frozenset({RetryReason.CONNECTION_FAILED}), limit=2)
    run["Producer"].starts(loaded=False).gives_up("connection", "Connection refused")
    run.next()
    assert run.message().startswith("dbt could not connect to the warehouse: Connection refused; check spec.profile. ")
    assert run.message().endswith("The work is taken up again at 03:00:10 UTC.")


def test_nothing_is_started_while_a_pod_that_did_not_start_in_time_may_still_do_so() -> None:
    run = Story(model("orders"))
    first = run["Producer"].gets_a_pod()
    first.lingers = True
    assert run.later(seconds=300) == []
    assert first.job is None
    assert run.later(seconds=3600) == []  # its node does not answer, so the pod is still there
    first.pod = None
    assert run.next() == ["Producer"]


def test_a_pod_that_somebody_deletes_is_waited_for_until_dbt_has_cancelled_its_queries() -> None:
    run = Story(model("orders"), model("stock"))
    run["Producer"].starts().reports(orders="running", stock="running").is_deleted()
    run["Producer"].cancels("orders", returned=True)
    assert run.next() == []
    run["Producer"].stops()
    assert run.next() == ["Resume orders stock"]


def test_a_job_that_somebody_deleted_may_have_had_a_pod_that_nobody_saw() -> None:
    run = Story(model("orders"), grace=timedelta(seconds=60))
    run["Producer"].vanishes()
    assert run.later(seconds=59) == []
    assert run.later(seconds=1) == ["Producer"]
    assert run["Producer"].decision.name == "nightly-producer-2"


@pytest.mark.parametrize("kind", ["usage", "selector", "profile", "project", "parse", "dependencies"])
def test_what_another_attempt_cannot_change_is_not_tried_again(kind: str) -> None:
    run = Story(model("orders"), reasons=frozenset(RetryReason), limit=5)
    run["Producer"].starts(loaded=False).gives_up(kind, "no")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED


def test_a_warehouse_that_cannot_be_reached_is_tried_again_where_that_is_asked_for() -> None:
    run = Story(model("orders"), reasons=frozenset({RetryReason.CONNECTION_FAILED}), limit=2)
    run["Producer"].starts(loaded=False).gives_up("connection", "Connection refused")
    assert run.later(seconds=9) == []
    assert run.later(seconds=1) == ["Producer"]
    run["Producer"].starts(loaded=False).gives_up("connection", "Connection refused")
    assert run.later(seconds=19) == []
    assert run.later(seconds=1) == ["Producer"]
    run["Producer"].starts(loaded=False).gives_up("connection", "Connection refused")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)


def test_by_default_a_warehouse_that_cannot_be_reached_fails_the_run() -> None:
    for loaded in (False, True):
        run = Story(model("orders"))
        run["Producer"].starts(loaded=loaded).gives_up("connection", "Connection refused")
        assert run.later(seconds=600) == []
        assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)


def test_a_warehouse_that_is_gone_once_the_project_is_loaded_is_tried_again_for_all_nodes() -> None:
    run = Story(model("orders"), model("report", "orders"), reasons=frozenset({RetryReason.CONNECTION_FAILED}), limit=1)
    run["Producer"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=9) == []
    assert run.later(seconds=1) == ["Resume orders report"]
    run["Resume orders report"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_pod_that_is_lost_after_the_warehouse_could_not_be_reached_is_followed_by_another_one(
    *, loaded: bool
) -> None:
    run = Story(model("orders"), model("other"), reasons=frozenset({RetryReason.CONNECTION_FAILED}), limit=1)
    run["Producer"].starts(loaded=loaded).gives_up("connection", "Connection refused")
    again = "Resume orders other" if loaded else "Producer"
    assert run.later(seconds=10) == [again]
    run[again].starts().reports(orders="success", other="running").is_evicted()
    assert run.next() == ["Resume other"]
    run["Resume other"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=600) == []


def test_the_pause_grows_with_each_time_that_the_warehouse_could_not_be_reached() -> None:
    run = Story(model("orders"), reasons=frozenset({RetryReason.CONNECTION_FAILED}), limit=2)
    run["Producer"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=10) == ["Resume orders"]
    run["Resume orders"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=19) == []
    assert run.later(seconds=1) == ["Resume orders"]


# no endless loop


def test_a_process_that_ends_without_its_record_while_a_node_runs_is_not_started_for_ever() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="running").is_killed(exit_code=3)
    for _ in range(20):
        for label in run.later(seconds=600):
            run[label].starts().reports(orders="running").is_killed(exit_code=3)
    assert run.phase() is RunPhase.FAILED
    assert len(run.attempts) < 10


def test_a_dbt_that_never_says_how_a_node_ended_is_not_started_for_ever() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="running", other="success").ends()
    for _ in range(20):
        for label in run.later(seconds=600):
            run[label].starts().reports(orders="running").ends()
    assert run.phase() is RunPhase.FAILED
    assert len(run.attempts) < 10


def test_a_dbt_that_leaves_a_node_out_is_not_asked_for_it_for_ever() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(other="success").ends()
    for _ in range(20):
        for label in run.later(seconds=600):
            run[label].starts().ends()
    assert run.phase() is RunPhase.FAILED
    assert len(run.attempts) < 10


def test_the_same_facts_give_the_same_plan() -> None:
    run = Story(model("orders"), model("stock"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", stock="error: deadlock", other="running").is_evicted()
    run.now += timedelta(seconds=10)
    observation = settled(run.observation)
    assert plan_run(observation).record == plan_run(observation).record != ()


# ephemeral models


@pytest.mark.parametrize("selected", [True, False])
def test_an_ephemeral_model_does_not_keep_a_resumed_run_from_success(selected: bool) -> None:
    run = Story(model("orders"), ephemeral("clean", "orders", selected=selected), model("report", "clean"))
    run["Producer"].starts().reports(orders="success", report="running").is_evicted()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_what_an_ephemeral_model_is_made_of_is_waited_for_by_what_contains_it() -> None:
    """dbt has ended without a word about the first one, and built the last one all the same: that is stale."""
    run = Story(model("orders"), ephemeral("clean", "orders"), model("report", "clean"))
    run["Producer"].starts().reports(orders="running", report="success").ends()
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED
    assert run.ask("again") == ["Resume orders report"]
