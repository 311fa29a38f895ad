"""Whose artifacts a run is given (`spec.state`): which run is meant, what is copied, and what is said where not."""

from typing import Any

import pytest

from dbt_operator.api.spec import DbtRunSpec, parse_run_spec
from dbt_operator.kube.session import Request
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.state_source import MissingStateError, keep_state_files
from tests.unit.reconcile.api_server import ApiServer, Target
from tests.unit.reconcile.operator import SPEC, run

OWN = RunRef(namespace="data", name="pull", uid="uid-of-pull", labels={})
PACKED = {"manifest.json.gz": "H4sI", "run_results.json.gz": "AAAA"}


def spec(**fields: Any) -> DbtRunSpec:
    return parse_run_spec(SPEC | fields)


def of_run(**ref: Any) -> DbtRunSpec:
    return spec(state={"runRef": ref})


class Server(ApiServer):
    """A namespace with runs and what they have kept."""

    def add(
        self, name: str, *, ended: str | None = "2026-11-20T04:00:00Z", manifest: bool = True, **fields: Any
    ) -> dict[str, Any]:
        """A run with its artifacts."""
        made = run(name, ended=ended)
        made["metadata"] |= {"uid": f"uid-of-{name}", "labels": fields.pop("labels", {})}
        made["status"] |= {"phase": "Succeeded", "artifacts": {"configMap": f"{name}-artifacts", "manifest": manifest}}
        made["status"] |= fields
        owner = {"kind": "DbtRun", "name": name, "uid": f"uid-of-{name}"}
        metadata = {"name": f"{name}-artifacts", "namespace": "data", "ownerReferences": [owner]}
        kept = {key: data for key, data in PACKED.items() if manifest or "manifest" not in key}
        self.put("configmaps", {"metadata": metadata, "binaryData": kept | {"notes.txt": "AAAA"}})
        return self.put("dbtruns", made)

    async def keep(self, wanted: DbtRunSpec) -> dict[str, Any]:
        """What the run is given."""
        await keep_state_files(wanted, run=OWN, client=self.client)
        return self.objects["configmaps", "data", "pull-state"]

    async def refused(self, wanted: DbtRunSpec) -> str:
        with pytest.raises(MissingStateError) as caught:
            await keep_state_files(wanted, run=OWN, client=self.client)
        assert "pull-state" not in self.names("configmaps")
        return str(caught.value)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_the_artifacts_of_a_run_are_copied_once_for_all_attempts(server: Server) -> None:
    server.add("prod")
    wanted = of_run(name="prod")
    kept = await server.keep(wanted)
    assert (kept["binaryData"], kept["data"], kept["immutable"]) == (
        PACKED,
        {"found.json": '{"state.run":"prod"}'},
        True,
    )
    assert kept["metadata"]["ownerReferences"][0]["uid"] == OWN.uid
    server.remove("dbtruns", "data", "prod")
    server.remove("configmaps", "data", "prod-artifacts")
    assert await server.keep(wanted) == kept


async def test_of_runs_with_labels_the_one_that_has_succeeded_last_is_meant(server: Server) -> None:
    labels = {"env": "production"}
    server.add("older", ended="2026-11-20T04:00:00Z", labels=labels)
    server.add("newest", ended="2026-11-20T05:00:00Z", labels=labels)
    server.add("failed", ended="2026-11-20T06:00:00Z", labels=labels, phase="Failed")
    server.add("too-large", ended="2026-11-20T07:00:00Z", labels=labels, manifest=False)
    server.add("elsewhere", ended="2026-11-20T08:00:00Z", labels={"env": "staging"})
    server.add("live", ended=None, labels=labels, phase="Running", completionTime=None)
    kept = await server.keep(of_run(selector={"matchLabels": labels}))
    assert kept["data"] == {"found.json": '{"state.run":"newest"}'}
    server.remove("configmaps", "data", "pull-state")
    kept = await server.keep(of_run(selector={"matchLabels": labels}, last="Ended"))
    assert kept["data"] == {"found.json": '{"state.run":"failed"}'}


