"""The parse cache of a run: there for its attempts, and gone with its end."""

from typing import Any

from tests.unit.reconcile.cluster import FORBIDDEN, NAMESPACE, Given

CACHE = "nightly-parse-cache"


def cache(*, owner: str = "run-uid") -> dict[str, Any]:
    """What an attempt has left for those after it."""
    metadata = {"name": CACHE, "namespace": NAMESPACE, "ownerReferences": [{"kind": "DbtRun", "uid": owner}]}
    return {"metadata": metadata, "binaryData": {"partial_parse.msgpack.gz": "AAAA"}}


async def test_the_cache_is_there_while_the_run_lives_and_deleted_at_its_end() -> None:
    given = Given(spec={"retry": {"limit": 0}, "producer": {"maxRestarts": 0}})
    given.server.put("configmaps", cache())
    async with given:
        pod = await given.pod("nightly-producer-1")
        given.server.run_pod(pod)
        await given.rests()
        assert CACHE in given.server.names("configmaps")
        given.server.end_pod(pod, exit_code=2)
        await given.until(lambda: given.over)
    assert given.said()[0] == "Failed"
    assert CACHE not in given.server.names("configmaps")
    assert "nightly-attempt-1" in given.server.names("configmaps")


async def test_a_config_map_of_somebody_elses_with_its_name_stays() -> None:
    given = Given(spec={"image": "not a legal image"})
    given.server.put("configmaps", cache(owner="another"))
    async with given:
        await given.until(lambda: given.over)
    assert given.said()[0] == "Failed"
    assert CACHE in given.server.names("configmaps")


async def test_a_run_ends_also_where_its_cache_cannot_be_deleted() -> None:
    given = Given(spec={"image": "not a legal image"})
    given.server.put("configmaps", cache())
    given.server.refuse = lambda method, plural: FORBIDDEN if (method, plural) == ("DELETE", "configmaps") else None
    async with given:
        await given.until(lambda: given.over)
    assert given.said()[0] == "Failed"
    assert CACHE in given.server.names("configmaps")
