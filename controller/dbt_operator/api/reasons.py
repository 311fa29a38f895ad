"""The closed lists of reasons: what `status.reason` may say. docs/dbtrun.md and docs/dbtmodel.md explain them."""

from dbt_operator.api.words import Word


class NodeReason(Word):
    """Why a node is in its phase."""

    SUCCESS = "Success"  # dbt built it, every test of it that ran passed
    WARNED = "Warned"  # dbt built it, a warn-severity test of it (or the freshness check) warned
    NO_OP = "NoOp"  # dbt had nothing to execute for it
    REUSED = "Reused"  # dbt State took over what an earlier run had built
    INLINED = "Inlined"  # ephemeral: compiled into the nodes that use it
    ERROR = "Error"  # dbt reported an error while executing it
    PARTIAL_SUCCESS = "PartialSuccess"  # some batches of a microbatch model failed
    TESTS_FAILED = "TestsFailed"  # built, but an error-severity test of it failed
    STALE = "Stale"  # a source older than its freshness criteria allow
    UPSTREAM_FAILED = "UpstreamFailed"  # dbt skipped it because a node it needs failed
    HOOK_FAILED = "HookFailed"  # dbt skipped it because an on-run-start hook failed
    FAIL_FAST = "FailFast"  # dbt stopped at another node's failure, as failFast asks
    SKIPPED = "Skipped"  # dbt skipped it and the log does not say why
    CANCELLED = "Cancelled"  # the run was cancelled, or deleted, before it had ended
    LOST = "Lost"  # its pod ended without a word about it: what happened to it is unknown


class RunReason(Word):
    """Why a run is in its phase."""

    # not started
    ACCEPTED = "Accepted"  # the operator has seen it
    QUOTA_EXCEEDED = "QuotaExceeded"  # Queued: a ResourceQuota has no room for the pod
    API_SERVER_ERROR = "ApiServerError"  # live: a request that the run needs fails, as does a webhook that it asks
    JOB_SUSPENDED = "JobSuspended"  # Queued: somebody (a queueing system) holds the Job back
    SCHEDULING = "Scheduling"  # Starting: the pod waits for a node
    PULLING_IMAGE = "PullingImage"  # Starting
    CREATING_CONTAINER = "CreatingContainer"  # Starting
    # running
    PARSING = "Parsing"  # dbt is loading the project; no node has started
    EXECUTING = "Executing"  # dbt is executing nodes
    STOPPING = "Stopping"  # dbt was told to stop and is cancelling its queries
    FINISHING = "Finishing"  # the process has ended, the last of its log is read
    # between its attempts, and in those that repair
    BACKING_OFF = "BackingOff"  # Retrying: a failed node waits for its retry
    RETRYING_NODES = "RetryingNodes"  # Retrying: failed nodes are executed again
    RESUMING = "Resuming"  # Retrying: an attempt goes on with what is left
    SUSPENDED = "Suspended"  # spec.suspend asks for it
    # ended well
    ALL_SUCCEEDED = "AllSucceeded"
    SUCCEEDED_WITH_WARNINGS = "SucceededWithWarnings"
    # ended by what dbt found
    NODES_FAILED = "NodesFailed"
    TESTS_FAILED = "TestsFailed"  # no node failed itself, only tests did
    HOOK_FAILED = "HookFailed"
    NOTHING_SELECTED = "NothingSelected"
    # dbt could not start
    USAGE_ERROR = "UsageError"  # dbt refused its arguments
    SELECTOR_ERROR = "SelectorError"  # dbt could not read select, exclude or selector
    PROFILE_ERROR = "ProfileError"  # no profiles.yml, profile or target
    PROJECT_NOT_FOUND = "ProjectNotFound"
    PARSE_ERROR = "ParseError"  # the project does not parse
    DEPENDENCIES_MISSING = "DependenciesMissing"  # packages of the project are not installed
    CONNECTION_FAILED = "ConnectionFailed"  # the warehouse could not be reached
    DATABASE_ERROR = "DatabaseError"  # the warehouse refused what dbt asked of it before any node, or after all
    DBT_NOT_FOUND = "DbtNotFound"  # the image holds no dbt that the runner can use
    DBT_ERROR = "DbtError"  # any other error that ended the whole invocation
    # the pod could not start
    INVALID_SPEC = "InvalidSpec"
    INVALID_POD_TEMPLATE = "InvalidPodTemplate"
    ADMISSION_DENIED = "AdmissionDenied"
    FORBIDDEN = "Forbidden"  # the operator's own rights do not suffice
    NAME_CONFLICT = "NameConflict"  # an object of the needed name belongs to somebody else
    IMAGE_PULL_FAILED = "ImagePullFailed"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"  # the image could not be pulled, for a reason that may pass
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"  # a Secret, ConfigMap or key that the pod refers to is missing
    CONTAINER_START_FAILED = "ContainerStartFailed"
    VOLUME_MOUNT_FAILED = "VolumeMountFailed"
    UNSCHEDULABLE = "Unschedulable"
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    # the pod was lost
    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    POD_LOST = "PodLost"  # deleted, killed, or its node is gone
    RUNNER_FAILED = "RunnerFailed"  # our program in the pod ended without its record
    LOG_UNREADABLE = "LogUnreadable"  # the pod's log cannot be read
    # asked for
    CANCELLED = "Cancelled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # it took longer than spec.activeDeadlineSeconds
