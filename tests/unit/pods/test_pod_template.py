"""The user's pod template is merged under what the operator owns; what may not be set is refused by name."""

from typing import Any

import pytest

from dbt_operator.api.names import GATE
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.spec import DbtRunSpec, parse_run_spec
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods.images import Images
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.template import InvalidPodTemplate, in_users_words, merge

RUN = RunRef(namespace="data", name="nightly", uid="11111111-2222-3333-4444-555555555555", labels={})
IMAGES = Images(tools="registry.example/tools:1")
PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name="nightly-producer-1")


def spec(**fields: Any) -> DbtRunSpec:
    base = {
        "image": "registry.example/dbt:1",
        "project": {"image": {"path": "/dbt/shop"}},
        "profile": {"inProject": True},
    }
    return parse_run_spec(base | fields)


def pod_of(**fields: Any) -> dict[str, Any]:
    template: dict[str, Any] = attempt_job(run=RUN, spec=spec(**fields), decision=PRODUCER, images=IMAGES)["spec"][
        "template"
    ]
    return template


def test_without_a_template_the_pod_satisfies_the_restricted_security_standard() -> None:
    pod = pod_of()["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False


def test_users_fields_reach_the_pod_beside_the_operators_own() -> None:
    template = {
        "metadata": {"labels": {"team": "finance"}, "annotations": {"note": "x"}},
        "spec": {
            "nodeSelector": {"disk": "fast"},
            "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
            "containers": [
                {
                    "name": "dbt",
                    "env": [{"name": "REGION", "value": "eu"}],
                    "resources": {"limits": {"memory": "1Gi"}},
                    "volumeMounts": [{"name": "keys", "mountPath": "/keys"}],
                }
            ],
        },
    }
    pod = pod_of(podTemplate=template)
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["labels"]["team"] == "finance"
    assert pod["metadata"]["labels"]["dbt-operator.io/run"] == "nightly"
    assert pod["spec"]["nodeSelector"] == {"disk": "fast"}
    assert container["env"] == [{"name": "REGION", "value": "eu"}]
    assert container["resources"] == {"limits": {"memory": "1Gi"}}
    assert {m["mountPath"] for m in container["volumeMounts"]} == {
        *("/tmp", "/keys"),  # noqa: S108 - a mount path
        *("/dbt-operator/runner", "/dbt-operator/work"),
    }
    assert {v["name"] for v in pod["spec"]["volumes"]} == {
        *("dbt-operator-tmp", "dbt-operator-runner", "dbt-operator-packages"),
        "keys",
    }
    assert len(pod["spec"]["containers"]) == 1


def test_gates_of_a_users_own_stay_beside_that_of_the_operator() -> None:
    pod = pod_of(podTemplate={"spec": {"schedulingGates": [{"name": "example.com/budget"}]}})
    assert [gate["name"] for gate in pod["spec"]["schedulingGates"]] == ["example.com/budget", GATE]


def test_a_users_own_tmp_replaces_the_default_one() -> None:
    container = {"name": "dbt", "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}]}  # noqa: S108 - a mount path
    pod = pod_of(podTemplate={"spec": {"containers": [container], "volumes": [{"name": "scratch", "emptyDir": {}}]}})[
        "spec"
    ]
    assert [m["name"] for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == "/tmp"] == ["scratch"]  # noqa: S108 - as above
    assert "dbt-operator-tmp" not in {v["name"] for v in pod["volumes"]}


def test_a_user_may_weaken_a_default_but_the_rest_of_it_stays() -> None:
    container = {"name": "dbt", "securityContext": {"readOnlyRootFilesystem": False}}
    context = pod_of(podTemplate={"spec": {"containers": [container]}})["spec"]["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ({"spec": {"restartPolicy": "Always"}}, "spec.podTemplate.spec.restartPolicy"),
        ({"spec": {"nodeName": "node-1"}}, "use nodeSelector"),
        ({"spec": {"automountServiceAccountToken": True}}, "automountServiceAccountToken"),
        ({"spec": {"serviceAccountName": "x"}}, "spec.serviceAccountName"),
        ({"spec": {"imagePullSecrets": []}}, "spec.imagePullSecrets"),
        ({"spec": {"containers": [{"name": "dbt", "image": "x"}]}}, "spec.image"),
        ({"spec": {"containers": [{"name": "dbt", "command": ["sh"]}]}}, "containers[dbt].command"),
        ({"spec": {"containers": [{"name": "dbt", "args": []}]}}, "containers[dbt].args"),
        ({"spec": {"containers": [{"name": "dbt", "livenessProbe": {}}]}}, "containers[dbt].livenessProbe"),
        ({"spec": {"containers": [{"name": "sidecar"}]}}, "'sidecar'"),
        ({"spec": {"containers": [{"env": []}]}}, "spec.podTemplate.spec.containers has an item without a name"),
        ({"spec": {"containers": "dbt"}}, "spec.podTemplate.spec.containers must be a list"),
        ({"spec": {"volumes": [{"name": "dbt-operator-tmp"}]}}, "dbt-operator-tmp"),
        (
            {"spec": {"containers": [{"name": "dbt", "volumeMounts": [{"mountPath": "/dbt-operator/x"}]}]}},
            "/dbt-operator",
        ),
        ({"spec": {"containers": [{"name": "dbt", "env": {"A": "b"}}]}}, "containers[dbt].env must be a list"),
        ({"metadata": {"labels": {"dbt-operator.io/run": "x"}}}, "'dbt-operator.io/run'"),
    ],
)
def test_what_the_operator_owns_is_refused_by_name(template: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidPodTemplate) as refused:
        pod_of(podTemplate=template)
    assert named in str(refused.value)


def test_paths_within_the_job_are_told_as_the_user_has_written_them() -> None:
    scratch = {"name": "scratch", "emptyDir": {"sizeLimitt": "1Gi"}}
    container = {"name": "dbt", "volumeMounts": [{"name": "scratch", "mountPath": "/scratch", "readonly": True}]}
    template = {"spec": {"volumes": [scratch], "containers": [container], "tolerations": [{"kei": "x"}]}}
    job = attempt_job(run=RUN, spec=spec(podTemplate=template), decision=PRODUCER, images=IMAGES)
    pod = job["spec"]["template"]["spec"]
    volume = next(index for index, one in enumerate(pod["volumes"]) if one["name"] == "scratch")
    mount = next(index for index, one in enumerate(pod["containers"][0]["volumeMounts"]) if one["name"] == "scratch")
    assert (volume, mount) != (0, 0)
    message = (
        f'unknown field "spec.template.spec.volumes[{volume}].emptyDir.sizeLimitt", "spec.template.spec.containers[0]'
        f'.volumeMounts[{mount}].readonly", "spec.template.spec.tolerations[0].kei", "spec.template.spec.x[7].y"'
    )
    assert in_users_words(message, job=job) == (
        'unknown field "spec.podTemplate.spec.volumes[scratch].emptyDir.sizeLimitt", "spec.podTemplate.spec.containers'
        '[dbt].volumeMounts[/scratch].readonly", "spec.podTemplate.spec.tolerations[0].kei", '
        '"spec.podTemplate.spec.x[7].y"'
    )


def test_merging_replaces_plain_lists_and_merges_keyed_ones() -> None:
    base = {"tolerations": [{"key": "a"}], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    over = {"tolerations": [{"key": "b"}], "env": [{"name": "B", "value": "3"}]}
    assert merge(base=base, over=over) == {
        "tolerations": [{"key": "b"}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}],
    }
