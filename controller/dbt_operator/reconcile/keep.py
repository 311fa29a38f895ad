"""What is kept of a run for its user and for its later attempts: dbt's artifacts and its parse cache, in ConfigMaps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from dbt_operator.api import names, status
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.dbt.artifacts import Artifact
from dbt_operator.dbt.history import History
from dbt_operator.dbt.run_results import NodeOutcome, run_results
from dbt_operator.dbt.view import NodeView
from dbt_operator.kube.client import ApiError, Client, NameConflictError
from dbt_operator.kube.resources import CONFIG_MAPS, Object
from dbt_operator.pods.record import MANIFEST_FILE, file_config_map, results_patch
from dbt_operator.pods.run import RunRef

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Keeper:
    """Stores the files of one run. None of them decides anything: what cannot be stored is said, and left."""

    run: RunRef
    client: Client
    _stored: set[str] = field(default_factory=set)  # names of the ConfigMaps that are known to be there

    async def keep(self, artifact: Artifact) -> None:
        """Store a file that the producer has printed, unless a controller before us has done it."""
        kept_for_user = artifact.name == "manifest.json"
        name = names.artifacts_name(self.run.name) if kept_for_user else names.cache_name(self.run.name)
        if name not in self._stored:
            await self._create(name, {f"{artifact.name}.gz": artifact.content})

    async def keep_results(
        self, *, history: History, views: Mapping[str, NodeView], spec: DbtRunSpec, started_at: datetime
    ) -> status.RunArtifacts | None:
        """Store the run_results.json of the whole run. Returns where, or None where there is nothing or no room."""
        outcomes = _outcomes(history, views)
        if not outcomes:
            return None
        first = next((state for state in history.attempts if state.dbt_version), history.attempts[0])
        results = run_results(
            outcomes=outcomes,
            dbt_version=first.dbt_version.lstrip("="),
            invocation_id=first.invocation_id,
            started_at=started_at,
            completed_at=self.client.now(),
            arguments=_arguments(spec),
        )
        name = names.artifacts_name(self.run.name)
        if name not in self._stored:
            await self._create(name, {})
        try:
            kept = await self.client.patch(
                resource=CONFIG_MAPS, namespace=self.run.namespace, name=name, patch=results_patch(results)
            )
        except ApiError as error:
            if error.transient:
                raise
            _log.warning("run_results.json is not stored", error=str(error))
            return None
        return status.RunArtifacts(config_map=name, manifest=_has_manifest(kept))

    async def _create(self, name: str, files: Mapping[str, bytes]) -> None:
        manifest = file_config_map(run=self.run, name=name, files=files)
        try:
            await self.client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid=self.run.uid)
        except (ApiError, NameConflictError) as error:
            if isinstance(error, ApiError) and error.transient:
                raise
            _log.warning("a file of dbt's is not stored", config_map=name, error=str(error))
        self._stored.add(name)


def _has_manifest(config_map: Object) -> bool:
    return MANIFEST_FILE in (config_map.get("binaryData") or {})


def _outcomes(history: History, views: Mapping[str, NodeView]) -> list[NodeOutcome]:
    found = []
    for unique_id, view in views.items():
        word = history.word(unique_id)
        if word is not None and view.executed:
            found.append(NodeOutcome(node=word.node, phase=view.phase, reason=view.reason, message=view.message))
    return found


def _arguments(spec: DbtRunSpec) -> dict[str, object]:
    """dbt's arguments by their names in Python, as its own file has them."""
    arguments: dict[str, object] = {
        "which": spec.command,
        "select": list(spec.select),
        "exclude": list(spec.exclude),
        "selector": spec.selector,
        "vars": dict(spec.vars),
        "full_refresh": spec.full_refresh,
        "threads": spec.threads,
        "fail_fast": spec.fail_fast,
        "profile": spec.profile.profile,
        "target": spec.profile.target,
    }
    return {name: value for name, value in arguments.items() if value not in (None, [], {})}
