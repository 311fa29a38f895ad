"""What only the attempts of a run need, the runner and the parse cache: there for them, and gone with its end."""

import base64
import gzip
import hashlib
import json
from typing import Any

import pytest

from dbt_operator.dbt.compiled import Code, packed
from tests.unit.plan import lines
from tests.unit.reconcile.cluster import FORBIDDEN, NAMESPACE, RUN, Given

CACHE = "nightly-parse-cache"


def cache(*, owner: str = "run-uid") -> dict[str, Any]:
    """What an attempt has left for those after it."""
    metadata = {"name": CACHE, "namespace": NAMESPACE, "ownerReferences": [{"kind": "DbtRun", "uid": owner}]}
    return {"metadata": metadata, "binaryData": {"partial_parse.msgpack.gz": "AAAA"}}


def runner_of(given: Given, job: str) -> str:
    """The ConfigMap that the pod of a Job has its runner from."""
    volumes = given.server.get("jobs", job)["spec"]["template"]["spec"]["volumes"]
    name: str = next(one["configMap"]["name"] for one in volumes if one["name"] == "dbt-operator-runner")
    return name


async def test_both_are_there_while_the_run_lives_and_deleted_at_its_end() -> None:
    given = Given(spec={"retry": {"limit": 0}, "producer": {"maxRestarts": 0}})
    given.server.put("configmaps", cache())
    async with given:
        pod = await given.pod("nightly-producer-1")
        given.server.run_pod(pod)
        await given.rests()
        assert {CACHE, runner_of(given, "nightly-producer-1")} < set(given.server.names("configmaps"))
        given.server.end_pod(pod, exit_code=2)
        await given.until(lambda: given.over)
        assert given.said()[0] == "Failed"
        assert given.server.names("configmaps") == ["nightly-attempt-1"]
        given.server.change("dbtruns", "nightly", metadata={"annotations": {"dbt-operator.io/retry": "now"}})
        await given.pod("nightly-producer-2")
        assert runner_of(given, "nightly-producer-2") in given.server.names("configmaps")


@pytest.mark.parametrize("restart", [False, True])
async def test_a_job_that_an_operator_of_another_version_has_made_keeps_its_runner_until_the_end(
    restart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Given(spec={"retry": {"limit": 0}, "producer": {"maxRestarts": 1}})
    async with given:
        lost = await given.pod("nightly-producer-1")
        given.server.run_pod(lost)
        monkeypatch.setattr("dbt_operator.pods.runner_files.build_archive", lambda: b"of another version")
        await given.down(restart, lambda: given.server.end_pod(lost, exit_code=137))
        pod = await given.pod("nightly-producer-2")
        runners = {runner_of(given, job) for job in given.server.names("jobs")}
        assert len(runners) == 2
        assert runners < set(given.server.names("configmaps"))
        given.server.run_pod(pod)
        given.server.end_pod(pod, *lines.RED_LOG, exit_code=1)
        await given.until(lambda: given.over)
    assert [name for name in given.server.names("configmaps") if "runner" in name] == []


async def test_packages_that_an_attempt_has_installed_are_given_to_later_ones_and_go_with_the_run() -> None:
    packed = gzip.compress(b"packages")
    digest = hashlib.sha256(packed).hexdigest()
    data = base64.b64encode(packed).decode()
    installed = [
        lines.line(1, "Found", **{"packages.lock": "0123:AAAA"}),
        lines.line(2, "Artifact", name="packages.tar", part=0, parts=1, size=len(packed), sha256=digest, data=data),
    ]
    log = [lines.BEGINNING[0], *installed, *lines.RED_LOG[1:]]
    async with Given() as given:
        pod = await given.pod("nightly-producer-1")
        given.server.run_pod(pod)
        given.server.end_pod(pod, *log, exit_code=1)
        await given.until(lambda: len(given.server.names("jobs")) == 2)
        (retry,) = (name for name in given.server.names("jobs") if "retry" in name)
        template = given.server.get("jobs", retry)["spec"]["template"]["spec"]
        assert "--packages-lock=0123:AAAA" in template["containers"][0]["args"]
        (volume,) = (one for one in template["volumes"] if one["name"] == "dbt-operator-kept-packages")
        assert given.server.get("configmaps", volume["configMap"]["name"])["binaryData"] == {"packages.tar.gz": data}
        again = await given.pod(retry)
        given.server.run_pod(again)
        given.server.end_pod(again, exit_code=2)
        given.server.change("dbtruns", RUN, spec={"cancel": True})
        await given.until(lambda: given.over)
        assert not [name for name in given.server.names("configmaps") if "packages" in name]


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


@pytest.mark.parametrize("restart", [False, True])
async def test_the_compiled_code_beside_it_is_in_the_results_at_each_end_of_the_run(restart: bool) -> None:
    given = Given(spec={"retry": {"limit": 0}})
    code = packed([Code(unique_id=lines.SEED, code="select 1", failed=True, attempt=1)], limit=1000)
    kept = cache()
    kept["binaryData"] = {"compiled.json.gz": base64.b64encode(code).decode()}
    given.server.put("configmaps", kept)

    def codes() -> dict[str, str | None]:
        files = given.server.get("configmaps", "nightly-artifacts")["binaryData"]
        results = json.loads(gzip.decompress(base64.b64decode(files["run_results.json.gz"])))["results"]
        return {one["unique_id"]: one["compiled_code"] for one in results}

    async with given:
        pod = await given.pod("nightly-producer-1")
        given.server.run_pod(pod)
        given.server.end_pod(pod, *lines.RED_LOG, exit_code=1)
        await given.until(lambda: given.over)
        assert codes() == {lines.SEED: "select 1", lines.MODEL: None}
        assert CACHE not in given.server.names("configmaps")
        ask = {"annotations": {"dbt-operator.io/retry": "now"}}
        await given.down(restart, lambda: given.server.change("dbtruns", "nightly", metadata=ask))
        resume = await given.pod("nightly-resume-1")
        given.server.run_pod(resume)
        given.server.end_pod(resume, *lines.GREEN_LOG)
        await given.until(lambda: given.said()[0] == "Succeeded")
        assert codes() == {lines.SEED: "select 1", lines.MODEL: None}
