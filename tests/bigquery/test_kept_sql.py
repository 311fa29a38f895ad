"""The statements that are executed without dbt are in a bucket before they are executed, or are not executed."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.bigquery.conftest import Attempt, Warehouse
from tests.bigquery.test_async import OF_NODES, shop
from tests.object_storage import Buckets, serve

FOLDER = "sql/dwh/nightly/uid-1"


@pytest.fixture
def buckets() -> Iterator[Buckets]:
    with serve() as made:
        yield made


def begin(warehouse: Warehouse, buckets: Buckets, url: str = "gs://audit/sql/", *nodes: str) -> Attempt:
    settings = f'--async-settings={{"compiledSql": {{"objectStorage": "{url}"}}}}'
    more: dict[str, Any] = {
        "options": ("--executor=Async", settings),
        "environment": {"STORAGE_EMULATOR_HOST": buckets.url},
    }
    return warehouse.resume(*nodes, **more) if nodes else warehouse.begin(**more)


def test_each_statement_is_there_as_it_was_submitted(warehouse: Warehouse, buckets: Buckets) -> None:
    shop(warehouse)
    buckets.refusals = [503]
    assert begin(warehouse, buckets).ends() == 0
    kept = {
        f"{FOLDER}/producer-1/model.shop.orders/1.sql": "shop`.`orders",
        f"{FOLDER}/producer-1/model.shop.report/1.sql": "shop`.`report",
        f"{FOLDER}/producer-1/test.shop.not_null_orders_id.84ef11d8fe/1.sql": "should_warn",
    }
    assert buckets.audit.keys() == kept.keys()
    submitted = {job.query for job in warehouse.fake.created(OF_NODES)}
    assert set(buckets.audit.values()) == submitted
    assert all(words in buckets.audit[name] for name, words in kept.items())


def test_another_attempt_keeps_its_own(warehouse: Warehouse, buckets: Buckets) -> None:
    shop(warehouse)
    assert begin(warehouse, buckets, "gs://audit", "report").ends() == 0
    assert list(buckets.audit) == ["dwh/nightly/uid-1/resume-1/model.shop.report/1.sql"]


def test_what_cannot_be_kept_is_not_executed(warehouse: Warehouse, buckets: Buckets) -> None:
    shop(warehouse)
    attempt = begin(warehouse, buckets, "gs://other")
    assert attempt.ends() == 2
    assert warehouse.fake.created(OF_NODES) == []
    error = attempt.named("RunFinished")[0]["error"]
    assert error["kind"] == "spec"
    begins = "spec.async.compiledSql.objectStorage: gs://other/dwh/nightly/uid-1/producer-1/"
    assert error["message"].startswith(begins)
    ends = "could not be written: The specified bucket does not exist; what cannot be kept is not executed"
    assert error["message"].endswith(ends)
