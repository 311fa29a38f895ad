"""Which of the spec's pod templates the pod of an attempt has, and which wins."""

from typing import Any

import pytest

from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.dbt.graph_node import Resources
from dbt_operator.plan.attempt import Decision, PodChoice
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.layers import longest_grace
from dbt_operator.pods.template import InvalidPodTemplate, in_users_words
from tests.unit.pods.test_pod_template import IMAGES, RUN, spec

NODES = frozenset({"model.shop.orders"})


def with_memory(amount: str, **pod: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "dbt", "resources": {"limits": {"memory": amount}}}], **pod}}


SPEC = spec(
    podTemplate=with_memory("1Gi", nodeSelector={"pool": "batch"}, priorityClassName="low"),
    producer={"podTemplate": with_memory("2Gi")},
    retry={"podTemplate": with_memory("3Gi", nodeSelector={"size": "large"})},
    nodes=[
        {"select": [{"name": "a*"}], "podTemplate": with_memory("4Gi", terminationGracePeriodSeconds=300)},
        {"select": [{"name": "b*"}], "podTemplate": {"metadata": {"labels": {"team": "b"}}}},
    ],
)


def template_of(
    kind: AttemptKind, *overrides: int, run: DbtRunSpec = SPEC, resources: Resources = ()
) -> dict[str, Any]:
    nodes = None if kind is AttemptKind.PRODUCER else NODES
    pod = PodChoice(overrides, resources)
    decision = Decision(index=1, kind=kind, name="nightly-x-1", nodes=nodes, pod=pod)
    template: dict[str, Any] = attempt_job(run=RUN, spec=run, decision=decision, images=IMAGES)["spec"]["template"]
    return template


def memory(template: dict[str, Any]) -> str:
    amount: str = template["spec"]["containers"][0]["resources"]["limits"]["memory"]
    return amount


@pytest.mark.parametrize(
    ("kind", "overrides", "amount"),
    [
        (AttemptKind.PRODUCER, (), "2Gi"),
        (AttemptKind.RESUME, (), "2Gi"),
        (AttemptKind.RETRY, (), "3Gi"),
        (AttemptKind.RETRY, (0, 1), "4Gi"),
        (AttemptKind.RESUME, (0,), "4Gi"),
    ],
)
def test_what_is_said_for_less_goes_before_what_is_said_for_more(
    kind: AttemptKind, overrides: tuple[int, ...], amount: str
) -> None:
    assert memory(template_of(kind, *overrides)) == amount


def test_templates_are_merged_and_the_last_word_about_a_field_counts() -> None:
    template = template_of(AttemptKind.RETRY, 0, 1)
    assert template["spec"]["nodeSelector"] == {"pool": "batch", "size": "large"}
    assert template["spec"]["priorityClassName"] == "low"
    assert template["metadata"]["labels"]["team"] == "b"
    assert template["spec"]["terminationGracePeriodSeconds"] == 300
    assert "--grace-seconds=300" in template["spec"]["containers"][0]["args"]
    assert "team" not in template_of(AttemptKind.RETRY, 0)["metadata"]["labels"]


def test_a_process_whose_pod_is_gone_is_given_the_longest_time_that_any_pod_has() -> None:
    assert longest_grace(SPEC) == 300
    short = {"podTemplate": {"spec": {"terminationGracePeriodSeconds": 10}}}
    assert longest_grace(spec(**short)) == 10
    assert longest_grace(spec(retry=short)) == 60


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"producer": {"podTemplate": {"spec": {"nodeName": "n"}}}}, "spec.producer.podTemplate.spec.nodeName"),
        ({"retry": {"podTemplate": {"spec": {"nodeName": "n"}}}}, "spec.retry.podTemplate.spec.nodeName"),
        (
            {"nodes": [{"select": [{"tag": "x"}], "podTemplate": {"spec": {"containers": [{"name": "x"}]}}}]},
            "spec.nodes[0].podTemplate.spec.containers",
        ),
    ],
)
def test_what_may_not_be_set_is_refused_at_the_first_attempt(fields: dict[str, Any], called: str) -> None:
    with pytest.raises(InvalidPodTemplate, match=rf"^{called.replace('[', '.').replace(']', '.')} may"):
        template_of(AttemptKind.PRODUCER, run=spec(**fields))


def test_the_servers_words_name_the_template_that_has_the_field() -> None:
    job = {"spec": {"template": template_of(AttemptKind.RETRY, 0)}}
    layers = {"spec.podTemplate": SPEC.pod_template, "spec.retry.podTemplate": SPEC.retry.pod_template}
    message = (
        "spec.template.spec.containers[0].resources.limits[memory]: wrong, spec.template.spec.priorityClassName: wrong,"
        " spec.template.spec.nodeSelector.pool: wrong"
    )
    assert in_users_words(message, job=job, layers=layers) == (
        "spec.retry.podTemplate.spec.containers[dbt].resources.limits[memory]: wrong,"
        " spec.podTemplate.spec.priorityClassName: wrong, spec.podTemplate.spec.nodeSelector.pool: wrong"
    )


def test_what_the_project_says_a_node_needs_takes_the_place_of_all_requests_and_limits_below_it() -> None:
    needs = (("requests", (("memory", "6Gi"),)),)  # which would be more than the limits of the templates
    decision = Decision(
        index=2, kind=AttemptKind.RETRY, name="nightly-retry-x-1", nodes=NODES, pod=PodChoice((), needs)
    )
    template = attempt_job(run=RUN, spec=SPEC, decision=decision, images=IMAGES)["spec"]["template"]
    container = template["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"memory": "6Gi"}}
    assert template["spec"]["nodeSelector"] == {"pool": "batch", "size": "large"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    # What the run says of the node takes the place of that.
    template = template_of(AttemptKind.RETRY, 0, resources=needs)
    assert template["spec"]["containers"][0]["resources"] == {"limits": {"memory": "4Gi"}}
    assert template_of(AttemptKind.RETRY, 1, resources=needs)["spec"]["containers"][0]["resources"] == {
        "requests": {"memory": "6Gi"}
    }
