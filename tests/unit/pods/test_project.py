"""What brings the project into a pod: volumes, the init container that fetches it, and the arguments of the runner."""

from dataclasses import replace
from typing import Any

from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.runner_files import RUNNER
from tests.unit.pods.test_pod_template import IMAGES, PRODUCER, RUN, pod_of, spec

GIT = {
    "url": "https://git.example.com/shop.git",
    "ref": {"branch": "main"},
    "path": "transform/shop",
    "secretRef": {"name": "repository"},
    "caConfigMapRef": {"name": "authority"},
}
TREE = "/dbt-operator/project/tree"


def pod(project: dict[str, Any], **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod_of(project=project, **fields)["spec"]
    return found


def mounted(container: dict[str, Any]) -> set[str]:
    return {mount["name"] for mount in container["volumeMounts"]}


def test_git_is_fetched_before_dbt_by_a_container_that_alone_has_the_secret() -> None:
    found = pod({"git": GIT})
    (fetch,), (dbt,) = found["initContainers"], found["containers"]
    assert (fetch["image"], fetch["command"]) == (IMAGES.tools, ["python3", RUNNER, "fetch"])
    assert {"--git=https://git.example.com/shop.git", "--branch=main", "--path=transform/shop"} <= set(fetch["args"])
    assert fetch["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"dbt-operator-fetch-secret", "dbt-operator-fetch-ca", "dbt-operator-project"} <= mounted(fetch)
    assert {"dbt-operator-fetch-secret", "dbt-operator-fetch-ca"}.isdisjoint(mounted(dbt))
    (project,) = [mount for mount in dbt["volumeMounts"] if mount["name"] == "dbt-operator-project"]
    assert project["readOnly"] is True
    # A profile in the project is looked for where the project is.
    assert dbt["args"][dbt["args"].index("--project-dir") + 1] == f"{TREE}/transform/shop"
    assert dbt["args"][dbt["args"].index("--profiles-dir") + 1] == f"{TREE}/transform/shop"


def test_a_later_attempt_fetches_what_an_earlier_one_has_found() -> None:
    decision = replace(PRODUCER, found={"project.commit": "a" * 40, "project.digest": "sha256:b"})
    for project, expected in (
        ({"git": GIT}, f"--as-before={'a' * 40}"),
        ({"archive": {"configMapRef": {"name": "shop", "key": "shop.tgz"}}}, "--as-before=sha256:b"),
    ):
        job = attempt_job(run=RUN, spec=spec(project=project), decision=decision, images=IMAGES)
        (fetch,) = job["spec"]["template"]["spec"]["initContainers"]
        assert expected in fetch["args"]


def test_steps_have_the_resources_and_proxies_of_dbt_and_nothing_else_of_its_environment() -> None:
    env = [{"name": "https_proxy", "value": "http://proxy:3128"}, {"name": "DBT_ENV_SECRET_PASSWORD", "value": "x"}]
    resources = {"limits": {"memory": "1Gi"}}
    container = {"name": "dbt", "env": env, "resources": resources}
    (fetch,) = pod({"git": GIT}, podTemplate={"spec": {"containers": [container]}})["initContainers"]
    assert (fetch["env"], fetch["resources"]) == (env[:1], resources)


def test_steps_run_after_sidecars_and_before_what_may_change_the_project() -> None:
    users = [{"name": "patch", "image": "x"}, {"name": "proxy", "image": "y", "restartPolicy": "Always"}]
    found = pod({"git": GIT}, podTemplate={"spec": {"initContainers": users}})
    assert [one["name"] for one in found["initContainers"]] == ["proxy", "dbt-operator-fetch", "patch"]


def test_a_volume_is_mounted_read_only_unless_somebody_wants_to_write() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "projects"}}
    for fields, read_only in (({}, True), ({"readOnly": False}, False)):
        found = pod({"volume": {"source": claim, "path": "shop", **fields}})
        assert {"name": "dbt-operator-project", **claim} in found["volumes"]
        (dbt,) = found["containers"]
        (mount,) = [one for one in dbt["volumeMounts"] if one["name"] == "dbt-operator-project"]
        assert mount["readOnly"] is read_only
        assert dbt["args"][dbt["args"].index("--project-dir") + 1] == "/dbt-operator/project/shop"
        # A database file beside the project is kept with the volume.
        assert dbt["args"][dbt["args"].index("--kept-path") + 1] == "/dbt-operator/project"
