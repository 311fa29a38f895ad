"""The script with which a person checks BigQuery itself, here against the fake: also that it notices what is wrong."""

import subprocess

import pytest

from tests.bigquery.conftest import Warehouse
from tests.bigquery.fake import Behaviour
from tests.conftest import CHECKOUT


def check(warehouse: Warehouse, *arguments: str) -> tuple[int, str]:
    script = str(CHECKOUT / "examples" / "bigquery" / "check.py")
    common = ("--project", "local", "--location", "US", "--api-endpoint", warehouse.url)
    argv = [str(warehouse.python), script, *common, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def like_bigquery(warehouse: Warehouse) -> Warehouse:
    warehouse.fake.behaviours = [
        Behaviour("select 1 as x", rows=[{"x": 1}]),
        Behaviour("1/0", error=("invalidQuery", "division by zero: 1 / 0")),
        Behaviour("1000000", held=True),
    ]
    warehouse.fake.catalog.add_dataset("local", "d")
    return warehouse


def test_it_finds_all_as_it_has_to_be(like_bigquery: Warehouse) -> None:
    code, said = check(like_bigquery, "--dataset", "d")
    assert "NOT" not in said, said
    assert (code, said.splitlines()[-1]) == (0, "All is as it has to be.")
    assert list(like_bigquery.fake.catalog.tables_in("local", "d")) == []  # it takes away what it has made


def test_it_notices_a_service_that_takes_an_id_twice_and_drops_labels(like_bigquery: Warehouse) -> None:
    like_bigquery.fake.forgetful = True
    code, said = check(like_bigquery, "--dataset", "d")
    assert code == 1
    assert "NOT an id that was used is refused: a second job was made" in said
    assert "NOT its labels are those that were given: {}" in said


def test_it_looks_at_the_jobs_of_a_run(warehouse: Warehouse) -> None:
    assert warehouse.begin("run", "-s", "orders").ends() == 0
    code, said = check(warehouse, "--run", "nightly")
    assert code == 0, said
    assert "model_shop_orders; 1; 0; producer-1; 10485760" in said
    code, said = check(warehouse, "--run", "weekly")
    assert (code, "NOT there are jobs of the run weekly" in said) == (1, True)