async def test_a_run_without_usable_artifacts_is_named(server: Server) -> None:
    named = of_run(name="prod")
    assert await server.refused(named) == ("There is no DbtRun prod in namespace data, which spec.state.runRef names.")
    server.add("prod", ended=None, phase="Running")
    assert await server.refused(named) == "DbtRun prod, which spec.state.runRef names, has not ended (Running)."
    server.add("prod", artifacts=None)
    assert await server.refused(named) == "DbtRun prod, which spec.state.runRef names, has kept no artifacts of dbt."
    server.add("prod")
    server.remove("configmaps", "data", "prod-artifacts")
    assert await server.refused(named) == (
        "ConfigMap prod-artifacts with the artifacts of DbtRun prod (spec.state.runRef) is gone."
    )
    assert await server.refused(of_run(selector={"matchLabels": {"env": "production"}})) == (
        "No DbtRun with env=production (spec.state.runRef) has succeeded and kept its manifest.json;"
        " 0 have these labels."
    )


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"defer": True}, "spec.defer"),
        ({"command": "clone"}, "dbt clone"),
        ({"select": ["a,state:modified+"]}, "a selection by state:"),
        ({"exclude": ["state:old"]}, "a selection by state:"),
    ],
)
async def test_a_manifest_that_was_not_kept_is_missed_where_it_is_needed(
    server: Server, fields: dict[str, Any], what: str
) -> None:
    server.add("prod", manifest=False)
    state = {"runRef": {"name": "prod"}}
    assert await server.refused(spec(state=state, **fields)) == (
        f"DbtRun prod has no manifest.json, which {what} needs: it was too large to be kept, or a secret occurs in it;"
        " see spec.state.artifactsFrom."
    )
    kept = await server.keep(spec(state=state, select=["result:error+"]))
    assert set(kept["binaryData"]) == {"run_results.json.gz"}


@pytest.mark.parametrize("again", ["retried", "deleted"])
async def test_artifacts_are_not_read_while_they_change(server: Server, again: str) -> None:
    server.add("prod")

    async def meanwhile(request: Request, target: Target) -> None:
        del request
        if target.name == "prod-artifacts":
            server.after = None
            if again == "retried":
                server.add("prod", ended=None, phase="Retrying")
            else:
                server.remove("dbtruns", "data", "prod")

    server.after = meanwhile
    said = {"retried": "is being retried", "deleted": "was deleted"}[again]
    assert await server.refused(of_run(name="prod")) == f"DbtRun prod, which spec.state.runRef names, {said}."


async def test_artifacts_that_leave_no_room_are_named(server: Server) -> None:
    metadata = {"name": "production", "namespace": "data"}
    server.put("configmaps", {"metadata": metadata, "data": {"manifest.json": "x" * 1024 * 1024}})
    assert await server.refused(spec(state={"artifactsFrom": {"configMapRef": {"name": "production"}}})) == (
        "The artifacts of ConfigMap production fill a ConfigMap so far that they cannot be copied: take them from a"
        " volume or an archive (spec.state.artifactsFrom)."
    )


async def test_a_config_map_of_artifacts_is_copied_in_either_form(server: Server) -> None:
    wanted = spec(state={"artifactsFrom": {"configMapRef": {"name": "production"}}})
    assert await server.refused(wanted) == (
        "There is no ConfigMap production in namespace data, which spec.state.artifactsFrom.configMapRef names."
    )
    metadata = {"name": "production", "namespace": "data"}
    server.put("configmaps", {"metadata": metadata, "data": {"readme": "none"}})
    assert "has none of the keys manifest.json, manifest.json.gz, run_results.json" in await server.refused(wanted)
    files = {"data": {"manifest.json": "{}"}, "binaryData": {"sources.json.gz": "AAAA"}}
    server.put("configmaps", {"metadata": metadata, **files})
    kept = await server.keep(wanted)
    assert kept["binaryData"] == {"sources.json.gz": "AAAA"}
    assert kept["data"] == {"manifest.json": "{}", "found.json": '{"state.configMap":"production"}'}
