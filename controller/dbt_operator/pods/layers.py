"""The pod templates of a spec: which of them an attempt has, each laid over those before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods import template as pod_template
from dbt_operator.pods.template_lists import mappings, named

# Cancelling the queries of a warehouse takes dbt about a second for each connection, so a minute is generous.
GRACE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Layer:
    """A template of the user's. `called`: the field of the spec that it is.

    all_resources: requests and limits of layers below do not go with those that it has.
    """

    called: str
    template: Mapping[str, Any]
    all_resources: bool = False


def all_layers(spec: DbtRunSpec) -> Iterator[Layer]:
    """All templates of the spec."""
    yield Layer(pod_template.CALLED, spec.pod_template)
    yield Layer("spec.producer.podTemplate", spec.producer.pod_template)
    yield Layer("spec.retry.podTemplate", spec.retry.pod_template)
    for index, item in enumerate(spec.nodes):
        yield Layer(f"spec.nodes[{index}].podTemplate", item.pod_template)


def layers_of(spec: DbtRunSpec, decision: Decision) -> Sequence[Layer]:
    """Those of the pod of an attempt: of all pods, of those of its kind, and of those for its nodes."""
    everywhere, producer, retry, *of_nodes = all_layers(spec)
    of_kind = retry if decision.kind is AttemptKind.RETRY else producer
    chosen = [of_nodes[index] for index in decision.pod.overrides if index < len(of_nodes)]
    resources = {kind: dict(amounts) for kind, amounts in decision.pod.resources}
    # Never mixed: requests of the one and limits of the other may contradict each other.
    by_project = resources and not any(_has_resources(layer.template) for layer in chosen)
    return [everywhere, of_kind, *([_with_resources(resources)] if by_project else []), *chosen]


def _has_resources(template: Mapping[str, Any]) -> bool:
    pod = template.get("spec")
    containers = pod.get("containers") if isinstance(pod, Mapping) else None
    return bool(named(containers, pod_template.CONTAINER).get("resources"))


def _with_resources(resources: Mapping[str, Any]) -> Layer:
    container = {"name": pod_template.CONTAINER, "resources": resources}
    return Layer("meta.dbt_operator of the project", {"spec": {"containers": [container]}}, all_resources=True)


def check_all(spec: DbtRunSpec) -> None:
    """Check all templates of the spec, also those that this attempt does not have: at the first one, and not at night.

    Raises: InvalidPodTemplate.
    """
    for layer in all_layers(spec):
        pod_template.check(layer.template, called=layer.called)


def joined(layers: Sequence[Layer]) -> Mapping[str, Any]:
    """The layers as one template."""
    merged: Mapping[str, Any] = {}
    for layer in layers:
        merged = _without_resources(merged) if layer.all_resources else merged
        merged = pod_template.merge(base=merged, over=layer.template)
    return merged


def _without_resources(template: Mapping[str, Any]) -> Mapping[str, Any]:
    pod = template.get("spec") or {}
    containers = [
        {key: value for key, value in one.items() if key != "resources"}
        if one.get("name") == pod_template.CONTAINER
        else one
        for one in mappings(pod.get("containers"))
    ]
    return {**template, "spec": {**pod, "containers": containers}} if containers else template


def grace_seconds(template: Mapping[str, Any]) -> int:
    """How long a pod of this template may take to stop, in seconds."""
    asked = _grace(template)
    return GRACE_SECONDS if asked is None else asked


def longest_grace(spec: DbtRunSpec) -> int:
    """How long any pod of the run may take to stop, in seconds."""
    asked = (_grace(layer.template) for layer in all_layers(spec))
    return max(grace_seconds(spec.pod_template), *(seconds for seconds in asked if seconds is not None), 0)


def _grace(template: Mapping[str, Any]) -> int | None:
    pod = template.get("spec")
    asked = pod.get("terminationGracePeriodSeconds") if isinstance(pod, dict) else None
    return asked if isinstance(asked, int) else None
