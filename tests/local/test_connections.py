"""How runs connect: what is wrong with a warehouse is one sentence without a secret, and what is right is found."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.local.manifests import PROJECT_ANNOTATION
from tests.archives import config_map, packed
from tests.conftest import CHECKOUT
from tests.local.desk import Desk
from tests.unit.runner.postgres_server import GUARDED, query

EXAMPLES = CHECKOUT / "examples"
WRONG = "hunter2-wrong-password"
PROFILE = """
shop:
  target: dev
  outputs:
    dev:
      type: postgres
      host: "{{ env_var('PGHOST') }}"
      port: "{{ env_var('PGPORT') | int }}"
      user: "{{ env_var('SHOP_USER') }}"
      password: "{{ env_var('SHOP_PASSWORD') }}"
      dbname: "{{ env_var('PGDATABASE') }}"
      schema: analytics
"""
PROJECT = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop, config-version: 2}",
    "profiles.yml": PROFILE,
    "models/orders.sql": "select 1 as id",
}
THREADS = """
{{ config(materialized="table") }}
select case when current_setting('threads') = 1 then 1 else error('other settings') end as id
"""


@pytest.fixture(scope="module", autouse=True)
def users(server: dict[str, str]) -> None:
    """One who needs a password, and one who may do nothing."""
    query(f"create role {GUARDED} login password 'another'", server)
    query("create role reader login", server)


@pytest.fixture
def desk(server: dict[str, str], tmp_path: Path, warm_python: Path, operator: Path) -> Desk:
    """A folder to work in."""
    return Desk(tmp_path, warm_python, {**server, "SHOP_PASSWORD": WRONG, "SHOP_USER": "dbt"}, python=operator)


def failed(desk: Desk, **environ: str) -> tuple[str, str]:
    """The reason and the message of a run that fails, with these variables for dbt."""
    env = [{"name": name, "value": value} for name, value in environ.items()]
    status = desk.run(
        "shop",
        "",
        config_map("shop", {"shop.tgz": packed(PROJECT)}),
        project={"archive": {"configMapRef": {"name": "shop", "key": "shop.tgz"}}},
        podTemplate={"spec": {"containers": [{"name": "dbt", "env": env}]}},
        retry={"limit": 0},
    )
    assert status["phase"] == "Failed"
    assert "\n" not in status["message"].strip()
    kept = [file for file in desk.place.root.rglob("*") if file.is_file()]
    assert kept
    assert [str(file) for file in kept if WRONG.encode() in file.read_bytes()] == []
    return status["reason"], status["message"]


def test_a_warehouse_that_refuses_connections_is_named(desk: Desk) -> None:
    reason, message = failed(desk, PGPORT="1")
    assert reason == "ConnectionFailed"
    assert '"127.0.0.1", port 1' in message


def test_a_wrong_password_is_named_and_not_told(desk: Desk) -> None:
    reason, message = failed(desk, SHOP_USER=GUARDED)
    assert reason == "ConnectionFailed"
    assert f'password authentication failed for user "{GUARDED}"' in message


def test_a_right_that_is_missing_is_not_taken_for_a_warehouse_that_is(desk: Desk) -> None:
    reason, message = failed(desk, SHOP_USER="reader")
    assert reason == "DatabaseError"
    assert "permission denied for database warehouse; check the rights of the user" in message


def test_the_example_runs_as_it_stands(desk: Desk) -> None:
    """But for where its warehouse is, and its project."""
    text = (EXAMPLES / "connections" / "postgres.yaml").read_text()
    here = text.replace("host: warehouse\n", f"host: {desk.environ['PGHOST']}\n")
    secret, connection, run = yaml.safe_load_all(here.replace("5432", desk.environ["PGPORT"]))
    annotations = {PROJECT_ANNOTATION: str(EXAMPLES / "postgres" / "project")}
    run["metadata"]["annotations"] = annotations
    desk.do("run", "-f", desk.write(secret, connection, run))
    status = desk.status("bike-rental-mine")
    assert (status["phase"], status["dbt"]["target"]) == ("Succeeded", "dev"), status["message"]
    found = query("select count(*) from mine_marts.daily_revenue", desk.environ)
    assert found != ["0"]


def test_a_duckdb_has_its_fields_with_their_types(desk: Desk) -> None:
    connection: dict[str, Any] = {"type": "duckdb", "fields": {"path": ":memory:", "settings": {"threads": 1}}}
    source = config_map("shop", {"shop.tgz": packed(PROJECT | {"models/orders.sql": THREADS})})
    project = {"archive": {"configMapRef": {"name": "shop", "key": "shop.tgz"}}}
    status = desk.run("duck", "", source, project=project, profile={"connection": connection})
    assert status["phase"] == "Succeeded", status["message"]
