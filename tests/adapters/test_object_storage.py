"""What the runner writes into a bucket, with the clients of Google and Amazon themselves, against a fake."""

import json
import os
import subprocess

import pytest

from tests.adapters.test_connections import ALL
from tests.conftest import CHECKOUT
from tests.object_storage import Buckets, serve

WRITE = """
import json, sys
from dbt_operator.runner.object_storage import StorageError, unusable, write
url, texts = json.loads(sys.stdin.read())
assert not unusable(url), unusable(url)
try:
    write(texts, url=url, stopped=lambda: False)
except StorageError as error:
    print(error)
"""
TEXTS = {f"run/{number}/model.shop.größe/1.sql": f"select 'ä{number}'" for number in range(100)}


def written(buckets: Buckets, url: str) -> str:
    """What went wrong, "" where nothing did."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "PYTHONPATH": str(CHECKOUT / "controller"),
        "STORAGE_EMULATOR_HOST": buckets.url,
        "AWS_ENDPOINT_URL": buckets.url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(
        [os.environ[ALL], "-c", WRITE],
        input=json.dumps([url, TEXTS]),
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(ALL not in os.environ, reason="it needs the clients, which `make test-adapters` has")
@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_all_is_written_and_what_is_refused_is_told(scheme: str) -> None:
    with serve() as buckets:
        buckets.refusals = [503, 503]
        assert written(buckets, f"{scheme}://audit/sql") == ""
        assert buckets.audit == {f"sql/{name}": text for name, text in TEXTS.items()}
        said = written(buckets, f"{scheme}://other")
        assert said.startswith(f"{scheme}://other/run/")
        assert "The specified bucket does not exist" in said
