"""What a command is given: manifests, places of projects, values of secrets; and what it says where they are wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.spec import DbtRunSpec, parse_run_spec
from dbt_operator.local.manifests import InvalidManifest, load
from dbt_operator.local.meaningless import meaningless
from dbt_operator.local.project import located
from dbt_operator.local.secrets import InvalidEnvFile, Secrets, read_env_file, variable_of

RUN: dict[str, Any] = {
    "apiVersion": "dbt-operator.io/v1alpha1",
    "kind": "DbtRun",
    "metadata": {"name": "nightly"},
    "spec": {"image": "i", "project": {"image": {"path": "/dbt/shop"}}, "profile": {"inProject": True}},
}


def written(folder: Path, name: str, *documents: object) -> str:
    (folder / name).write_text(yaml.safe_dump_all(documents))
    return str(folder / name)


def test_documents_of_a_folder_come_in_the_order_of_its_files(tmp_path: Path) -> None:
    written(tmp_path, "b.yaml", RUN, {**RUN, "metadata": {"name": "later", "namespace": "prod"}})
    written(tmp_path, "a.yml", {**RUN, "kind": "DbtConnection", "spec": {"type": "duckdb"}})
    (tmp_path / "notes.txt").write_text("no manifest")
    found = load([str(tmp_path)])
    assert [run.name for run in found.runs] == ["nightly", "later"]
    assert {run.obj["metadata"]["namespace"] for run in found.runs} == {"local"}
    assert [(one.resource.kind, one.name) for one in found.others] == [("DbtConnection", "nightly")]


def test_secrets_are_read_and_other_kinds_named(tmp_path: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    secret |= {"data": {"one": "YWJj"}, "stringData": {"two": "def"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    found = load([written(tmp_path, "a.yaml", {"apiVersion": "v1", "kind": "List", "items": [secret, service]})])
    assert found.secrets == {"s": {"one": b"abc", "two": b"def"}}
    assert found.passed_over == ["Service web"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"metadata": {"name": "x"}}, "it has no kind"),
        ({**RUN, "metadata": {}}, "has no metadata.name"),
        ({**RUN, "metadata": {"name": "../x"}}, "small letters"),
        ({**RUN, "spec": None}, "has no spec"),
        ({**RUN, "apiVersion": "dbt-operator.io/v2"}, "apiVersion dbt-operator.io/v2"),
    ],
)
def test_what_is_no_manifest_is_said(tmp_path: Path, document: dict[str, Any], said: str) -> None:
    file = written(tmp_path, "a.yaml", document)
    with pytest.raises(InvalidManifest, match=said):
        load([file])


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="two DbtRuns of the name nightly"):
        load([written(tmp_path, "a.yaml", RUN, RUN)])


def spec(**project: object) -> DbtRunSpec:
    return parse_run_spec({**RUN["spec"], "project": project})


def project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "dbt_project.yml").touch()
    return folder


def path_of(spec: DbtRunSpec) -> str:
    assert spec.project.image is not None
    return spec.project.image.path


def test_the_project_of_an_image_is_looked_for_in_this_order(tmp_path: Path) -> None:
    inside, annotated, given = (project(tmp_path / name) for name in ("dbt/shop", "project", "elsewhere"))
    of_image = spec(image={"path": "/dbt/shop"})
    assert path_of(located(of_image, annotated=None, given=None, folder=tmp_path)) == str(inside)
    assert path_of(located(of_image, annotated="project", given=None, folder=tmp_path)) == str(annotated)
    assert path_of(located(of_image, annotated="project", given=str(given), folder=tmp_path)) == str(given)
    absolute = spec(image={"path": str(given)})
    assert path_of(located(absolute, annotated=None, given=None, folder=tmp_path)) == str(given)
    on_host = spec(volume={"source": {"hostPath": {"path": str(tmp_path)}}, "path": "elsewhere"})
    assert path_of(located(on_host, annotated=None, given=None, folder=tmp_path)) == str(given)


def test_where_no_project_is_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="say with --project-dir where it is"):
        located(spec(image={"path": "/dbt/none"}), annotated=None, given=None, folder=tmp_path)
    with pytest.raises(InvalidSpec, match=r"There is no dbt_project.yml in .*none, where the annotation"):
        located(spec(image={"path": "/dbt/none"}), annotated="none", given=None, folder=tmp_path)
    claim = {"source": {"persistentVolumeClaim": {"claimName": "c"}}}
    with pytest.raises(InvalidSpec, match="volume of a cluster"):
        located(spec(volume=claim), annotated=None, given=None, folder=tmp_path)


def test_the_first_place_that_has_a_key_counts(tmp_path: Path) -> None:
    (tmp_path / "warehouse-login").mkdir()
    (tmp_path / "warehouse-login" / "password").write_text("of the folder")
    env_file = tmp_path / ".env"
    env_file.write_text("SECRET_WAREHOUSE_LOGIN_PASSWORD=of the file\nSECRET_WAREHOUSE_LOGIN_USER='of the file'\n")
    environ = {f"SECRET_WAREHOUSE_LOGIN_{key}": "of the environment" for key in ("PASSWORD", "USER", "TOKEN")}
    given = {"warehouse-login": {"host": b"of the manifest"}}
    secrets = Secrets(given=given, folder=tmp_path, env_file=env_file, environ=environ)
    assert secrets.find("warehouse-login", keys=None) == {
        "host": b"of the manifest",
        "password": b"of the folder",
        "user": b"of the file",
        "token": b"of the environment",
    }
    assert secrets.find("warehouse-login", keys=["nothing"]) is None
    assert "SECRET_OTHER_A_B" in secrets.where("other", "a.b")
    assert variable_of("a-b", "c.d") == "SECRET_A_B_C_D"


def test_a_file_of_variables_is_read_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('# of the warehouse\n\nexport A=1 # one\nB="two \\"2\\"\\nlines"\nC=\'#3\'\nD=\n')
    assert read_env_file(file) == {"A": "1", "B": 'two "2"\nlines', "C": "#3", "D": ""}
    file.write_text("A=1\nhunter2\n")
    with pytest.raises(InvalidEnvFile, match="Line 2") as refused:
        read_env_file(file)
    assert "hunter2" not in str(refused.value)


def test_only_what_has_no_effect_is_named() -> None:
    container = {"name": "dbt", "env": [{"name": "A", "value": "1"}], "securityContext": {}}
    container["resources"] = {"requests": {"cpu": 1}, "limits": {"memory": "1Gi", "cpu": 1}}
    pod = {"nodeSelector": {}, "terminationGracePeriodSeconds": 5, "containers": [container]}
    retry: dict[str, Any] = {"podTemplate": {"spec": {"tolerations": []}}}
    spec = {**RUN["spec"], "serviceAccountName": "x", "podTemplate": {"spec": pod}, "threads": 4, "retry": retry}
    named = set(meaningless(spec, parse_run_spec(spec)))
    path = "spec.podTemplate.spec"
    assert named == {
        *("spec.image", "spec.serviceAccountName", f"{path}.nodeSelector", "spec.retry.podTemplate.spec.tolerations"),
        *(
            f"{path}.containers[dbt].{field}"
            for field in ("securityContext", "resources.requests", "resources.limits.cpu")
        ),
    }
