"""Packages from a hub: installed in the first attempt of a run, and in no other."""

from collections.abc import Iterator
from typing import Any

import pytest

from dbt_operator.kube.resources import CONFIG_MAPS
from dbt_operator.local.place import NAMESPACE
from dbt_operator.local.store import Store
from tests.local.desk import Desk
from tests.packages import Hub, serving


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub()) as hub:
        hub.put("greetings", "1.0.0", "hello from the hub")
        yield hub


def of_hub(url: str) -> dict[str, Any]:
    """The fields of the spec for a run that asks this hub."""
    container = {"name": "dbt", "env": [{"name": "DBT_PACKAGE_HUB_URL", "value": url}]}
    return {"podTemplate": {"spec": {"containers": [container]}}}


def test_packages_are_fetched_once_for_the_run(shop: Desk, hub: Hub) -> None:
    retry = {"limit": 1, "backoff": {"duration": "1s"}}
    status = shop.run("shop", "packages", **of_hub(hub.url), retry=retry)
    assert (status["phase"], len(status["attempts"])) == ("Succeeded", 3), status["message"]
    assert len([path for path in hub.asked if path.endswith(".tar.gz")]) == 1, hub.asked
    with Store(shop.place.state) as store:
        assert store.get(CONFIG_MAPS, "shop-packages", namespace=NAMESPACE) is None


def test_without_leave_the_run_says_what_is_missing(shop: Desk) -> None:
    status = shop.run("alone", "packages", deps="Never")
    assert (status["phase"], status["reason"]) == ("Failed", "DependenciesMissing"), status["message"]
    assert "spec.deps" in status["message"]
