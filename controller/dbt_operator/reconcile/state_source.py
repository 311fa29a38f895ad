"""The artifacts of another run that a run is given: found when its first pod is made, and kept for all attempts."""

from collections.abc import Iterable, Mapping

from dbt_operator.api import names
from dbt_operator.api.commands import Command
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.api.state_source import Last, RunReference
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.kube.objects import Objects
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_RUNS, Object, owner_uids
from dbt_operator.pods.files import CONFIG_MAP_LIMIT
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.state_files import STATE_KEYS, StateFiles, size_of, state_config_map


class MissingStateError(Exception):
    """There are no artifacts as `spec.state` wants them; the text is a sentence."""


async def keep_state_files(spec: DbtRunSpec, *, run: RunRef, client: Objects) -> None:
    """Copy the artifacts that `spec.state` names into the ConfigMap that the attempts of the run mount.

    The run that has made them may be deleted or retried at any time, and a ConfigMap may be written anew. Of two
    controllers, and of all attempts, the one that creates the copy decides what is in it.

    Raises: MissingStateError, ApiError, NameConflictError.
    """
    if spec.state is None or not spec.state.kept:
        return
    found = await client.find(resource=CONFIG_MAPS, namespace=run.namespace, name=names.state_name(run.name))
    if found is not None and run.uid in owner_uids(found):
        return
    if spec.state.run_ref is not None:
        files = await _of_run(spec.state.run_ref, run=run, client=client)
    else:
        assert spec.state.artifacts_from is not None  # noqa: S101 - one of both
        assert spec.state.artifacts_from.config_map_ref is not None  # noqa: S101 - what is not kept was left out above
        files = await _of_config_map(spec.state.artifacts_from.config_map_ref.name, run=run, client=client)
    asks = _asks_for_manifest(spec)
    if asks and not files.manifest:
        raise MissingStateError(f"{files.name} has no manifest.json, which {asks} needs: {_why_none(files)}.")
    manifest = state_config_map(run, files)
    if size_of(manifest) > CONFIG_MAP_LIMIT:
        raise MissingStateError(
            f"The artifacts of {files.name} fill a ConfigMap so far that they cannot be copied: take them from a"
            " volume or an archive (spec.state.artifactsFrom)."
        )
    await client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid=run.uid)


def _asks_for_manifest(spec: DbtRunSpec) -> str:
    """What of the spec needs the manifest of the other run; "" where that is not known before dbt has begun."""
    selecting = any("state:" in each for each in (*spec.select, *spec.exclude))
    asked = {"spec.defer": spec.defer, "dbt clone": spec.command is Command.CLONE, "a selection by state:": selecting}
    return next((what for what, asks in asked.items() if asks), "")


def _why_none(files: StateFiles) -> str:
    if files.name.startswith("DbtRun "):
        return "it was too large to be kept, or a secret occurs in it; see spec.state.artifactsFrom"
    return "put it into the ConfigMap, under the key manifest.json or, compressed, manifest.json.gz"


# a ConfigMap


async def _of_config_map(name: str, *, run: RunRef, client: Objects) -> StateFiles:
    field = "spec.state.artifactsFrom.configMapRef"
    found = await client.find(resource=CONFIG_MAPS, namespace=run.namespace, name=name)
    if found is None:
        raise MissingStateError(f"There is no ConfigMap {name} in namespace {run.namespace}, which {field} names.")
    files = StateFiles.of_config_map(found)
    if not files.keys:
        raise MissingStateError(
            f"ConfigMap {name}, which {field} names, has none of the keys {', '.join(sorted(STATE_KEYS))}."
        )
    return files


# a run


async def _of_run(ref: RunReference, *, run: RunRef, client: Objects) -> StateFiles:
    if ref.name is not None:
        named = await client.find(resource=DBT_RUNS, namespace=run.namespace, name=ref.name)
        if named is None:
            raise MissingStateError(
                f"There is no DbtRun {ref.name} in namespace {run.namespace}, which spec.state.runRef names."
            )
        return await _kept_by(named, run=run, client=client)
    assert ref.selector is not None  # noqa: S101 - one of both
    labels = ref.selector.match_labels
    listed = await client.list(resource=DBT_RUNS, namespace=run.namespace, labels=labels)
    others = [each for each in listed if each["metadata"]["uid"] != run.uid]
    newest = newest_of(others, last=ref.last or Last.SUCCEEDED)
    if newest is None:
        raise MissingStateError(_none_matches(labels, last=ref.last or Last.SUCCEEDED, count=len(others)))
    return await _kept_by(newest, run=run, client=client)


def newest_of(runs: Iterable[Object], *, last: Last) -> Object | None:
    """The run that has ended last, of those that have kept a manifest, and succeeded where that is wanted."""
    ended = ((_status(each), each) for each in runs)
    wanted = [
        (status.completion_time, each["metadata"]["name"], each)
        for status, each in ended
        if status.completion_time is not None
        and status.ended
        and (last is Last.ENDED or status.phase is RunPhase.SUCCEEDED)
        and status.artifacts is not None
        and status.artifacts.manifest
    ]
    return max(wanted, key=lambda one: one[:2])[2] if wanted else None


def _none_matches(labels: Mapping[str, str], *, last: Last, count: int) -> str:
    what = "has succeeded" if last is Last.SUCCEEDED else "has ended"
    wanted = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"No DbtRun with {wanted} (spec.state.runRef) {what} and kept its manifest.json; {count} have these labels."


async def _kept_by(other: Object, *, run: RunRef, client: Objects) -> StateFiles:
    """What the other run has kept. It is read between two looks at it, so that it is of one end of the run."""
    name, before = other["metadata"]["name"], _status(other)
    if other["metadata"]["uid"] == run.uid:
        raise MissingStateError("spec.state.runRef names the run itself: name an earlier one.")
    if not before.ended:
        phase = before.phase.value if before.phase is not None else "not seen by an operator"
        raise MissingStateError(f"DbtRun {name}, which spec.state.runRef names, has not ended ({phase}).")
    if before.artifacts is None:
        raise MissingStateError(f"DbtRun {name}, which spec.state.runRef names, has kept no artifacts of dbt.")
    kept = before.artifacts.config_map
    config_map = await client.find(resource=CONFIG_MAPS, namespace=run.namespace, name=kept)
    after = await client.find(resource=DBT_RUNS, namespace=run.namespace, name=name)
    if after is None or after["metadata"]["uid"] != other["metadata"]["uid"]:
        raise MissingStateError(f"DbtRun {name}, which spec.state.runRef names, was deleted.")
    if _status(after).completion_time != before.completion_time:
        raise MissingStateError(f"DbtRun {name}, which spec.state.runRef names, is being retried.")
    if config_map is None or other["metadata"]["uid"] not in owner_uids(config_map):
        raise MissingStateError(f"ConfigMap {kept} with the artifacts of DbtRun {name} (spec.state.runRef) is gone.")
    return StateFiles.of_run(name, config_map)


def _status(run: Object) -> DbtRunStatus:
    return DbtRunStatus.parse(run.get("status") or {}) or DbtRunStatus()
