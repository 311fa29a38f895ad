"""dbt's files of a run, kept by a real API server: those of the newest attempt, and the results before all others."""

import asyncio
import base64
import gzip
import json
import random

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.spec import DbtRunSpec, parse_run_spec
from dbt_operator.api.status import RunArtifacts
from dbt_operator.dbt.artifacts import LARGEST, Artifact
from dbt_operator.dbt.compiled import FILE, Code, packed
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import AttemptState, Ending, NodeState
from dbt_operator.dbt.view import node_views
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.keep import Keeper
from tests.contract.backends import backend_of
from tests.contract.crd_copies import RUN_SPEC

SPEC: DbtRunSpec = parse_run_spec(RUN_SPEC)
ARTIFACTS, CACHE = "nightly-artifacts", "nightly-parse-cache"


def keeper_of(run: RunRef, client: Client) -> Keeper:
    return Keeper(run.name, backend_of(run, client))


def manifest(content: bytes | None) -> Artifact:
    return Artifact(name="manifest.json", content=content)


async def kept(run: RunRef, client: Client, name: str = ARTIFACTS) -> dict[str, bytes]:
    found = await client.get(resource=CONFIG_MAPS, namespace=run.namespace, name=name)
    return {key: base64.b64decode(data) for key, data in found.get("binaryData", {}).items()}


async def keep_results(keeper: Keeper, *, nodes: int) -> None:
    """Keep the results of a run whose nodes failed with messages that cannot be compressed: a quarter of a KiB each."""
    chance = random.Random(1)  # noqa: S311 - not for secrets: what cannot be compressed
    failed = [
        NodeState(
            unique_id=f"model.a.n{one}", phase=NodePhase.FAILED, status="error", message=chance.randbytes(256).hex()
        )
        for one in range(nodes)
    ]
    state = close(state=AttemptState(nodes={node.unique_id: node for node in failed}), ending=Ending.COMPLETED)
    await keeper.keep_results(
        history=History(attempts=(state,)),
        views=node_views(state=state),
        spec=SPEC,
        started_at=keeper.backend.now(),
    )


async def test_what_a_later_attempt_has_parsed_takes_the_place_of_what_was_there(run: RunRef, client: Client) -> None:
    keeper = keeper_of(run, client)
    await keeper.keep(manifest(b"old"), attempt=1)
    await keeper.keep(Artifact(name="partial_parse.msgpack", content=b"old"), attempt=1)
    await keeper.keep(manifest(b"new"), attempt=3)
    # Another controller reads the log of the first attempt once more.
    await keeper_of(run, client).keep(manifest(b"old"), attempt=1)
    assert await kept(run, client) == {"manifest.json.gz": b"new"}
    assert await kept(run, client, CACHE) == {"partial_parse.msgpack.gz": b"old"}
    assert keeper.artifacts == RunArtifacts(config_map=ARTIFACTS, run_results=False, manifest=True)


async def test_of_two_controllers_at_once_the_one_with_the_later_attempt_has_the_word(
    run: RunRef, client: Client
) -> None:
    one, other = keeper_of(run, client), keeper_of(run, client)
    for attempt in range(1, 20, 2):
        older, newer = manifest(b"%d" % attempt), manifest(b"%d" % (attempt + 1))
        await asyncio.gather(other.keep(newer, attempt=attempt + 1), one.keep(older, attempt=attempt))
        assert await kept(run, client) == {"manifest.json.gz": newer.content}


# The client hands aiohttp a text of more than 1 MiB in one piece; it is sent to a socket in memory, in no time.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
async def test_results_are_kept_also_where_the_manifest_leaves_no_room_for_them(run: RunRef, client: Client) -> None:
    keeper = keeper_of(run, client)
    largest = manifest(random.Random(2).randbytes(LARGEST))  # noqa: S311 - not for secrets: the same in each run
    await keeper.keep(largest, attempt=1)
    await keep_results(keeper, nodes=10)
    assert keeper.artifacts == RunArtifacts(config_map=ARTIFACTS, run_results=True, manifest=True)
    assert (await kept(run, client)).keys() == {"manifest.json.gz", "run_results.json.gz"}
    await keep_results(keeper, nodes=1000)
    assert keeper.artifacts == RunArtifacts(config_map=ARTIFACTS, run_results=True, manifest=False)
    assert (await kept(run, client)).keys() == {"run_results.json.gz"}
    await keeper.keep(manifest(b"small"), attempt=2)
    assert keeper.artifacts == RunArtifacts(config_map=ARTIFACTS, run_results=True, manifest=True)


async def test_results_that_do_not_fit_by_themselves_are_kept_with_shorter_texts(run: RunRef, client: Client) -> None:
    keeper = keeper_of(run, client)
    await keep_results(keeper, nodes=5000)
    assert keeper.artifacts == RunArtifacts(config_map=ARTIFACTS, run_results=True, manifest=False)


def compiled(*codes: Code) -> Artifact:
    return Artifact(name=FILE, content=packed(codes, limit=LARGEST))


