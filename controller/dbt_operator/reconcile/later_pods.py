"""Pod templates that only later attempts have: what is misspelt in them is found when the run starts, not at night."""

from dbt_operator.api import names
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.client import ApiError, Client
from dbt_operator.kube.resources import JOBS
from dbt_operator.plan.attempt import Decision, PodChoice, Refusal
from dbt_operator.pods.images import Images
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.layers import layers_of
from dbt_operator.pods.profiles_yml import RenderedProfile
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.template import in_users_words
from dbt_operator.reconcile.refusals import job_refusal_of

# How the server says that it does not know a field, or that a value is not of the field's type.
_NO_JOB = "cannot be handled as a Job"


async def refusal_of_later_pods(
    spec: DbtRunSpec, *, run: RunRef, client: Client, images: Images, profile: RenderedProfile | None
) -> Refusal | None:
    """Why Kubernetes would refuse a pod of a later attempt whatever else is in it. It is asked, and creates nothing.

    What depends on how templates are combined, or on the state of the cluster, is left to the attempts themselves.
    """
    everything = Decision(
        index=1,
        kind=AttemptKind.RETRY,
        name=names.retry_job_name(run.name, key="", number=1),
        pod=PodChoice(tuple(range(len(spec.nodes)))),
    )
    layers = layers_of(spec, everything)
    if not any(layer.template for layer in layers[1:]):
        return None
    job = attempt_job(run=run, spec=spec, decision=everything, images=images, profile=profile)
    try:
        await client.create(resource=JOBS, manifest=job, strict=True, retry=False, dry_run=True)
    except ApiError as error:
        refusal = job_refusal_of(error)
        if refusal is not None and _NO_JOB in refusal.message:
            templates = {layer.called: layer.template for layer in layers}
            return Refusal(refusal.reason, in_users_words(refusal.message, job=job, layers=templates))
    return None
