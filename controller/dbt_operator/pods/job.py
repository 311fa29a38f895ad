"""The Job of an attempt: its pod, composed of parts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dbt_operator.api import names
from dbt_operator.api.commands import Mode, Stage, WhenTested
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.spec import DbtRunSpec, SourceFreshness
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods import layers
from dbt_operator.pods import template as pod_template
from dbt_operator.pods.claims import with_one_volume_each
from dbt_operator.pods.dbt_arguments import dbt_arguments
from dbt_operator.pods.environment import environment_part
from dbt_operator.pods.images import Images
from dbt_operator.pods.inputs import inputs_part, overrides_part
from dbt_operator.pods.lifetimes import lifetimes_part
from dbt_operator.pods.packages import packages_part
from dbt_operator.pods.parse_cache import parse_cache_part
from dbt_operator.pods.part import RESTRICTED, Part
from dbt_operator.pods.profile import profile_part
from dbt_operator.pods.profiles_yml import RenderedProfile
from dbt_operator.pods.project import project_files
from dbt_operator.pods.run import RunRef, owner_reference, run_labels
from dbt_operator.pods.runner_files import RUNNER, runner_part
from dbt_operator.pods.secrets import secrets_part
from dbt_operator.pods.state_files import state_part
from dbt_operator.pods.steps import as_dbt_has_it
from dbt_operator.pods.template_lists import mappings, named

# Any uid serves: the image's files are readable, and what dbt writes goes to /tmp.
_UID = 65532
_QUEUE_NAME_LABEL = "kueue.x-k8s.io/queue-name"


def attempt_job(
    *, run: RunRef, spec: DbtRunSpec, decision: Decision, images: Images, profile: RenderedProfile | None = None
) -> dict[str, Any]:
    """The Job of an attempt: one pod, one dbt process, the nodes that were decided on.

    profile: what is kept of how the run connects, where it has a connection.

    Raises: InvalidPodTemplate where the user's template sets what the operator owns, InvalidSpec where a value does
    not fit into an argument of a process.
    """
    labels = run_labels(run) | {
        names.LABEL_ATTEMPT: _attempt_label(decision),
        names.LABEL_ATTEMPT_KIND: decision.kind.value.lower(),
        names.LABEL_ATTEMPT_INDEX: str(decision.index),
    }
    queue = {_QUEUE_NAME_LABEL: run.labels[_QUEUE_NAME_LABEL]} if _QUEUE_NAME_LABEL in run.labels else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": decision.name,
            "namespace": run.namespace,
            "labels": labels | queue,
            "ownerReferences": [owner_reference(run)],
        },
        "spec": {
            # One Job is one attempt: whether there is another is the planner's decision, not the Job controller's.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "template": _pod_template(
                run=run, spec=spec, decision=decision, labels=labels, images=images, profile=profile
            ),
        },
    }


def _attempt_label(decision: Decision) -> str:
    """What the attempt is called within its run, such as producer-1 or retry-1a2b3c4d-1: the end of its Job's name."""
    parts = 3 if decision.kind is AttemptKind.RETRY else 2
    return "-".join(decision.name.rsplit("-", parts)[1:])


def _pod_template(
    *,
    run: RunRef,
    spec: DbtRunSpec,
    decision: Decision,
    labels: Mapping[str, str],
    images: Images,
    profile: RenderedProfile | None,
) -> dict[str, Any]:
    """The pod: the operator's defaults, the user's template over them, and what the operator owns over both."""
    layers.check_all(spec)
    users = layers.joined(layers.layers_of(spec, decision))
    template = pod_template.merge(base=_defaults(users), over=users)
    image = spec.image or images.tools
    project = project_files(spec, found=decision.found, tools_image=images.tools)
    own = Part.joined(
        (
            runner_part(run),
            project.part,
            environment_part(spec, image=image, found=decision.found),
            inputs_part(run, decision),
            parse_cache_part(spec.parse_cache),
            overrides_part(spec),
            packages_part(run, spec, decision),
            state_part(spec.state, run=run, found=decision.found, tools_image=images.tools),
            profile_part(spec.profile, run=run, kept=profile, project=project.path),
        )
    )
    # Of the user's template the runner is told which values are secret, and which mounts outlive the pod.
    part = Part.joined((own, secrets_part(template["spec"]), lifetimes_part(template["spec"])))
    grace = layers.grace_seconds(users)
    dbt = _container(run=run, spec=spec, decision=decision, part=part, start=project.start, image=image, grace=grace)
    owned = {"metadata": {"labels": dict(labels)}, "spec": _pod(spec, part=part, dbt=dbt)}
    merged = pod_template.merge(base=template, over=owned)
    users_dbt = named(template["spec"].get("containers"), pod_template.CONTAINER)
    own_steps = [as_dbt_has_it(step, users_dbt) for step in part.init_containers]
    steps = _in_order(template["spec"].get("initContainers"), own=own_steps)
    return merged | {"spec": with_one_volume_each(merged["spec"] | ({"initContainers": steps} if steps else {}))}


