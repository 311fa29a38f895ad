"""What a pod has for packages that the project names: only where dbt may install any, and only from where they come."""

from dataclasses import replace
from typing import Any

from dbt_operator.pods.job import attempt_job
from tests.unit.pods.test_pod_template import IMAGES, PRODUCER, RUN, pod_of, spec

GIT: dict[str, Any] = {"git": {"url": "https://git.example.com/shop.git", "secretRef": {"name": "token"}}}


def container(*, found: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    decision = replace(PRODUCER, found=found or {})
    job = attempt_job(run=RUN, spec=spec(**fields), decision=decision, images=IMAGES)
    dbt: dict[str, Any] = job["spec"]["template"]["spec"]["containers"][0]
    return dbt


def paths(of: dict[str, Any]) -> set[str]:
    return {mount["mountPath"] for mount in of["volumeMounts"]}


def test_packages_are_installed_on_a_volume_of_the_pods_own_at_one_path() -> None:
    dbt = container()
    assert "--packages-dir=/dbt-operator/work" in dbt["args"]
    assert "/dbt-operator/work" in paths(dbt)
    never = container(deps="Never")
    assert not [each for each in never["args"] if "packages" in each]
    assert "/dbt-operator/work" not in paths(never)


def test_packages_from_the_server_of_the_project_are_fetched_by_the_step_that_has_its_credentials() -> None:
    pod = pod_of(project=GIT)["spec"]
    assert "--packages" in pod["initContainers"][0]["args"]
    assert "--git-config=/dbt-operator/project/tree/.git/packages/config" in pod["containers"][0]["args"]
    assert "/dbt-operator/fetch-secret" not in paths(pod["containers"][0])
    assert "--packages" not in pod_of(project=GIT, deps="Never")["spec"]["initContainers"][0]["args"]


def test_later_attempts_are_given_what_was_installed() -> None:
    dbt = container(found={"packages.lock": "0123:AAAA"})
    assert "--packages-lock=0123:AAAA" in dbt["args"]
    assert "--packages=/dbt-operator/packages/packages.tar.gz" in dbt["args"]
    assert "/dbt-operator/packages" in paths(dbt)
