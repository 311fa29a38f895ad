"""What it means for a run that the API server does not do what the run needs."""

from collections.abc import Callable

from dbt_operator.api.reasons import RunReason
from dbt_operator.kube.api_error import ApiError
from dbt_operator.plan.attempt import Refusal

# The first that holds. A few errors are more than one of these: too large for a ConfigMap is invalid as well.
_MEANINGS: tuple[tuple[Callable[[ApiError], bool], RunReason, str], ...] = (
    (lambda error: error.quota_exceeded, RunReason.QUOTA_EXCEEDED, "The run waits for quota: {said}"),
    (lambda error: error.forbidden, RunReason.FORBIDDEN, "The operator lacks a right: {said}"),
    (lambda error: error.denied, RunReason.ADMISSION_DENIED, "The cluster's policy refuses {what}: {said}"),
    (lambda error: error.transient, RunReason.API_SERVER_ERROR, "The API server fails at {what}: {said}"),
    (
        lambda error: error.invalid or error.too_large,
        RunReason.API_SERVER_ERROR,
        "Kubernetes refuses {what}: {said}",
    ),
)


def refusal_of(error: ApiError, *, what: str = "") -> Refusal | None:
    """What the error means; None where only another look can tell: the object is gone, or in another version.

    what: the API server did not do, as a noun; empty: the request itself is named.
    """
    if error.namespace_terminating:
        return None  # the run is about to be deleted with its namespace
    what = what or f"what the run needs ({error.request or 'a request'})"
    for holds, reason, text in _MEANINGS:
        if holds(error):
            return Refusal(reason, text.format(what=what, said=error.message or str(error)))
    return None


def job_refusal_of(error: ApiError) -> Refusal | None:
    """The same of the creation of an attempt, where what is wrong may be the user's own."""
    if error.too_large:
        return Refusal(RunReason.INVALID_SPEC, f"The run's Job would be too large: {error.message}")
    if error.invalid:
        return Refusal(
            RunReason.INVALID_POD_TEMPLATE, f"Kubernetes refuses the Job made with spec.podTemplate: {error.message}"
        )
    return refusal_of(error, what="the run's Job")
