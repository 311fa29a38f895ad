"""How a connection gets into the pod: a profiles.yml without a secret in it, variables and files from Secrets."""

from typing import Any

import pytest
import yaml

from dbt_operator.api.connection import Connection
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.profile import Profile
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.profile import kept_profile, profile_config_map
from dbt_operator.pods.template import CONTAINER
from tests.unit.pods.test_pod_template import IMAGES, PRODUCER, RUN, spec

POSTGRES: dict[str, Any] = {
    "type": "postgres",
    "fields": {"host": "db", "dbname": "shop", "schema": "analytics"},
    "secretFields": {
        "password": {"name": "warehouse", "key": "password"},
        "port": {"name": "warehouse", "key": "port", "format": "JSON"},
    },
    "secretFiles": {"sslrootcert": {"name": "warehouse-ca", "key": "ca.crt"}},
}


def made(connection: dict[str, Any] = POSTGRES, **profile: Any) -> dict[str, Any]:
    """The ConfigMap of a run with this connection."""
    return profile_config_map(
        RUN,
        profile=Profile.model_validate({"connection": connection, **profile}),
        connection=Connection.model_validate(connection),
    )


def output_of(connection: dict[str, Any], **profile: Any) -> dict[str, Any]:
    """The one target of the one profile."""
    text = made(connection, **profile)["data"]["profiles.yml"]
    ((_, found),) = yaml.safe_load(text).items()
    ((_, output),) = found["outputs"].items()
    assert isinstance(output, dict)
    return output


def pod_of(**profile: Any) -> dict[str, Any]:
    fields = spec(profile={"connection": POSTGRES, **profile})
    job = attempt_job(run=RUN, spec=fields, decision=PRODUCER, images=IMAGES, profile=kept_profile(made(**profile)))
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in pod["containers"] if each["name"] == CONTAINER)
    return found


def test_a_secret_is_a_reference_in_profiles_yml_and_a_variable_from_the_secret_in_the_pod() -> None:
    output = output_of(POSTGRES)
    assert output["password"] == "{{ env_var('DBT_ENV_SECRET_CONNECTION_PASSWORD') }}"  # noqa: S105 - a reference
    # dbt lets nothing be done with a value of its own prefix.
    assert output["port"] == "{{ fromjson(env_var('DBT_OPERATOR_CONNECTION_PORT')) }}"
    container = container_of(pod_of())
    assert container["env"] == [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "warehouse", "key": key}}}
        for name, key in (
            ("DBT_ENV_SECRET_CONNECTION_PASSWORD", "password"),
            ("DBT_OPERATOR_CONNECTION_PORT", "port"),
        )
    ]
    arguments = container["args"]
    masked = [arguments[index + 1] for index, each in enumerate(arguments) if each == "--secret-env"]
    assert masked == ["DBT_ENV_SECRET_CONNECTION_PASSWORD", "DBT_OPERATOR_CONNECTION_PORT"]


def test_a_secret_file_is_mounted_readable_for_dbt_alone_and_masked() -> None:
    assert output_of(POSTGRES)["sslrootcert"] == "/dbt-operator/connection/sslrootcert/ca.crt"
    pod = pod_of()
    (volume,) = (each for each in pod["volumes"] if each["name"] == "dbt-operator-connection")
    items = [{"key": "ca.crt", "path": "sslrootcert/ca.crt"}]
    assert volume["projected"] == {
        "defaultMode": 0o440,
        "sources": [{"secret": {"name": "warehouse-ca", "items": items}}],
    }
    container = container_of(pod)
    mount = {"name": "dbt-operator-connection", "mountPath": "/dbt-operator/connection", "readOnly": True}
    assert mount in container["volumeMounts"]
    assert container["args"][container["args"].index("--secret-file") + 1] == "/dbt-operator/connection"


def test_dbt_is_told_the_profile_that_was_made_whatever_the_project_names() -> None:
    arguments = container_of(pod_of())["args"]
    assert {"--profile=dbt_operator", "--target=default"} <= set(arguments)
    (profile,) = yaml.safe_load(made()["data"]["profiles.yml"])
    assert profile == "dbt_operator"


def test_names_that_a_project_asks_for_are_used() -> None:
    assert {"--profile=shop", "--target=prod"} <= set(container_of(pod_of(profile="shop", target="prod"))["args"])
    found = yaml.safe_load(made(profile="shop", target="prod")["data"]["profiles.yml"])
    assert list(found["shop"]["outputs"]) == ["prod"]
    assert found["shop"]["target"] == "prod"


def test_types_survive_and_a_secret_may_be_anywhere_in_them() -> None:
    nested = {"type": "s3", "region": "eu", "n": 1, "x": 0.5, "on": True, "off": None}
    connection = {
        "type": "duckdb",
        "fields": {"path": "/data/db", "secrets": [nested], "settings": {"a b": ["1", 1]}},
        "secretFields": {
            "secrets/0/secret": {"name": "s", "key": "k"},
            "settings/s3.token": {"name": "s", "key": "t"},
            "keyfile_json/private_key": {"name": "s", "key": "p"},
        },
    }
    output = output_of(connection)
    assert output["secrets"] == [nested | {"secret": "{{ env_var('DBT_ENV_SECRET_CONNECTION_SECRETS_0_SECRET') }}"}]
    assert output["settings"]["a b"] == ["1", 1]
    assert output["settings"]["s3.token"] == "{{ env_var('DBT_ENV_SECRET_CONNECTION_SETTINGS_S3_TOKEN') }}"
    assert output["keyfile_json"] == {
        "private_key": "{{ env_var('DBT_ENV_SECRET_CONNECTION_KEYFILE_JSON_PRIVATE_KEY') }}"
    }


def test_names_that_differ_in_signs_only_have_variables_of_their_own() -> None:
    secrets = {"a_b": {"name": "s", "key": "1"}, "a/b": {"name": "s", "key": "2"}, "a.b": {"name": "s", "key": "3"}}
    kept = kept_profile(made({"type": "duckdb", "secretFields": secrets}))
    assert len({each.variable for each in kept.variables}) == 3


@pytest.mark.parametrize(
    ("fields", "field"), [({}, "schema"), ({"schema": "theirs"}, "schema"), ({"dataset": "theirs"}, "dataset")]
)
def test_the_schema_of_a_run_takes_the_place_of_the_connections(fields: dict[str, Any], field: str) -> None:
    assert output_of({"type": "bigquery", "fields": fields}, schema="mine") == {"type": "bigquery", field: "mine"}


def test_what_is_kept_serves_every_attempt() -> None:
    config_map = made()
    assert config_map["immutable"] is True
    assert config_map["metadata"]["name"] == "nightly-profile"
    assert config_map["metadata"]["ownerReferences"][0]["uid"] == RUN.uid
    assert "analytics" in kept_profile(config_map).text


@pytest.mark.parametrize("data", [None, {}, {"profiles.yml": ""}, {"profiles.yml": "", "secrets.json": "[]"}])
def test_another_config_map_in_its_place_is_a_sentence(data: dict[str, str] | None) -> None:
    with pytest.raises(InvalidSpec, match="ConfigMap nightly-profile does not say how the run connects"):
        kept_profile(made() | {"data": data})
