"""Merging the user's partial pod template with what the operator needs.

Three layers, each over the one before: the operator's *defaults* (a security context that the `restricted` pod
security standard accepts), the *user's* template, and what the operator *owns*. A template that sets a field of the
last kind is refused with a sentence rather than silently overridden: a user who asked for something and did not get
it would look for the reason in the wrong place.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dbt_operator.api import names
from dbt_operator.pods.part import PROJECT_VOLUME
from dbt_operator.pods.template_lists import mappings

CONTAINER = "dbt"
CALLED = "spec.podTemplate"

# How Kubernetes itself identifies the items of a list of a pod (the patchMergeKey of its API types).
_LIST_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "topologySpreadConstraints": "topologyKey",
    "hostAliases": "ip",
    "schedulingGates": "name",
}

_OWNED_POD_FIELDS = {
    "restartPolicy": "a failed attempt is never restarted in place",
    "automountServiceAccountToken": "the pod has no Kubernetes credentials",
    "serviceAccountName": "set spec.serviceAccountName instead",
    "serviceAccount": "set spec.serviceAccountName instead",
    "imagePullSecrets": "set spec.imagePullSecrets instead",
    "nodeName": "the pod waits for the operator before it gets a node; use nodeSelector instead",
}
_OWNED_CONTAINER_FIELDS = {
    "image": "set spec.image instead",
    "imagePullPolicy": "set spec.imagePullPolicy instead",
    "command": "the operator's runner starts dbt",
    "args": "the operator's runner starts dbt",
    "workingDir": "set spec.project instead",
    "stdin": "dbt does not read from a terminal",
    "tty": "the log must stay free of terminal codes",
    "terminationMessagePath": "the runner writes no termination message",
    "lifecycle": "the runner turns SIGTERM into dbt's own cancel",
    "livenessProbe": "a busy dbt must not be killed by a probe",
    "readinessProbe": "nothing connects to the pod",
    "startupProbe": "nothing connects to the pod",
}
_RESERVED_MOUNT = "/dbt-operator"


class InvalidPodTemplate(Exception):  # noqa: N818 - called as the run's reason is
    """The user's pod template cannot be used; the text is a sentence for `status.message`."""


