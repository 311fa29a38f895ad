"""What each reason means: to the planner, to a person, and in the documentation. The one table of them.

The tables of reasons in docs/dbtrun.md and docs/dbtmodel.md are made of it: `python -m dev.docs` writes them anew.
"""

from dataclasses import dataclass
from enum import Enum

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.phases import RunPhase as Phase
from dbt_operator.api.reasons import NodeReason, RunReason


class Kind(Enum):
    """What a reason of a run, or of one of its attempts, says about what may follow."""

    LIVE = "live"  # it has not ended
    BY_NODES = "by nodes"  # dbt came to its end; its nodes tell what it did
    LOST = "lost"  # a pod was lost, or never came up: that says nothing about the nodes, and the work is taken up again
    RESTING = "resting"  # somebody asked for it to rest, the run or only the attempt; it goes on later
    STOPPED = "stopped"  # somebody, or a deadline, asked for it to stop
    FINAL = "final"  # another attempt would come to the same end


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is to be known of a reason.

    meaning, advice: sentences of the documentation. sentence, check: how the message of such a run begins, and what it
    ends with. error_kind: the runner's word for the error of dbt that leads to this reason.
    """

    phases: tuple[NodePhase | Phase, ...]
    meaning: str
    advice: str
    kind: Kind = Kind.FINAL
    obstacle: bool = False  # of a live run: something is in its way, of which an Event tells
    needs_a_person: bool = False  # of a live run: it waits for a person, not for the cluster
    step: bool = False  # a step before dbt may say that it failed for this reason
    error_kind: str = ""
    sentence: str = ""
    check: str = ""


_NOT_ENDED = (Phase.PENDING, Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.RETRYING, Phase.SUSPENDED)

RUN_REASONS = {
    RunReason.ACCEPTED: About(
        phases=(Phase.PENDING,),
        kind=Kind.LIVE,
        meaning="The operator has seen the run.",
        advice="Nothing.",
    ),
    RunReason.SUPERSEDING: About(
        phases=(Phase.PENDING,),
        kind=Kind.LIVE,
        meaning="The run waits until the older runs that it supersedes have ended.",
        advice="Nothing; the message names them.",
    ),
    RunReason.QUOTA_EXCEEDED: About(
        phases=_NOT_ENDED,
        kind=Kind.LIVE,
        obstacle=True,
        meaning="A ResourceQuota of the namespace has no room for the pod, the Job or a ConfigMap of the run.",
        advice="Wait, or raise the quota or lower the requests.",
    ),
    RunReason.API_SERVER_ERROR: About(
        phases=_NOT_ENDED,
        kind=Kind.LIVE,
        obstacle=True,
        meaning=(
            "A request that the run needs fails in the API server, usually because an admission webhook does not "
            "answer."
        ),
        advice="Repair what the message names; the run goes on by itself.",
    ),
    RunReason.JOB_SUSPENDED: About(
        phases=(Phase.QUEUED, Phase.RETRYING),
        kind=Kind.RESTING,
        meaning=(
            "Somebody, usually a queueing system, holds the Job back. It is also the reason of attempts whose place "
            "was taken back while dbt was at work."
        ),
        advice="Wait, or look at the queue.",
    ),
    RunReason.SCHEDULING: About(
        phases=(Phase.STARTING, Phase.RETRYING),
        kind=Kind.LIVE,
        meaning="The pod waits for a node.",
        advice="Nothing; the message says what the scheduler misses.",
    ),
    RunReason.PULLING_IMAGE: About(
        phases=(Phase.STARTING, Phase.RETRYING),
        kind=Kind.LIVE,
        obstacle=True,
        meaning="The node is pulling the image.",
        advice="Nothing; the message says if there is a problem.",
    ),
    RunReason.CREATING_CONTAINER: About(
        phases=(Phase.STARTING, Phase.RETRYING),
        kind=Kind.LIVE,
        meaning="The node is preparing volumes and the container.",
        advice="Nothing; the message says if there is a problem.",
    ),
    RunReason.PARSING: About(
        phases=(Phase.RUNNING,),
        kind=Kind.LIVE,
        meaning="dbt is loading the project; no node has started.",
        advice="Nothing.",
    ),
    RunReason.EXECUTING: About(
        phases=(Phase.RUNNING,),
        kind=Kind.LIVE,
        meaning="dbt is executing nodes.",
        advice="Nothing.",
    ),
    RunReason.STOPPING: About(
        phases=(Phase.RUNNING,),
        kind=Kind.LIVE,
        meaning="dbt was told to stop and is cancelling its queries.",
        advice="Nothing.",
    ),
    RunReason.FINISHING: About(
        phases=(Phase.RUNNING,),
        kind=Kind.LIVE,
        meaning="dbt has ended; the last of its log is being read.",
        advice="Nothing.",
    ),
    RunReason.BACKING_OFF: About(
        phases=(Phase.RETRYING,),
        kind=Kind.LIVE,
        meaning="A node that failed waits for its retry, or lost work for being taken up again.",
        advice="Nothing; the message says until when.",
    ),
    RunReason.RETRYING_NODES: About(
        phases=(Phase.RETRYING,),
        kind=Kind.LIVE,
        meaning="Nodes that failed are executed again.",
        advice="Nothing.",
    ),
    RunReason.RESUMING: About(
        phases=(Phase.RETRYING,),
        kind=Kind.LIVE,
        meaning="An attempt goes on with what is left.",
        advice="Nothing.",
    ),
    RunReason.SUSPENDED: About(
        phases=(Phase.SUSPENDED,),
        kind=Kind.RESTING,
        meaning=(
            "`suspend` is set. It is also the reason of attempts that were stopped for that, or as the run could not "
            "go on."
        ),
        advice="Set `suspend` to false to go on.",
    ),
    RunReason.ALL_SUCCEEDED: About(
        phases=(Phase.SUCCEEDED,),
        kind=Kind.BY_NODES,
        meaning="Everything succeeded.",
        advice="Nothing.",
    ),
    RunReason.NOTHING_TO_DO: About(
        phases=(Phase.SUCCEEDED,),
        kind=Kind.BY_NODES,
        meaning=(
            "The selection compares with the artifacts of `spec.state` and matches no node: nothing was modified, say."
        ),
        advice="Nothing.",
    ),
    RunReason.SUCCEEDED_WITH_WARNINGS: About(
        phases=(Phase.SUCCEEDED,),
        kind=Kind.BY_NODES,
        meaning=(
            "Everything succeeded, but a test of severity warn found something, or a source is old; with "
            "`sourceFreshness: SkipStale` what depends on it was not built, as the message says."
        ),
        advice="Look at the DbtModels with the reason `Warned`.",
    ),
    RunReason.NODES_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.BY_NODES,
        meaning="At least one node failed, also when it was retried, or is not known to have succeeded.",
        advice="Look at `status.failures`; correct the cause and ask for a retry.",
    ),
    RunReason.TESTS_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.BY_NODES,
        meaning="All nodes were built; only tests failed, or were not executed.",
        advice="Look at `status.failures`; correct the cause and ask for a retry.",
    ),
    RunReason.SOURCES_STALE: About(
        phases=(Phase.FAILED,),
        kind=Kind.BY_NODES,
        meaning=(
            "Sources are older than their freshness allows, and nothing else failed: in a run of `source-freshness`, "
            "or with `sourceFreshness: Fail`, where nothing was built."
        ),
        advice="Look at what loads the sources; ask for a retry when they are fresh.",
    ),
    RunReason.HOOK_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.BY_NODES,
        sentence="A hook failed",
        meaning="An on-run-start or on-run-end hook failed.",
        advice="Correct the hook that the message names.",
    ),
    RunReason.NOTHING_SELECTED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="nothing_selected",
        sentence="The selection, or a part of it, matches no node",
        check="check spec.command, spec.select, spec.exclude and spec.selector",
        meaning="The selection matches no node; with `warn_error` in the flags of the project, a part of it does.",
        advice="Check `select`, `exclude` and `selector`.",
    ),
    RunReason.USAGE_ERROR: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="usage",
        sentence="dbt refused its arguments",
        check="check the fields of spec that become its flags",
        meaning="dbt refused its arguments.",
        advice="Check the spec; an old dbt may lack a flag.",
    ),
    RunReason.SELECTOR_ERROR: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="selector",
        sentence="dbt could not read the selection",
        check="check spec.command, spec.select, spec.exclude and spec.selector",
        meaning="dbt could not read the selection.",
        advice="Check the syntax of `select`, `exclude`, and the name in `selector`.",
    ),
    RunReason.PROFILE_ERROR: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="profile",
        sentence="dbt could not load the profile",
        check="check spec.profile and profiles.yml",
        meaning="dbt found no `profiles.yml`, profile or target that it can use.",
        advice="Check `spec.profile` and the content of `profiles.yml`.",
    ),
    RunReason.PROJECT_NOT_FOUND: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="project",
        sentence="dbt could not load the project",
        check="check spec.project and its path, and dbt_project.yml",
        meaning="There is no `dbt_project.yml` where the spec says, or it cannot be read.",
        advice="Check `spec.project` with its `path`, and the file.",
    ),
    RunReason.PARSE_ERROR: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="parse",
        sentence="The project does not parse",
        meaning="The project does not parse.",
        advice="Correct the file that the message names.",
    ),
    RunReason.DEPENDENCIES_MISSING: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="dependencies",
        sentence="Packages of the project are not installed",
        check="install them when the image is built (dbt deps), or set spec.deps to Auto",
        meaning="Packages of the project are not installed, and `deps` is `Never`.",
        advice="Run `dbt deps` when the image is built, or create a run with `deps: Auto`.",
    ),
    RunReason.DEPS_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="deps",
        meaning="dbt could not install the packages that the project names (`dbt deps`).",
        advice="Correct `packages.yml`, or what else the message names.",
    ),
    RunReason.CONNECTION_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="connection",
        sentence="dbt could not connect to the warehouse",
        check="check spec.profile",
        meaning="dbt could not reach the warehouse or log in.",
        advice="Check the profile, its credentials and the network.",
    ),
    RunReason.DATABASE_ERROR: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="database",
        sentence="The warehouse refused what dbt asked of it",
        meaning=(
            "The warehouse was there, and refused what dbt asked of it before or after the nodes, usually for want "
            "of a right."
        ),
        advice="Grant what the message names, or correct the profile.",
    ),
    RunReason.DBT_NOT_FOUND: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        error_kind="dbt_not_found",
        sentence="The image holds no dbt that can be used",
        check="check spec.image",
        meaning="The image has no dbt that can be used, or not for this project.",
        advice=(
            "Check the image: `dbt` on the `PATH`, dbt-core 1.8 or newer, and a version that `require-dbt-version` of "
            "the project and its packages allows."
        ),
    ),
    RunReason.DBT_ERROR: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        sentence="dbt ended with an error",
        meaning="Another error ended the whole invocation.",
        advice="The message has dbt's own words; the pod's log has more.",
    ),
    RunReason.INVALID_SPEC: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        meaning=(
            "The operator cannot use the spec, usually because operator and CRDs are of different versions, or fields "
            "of it do not go together. What the run had begun was stopped."
        ),
        advice="Correct the field that the message names, or upgrade both with the chart.",
        error_kind="spec",
    ),
    RunReason.INVALID_POD_TEMPLATE: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        meaning="`podTemplate` sets what the operator owns or what no pod has, or the apiserver refused the pod.",
        advice="Correct the field that the message names.",
    ),
    RunReason.ADMISSION_DENIED: About(
        phases=(Phase.FAILED, *_NOT_ENDED),
        kind=Kind.FINAL,
        obstacle=True,
        needs_a_person=True,
        meaning=(
            "A policy of the cluster (pod security, LimitRange, a quota that wants requests or limits, a webhook) "
            "refused the Job, its pod or that the pod starts: Failed. Or something else that the run needs: the run "
            "waits."
        ),
        advice="Adapt `podTemplate` to the policy in the message, or the policy to the run.",
    ),
    RunReason.FORBIDDEN: About(
        phases=_NOT_ENDED,
        kind=Kind.LIVE,
        obstacle=True,
        needs_a_person=True,
        meaning="The operator lacks a right in the namespace.",
        advice="Let an administrator correct its role; the run goes on by itself.",
    ),
    RunReason.NAME_CONFLICT: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        meaning=(
            "An object with the name of the run's Job or ConfigMap exists and belongs to somebody else. What the run "
            "had begun was stopped."
        ),
        advice="Delete or rename it, and create the run anew.",
    ),
    RunReason.CONNECTION_NOT_FOUND: About(
        phases=(Phase.STARTING, Phase.RETRYING, Phase.FAILED),
        kind=Kind.FINAL,
        obstacle=True,
        needs_a_person=True,
        meaning=(
            "The DbtConnection that the run names is not there. Failed: it was not there until the start deadline."
        ),
        advice="Create the DbtConnection that the message names; a run that waits goes on, else ask for a retry.",
    ),
    RunReason.IMAGE_PULL_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        meaning=(
            "There is no such image, or it may not be pulled: its name is no legal one, or the registry said no "
            "until the start deadline."
        ),
        advice="Check the name of the image and the pull secrets.",
    ),
    RunReason.REGISTRY_UNAVAILABLE: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        meaning=(
            "The registry of the image did not answer before the start deadline, more often than "
            "`producer.maxRestarts` allows."
        ),
        advice="Ask for a retry when it is back.",
    ),
    RunReason.CONTAINER_CONFIG_ERROR: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        meaning="A Secret, ConfigMap or key that the pod refers to was missing until the start deadline.",
        advice="Create the object that the message names (the profile's Secret, perhaps), and ask for a retry.",
    ),
    RunReason.CONTAINER_START_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        meaning=(
            "The container could not be started, an init container failed, or a sidecar exited again and again until "
            "the start deadline."
        ),
        advice="Check the image and `podTemplate`; the message has the runtime's words, or the exit code.",
    ),
    RunReason.VOLUME_MOUNT_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        meaning="A volume could not be mounted before the start deadline.",
        advice="Check the volumes; the message has the kubelet's words.",
    ),
    RunReason.UNSCHEDULABLE: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        meaning="No node could take the pod before the start deadline.",
        advice="Check requests, node selector and tolerations.",
    ),
    RunReason.START_DEADLINE_EXCEEDED: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        meaning="The pod did not start before the start deadline, for no reason that the cluster tells.",
        advice="`kubectl describe pod`; look at the node.",
    ),
    RunReason.PROJECT_FETCH_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        step=True,
        meaning="The project could not be fetched from where `spec.project` says.",
        advice="Correct what the message names, and ask for a retry, or create a new run where it is a field.",
    ),
    RunReason.STATE_UNAVAILABLE: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        step=True,
        error_kind="state",
        sentence="The artifacts of spec.state cannot be used",
        check="check spec.state",
        meaning=(
            "The artifacts that `spec.state` names are not there, were not kept, or cannot be read by this dbt; or the "
            "selection (`state:`, `result:`, `source_status:`) or the command needs one that it does not have."
        ),
        advice=("Correct what the message names, and ask for a retry; or create a run with other artifacts."),
    ),
    RunReason.ENVIRONMENT_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        step=True,
        meaning="The environment of `spec.environment` could not be made; the message has the installer's own words.",
        advice="Correct the requirements, or what they are installed from, and create a new run.",
    ),
    RunReason.SOURCE_UNAVAILABLE: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        step=True,
        error_kind="source",
        meaning=(
            "A server from which something is fetched before dbt begins, the project or packages, could not be reached "
            "or did not answer in time, more often than `producer.maxRestarts` allows."
        ),
        advice="Check the name in the message and the network; ask for a retry when the server is back.",
    ),
    RunReason.OOM_KILLED: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        meaning="The container needed more memory than its limit, more often than `producer.maxRestarts` allows.",
        advice=(
            "Create a new run with a higher limit in `podTemplate`, or fewer `threads`; `status.peakMemoryBytes` "
            "tells how much was used."
        ),
    ),
    RunReason.EVICTED: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        sentence="The pod was evicted",
        meaning=(
            "The cluster took pods away (pressure on the node, drain, preemption), more often than "
            "`producer.maxRestarts` allows."
        ),
        advice="Ask for a retry; look at priorities and requests.",
    ),
    RunReason.POD_LOST: About(
        phases=(Phase.FAILED,),
        kind=Kind.LOST,
        sentence="The pod ended before dbt did",
        meaning=(
            "Pods were deleted or killed, or their node is gone, before dbt had ended, more often than "
            "`producer.maxRestarts` allows."
        ),
        advice="Ask for a retry.",
    ),
    RunReason.RUNNER_FAILED: About(
        phases=(Phase.FAILED,),
        kind=Kind.FINAL,
        sentence="The process in the pod ended without its record",
        meaning="The process in the pod ended without its record.",
        advice="Look at the pod's log.",
    ),
    RunReason.LOG_UNREADABLE: About(
        phases=(Phase.RUNNING, Phase.FAILED),
        kind=Kind.LOST,
        obstacle=True,
        meaning=(
            "The pod's log cannot be read for the moment, and dbt may be at work: the node or its kubelet does not "
            "answer, or the operator lacks a right. Failed: it could not be read, or the kubelet had rotated a part of "
            "it away, so what dbt did is unknown."
        ),
        advice="Check the node's kubelet; ask for a retry of a run that has failed.",
    ),
    RunReason.CANCELLED: About(
        phases=(Phase.CANCELLED,),
        kind=Kind.STOPPED,
        meaning="`cancel` was set.",
        advice="Nothing.",
    ),
    RunReason.SUPERSEDED: About(
        phases=(Phase.CANCELLED,),
        kind=Kind.STOPPED,
        meaning="A newer run supersedes this one, as its `supersedes` says.",
        advice="Nothing; look at the newer run, which the message names.",
    ),
    RunReason.DEADLINE_EXCEEDED: About(
        phases=(Phase.FAILED,),
        kind=Kind.STOPPED,
        meaning="dbt ran longer than `activeDeadlineSeconds` allows.",
        advice="Look at the SECONDS of the nodes, or allow more.",
    ),
}

NODE_REASONS = {
    NodeReason.SUCCESS: About(
        phases=(NodePhase.SUCCEEDED,),
        meaning="It was built, if it was to be, and every test of it that ran passed.",
        advice="Nothing.",
    ),
    NodeReason.WARNED: About(
        phases=(NodePhase.SUCCEEDED,),
        meaning=(
            "It was built, but a test warned. Of a source: it is older than `warnAfter`; or than `errorAfter`, where "
            "the run does not fail for that."
        ),
        advice="Look at the message, and at `status.tests.warning`.",
    ),
    NodeReason.NO_OP: About(
        phases=(NodePhase.SUCCEEDED,),
        meaning="dbt had nothing to execute for it.",
        advice="Nothing.",
    ),
    NodeReason.REUSED: About(
        phases=(NodePhase.SUCCEEDED,),
        meaning="It was not built: dbt State took over what an earlier run had built. It has no `executionSeconds`.",
        advice="Nothing.",
    ),
    NodeReason.INLINED: About(
        phases=(NodePhase.SUCCEEDED, NodePhase.SKIPPED),
        meaning="It is ephemeral, and compiled into the nodes that use it.",
        advice="Nothing.",
    ),
    NodeReason.ERROR: About(
        phases=(NodePhase.FAILED,),
        meaning="dbt reported an error while it executed the node.",
        advice="The message has the error of the warehouse or of dbt.",
    ),
    NodeReason.PARTIAL_SUCCESS: About(
        phases=(NodePhase.FAILED,),
        meaning="Some batches of a microbatch model failed.",
        advice="`status.batches` says how many, the message why, and the pod's log which ones.",
    ),
    NodeReason.TESTS_FAILED: About(
        phases=(NodePhase.FAILED,),
        meaning="A test of severity error failed; the node itself was built, if it was to be.",
        advice="`status.tests.failing` has the tests and their messages.",
    ),
    NodeReason.STALE: About(
        phases=(NodePhase.FAILED, NodePhase.SKIPPED),
        meaning=(
            "Failed: the source is older than its freshness criteria allow. Skipped: what it depends on is stale, and "
            "`sourceFreshness` says that it is not executed then."
        ),
        advice="Look at what loads the source, which `status.blockedBy` names; ask for a retry when it is fresh.",
    ),
    NodeReason.DEADLINE_EXCEEDED: About(
        phases=(NodePhase.FAILED,),
        meaning="It took longer than its own deadline, and its query was cancelled in the warehouse.",
        advice="Look at its query, or allow more in `activeDeadlineSeconds` of `nodes`.",
    ),
    NodeReason.UPSTREAM_FAILED: About(
        phases=(NodePhase.SKIPPED,),
        meaning="A node that it needs failed, directly or further up.",
        advice="`status.blockedBy` names the node or test that really failed.",
    ),
    NodeReason.HOOK_FAILED: About(
        phases=(NodePhase.SKIPPED,),
        meaning="An on-run-start hook failed, so nothing was executed.",
        advice="`status.blockedBy` names the hook.",
    ),
    NodeReason.FAIL_FAST: About(
        phases=(NodePhase.SKIPPED, NodePhase.CANCELLED),
        meaning="dbt stopped at the failure of another node, as `failFast` asks.",
        advice="Correct that other node.",
    ),
    NodeReason.SKIPPED: About(
        phases=(NodePhase.SKIPPED,),
        meaning="dbt skipped it, and the log does not say why; or the run ended before it was executed.",
        advice="Look at the pod's log.",
    ),
    NodeReason.CANCELLED: About(
        phases=(NodePhase.CANCELLED,),
        meaning="The run was cancelled or superseded, or was out of time, before the node had ended.",
        advice="Nothing, or ask for a retry.",
    ),
    NodeReason.LOST: About(
        phases=(NodePhase.FAILED, NodePhase.SKIPPED),
        meaning=(
            "The pod ended without a word about it. Failed: it was running, its outcome is unknown. Skipped: it is "
            "not known to have started."
        ),
        advice="Look at the reason of the run; ask for a retry.",
    ),
}

_UNKNOWN = About(phases=(), meaning="", advice="")


def about(reason: RunReason) -> About:
    """What is known of the reason; nothing of one that a later version has added."""
    return RUN_REASONS.get(reason, _UNKNOWN)


def _of(*kinds: Kind) -> frozenset[RunReason]:
    return frozenset(reason for reason, each in RUN_REASONS.items() if each.kind in kinds)


BY_NODES = _of(Kind.BY_NODES)
LOST = _of(Kind.LOST)
RESTING = _of(Kind.RESTING)
STOPPED = _of(Kind.RESTING, Kind.STOPPED)
OF_ERRORS = {each.error_kind: reason for reason, each in RUN_REASONS.items() if each.error_kind}
