"""Which buckets can be written to, before anything is."""

import sys

import pytest

from dbt_operator.api.spec import CompiledSql
from dbt_operator.runner.object_storage import STORAGES, unusable


def test_the_spec_allows_what_can_be_written_to() -> None:
    for scheme in STORAGES:
        assert CompiledSql(object_storage=f"{scheme}://audit/dbt").object_storage
    for url in ("az://audit", "/audit", "gs:///audit", "gs://user:password@audit", "gs://audit/a b", "s3://"):
        with pytest.raises(ValueError, match="is not a bucket"):
            CompiledSql(object_storage=url)


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert unusable("s3://audit") == "for s3:// the Python package boto3 has to be installed beside dbt"
    assert unusable("az://audit") == "there is no way to write to az://, but to gs:// and s3://"