def merge(*, base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on it: mappings key by key, Kubernetes' keyed lists item by item, all else replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(base=old, over=value)
        elif key in _LIST_KEYS and old is not None and _of_mappings(old) and _of_mappings(value):
            merged[key] = _merge_list(base=old, over=value, key=_LIST_KEYS[key])
        else:
            merged[key] = value
    return merged


def _of_mappings(value: Any) -> bool:
    return isinstance(value, list) and len(mappings(value)) == len(value)


def _merge_list(*, base: Sequence[Any], over: Sequence[Any], key: str) -> list[Any]:
    merged = {item.get(key): item for item in base}
    for item in over:
        old = merged.get(item.get(key))
        merged[item.get(key)] = merge(base=old, over=item) if old is not None else item
    return list(merged.values())


def check(template: Mapping[str, Any], *, called: str = CALLED) -> None:
    """Refuse a template that sets what the operator owns, or has a shape that cannot be merged.

    called: the field of the spec that it is.

    Raises: InvalidPodTemplate, naming the field and what to do instead. What else a pod can have is left to the
    apiserver, which knows every field, is asked to be strict, and says so when it refuses one (`in_users_words`).
    """
    metadata = _mapping(template.get("metadata"), path=f"{called}.metadata")
    for kind in ("labels", "annotations"):
        for key in _mapping(metadata.get(kind), path=f"{called}.metadata.{kind}"):
            if key.partition("/")[0] == names.GROUP:
                raise InvalidPodTemplate(
                    f"{called}.metadata.{kind} sets {key!r}: keys of {names.GROUP} belong to the operator."
                )
    pod = _mapping(template.get("spec"), path=f"{called}.spec")
    for field, why in _OWNED_POD_FIELDS.items():
        if field in pod:
            raise InvalidPodTemplate(f"{called}.spec.{field} may not be set: {why}.")
    for field in ("volumes", "initContainers"):
        for item in _items(pod, field, path=f"{called}.spec"):
            if str(item.get("name", "")).startswith(names.RESERVED_PREFIX):
                raise InvalidPodTemplate(
                    f"{called}.spec.{field} has the name {item['name']!r}: choose one that does not begin with"
                    f" {names.RESERVED_PREFIX!r}."
                )
    for container in _items(pod, "containers", path=f"{called}.spec"):
        _check_container(container, path=f"{called}.spec.containers")


_PROJECT = f"spec.podTemplate.spec.volumes[{PROJECT_VOLUME}]"
# A path within the Job, as the server's messages have it: spec.template.spec.containers[0].resource
_PATH = re.compile(r"\bspec\.template((?:\.\w+|\[\d+\])+)")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_NAMED_STEP = re.compile(r"\.(\w+)|\[([^\]]+)\]")
Layers = Mapping[str, Mapping[str, Any]]
_NO_LAYERS: Layers = {}


def in_users_words(message: str, *, job: Mapping[str, Any], layers: Layers = _NO_LAYERS) -> str:
    """The server's message about a Job, with paths as its user has written them.

    Items of lists are called by their names: beside the operator's own they may have another place in the list.
    layers: the user's templates that the pod is made of, each laid over those before it, by the fields that they are.
    """
    template = job["spec"]["template"]

    def words(found: re.Match[str]) -> str:
        path = _named(found[1], template)
        return f"{_written_in(layers, path)}{path}"

    told = _PATH.sub(words, message)
    told = told.replace(_PROJECT, "spec.project.volume.source")
    if _PATH.search(message) and f"{CALLED}." not in told:
        told = told.replace(f"made with {CALLED}", "of the run")
    if "quantities must match" in message:  # of these the server does not say where they are
        told += f": {', '.join(_no_quantities(template['spec']))}"
    return told


_QUANTITY = re.compile(r"[+-]?[0-9.]+(?:[eEinumkKMGTP]*[-+]?[0-9]*)")


def _no_quantities(pod: Mapping[str, Any]) -> Iterator[str]:
    for field in ("containers", "initContainers"):
        for container in pod.get(field) or ():
            for kind in ("limits", "requests"):
                amounts = (container.get("resources") or {}).get(kind) or {}
                path = f"spec.podTemplate.spec.{field}[{container.get('name')}].resources.{kind}"
                wrong = (one for one in amounts.items() if not _QUANTITY.fullmatch(str(one[1])))
                yield from (f"{path}.{name} is {value!r}" for name, value in wrong)


def _written_in(layers: Layers, path: str) -> str:
    """The field of the spec with the template that has the most of this path, the last of several."""
    found, most = CALLED, 0
    for called, template in layers.items():
        depth = _depth(template, path)
        if depth and depth >= most:
            found, most = called, depth
    return found


def _depth(template: Any, path: str) -> int:
    here, field = template, ""
    for depth, (name, key) in enumerate(_NAMED_STEP.findall(path)):
        if name:
            known, field = isinstance(here, Mapping) and name in here, name
            here = here[name] if known else None
        else:
            here = next((item for item in mappings(here) if item.get(_LIST_KEYS.get(field, "name")) == key), None)
            known = here is not None
        if not known:
            return depth
    return len(path)


def _named(path: str, template: Any) -> str:
    here, field, words = template, "", ""
    for name, index in _STEP.findall(path):
        if name:
            here, field = here.get(name) if isinstance(here, Mapping) else None, name
            words += f".{name}"
            continue
        here = here[int(index)] if isinstance(here, Sequence) and int(index) < len(here) else None
        key = here.get(_LIST_KEYS.get(field, "name")) if isinstance(here, Mapping) else None
        words += f"[{key or index}]"
    return words


def _check_container(container: Mapping[str, Any], *, path: str) -> None:
    if not container.get("name"):
        raise InvalidPodTemplate(
            f"{path} has an item without a name: the container that runs dbt is called"
            f" {CONTAINER!r}, and the only one that may be described."
        )
    if container["name"] != CONTAINER:
        # A second ordinary container would keep the Job alive after dbt has ended.
        raise InvalidPodTemplate(
            f"{path} may only describe the container {CONTAINER!r}, not"
            f" {container['name']!r}: run a sidecar as an init container with restartPolicy Always."
        )
    path = f"{path}[{CONTAINER}]"
    for field, why in _OWNED_CONTAINER_FIELDS.items():
        if field in container:
            raise InvalidPodTemplate(f"{path}.{field} may not be set: {why}.")
    for mount in _items(container, "volumeMounts", path=path):
        if f"{mount.get('mountPath', '')}/".startswith(f"{_RESERVED_MOUNT}/"):
            raise InvalidPodTemplate(f"{path}.volumeMounts may not mount below {_RESERVED_MOUNT}: choose another path.")
    for key in ("env", "envFrom"):
        _items(container, key, path=path)


def _mapping(value: Any, *, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidPodTemplate(f"{path} must be a mapping.")
    return value


def _items(parent: Mapping[str, Any], field: str, *, path: str) -> Sequence[Mapping[str, Any]]:
    value = parent.get(field)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise InvalidPodTemplate(f"{path}.{field} must be a list of mappings.")
    return value
