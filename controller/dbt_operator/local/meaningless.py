"""What of a spec means nothing without a cluster. It is named to whoever runs it here, and never refused."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.pods.layers import all_layers
from dbt_operator.pods.template import CONTAINER
from dbt_operator.pods.template_lists import mappings, named

# What is honoured of a pod template here; the rest says how and where a cluster is to run a pod.
_OF_POD = frozenset({"terminationGracePeriodSeconds", "containers"})
_OF_CONTAINER = frozenset({"name", "env", "envFrom", "resources"})
_OF_SPEC = frozenset(
    {"image", "imagePullPolicy", "imagePullSecrets", "serviceAccountName", "supersedes", "ttlSecondsAfterFinished"}
)


def meaningless(raw: Mapping[str, Any], spec: DbtRunSpec) -> Iterator[str]:
    """The fields of a DbtRun's spec that have no effect here. spec: what it comes to with its defaults."""
    yield from (f"spec.{field}" for field in raw if field in _OF_SPEC)
    for layer in all_layers(spec):
        yield from (f"{layer.called}{field}" for field in _of_template(layer.template))


def _of_template(template: Mapping[str, Any]) -> Iterator[str]:
    if template.get("metadata"):
        yield ".metadata"
    pod = template.get("spec") or {}
    yield from (f".spec.{field}" for field in pod if field not in _OF_POD)
    container = named(pod.get("containers"), CONTAINER)
    path = f".spec.containers[{CONTAINER}]"
    yield from (f"{path}.{field}" for field in container if field not in _OF_CONTAINER)
    yield from (f"{path}.{field}" for field in _resources(container.get("resources") or {}))
    for variable in mappings(container.get("env")):
        source = variable.get("valueFrom") or {}
        yield from (f"{path}.env[{variable.get('name')}]" for kind in source if kind in _OF_A_POD)


# Variables with a value that only a pod has.
_OF_A_POD = frozenset({"fieldRef", "resourceFieldRef", "fileKeyRef"})


def _resources(resources: Mapping[str, Any]) -> Iterator[str]:
    """All but the limit of memory, where the system says how much a process uses."""
    if resources.get("requests"):
        yield "resources.requests"
    if resources.get("claims"):
        yield "resources.claims"
    for kind in resources.get("limits") or {}:
        if kind != "memory" or not Path("/proc/self/stat").exists():
            yield f"resources.limits.{kind}"
