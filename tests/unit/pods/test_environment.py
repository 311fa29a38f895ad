"""The virtual environment of a run in its pod: what makes it, from what, and what dbt sees of it."""

from dataclasses import replace
from typing import Any

import pytest

from dbt_operator.api.problems import InvalidSpec
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.part import RESTRICTED
from dbt_operator.runner.virtualenv import packed, unpacked
from tests.unit.pods.test_pod_template import IMAGES, PRODUCER, RUN, pod_of, spec

GIT = {"git": {"url": "https://example.com/shop.git"}}


def environment(**fields: Any) -> dict[str, Any]:
    """The field of a spec; dbt-core is required where nothing else is said."""
    either = {} if "requirementsFrom" in fields else {"requirements": ["dbt-core"]}
    return {"virtualenv": either | fields}


def parts(**fields: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]:
    """The container that makes an environment, the one of dbt, and the volumes by name."""
    pod = pod_of(environment=environment(**fields))["spec"]
    (step,) = pod["initContainers"]
    return step, pod["containers"][0], {volume["name"]: volume for volume in pod["volumes"]}


def mounts(container: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Volume and whether it can be written, by path."""
    found = container["volumeMounts"]
    return {one["mountPath"]: (one["name"], not one.get("readOnly", False)) for one in found}


def test_it_is_made_in_the_image_of_dbt_and_dbt_can_only_read_it() -> None:
    step, dbt, volumes = parts(
        requirements=["dbt-core==1.11.*", "dbt-postgres"],
        constraints=["protobuf<6"],
        options=["--only-binary=:all:"],
        findLinks=["/wheels"],
        systemSitePackages=True,
        timeoutSeconds=60,
    )
    assert (step["name"], step["image"], step["securityContext"]) == (
        "dbt-operator-environment",
        "registry.example/dbt:1",
        RESTRICTED,
    )
    assert step["args"][2:] == [
        *("--requirement=dbt-core==1.11.*", "--requirement=dbt-postgres", "--constraint=protobuf<6"),
        *("--option=--only-binary=:all:", "--find-links=/wheels", "--system-site-packages", "--seconds=60"),
    ]
    assert mounts(step)["/dbt-operator/environment"] == ("dbt-operator-environment", True)
    assert mounts(dbt)["/dbt-operator/environment"] == ("dbt-operator-environment", False)
    assert volumes["dbt-operator-environment"]["emptyDir"] == {}
    assert dbt["args"][dbt["args"].index("--environment") + 1] == "/dbt-operator/environment"


def test_password_of_an_index_reaches_only_the_container_that_installs() -> None:
    step, dbt, volumes = parts(
        requirementsFrom={"configMapKeyRef": {"name": "locks", "key": "dbt.txt"}},
        indexFrom={"secretKeyRef": {"name": "index", "key": "url"}},
    )
    items = volumes["dbt-operator-environment-index"]["secret"]
    assert (items["secretName"], items["items"]) == ("index", [{"key": "url", "path": "index"}])
    assert "dbt-operator-environment-index" in {name for name, _ in mounts(step).values()}
    assert not {name for name, _ in mounts(dbt).values()} & {
        "dbt-operator-environment-index",
        "dbt-operator-environment-requirements",
    }
    file = "/dbt-operator/environment-index/index"
    assert {f"--index-file={file}", f"--secret-file={file}"} < set(step["args"])
    assert "--requirements-file=/dbt-operator/environment-requirements/requirements" in step["args"]


def test_of_the_cache_dbt_can_write_nothing_but_that_it_is_in_use() -> None:
    step, dbt, volumes = parts(cache={"persistentVolumeClaim": {"claimName": "environments"}, "unusedDays": 7})
    claim = volumes["dbt-operator-environments"]["persistentVolumeClaim"]
    assert claim == {"claimName": "environments"}
    assert {"--cache=/dbt-operator/environments", "--claim=environments", "--unused-days=7"} < set(step["args"])
    assert mounts(step)["/dbt-operator/environments"] == ("dbt-operator-environments", True)
    assert mounts(dbt)["/dbt-operator/environments"] == ("dbt-operator-environments", False)
    (marks,) = [one for one in dbt["volumeMounts"] if one.get("subPath")]
    assert (marks["mountPath"], marks["subPath"]) == ("/dbt-operator/environments/used", "used")


def test_image_may_be_left_out_and_is_then_the_one_of_the_administrator() -> None:
    pod = pod_of(image=None, project=GIT, environment=environment())["spec"]
    assert {one["image"] for one in (*pod["initContainers"], *pod["containers"])} == {IMAGES.tools}
    assert [one["name"] for one in pod["initContainers"]] == ["dbt-operator-fetch", "dbt-operator-environment"]


def test_how_the_image_is_pulled_is_the_same_for_both_containers() -> None:
    pod = pod_of(imagePullPolicy="Never", environment=environment())["spec"]
    assert {one["imagePullPolicy"] for one in (*pod["initContainers"], *pod["containers"])} == {"Never"}


def test_later_attempt_is_given_the_packages_that_the_first_one_has_found() -> None:
    packages = [f"package-number-{number * number * 7919}=={number}.{number % 7}" for number in range(200)]
    found = packed(packages)
    assert len(found) > 1  # in pieces, as an event takes no text of any length
    later = replace(PRODUCER, index=2, found=found)
    job = attempt_job(run=RUN, spec=spec(environment=environment()), decision=later, images=IMAGES)
    (step,) = job["spec"]["template"]["spec"]["initContainers"]
    (argument,) = [one for one in step["args"] if one.startswith("--as-before=")]
    assert unpacked(argument.partition("=")[2]) == packages


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"image": None}, "spec: image is required, as no defaults give it and there is no environment."),
        ({"image": None, "environment": environment()}, "spec: image is required, as the project is a part of it."),
        (
            {"environment": {"virtualenv": {}}},
            "spec.environment.virtualenv: exactly one of requirements and requirementsFrom is required.",
        ),
        (
            {"environment": environment(requirements=["dbt @ git+https://me:secret@example.com/dbt"])},
            "spec.environment.virtualenv.requirements[0]: a URL with a user or a password belongs into a Secret, which"
            " indexFrom names.",
        ),
        (
            {"environment": environment(options=["--target=/"])},
            "spec.environment.virtualenv.options[0]: '--target=/' is not one of the options that",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSpec) as failure:
        spec(**fields)
    assert str(failure.value).startswith(sentence)
