"""The Job of an attempt, and the ConfigMap of the runner that its pod mounts."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dbt_operator.api import names
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.spec import DbtRunSpec, InvalidSpec
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods import template as pod_template
from dbt_operator.pods.archive import build_archive
from dbt_operator.pods.files import CACHE_FILE
from dbt_operator.pods.record import NODES_FILE
from dbt_operator.pods.run import RunRef, child_config_map, owner_reference, run_labels
from dbt_operator.pods.variables import yaml_text

RUNNER_DIRECTORY = "/dbt-operator/runner"
PROFILES_DIRECTORY = "/dbt-operator/profiles"
SECRETS_DIRECTORY = "/dbt-operator/secrets"
NODES_DIRECTORY = "/dbt-operator/nodes"
CACHE_DIRECTORY = "/dbt-operator/cache"
RUNNER_FILE = "runner.pyz"

# Any uid serves: the image's files are readable, and what dbt writes goes to /tmp.
_UID = 65532
# Cancelling the queries of a warehouse takes dbt about a second for each connection, so a minute is generous.
_GRACE_SECONDS = 60
# Linux gives a single argument of a process 128 KiB at most (MAX_ARG_STRLEN).
_ARGUMENT_LIMIT = 128 * 1024 - 1
# Volumes whose files come from a store of secrets outside of the cluster.
_SECRET_DRIVERS = frozenset({"secrets-store.csi.k8s.io"})
_QUEUE_NAME_LABEL = "kueue.x-k8s.io/queue-name"


def runner_config_map(run: RunRef) -> dict[str, Any]:
    """The ConfigMap that holds the runner as a zipapp. Its name tells its content: only with that is it adopted."""
    return child_config_map(run, name=_runner_name(run)) | {"immutable": True, "binaryData": _runner_files()}


def _runner_name(run: RunRef) -> str:
    files = _runner_files()
    return names.runner_config_map_name(run.name, content=json.dumps(files, sort_keys=True))


def _runner_files() -> dict[str, str]:
    return {RUNNER_FILE: base64.b64encode(build_archive()).decode()}


def dbt_arguments(spec: DbtRunSpec, *, selection: bool = True) -> list[str]:
    """The arguments of dbt itself, the command first. Without `selection` the runner is told the nodes by a file.

    All others are the same for every attempt of a run: dbt throws its parse cache away when one of them differs.
    """
    # A value stands in one argument with its option: whatever it is, dbt cannot take it for an option of its own.
    arguments: list[str] = [spec.command.value]
    for flag, values in (("--select", spec.select), ("--exclude", spec.exclude)):
        if selection:
            arguments += [f"{flag}={value}" for value in values]
    for flag, value in (
        ("--selector", spec.selector if selection else None),
        ("--vars", _vars(spec)),
        ("--threads", str(spec.threads) if spec.threads else None),
        ("--profile", spec.profile.profile),
        ("--target", spec.profile.target),
    ):
        if value:
            arguments.append(f"{flag}={value}")
    if spec.full_refresh:
        arguments.append("--full-refresh")
    if spec.fail_fast is not None:
        # An explicit false has to win over `fail_fast: true` in the project's flags.
        arguments.append("--fail-fast" if spec.fail_fast else "--no-fail-fast")
    return arguments


def _vars(spec: DbtRunSpec) -> str | None:
    if not spec.vars:
        return None
    text = yaml_text(dict(spec.vars))
    limit = _ARGUMENT_LIMIT - len("--vars=")
    if len(text) > limit:
        raise InvalidSpec(
            f"spec.vars is too large: as one line of ASCII it may have {limit} bytes and has {len(text)}."
        )
    return text


def grace_seconds(spec: DbtRunSpec) -> int:
    """How long a pod of the run may take to stop, in seconds."""
    pod = spec.pod_template.get("spec")
    asked = pod.get("terminationGracePeriodSeconds") if isinstance(pod, dict) else None
    return asked if isinstance(asked, int) else _GRACE_SECONDS


def attempt_job(*, run: RunRef, spec: DbtRunSpec, decision: Decision) -> dict[str, Any]:
    """The Job of an attempt: one pod, one dbt process, the nodes that were decided on.

    Raises: InvalidPodTemplate where the user's template sets what the operator owns, InvalidSpec where a value does
    not fit into an argument of a process.
    """
    attempt = _attempt_label(decision)
    labels = run_labels(run) | {
        names.LABEL_ATTEMPT: attempt,
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
            "template": _pod_template(run=run, spec=spec, decision=decision, labels=labels),
        },
    }


def _attempt_label(decision: Decision) -> str:
    """What the attempt is called within its run, such as producer-1 or retry-1a2b3c4d-1: the end of its Job's name."""
    parts = 3 if decision.kind is AttemptKind.RETRY else 2
    return "-".join(decision.name.rsplit("-", parts)[1:])