def _container(
    *, run: RunRef, spec: DbtRunSpec, decision: Decision, part: Part, start: str, image: str, grace: int
) -> dict[str, Any]:
    """What the operator owns of the container of dbt."""
    container = {
        "name": pod_template.CONTAINER,
        "image": image,
        "imagePullPolicy": spec.image_pull_policy,
        "workingDir": start,
        "command": ["python3", RUNNER],
        "args": [
            *("--attempt", _attempt_label(decision), "--run-uid", run.uid),
            *("--run", run.name, "--namespace", run.namespace, f"--began-in={decision.began_in or decision.index}"),
            *("--attempt-kind", decision.kind.value.lower()),
            *_about_stages(spec, decision),
            f"--grace-seconds={grace}",
            *_freshness(spec),
            *_mode(spec, decision),
            *part.arguments,
            "--",
            # What dbt prefers depends on all that the run selects.
            *dbt_arguments(spec, selection=decision.nodes is None or bool(spec.favor_state)),
        ],
        "env": list(part.env),
        "volumeMounts": list(part.mounts),
    }
    return _without_unset(container)


def _about_stages(spec: DbtRunSpec, decision: Decision) -> list[str]:
    stage = ["--stage", decision.stage.value.lower()] if decision.stage is not None else []
    after_all = spec.tests is WhenTested.AFTER_ALL and decision.stage is Stage.LIST
    without = ["--without-tests"] if spec.tests is WhenTested.NONE else []
    return [*stage, *without, *(["--tests-after-all"] if after_all else [])]


def _freshness(spec: DbtRunSpec) -> Iterator[str]:
    """What the runner does about stale sources."""
    if spec.command.rules.looks_at_sources and spec.source_freshness is not SourceFreshness.IGNORE:
        yield f"--source-freshness={spec.source_freshness.value}"
        yield f"--stale-parents={spec.stale_parents.value}"


def _mode(spec: DbtRunSpec, decision: Decision) -> Iterator[str]:
    """Whether what can be executed without dbt is, and how."""
    if spec.mode is Mode.ASYNC and spec.command.rules.executes:
        yield "--executor=Async"
        yield f"--async-settings={spec.async_.model_dump_json(by_alias=True, exclude_none=True)}"
        if decision.billed and spec.async_.maximum_bytes_billed is not None:
            yield f"--billed-before={decision.billed}"


def _pod(spec: DbtRunSpec, *, part: Part, dbt: dict[str, Any]) -> dict[str, Any]:
    """What the operator owns of the pod."""
    pod = {
        "restartPolicy": "Never",
        # Kept from the scheduler until it is recorded that it is the one pod of the attempt (`plan.attempt.Release`).
        "schedulingGates": [{"name": names.GATE}],
        "automountServiceAccountToken": False,
        "serviceAccountName": spec.service_account_name,
        "imagePullSecrets": [{"name": secret.name} for secret in spec.image_pull_secrets],
        "containers": [dbt],
        "volumes": list(part.volumes),
    }
    return _without_unset(pod)


def _in_order(users: Any, *, own: Iterable[dict[str, Any]]) -> list[Any]:
    """Sidecars of the user, which the rest may need; the operator's own; the user's others, which may change files."""
    sidecars = [step for step in mappings(users) if step.get("restartPolicy") == "Always"]
    others = [step for step in users or () if step not in sidecars]
    return [*sidecars, *own, *others]


def _without_unset(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, [])}


def _defaults(users: Mapping[str, Any]) -> dict[str, Any]:
    """What a pod has where the user's template is silent: acceptable to the `restricted` pod security standard."""
    containers = (users.get("spec") or {}).get("containers") or []
    merged = pod_template.merge(base={"containers": []}, over={"containers": containers})["containers"]
    mounted = {mount.get("mountPath") for mount in named(merged, pod_template.CONTAINER).get("volumeMounts") or ()}
    # /tmp is where dbt's target and logs go, as the root file system is read-only; a user may bring a larger one.
    own_tmp = "/tmp" not in mounted  # noqa: S108 - the mount path of the pod's own volume, not a shared folder
    return {
        "metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}},
        "spec": {
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": layers.GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _UID,
                "runAsGroup": _UID,
                "fsGroup": _UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": pod_template.CONTAINER,
                    "securityContext": RESTRICTED,
                    "volumeMounts": [{"name": "dbt-operator-tmp", "mountPath": "/tmp"}] if own_tmp else [],  # noqa: S108 - as above
                }
            ],
            "volumes": [{"name": "dbt-operator-tmp", "emptyDir": {}}] if own_tmp else [],
        },
    }
