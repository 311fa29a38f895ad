"""Creating an attempt, and what it means for the run when that is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import DbtRunSpec, InvalidSpec
from dbt_operator.kube.client import ApiError, Client, NameConflictError
from dbt_operator.kube.resources import CONFIG_MAPS, JOBS
from dbt_operator.plan.attempt import Decision, Refusal
from dbt_operator.pods.job import attempt_job, runner_config_map
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.template import InvalidPodTemplate, in_users_words
from dbt_operator.reconcile.refusals import job_refusal_of


@dataclass(frozen=True, slots=True)
class Creation:
    """What came of it. Neither created nor refused: something was in the way that passes by itself."""

    created: bool = False
    refusal: Refusal | None = None


async def create_attempt(*, client: Client, run: RunRef, spec: DbtRunSpec, decision: Decision) -> Creation:
    """Create the Job of an attempt, and before it the ConfigMap of the runner that its pod mounts.

    Taking the step twice is harmless: names are deterministic, and what exists and is ours is adopted.

    Raises: ApiError where only another try can tell.
    """
    job: Mapping[str, Any] = {}
    try:
        job = attempt_job(run=run, spec=spec, decision=decision)
        await client.create_or_adopt(resource=CONFIG_MAPS, manifest=runner_config_map(run), owner_uid=run.uid)
        # Strictly: a field of the user's that Kubernetes does not know would vanish, and with it a limit or a selector.
        await client.create_or_adopt(resource=JOBS, manifest=job, owner_uid=run.uid, strict=True)
    except InvalidSpec as error:
        return _refused(RunReason.INVALID_SPEC, str(error))
    except InvalidPodTemplate as error:
        return _refused(RunReason.INVALID_POD_TEMPLATE, str(error))
    except NameConflictError as error:
        if error.stale:
            return Creation()  # of an earlier run of this name, about to be deleted with it
        return _refused(RunReason.NAME_CONFLICT, f"{error}: delete or rename it, and create the run anew.")
    except ApiError as error:
        if error.namespace_terminating:
            return Creation()  # the run is about to be deleted with its namespace
        refusal = job_refusal_of(error)
        if refusal is None:
            raise
        if refusal.reason is RunReason.INVALID_POD_TEMPLATE:
            refusal = replace(refusal, message=in_users_words(refusal.message, job=job))
        return Creation(refusal=refusal)
    return Creation(created=True)


def _refused(reason: RunReason, message: str) -> Creation:
    return Creation(refusal=Refusal(reason, message))