def _pod_template(*, run: RunRef, spec: DbtRunSpec, decision: Decision, labels: Mapping[str, str]) -> dict[str, Any]:
    users: Mapping[str, Any] = spec.pod_template
    pod_template.check(users)
    template = pod_template.merge(base=_defaults(users), over=users)
    secrets = _secret_sources(template["spec"])
    profile_volumes, profile_mounts, profile_arguments = _profile(spec)
    input_volumes, input_mounts, input_arguments = _inputs(run, decision)
    project = spec.project.image.path
    owned_container = {
        "name": pod_template.CONTAINER,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "workingDir": project,
        "command": ["python3", f"{RUNNER_DIRECTORY}/{RUNNER_FILE}"],
        "args": [
            *("--attempt", labels[names.LABEL_ATTEMPT], "--run-uid", run.uid, "--project-dir", project),
            *("--attempt-kind", decision.kind.value.lower()),
            f"--grace-seconds={grace_seconds(spec)}",
            *input_arguments,
            *([f"--microbatch-end={decision.microbatch_end}"] if decision.microbatch_end else []),
            *profile_arguments,
            *secrets.arguments,
            *_mounted(template["spec"]),
            "--",
            *dbt_arguments(spec, selection=decision.nodes is None),
        ],
        "volumeMounts": [
            {"name": "dbt-operator-runner", "mountPath": RUNNER_DIRECTORY, "readOnly": True},
            *input_mounts,
            *profile_mounts,
            *secrets.mounts,
        ],
    }
    owned_pod = {
        "restartPolicy": "Never",
        # Kept from the scheduler until it is recorded that it is the one pod of the attempt (`plan.attempt.Release`).
        "schedulingGates": [{"name": names.GATE}],
        "automountServiceAccountToken": False,
        "serviceAccountName": spec.service_account_name,
        "imagePullSecrets": [{"name": secret.name} for secret in spec.image_pull_secrets],
        "containers": [_without_unset(owned_container)],
        "volumes": [
            {"name": "dbt-operator-runner", "configMap": {"name": _runner_name(run)}},
            *input_volumes,
            *profile_volumes,
            *secrets.volumes,
        ],
    }
    owned = {"metadata": {"labels": dict(labels)}, "spec": _without_unset(owned_pod)}
    return pod_template.merge(base=template, over=owned)


_Mounting = tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]
"""Volumes, their mounts, and the arguments that tell the runner of them."""


def _inputs(run: RunRef, decision: Decision) -> _Mounting:
    """What an attempt that repairs is given: its nodes, and what dbt has parsed before, if that was kept."""
    if decision.nodes is None:
        return [], [], []
    record = names.attempt_record_name(run.name, index=decision.index)
    volumes = [
        {
            "name": "dbt-operator-nodes",
            "configMap": {"name": record, "items": [{"key": NODES_FILE, "path": NODES_FILE}]},
        },
        {"name": "dbt-operator-cache", "configMap": {"name": names.cache_name(run.name), "optional": True}},
    ]
    mounts = [
        {"name": "dbt-operator-nodes", "mountPath": NODES_DIRECTORY, "readOnly": True},
        {"name": "dbt-operator-cache", "mountPath": CACHE_DIRECTORY, "readOnly": True},
    ]
    files = ["--nodes", f"{NODES_DIRECTORY}/{NODES_FILE}", "--parse-cache", f"{CACHE_DIRECTORY}/{CACHE_FILE}"]
    return volumes, mounts, files


def _without_unset(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, [])}


def _defaults(users: Mapping[str, Any]) -> dict[str, Any]:
    """What a pod has where the user's template is silent: acceptable to the `restricted` pod security standard."""
    container = _users_container(users)
    mounted = {mount.get("mountPath") for mount in container.get("volumeMounts") or ()}
    # /tmp is where dbt's target and logs go, as the root file system is read-only; a user may bring a larger one.
    own_tmp = "/tmp" not in mounted  # noqa: S108 - the mount path of the pod's own volume, not a shared folder
    return {
        "metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}},
        "spec": {
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
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
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "dbt-operator-tmp", "mountPath": "/tmp"}] if own_tmp else [],  # noqa: S108 - as above
                }
            ],
            "volumes": [{"name": "dbt-operator-tmp", "emptyDir": {}}] if own_tmp else [],
        },
    }