async def keep_results_of_run(run: RunRef, client: Client) -> dict[str, str | None]:
    """Keep the results of a run with two nodes, by a controller that was not there before; their codes."""
    failed = NodeState(unique_id="model.a.bad", phase=NodePhase.FAILED, status="error", message="no")
    passed = NodeState(unique_id="model.a.good", phase=NodePhase.SUCCEEDED, status="success")
    nodes = {node.unique_id: node for node in (failed, passed)}
    state = close(state=AttemptState(nodes=nodes), ending=Ending.COMPLETED)
    keeper = keeper_of(run, client)
    await keeper.keep_results(
        history=History(attempts=(state,)), views=node_views(state=state), spec=SPEC, started_at=client.now()
    )
    results = json.loads(gzip.decompress((await kept(run, client))["run_results.json.gz"]))["results"]
    return {result["unique_id"]: result["compiled_code"] for result in results}


async def test_the_compiled_code_of_all_attempts_stands_in_the_results(run: RunRef, client: Client) -> None:
    first = compiled(
        Code(unique_id="model.a.bad", code="one", failed=True), Code(unique_id="model.a.good", code="good")
    )
    second = compiled(Code(unique_id="model.a.bad", code="two", failed=True))
    # Two controllers read two logs at once.
    await asyncio.gather(
        *(keeper_of(run, client).keep(file, attempt=at) for at, file in enumerate((first, second), start=1))
    )
    assert await keep_results_of_run(run, client) == {"model.a.bad": "two", "model.a.good": "good"}
    # What a later attempt has parsed does not take its place, nor that the place of the cache.
    await keeper_of(run, client).keep(Artifact(name="partial_parse.msgpack", content=b"new"), attempt=2)
    await keeper_of(run, client).keep(first, attempt=1)
    assert await keep_results_of_run(run, client) == {"model.a.bad": "two", "model.a.good": "good"}
    assert (await kept(run, client, CACHE))["partial_parse.msgpack.gz"] == b"new"


async def test_the_parse_cache_goes_with_the_end_of_the_run_and_the_compiled_code_stays(
    run: RunRef, client: Client
) -> None:
    first = compiled(
        Code(unique_id="model.a.bad", code="one", failed=True), Code(unique_id="model.a.good", code="good")
    )
    keeper = keeper_of(run, client)
    await keeper.keep(Artifact(name="partial_parse.msgpack", content=b"parsed"), attempt=1)
    await keeper.keep(first, attempt=1)
    await keep_results_of_run(run, client)
    await keeper.drop_inputs()
    assert await client.find(resource=CONFIG_MAPS, namespace=run.namespace, name=CACHE) is None
    await keeper.drop_inputs()
    # An attempt that was stopped with the run prints something at last.
    await keeper.keep(Artifact(name="partial_parse.msgpack", content=b"late"), attempt=1, run_ended=True)
    await keeper.keep(first, attempt=1, run_ended=True)
    assert await client.find(resource=CONFIG_MAPS, namespace=run.namespace, name=CACHE) is None
    assert await keep_results_of_run(run, client) == {"model.a.bad": "one", "model.a.good": "good"}
    # A retry that is asked for later.
    await keeper.keep(compiled(Code(unique_id="model.a.bad", code="two")), attempt=2)
    assert await keep_results_of_run(run, client) == {"model.a.bad": "two", "model.a.good": "good"}


# As above.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
async def test_the_cache_and_the_manifest_come_before_compiled_code(run: RunRef, client: Client) -> None:
    chance = random.Random(3)  # noqa: S311 - not for secrets: the same in each run
    codes = [Code(unique_id=f"model.a.n{at}", code=chance.randbytes(10_000).hex()) for at in range(20)]
    keeper = keeper_of(run, client)
    await keeper.keep(Artifact(name="partial_parse.msgpack", content=chance.randbytes(LARGEST)), attempt=1)
    await keeper.keep(manifest(chance.randbytes(LARGEST)), attempt=1)
    await keeper.keep(compiled(*codes, Code(unique_id="model.a.bad", code="no", failed=True)), attempt=1)
    assert (await kept(run, client, CACHE)).keys() == {"partial_parse.msgpack.gz", "compiled.json.gz"}
    assert await keep_results_of_run(run, client) == {"model.a.bad": "no", "model.a.good": None}
    assert (await kept(run, client)).keys() == {"manifest.json.gz", "run_results.json.gz"}
    await keeper.keep(Artifact(name="partial_parse.msgpack", content=chance.randbytes(LARGEST)), attempt=2)
    assert "partial_parse.msgpack.gz" in await kept(run, client, CACHE)


async def test_where_a_later_attempt_leaves_its_manifest_out_there_is_none(run: RunRef, client: Client) -> None:
    keeper = keeper_of(run, client)
    await keeper.keep(manifest(None), attempt=1)
    assert keeper.artifacts is None
    await keeper.keep(manifest(b"old"), attempt=2)
    await keeper.keep(manifest(None), attempt=3)
    assert keeper.artifacts == RunArtifacts(config_map=ARTIFACTS, run_results=False, manifest=False)
    assert await kept(run, client) == {}


async def test_a_config_map_of_somebody_elses_is_left_alone(run: RunRef, client: Client) -> None:
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ARTIFACTS, "namespace": run.namespace}}
    await client.create(resource=CONFIG_MAPS, manifest=theirs)
    keeper = keeper_of(run, client)
    await keeper.keep(manifest(b"ours"), attempt=1)
    await keep_results(keeper, nodes=1)
    assert keeper.artifacts is None
    assert await kept(run, client) == {}
