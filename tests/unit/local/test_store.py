"""The file with the objects keeps the promises of an API server, also between processes."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api import names
from dbt_operator.kube.api_error import ApiError, NameConflictError
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_MODELS, DBT_RUNS, EVENTS
from dbt_operator.local.store import Store


def config_map(name: str, *, owner: str = "", data: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "local", "ownerReferences": [{"uid": owner}]}
    return {"metadata": metadata | {"labels": {names.LABEL_RUN_UID: owner}}, "data": {"key": data}}


def change(store: Store, name: str, data: str, *, version: str | None = None) -> dict[str, Any]:
    metadata = {} if version is None else {"resourceVersion": version}
    return store.change(CONFIG_MAPS, name, {"metadata": metadata, "data": {"key": data}}, namespace="local")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with Store(file) as made:
        yield made


def test_an_object_is_created_once_and_adopted_by_its_owner(store: Store) -> None:
    create = store.create_or_adopt
    first, new = asyncio.run(create(resource=CONFIG_MAPS, manifest=config_map("a", owner="1"), owner_uid="1"))
    again, newer = asyncio.run(create(resource=CONFIG_MAPS, manifest=config_map("a", owner="1"), owner_uid="1"))
    assert (new, newer) == (True, False)
    assert first == again
    with pytest.raises(NameConflictError):
        asyncio.run(create(resource=CONFIG_MAPS, manifest=config_map("a", owner="2"), owner_uid="2"))
    with pytest.raises(ApiError) as refused:
        store.create(CONFIG_MAPS, config_map("a"))
    assert refused.value.already_exists


def test_a_patch_changes_the_version_that_it_names_or_nothing(store: Store) -> None:
    first = store.create(CONFIG_MAPS, config_map("a"))
    second = change(store, "a", "2", version=first["metadata"]["resourceVersion"])
    with pytest.raises(ApiError) as refused:
        change(store, "a", "3", version=first["metadata"]["resourceVersion"])
    assert refused.value.conflict
    assert store.get(CONFIG_MAPS, "a", namespace="local") == second
    with pytest.raises(ApiError) as missing:
        change(store, "b", "3")
    assert missing.value.not_found


def test_only_a_change_of_the_spec_is_a_new_generation(store: Store) -> None:
    store.create(DBT_RUNS, {"metadata": {"name": "r", "namespace": "local"}, "spec": {"cancel": False}})
    store.change(DBT_RUNS, "r", {"status": {"phase": "Running"}}, namespace="local")
    run = store.change(DBT_RUNS, "r", {"spec": {"cancel": True}}, namespace="local")
    assert run["metadata"]["generation"] == 2
    assert run["status"] == {"phase": "Running"}
    cleared = store.change(DBT_RUNS, "r", {"spec": {"cancel": None}}, namespace="local")
    assert cleared["spec"] == {}


def test_of_many_writers_each_version_has_one(file: Path, store: Store) -> None:
    store.create(CONFIG_MAPS, config_map("a", data="0"))

    def count(_: int) -> int:
        won = 0
        with Store(file) as own:
            while won < 20:
                found = own.get(CONFIG_MAPS, "a", namespace="local")
                assert found is not None
                try:
                    number = int(found["data"]["key"]) + 1
                    change(own, "a", str(number), version=found["metadata"]["resourceVersion"])
                except ApiError:
                    continue
                won += 1
        return won

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(count, range(4))) == 80
    found = store.get(CONFIG_MAPS, "a", namespace="local")
    assert found is not None
    assert found["data"]["key"] == "80"


def test_a_writer_that_is_killed_leaves_whole_changes(file: Path, store: Store) -> None:
    store.create(CONFIG_MAPS, config_map("a"))
    code = (
        "import sys; from pathlib import Path; from dbt_operator.local.store import Store\n"
        "from dbt_operator.kube.resources import CONFIG_MAPS\n"
        "store, number = Store(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    number += 1; patch = {'data': {'key': str(number), 'other': str(number)}}\n"
        "    store.change(CONFIG_MAPS, 'a', patch, namespace='local'); print(number, flush=True)\n"
    )
    for _ in range(3):
        environ = {"PYTHONPATH": ":".join(sys.path)}
        with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, env=environ) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(20)]
            writer.kill()
        found = store.get(CONFIG_MAPS, "a", namespace="local")
        assert found is not None
        assert found["data"]["key"] == found["data"]["other"]
        assert int(found["data"]["key"]) >= int(said[-1])


def test_what_belongs_to_a_run_goes_with_it(store: Store) -> None:
    run = store.create(DBT_RUNS, {"metadata": {"name": "r", "namespace": "local"}, "spec": {}})
    uid = run["metadata"]["uid"]
    store.create(CONFIG_MAPS, config_map("a", owner=uid))
    store.create(CONFIG_MAPS, config_map("b"))
    said = store.record_event(regarding=run, kind="Normal", reason="Started", message="It began.")
    asyncio.run(said)
    assert [event["reason"] for event in store.all(EVENTS)] == ["Started"]
    assert not store.remove(DBT_RUNS, "r", namespace="local", uid="another")
    assert store.remove(DBT_RUNS, "r", namespace="local", uid=uid)
    assert [obj["metadata"]["name"] for obj in store.all(CONFIG_MAPS)] == ["b"]
    assert store.all(EVENTS) == []


def test_what_has_changed_since_a_version_is_found(file: Path, store: Store) -> None:
    uid = "1"
    model = {"metadata": {"name": "m", "namespace": "local", "labels": {names.LABEL_RUN_UID: uid}}, "spec": {}}
    store.create(DBT_MODELS, model)
    before = store.version
    with Store(file) as other:
        other.change(DBT_MODELS, "m", {"status": {"phase": "Running"}}, namespace="local")
    assert store.version > before
    assert [one["status"]["phase"] for one in store.all(DBT_MODELS, run=uid, since=before)] == ["Running"]
    assert store.all(DBT_MODELS, run=uid, since=store.version) == []