def _users_container(users: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the template says of the container of dbt; several entries of that name are one."""
    containers = (users.get("spec") or {}).get("containers") or []
    merged = pod_template.merge(base={"containers": []}, over={"containers": containers})["containers"]
    return next(iter(merged), {})


def _profile(spec: DbtRunSpec) -> _Mounting:
    """What gives dbt its profiles.yml."""
    secret = spec.profile.secret_ref
    if secret is None:
        return [], [], ["--profiles-dir", spec.project.image.path]
    volume = {
        "name": "dbt-operator-profiles",
        "secret": {"secretName": secret.name, "items": [{"key": secret.key, "path": "profiles.yml"}]},
    }
    mount = {"name": "dbt-operator-profiles", "mountPath": PROFILES_DIRECTORY, "readOnly": True}
    arguments = ["--profiles-dir", PROFILES_DIRECTORY, "--secret-file", f"{PROFILES_DIRECTORY}/profiles.yml"]
    return [volume], [mount], arguments


@dataclass(frozen=True, slots=True)
class _SecretSources:
    """What tells the runner which values to mask; the operator itself never reads a Secret."""

    arguments: list[str]
    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]

    def mount(self, volume: Mapping[str, Any]) -> None:
        """Give the runner a volume of its own."""
        index = len(self.volumes)
        name, path = f"dbt-operator-secret-{index}", f"{SECRETS_DIRECTORY}/{index}"
        self.volumes.append({"name": name, **volume})
        self.mounts.append({"name": name, "mountPath": path, "readOnly": True})
        self.arguments.extend(("--secret-file", path))


def _secret_sources(pod: Mapping[str, Any]) -> _SecretSources:
    """What the container of dbt is given of Secrets by this pod, whose entries of that name are one by now.

    Single variables are named to the runner, and so are the places of files. A Secret whose keys are not known
    (envFrom), or whose files stand among others (projected), is mounted once more for the runner alone.
    """
    container = next(one for one in pod["containers"] if one["name"] == pod_template.CONTAINER)
    sources = _SecretSources(arguments=[], volumes=[], mounts=[])
    for variable in _mappings(container.get("env")):
        if (variable.get("valueFrom") or {}).get("secretKeyRef") and variable.get("name"):
            sources.arguments.extend(("--secret-env", variable["name"]))
    for source in _mappings(container.get("envFrom")):
        secret = source.get("secretRef")
        if secret:
            sources.mount({"secret": _whole_secret(secret)})
    volumes = {volume.get("name"): volume for volume in _mappings(pod.get("volumes"))}
    for mount in _mappings(container.get("volumeMounts")):
        _of_mount(sources, mount=mount, volume=volumes.get(mount.get("name")) or {})
    return sources


# Volumes that go with their pod. A volume of a CSI driver that the pod itself describes is one of them: Kubernetes lets
# the driver make it for the pod and take it away with it; what is to stay is claimed by a PersistentVolumeClaim.
_EPHEMERAL_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "gitRepo",
        "image",
        "projected",
        "secret",
    }
)


def _mounted(pod: Mapping[str, Any]) -> list[str]:
    """Arguments that tell the runner which mounts of dbt's container outlive the pod, and which do not."""
    container = next(one for one in pod["containers"] if one["name"] == pod_template.CONTAINER)
    kept = {
        volume.get("name")
        for volume in _mappings(pod.get("volumes"))
        if volume.keys() - {"name"} and _EPHEMERAL_VOLUMES.isdisjoint(volume)
    }
    mounts = [
        (str(mount.get("mountPath", "")), mount.get("name")) for mount in _mappings(container.get("volumeMounts"))
    ]
    return [word for path, name in mounts for word in ("--kept-path" if name in kept else "--lost-path", path)]


def _whole_secret(secret: Mapping[str, Any]) -> dict[str, Any]:
    return {"secretName": secret.get("name"), "optional": bool(secret.get("optional"))}


def _of_mount(sources: _SecretSources, *, mount: Mapping[str, Any], volume: Mapping[str, Any]) -> None:
    path = str(mount.get("mountPath", ""))
    csi = volume.get("csi") or {}
    if volume.get("secret") or csi.get("driver") in _SECRET_DRIVERS:
        # Whatever part of it is mounted, nothing else is there.
        sources.arguments.extend(("--secret-file", path))
        return
    parts = _mappings((volume.get("projected") or {}).get("sources"))
    secrets = [{"secret": part["secret"]} for part in parts if part.get("secret")]
    if secrets:
        sources.mount({"projected": {"sources": secrets}})
    for part in parts:
        token = part.get("serviceAccountToken")
        # Each volume has a token of its own, so this one has to be read where it is.
        place = _place(mount, str(token.get("path", ""))) if token else None
        if place:
            sources.arguments.extend(("--secret-file", place))


def _mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    """The items of a list of the template; of one that is none the API server says so."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _place(mount: Mapping[str, Any], path: str) -> str | None:
    """Where a file of a volume stands in the container; None where this mount does not show it, or nobody can tell."""
    target, part = PurePosixPath(mount.get("mountPath", "")), mount.get("subPath") or "."
    if mount.get("subPathExpr") or not PurePosixPath(path).is_relative_to(part):
        return None
    return str(target / PurePosixPath(path).relative_to(part))
