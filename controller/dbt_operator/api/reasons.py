"""The closed lists of reasons: what `status.reason` may say. What each means: `reason_table.py`."""

from dbt_operator.api.open_enum import OpenEnum


class NodeReason(OpenEnum):
    """Why a node is in its phase."""

    SUCCESS = "Success"
    WARNED = "Warned"
    NO_OP = "NoOp"
    REUSED = "Reused"
    INLINED = "Inlined"
    ERROR = "Error"
    PARTIAL_SUCCESS = "PartialSuccess"
    TESTS_FAILED = "TestsFailed"
    STALE = "Stale"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    UPSTREAM_FAILED = "UpstreamFailed"
    HOOK_FAILED = "HookFailed"
    FAIL_FAST = "FailFast"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"
    LOST = "Lost"


class RunReason(OpenEnum):
    """Why a run is in its phase."""

    # not started
    ACCEPTED = "Accepted"
    SUPERSEDING = "Superseding"
    QUOTA_EXCEEDED = "QuotaExceeded"
    API_SERVER_ERROR = "ApiServerError"
    JOB_SUSPENDED = "JobSuspended"
    SCHEDULING = "Scheduling"
    PULLING_IMAGE = "PullingImage"
    CREATING_CONTAINER = "CreatingContainer"
    # running
    PARSING = "Parsing"
    EXECUTING = "Executing"
    STOPPING = "Stopping"
    FINISHING = "Finishing"
    # between its attempts, and in those that repair
    BACKING_OFF = "BackingOff"
    RETRYING_NODES = "RetryingNodes"
    RESUMING = "Resuming"
    SUSPENDED = "Suspended"
    # ended well
    ALL_SUCCEEDED = "AllSucceeded"
    NOTHING_TO_DO = "NothingToDo"
    SUCCEEDED_WITH_WARNINGS = "SucceededWithWarnings"
    # ended by what dbt found
    NODES_FAILED = "NodesFailed"
    TESTS_FAILED = "TestsFailed"
    SOURCES_STALE = "SourcesStale"
    HOOK_FAILED = "HookFailed"
    NOTHING_SELECTED = "NothingSelected"
    # dbt could not start
    USAGE_ERROR = "UsageError"
    SELECTOR_ERROR = "SelectorError"
    PROFILE_ERROR = "ProfileError"
    PROJECT_NOT_FOUND = "ProjectNotFound"
    PARSE_ERROR = "ParseError"
    DEPENDENCIES_MISSING = "DependenciesMissing"
    DEPS_FAILED = "DepsFailed"
    CONNECTION_FAILED = "ConnectionFailed"
    DATABASE_ERROR = "DatabaseError"
    DBT_NOT_FOUND = "DbtNotFound"
    DBT_ERROR = "DbtError"
    # the pod could not start
    INVALID_SPEC = "InvalidSpec"
    INVALID_POD_TEMPLATE = "InvalidPodTemplate"
    ADMISSION_DENIED = "AdmissionDenied"
    FORBIDDEN = "Forbidden"
    NAME_CONFLICT = "NameConflict"
    CONNECTION_NOT_FOUND = "ConnectionNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    CONTAINER_START_FAILED = "ContainerStartFailed"
    VOLUME_MOUNT_FAILED = "VolumeMountFailed"
    UNSCHEDULABLE = "Unschedulable"
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    PROJECT_FETCH_FAILED = "ProjectFetchFailed"
    STATE_UNAVAILABLE = "StateUnavailable"
    ENVIRONMENT_FAILED = "EnvironmentFailed"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    # the pod was lost
    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    POD_LOST = "PodLost"
    RUNNER_FAILED = "RunnerFailed"
    LOG_UNREADABLE = "LogUnreadable"
    # asked for
    CANCELLED = "Cancelled"
    SUPERSEDED = "Superseded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
