"""From the Job that a cluster would get to processes: its paths, its variables, its files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api.connection import parse_connection
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.spec import parse_run_spec
from dbt_operator.local.pod import Recipe, bytes_of, memory_bytes, recipe_of
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods.images import Images
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.profile import profile_config_map
from dbt_operator.pods.profiles_yml import render_profile
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.runner_files import runner_config_map

RUN = RunRef(namespace="local", name="r", uid="u", labels={})


class Sources:
    """Objects by name."""

    def __init__(
        self, *, config_maps: Iterable[Mapping[str, Any]] = (), secrets: Mapping[str, Mapping[str, bytes]]
    ) -> None:
        self._config_maps = {one["metadata"]["name"]: bytes_of(one) for one in (runner_config_map(RUN), *config_maps)}
        self._secrets = secrets

    def config_map(self, name: str) -> Mapping[str, bytes] | None:
        return self._config_maps.get(name)

    def secret(self, name: str, *, keys: Iterable[str] | None) -> Mapping[str, bytes] | None:
        found = self._secrets.get(name, {})
        return {key: value for key, value in found.items() if keys is None or key in keys} or None

    def where(self, name: str, key: str | None) -> str:
        return f"put {name} {key} there"


def recipe(folder: Path, *, secrets: Mapping[str, Mapping[str, bytes]] | None = None, **fields: Any) -> Recipe:
    raw = {"image": "i", "project": {"image": {"path": "/p"}}, "profile": {"inProject": True}, **fields}
    spec = parse_run_spec(raw)
    decision = Decision(index=1, kind=AttemptKind.PRODUCER, name="r-producer-1")
    kept, config_maps = None, []
    if spec.profile.connection is not None:
        kept = render_profile(spec.profile.connection, profile="p", target="t")
        config_map = profile_config_map(RUN, profile=spec.profile, connection=spec.profile.connection)
        config_maps.append(config_map | {"kind": "ConfigMap"})
    job = attempt_job(run=RUN, spec=spec, decision=decision, images=Images(tools="t"), profile=kept)
    return recipe_of(
        job,
        folder=folder,
        claims=folder.parent / "volumes",
        sources=Sources(config_maps=config_maps, secrets=secrets or {}),
        environ={"PATH": "/bin", "HOME": "/home"},
        python="/usr/bin/python3",
    )


def test_the_runner_gets_the_arguments_of_a_pod(tmp_path: Path) -> None:
    made = recipe(tmp_path, threads=3, vars={"path": "/dbt-operator/runner"}).dbt.argv
    assert made[:2] == ("/usr/bin/python3", f"{tmp_path}/mounts/dbt-operator-runner/runner.pyz")
    split = made.index("--")
    assert "--project-dir" in made[:split]
    assert made[split - 4 : split] == ("--kept-path", "/", "--lost-path", str(tmp_path))
    # What is dbt's own stays as the user has written it.
    assert "build" in made[split:]
    assert any("/dbt-operator/runner" in one for one in made[split:])


def test_a_project_from_git_is_fetched_below_the_folder_of_the_attempt(tmp_path: Path) -> None:
    git = {"url": "https://example.com/dbt-operator/shop.git", "secretRef": {"name": "repository"}}
    made = recipe(tmp_path, project={"git": git}, secrets={"repository": {"token": b"t"}})
    [fetch] = made.steps
    assert f"--into={tmp_path}/mounts/dbt-operator-project/tree" in fetch.argv
    assert "--git=https://example.com/dbt-operator/shop.git" in fetch.argv
    assert f"--secret={tmp_path}/mounts/dbt-operator-fetch-secret" in fetch.argv
    assert made.files["mounts/dbt-operator-fetch-secret/token"] == b"t"
    assert f"{tmp_path}/mounts/dbt-operator-project/tree" in made.dbt.argv
    assert fetch.env["TMPDIR"] == str(tmp_path / "tmp")


def test_an_environment_is_kept_in_a_folder_that_stands_for_its_claim(tmp_path: Path) -> None:
    cache = {"persistentVolumeClaim": {"claimName": "environments"}}
    made = recipe(tmp_path / "a", environment={"virtualenv": {"requirements": ["dbt-duckdb"], "cache": cache}})
    [step] = made.steps
    assert f"--cache={tmp_path}/volumes/environments" in step.argv


def test_artifacts_on_a_folder_of_the_machine_are_read_there_and_it_is_not_made(tmp_path: Path) -> None:
    volume = {"source": {"hostPath": {"path": str(tmp_path / "nightly")}}, "path": "target"}
    made = recipe(tmp_path / "a", state={"artifactsFrom": {"volume": volume}})
    assert f"--state-dir={tmp_path}/nightly/target" in made.dbt.argv
    assert tmp_path / "nightly" not in made.folders
    claim = {"source": {"persistentVolumeClaim": {"claimName": "states"}}}
    made = recipe(tmp_path / "b", state={"artifactsFrom": {"volume": claim}})
    assert f"--state-dir={tmp_path}/volumes/states" in made.dbt.argv


def test_variables_are_those_of_the_pod_over_those_of_the_machine(tmp_path: Path) -> None:
    login = {"secretKeyRef": {"name": "login", "key": "user"}}
    env = [
        {"name": "HOME", "value": "/elsewhere"},
        {"name": "USER_NAME", "valueFrom": login},
        {"name": "URL", "value": "db://$(USER_NAME)@$$(HOST)$(NOBODY)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}},
    ]
    container: dict[str, Any] = {
        "name": "dbt",
        "env": env,
        "envFrom": [{"prefix": "L_", "secretRef": {"name": "login"}}],
    }
    container["resources"] = {"limits": {"memory": "512Mi"}}
    template = {"spec": {"terminationGracePeriodSeconds": 7, "containers": [container]}}
    made = recipe(tmp_path, podTemplate=template, secrets={"login": {"user": b"ann"}})
    env_of_dbt = dict(made.dbt.env)
    assert env_of_dbt.pop("TMPDIR") == str(tmp_path / "tmp")
    assert env_of_dbt == {
        "PATH": "/bin",
        "HOME": "/elsewhere",
        "USER_NAME": "ann",
        "L_user": "ann",
        "URL": "db://ann@$(HOST)$(NOBODY)",
    }
    assert (made.grace_seconds, made.memory_bytes) == (7, 512 * 2**20)
    split = made.dbt.argv.index("--secret-env")
    assert made.dbt.argv[split + 1] == "USER_NAME"


def test_a_connection_names_its_files_where_they_are(tmp_path: Path) -> None:
    connection = {
        "type": "postgres",
        "fields": {"host": "h"},
        "secretFields": {"password": {"name": "login", "key": "password"}},
        "secretFiles": {"sslkey": {"name": "login", "key": "tls.key"}},
    }
    assert parse_connection({"metadata": {"name": "c"}, "spec": connection}).type == "postgres"
    secrets = {"login": {"password": b"p", "tls.key": b"k"}}
    made = recipe(tmp_path, profile={"connection": connection}, secrets=secrets)
    [profile] = [content.decode() for path, content in made.files.items() if path.endswith("profiles.yml")]
    place = f"{tmp_path}/mounts/dbt-operator-connection/sslkey/tls.key"
    assert place in profile
    assert made.files["mounts/dbt-operator-connection/sslkey/tls.key"] == b"k"
    assert dict(made.dbt.env).items() >= {"DBT_ENV_SECRET_CONNECTION_PASSWORD": "p"}.items()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"There is no key profiles.yml of Secret w here: put w profiles.yml there."):
        recipe(tmp_path, profile={"secretRef": {"name": "w", "key": "profiles.yml"}})
    with pytest.raises(InvalidSpec, match=r"There is no ConfigMap shop: put it into a file that is given with -f."):
        recipe(tmp_path, project={"archive": {"configMapRef": {"name": "shop", "key": "shop.tgz"}}})


@pytest.mark.parametrize(
    ("text", "count"), [("1Gi", 2**30), ("1.5G", 1_500_000_000), ("1000", 1000), ("nonsense", 0), (None, 0)]
)
def test_limits_of_memory_are_read_as_kubernetes_writes_them(text: str | None, count: int) -> None:
    assert memory_bytes({"resources": {"limits": {"memory": text}}}) == count
