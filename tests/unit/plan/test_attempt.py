"""Where an attempt stands, for every combination of facts that the cluster can show."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.assess import assess
from dbt_operator.plan.attempt import Assessment, Attempt, Decision, Life, LogFacts, Refusal, Release
from dbt_operator.plan.facts import InitFailure, PodFacts, Restarting, Terminated
from dbt_operator.plan.outcome import Outcome
from tests.unit.plan import lines
from tests.unit.plan.given import DEADLINE, GREEN, HELD, JOB, NOW, POD, RUNNING, attempt, ended, log

CANCELLED = Outcome(phase=RunPhase.CANCELLED, reason=RunReason.CANCELLED, message="The run was cancelled.")


EXITING = Restarting(name="proxy", restarts=3, last=Terminated(exit_code=7, reason="Error", message=""))


def assessed(subject: Attempt, *, later: timedelta = timedelta()) -> Assessment:
    return assess(subject, now=NOW + later, start_deadline=DEADLINE)


def test_an_attempt_without_a_job_is_absent() -> None:
    assert assessed(attempt()).life is Life.ABSENT


def test_a_created_attempt_whose_job_is_gone_is_lost_and_not_created_again() -> None:
    found = assessed(attempt(created=True))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.POD_LOST)


def test_a_job_that_was_refused_and_then_existed_is_lost_when_it_is_gone() -> None:
    refusal = Refusal(RunReason.QUOTA_EXCEEDED, "exceeded quota")
    found = assessed(attempt(refusal=refusal, log=log(*lines.GREEN_LOG[:5], read=True)))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.POD_LOST)
    assert found.state.events


@pytest.mark.parametrize("reason", [RunReason.QUOTA_EXCEEDED, RunReason.FORBIDDEN])
def test_refusals_that_pass_by_themselves_queue(reason: RunReason) -> None:
    assert assessed(attempt(refusal=Refusal(reason, "no")), later=timedelta(days=1)).life is Life.QUEUED


@pytest.mark.parametrize(
    "reason", [RunReason.ADMISSION_DENIED, RunReason.INVALID_POD_TEMPLATE, RunReason.NAME_CONFLICT]
)
def test_refusals_that_need_another_run_end_it(reason: RunReason) -> None:
    found = assessed(attempt(refusal=Refusal(reason, "no")))
    assert found.outcome is not None
    assert (found.outcome.phase, found.outcome.reason, found.outcome.message) == (RunPhase.FAILED, reason, "no")


def test_a_connection_that_is_not_there_is_waited_for_until_the_deadline() -> None:
    refusal = Refusal(RunReason.CONNECTION_NOT_FOUND, "There is no DbtConnection dwh.")
    waiting = attempt(refusal=refusal, decided_at=NOW)
    found = assessed(waiting, later=DEADLINE - timedelta(seconds=1))
    assert (found.life, found.reason) == (Life.STARTING, RunReason.CONNECTION_NOT_FOUND)
    assert found.deadline == NOW + DEADLINE
    late = assessed(waiting, later=DEADLINE)
    assert late.outcome is not None
    assert (late.outcome.phase, late.outcome.reason) == (RunPhase.FAILED, RunReason.CONNECTION_NOT_FOUND)
    assert late.outcome.message == (
        f"There is no DbtConnection dwh; there was none for {DEADLINE.total_seconds():.0f} s."
    )


def test_a_suspended_job_is_queued_for_as_long_as_it_takes() -> None:
    found = assessed(attempt(job=replace(JOB, suspended=True)), later=timedelta(days=2))
    assert (found.life, found.reason) == (Life.QUEUED, RunReason.JOB_SUSPENDED)


def test_a_pod_that_a_quota_refuses_is_queued_for_as_long_as_it_takes() -> None:
    refusal = 'pods "x" is forbidden: exceeded quota: full, requested: pods=1, used: pods=0, limited: pods=0'
    found = assessed(attempt(job=replace(JOB, refusal=refusal)), later=timedelta(days=2))
    assert (found.life, found.reason) == (Life.QUEUED, RunReason.QUOTA_EXCEEDED)


def test_a_pod_that_a_policy_refuses_ends_the_run_at_once() -> None:
    refusal = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged'
    found = assessed(attempt(job=replace(JOB, refusal=refusal)))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.ADMISSION_DENIED)


@pytest.mark.parametrize(
    "refusal",
    [
        'pods "x" is forbidden: failed quota: team: must specify limits.cpu for: dbt; limits.memory for: dbt',
        'pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 4Gi',
    ],
)
def test_a_pod_that_no_wait_makes_acceptable_ends_the_run_at_once(refusal: str) -> None:
    found = assessed(attempt(job=replace(JOB, refusal=refusal)))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.ADMISSION_DENIED)
    assert refusal in found.message


def test_a_missing_service_account_may_still_be_created() -> None:
    job = replace(JOB, refusal='error looking up service account data/x: serviceaccount "x" not found')
    assert assessed(attempt(job=job)).life is Life.STARTING
    found = assessed(attempt(job=job), later=DEADLINE)
    assert (found.life, found.reason) == (Life.ENDED, RunReason.ADMISSION_DENIED)
    assert '"x" not found' in found.message


BACKING_OFF = 'Back-off pulling image "registry.example.com/timeouts/shop:503": ErrImagePull: '
OBSTACLES = {
    "image": (
        replace(POD, waiting=("ImagePullBackOff", f"{BACKING_OFF}rpc error: code = NotFound desc = not found")),
        RunReason.PULLING_IMAGE,
        RunReason.IMAGE_PULL_FAILED,
    ),
    "image that may not be pulled": (
        replace(POD, waiting=("ErrImagePull", "pull access denied, repository does not exist or may require login")),
        RunReason.PULLING_IMAGE,
        RunReason.IMAGE_PULL_FAILED,
    ),
    "image that was not brought to the node": (
        replace(POD, waiting=("ErrImagePull", "dial tcp 127.0.0.1:80: connect: connection refused")),
        RunReason.PULLING_IMAGE,
        RunReason.IMAGE_PULL_FAILED,
    ),
    "registry": (
        replace(POD, waiting=("ImagePullBackOff", "unexpected status from HEAD request: 503 Service Unavailable")),
        RunReason.PULLING_IMAGE,
        RunReason.REGISTRY_UNAVAILABLE,
    ),
    "way to the registry": (
        replace(POD, waiting=("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout")),
        RunReason.PULLING_IMAGE,
        RunReason.REGISTRY_UNAVAILABLE,
    ),
    "sidecar": (
        replace(POD, waiting=("PodInitializing", ""), sidecar=EXITING),
        RunReason.CREATING_CONTAINER,
        RunReason.CONTAINER_START_FAILED,
    ),
    "image of dbt beside a sidecar": (
        replace(POD, waiting=("ImagePullBackOff", "503 Service Unavailable"), sidecar=EXITING),
        RunReason.PULLING_IMAGE,
        RunReason.REGISTRY_UNAVAILABLE,
    ),
    "secret": (
        replace(POD, waiting=("CreateContainerConfigError", 'secret "s" not found')),
        RunReason.CREATING_CONTAINER,
        RunReason.CONTAINER_CONFIG_ERROR,
    ),
    "volume": (
        replace(POD, mount_failure="rpc error: the disk is attached to another node"),
        RunReason.CREATING_CONTAINER,
        RunReason.VOLUME_MOUNT_FAILED,
    ),
    "volume of a secret": (
        replace(POD, mount_failure='MountVolume.SetUp failed for volume "p" : secret "shop" not found'),
        RunReason.CREATING_CONTAINER,
        RunReason.CONTAINER_CONFIG_ERROR,
    ),
    "volume of a key": (
        replace(POD, mount_failure='MountVolume.SetUp failed for volume "p" : references non-existent secret key: x'),
        RunReason.CREATING_CONTAINER,
        RunReason.CONTAINER_CONFIG_ERROR,
    ),
    "node": (
        replace(POD, node=None, unschedulable="0/1 nodes are available", waiting=None),
        RunReason.SCHEDULING,
        RunReason.UNSCHEDULABLE,
    ),
    "unknown": (POD, RunReason.CREATING_CONTAINER, RunReason.START_DEADLINE_EXCEEDED),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_pod_that_does_not_start_fails_at_the_deadline_and_not_before(obstacle: str) -> None:
    pod, live, failure = OBSTACLES[obstacle]
    before = assessed(attempt(job=JOB, pod=pod), later=DEADLINE - timedelta(seconds=31))
    assert (before.life, before.reason) == (Life.STARTING, live)
    after = assessed(attempt(job=JOB, pod=pod), later=DEADLINE - timedelta(seconds=30))
    assert (after.life, after.reason) == (Life.ENDED, failure)
    assert after.must_stop


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_no_wait_brings_is_not_waited_for(reason: str) -> None:
    found = assessed(attempt(job=JOB, pod=replace(POD, waiting=(reason, 'image "SHOP"'))))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.IMAGE_PULL_FAILED)
    assert 'image "SHOP"' in found.message


def test_a_sidecar_that_exits_again_and_again_is_named_with_its_exit_code() -> None:
    pod = replace(POD, waiting=("CrashLoopBackOff", "back-off 10s restarting failed container"), sidecar=EXITING)
    found = assessed(attempt(job=JOB, pod=pod), later=DEADLINE)
    assert "sidecar proxy of pod nightly-producer-1-abcde was started 4 times" in found.message
    assert "ended at last with exit code 7" in found.message


def test_a_program_that_the_image_lacks_is_named() -> None:
    pod = ended(exit_code=128, reason="StartError")
    terminated = Terminated(exit_code=128, reason="StartError", message='exec: "python3": executable file not found')
    found = assessed(attempt(job=JOB, pod=replace(pod, terminated=terminated)))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.CONTAINER_START_FAILED)
    assert "python3" in found.message


def test_a_failed_init_container_is_named() -> None:
    pod = replace(
        POD,
        phase="Failed",
        waiting=None,
        init_failure=InitFailure("step", Terminated(exit_code=3, reason="Error", message="")),
    )
    found = assessed(attempt(job=JOB, pod=pod))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.CONTAINER_START_FAILED)


def test_a_running_pod_is_parsing_until_dbt_says_that_it_executes() -> None:
    assert assessed(attempt(job=JOB, pod=RUNNING)).reason is RunReason.PARSING
    assert assessed(attempt(job=JOB, pod=RUNNING, log=log(*lines.GRAPH))).reason is RunReason.PARSING
    assert assessed(attempt(job=JOB, pod=RUNNING, log=log(*lines.EXECUTING))).reason is RunReason.EXECUTING


def test_an_ended_pod_is_not_judged_before_its_log_is_read_to_the_end() -> None:
    found = assessed(attempt(job=JOB, pod=ended(), log=LogFacts(state=log(*lines.EXECUTING).state)))
    assert (found.life, found.outcome) == (Life.DRAINING, None)


def test_a_green_log_and_a_clean_exit_are_a_success() -> None:
    found = assessed(attempt(job=JOB, pod=ended(), log=GREEN))
    assert found.outcome is not None
    assert (found.outcome.phase, found.outcome.reason) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_red_log_is_a_failure_that_names_the_node() -> None:
    found = assessed(attempt(job=JOB, pod=ended(exit_code=1), log=log(*lines.RED_LOG, read=True)))
    assert found.reason is RunReason.NODES_FAILED
    assert "raw" in found.message


LOSSES: dict[str, tuple[PodFacts | None, RunReason]] = {
    "out of memory": (ended(exit_code=137, reason="OOMKilled"), RunReason.OOM_KILLED),
    "evicted": (ended(exit_code=137, pod_reason="Evicted", pod_message="low on memory"), RunReason.EVICTED),
    "preempted": (ended(exit_code=143, disruption="preempted by scheduler"), RunReason.EVICTED),
    "killed": (ended(exit_code=137), RunReason.POD_LOST),
    "node lost": (replace(RUNNING, phase="Failed", running=False, pod_reason="NodeLost"), RunReason.POD_LOST),
    "pod deleted": (None, RunReason.POD_LOST),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_pod_is_named_as_what_it_was_and_its_open_nodes_are_lost(loss: str) -> None:
    pod, reason = LOSSES[loss]
    job = replace(JOB, failed="BackoffLimitExceeded")
    found = assessed(attempt(job=job, pod=pod, log=log(*lines.EXECUTING, read=True)))
    assert (found.life, found.reason) == (Life.ENDED, reason), found.message
    assert found.state.closed is not None
    assert all(node.phase is not NodePhase.SUCCEEDED for node in found.state.nodes.values())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_pod_that_was_gone_before_anybody_looked_is_named_as_what_the_watch_showed(loss: str) -> None:
    pod, reason = LOSSES[loss]
    job = replace(JOB, failed="BackoffLimitExceeded")
    found = assessed(attempt(job=job, last_pod=pod, log=log(*lines.EXECUTING, read=True)))
    assert (found.life, found.reason) == (Life.ENDED, reason), found.message


def test_when_a_container_started_is_known_also_where_its_pod_was_gone_before_anybody_looked() -> None:
    # Of pods that are lost together those count once that had started before the first loss was noted.
    assert attempt(job=JOB, last_pod=RUNNING).started == RUNNING.started


def test_what_the_watch_showed_of_a_pod_at_last_does_not_make_an_unread_log_the_fault_of_the_runner() -> None:
    job = replace(JOB, failed="BackoffLimitExceeded")
    found = assessed(attempt(job=job, last_pod=ended(exit_code=1)))
    assert found.reason is RunReason.POD_LOST


ABANDONED = replace(RUNNING, phase="Failed", disruption="the node is gone")  # by the control plane, not by its kubelet


@pytest.mark.parametrize(
    ("pod", "reason"),
    [(ended(exit_code=2), RunReason.POD_LOST), (ended(exit_code=137, reason="OOMKilled"), RunReason.OOM_KILLED)],
)
def test_last_words_that_were_lost_with_their_pod_are_not_missed(pod: PodFacts, reason: RunReason) -> None:
    """A pod that is deleted by force ends by itself, with its exit code to see, and its log goes at once."""
    read = log(*lines.EXECUTING, read=True)
    assert assessed(attempt(job=JOB, pod=pod, log=replace(read, incomplete=True))).reason is reason
    assert assessed(attempt(job=JOB, pod=replace(pod, deleting=True), log=read)).reason is reason
    assert assessed(attempt(job=JOB, pod=ended(exit_code=2), log=read)).reason is RunReason.RUNNER_FAILED


def test_a_pod_that_did_not_start_in_time_may_start_yet_where_a_kubelet_has_it() -> None:
    late = {"later": DEADLINE + timedelta(seconds=1)}
    there = assessed(attempt(job=JOB, pod=replace(POD, waiting=("ImagePullBackOff", "no such image"))), **late)
    assert (there.life, there.gone) == (Life.ENDED, False)
    nowhere = assessed(attempt(job=JOB, pod=replace(POD, node=None, unschedulable="no room")), **late)
    assert (nowhere.life, nowhere.gone) == (Life.ENDED, True)


def test_a_pod_that_waits_for_its_release_has_no_deadline_before_it() -> None:
    waits = assessed(attempt(job=JOB, pod=HELD), later=timedelta(days=1))
    assert (waits.life, waits.reason, waits.deadline) == (Life.STARTING, RunReason.SCHEDULING, None)
    release = Release(pod=POD.uid, at=NOW + timedelta(days=1))
    found = assessed(attempt(job=JOB, pod=POD, release=release), later=timedelta(days=1, minutes=4))
    assert (found.life, found.deadline) == (Life.STARTING, release.at + DEADLINE)


def test_a_pod_that_waits_for_somebody_elses_gate_says_so() -> None:
    found = assessed(attempt(job=JOB, pod=replace(HELD, gates=("example.com/budget",))))
    assert (found.life, "example.com/budget" in found.message) == (Life.STARTING, True)


def test_an_attempt_is_lost_with_its_pod_whatever_else_its_job_has_started() -> None:
    """The Job was deleted and created anew, or has started its program twice: that pod is never released."""
    release = Release(pod=POD.uid, at=NOW)
    found = assessed(attempt(job=JOB, release=release, log=log(*lines.EXECUTING, read=True)))
    assert (found.life, found.reason, found.must_stop) == (Life.ENDED, RunReason.POD_LOST, True)
    assert assessed(attempt(job=JOB, release=release, log=log(*lines.EXECUTING))).life is Life.DRAINING


def test_a_job_that_was_made_anew_goes_with_the_end_of_the_first_ones_pod() -> None:
    over = ended(job="the first one")
    assert assessed(attempt(job=JOB, pod=over, log=GREEN)).must_stop
    assert not assessed(attempt(job=JOB, pod=replace(over, job=JOB.uid), log=GREEN)).must_stop


def test_without_a_release_there_was_no_process() -> None:
    for never in (attempt(created=True), attempt(job=replace(JOB, deleting=True)), attempt(job=JOB, pod=HELD)):
        found = assess(never, now=NOW, start_deadline=DEADLINE, asked=CANCELLED)
        assert (found.life, found.gone, found.left_over) == (Life.ENDED, True, False)
    released = attempt(job=JOB, pod=POD, release=Release(pod=POD.uid, at=NOW))
    found = assess(released, now=NOW, start_deadline=DEADLINE, asked=CANCELLED)
    assert (found.life, found.gone, found.left_over) == (Life.ENDED, False, True)


def test_a_pod_that_was_given_up_with_its_node_may_live_on() -> None:
    found = assessed(attempt(job=JOB, pod=ABANDONED, log=log(*lines.EXECUTING, read=True)))
    assert (found.life, found.gone) == (Life.ENDED, False)


@pytest.mark.parametrize(
    ("pod", "gone"), [(ended(exit_code=137), True), (RUNNING, False), (ABANDONED, False), (None, False)]
)
def test_a_process_is_known_to_be_gone_where_the_watch_has_shown_its_end(pod: PodFacts | None, *, gone: bool) -> None:
    job = replace(JOB, failed="BackoffLimitExceeded")
    assert assessed(attempt(job=job, last_pod=pod, log=log(*lines.EXECUTING, read=True))).gone is gone


def test_a_pod_that_vanished_is_not_judged_before_its_job_says_so() -> None:
    # The Job controller may still be creating another pod, or the pod's last lines may be on their way.
    found = assessed(attempt(job=JOB, log=log(*lines.EXECUTING, read=True)))
    assert found.life is Life.DRAINING


def test_dbt_cancelled_by_a_deleted_pod_is_a_lost_pod_for_the_run() -> None:
    found = assessed(attempt(job=JOB, pod=ended(exit_code=2, deleting=True), log=log(*lines.CANCELLED_LOG, read=True)))
    assert found.outcome is not None
    assert (found.outcome.phase, found.outcome.reason) == (RunPhase.FAILED, RunReason.POD_LOST)


def test_a_log_that_cannot_be_read_is_no_success() -> None:
    unread = log(*lines.EXECUTING, read=True, unreadable="500 Internal Server Error")
    found = assessed(attempt(job=JOB, pod=ended(), log=unread))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.LOG_UNREADABLE)
    assert "500" in found.message


def test_an_attempt_that_ended_by_itself_needs_no_stop() -> None:
    assert not assessed(attempt(job=JOB, pod=ended(), log=GREEN)).must_stop


def test_a_pod_whose_job_was_deleted_is_followed_to_its_end() -> None:
    found = assessed(attempt(created=True, pod=RUNNING, log=log(*lines.EXECUTING)))
    assert found.life is Life.RUNNING
    found = assessed(attempt(created=True, log=log(*lines.EXECUTING)))
    assert found.life is Life.DRAINING
    found = assessed(attempt(created=True, log=log(*lines.EXECUTING, read=True)))
    assert (found.life, found.reason) == (Life.ENDED, RunReason.POD_LOST)


@pytest.mark.parametrize(
    ("nodes", "stage", "covered"),
    [
        (None, None, {"model.p.a", "test.p.t"}),
        (None, Stage.TEST, {"test.p.t"}),
        (frozenset({"model.p.a", "model.p.other"}), None, {"model.p.a"}),
    ],
)
def test_an_attempt_covers_what_it_is_to_execute(
    nodes: frozenset[str] | None, stage: Stage | None, covered: set[str]
) -> None:
    decision = Decision(index=1, kind=AttemptKind.PRODUCER, name="r-producer-1", nodes=nodes, stage=stage)
    asked = frozenset({"model.p.a", "test.p.t"})
    assert decision.covered(asked) == covered == {one for one in asked if decision.covers(one)}
