"""What is kept of a run for its user and for its later attempts: dbt's artifacts and its parse cache, in ConfigMaps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from pydantic.alias_generators import to_snake

from dbt_operator.api import names, status
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.dbt import artifacts, compiled
from dbt_operator.dbt.artifacts import Artifact
from dbt_operator.dbt.history import History
from dbt_operator.dbt.run_results import NodeOutcome, codes_in, run_results
from dbt_operator.dbt.sources_file import sources_file
from dbt_operator.dbt.view import NodeView
from dbt_operator.kube.api_error import ApiError, NameConflictError
from dbt_operator.kube.resources import Object
from dbt_operator.pods.files import (
    MANIFEST_FILE,
    RESULTS_FILE,
    RESULTS_LIMIT,
    SOURCES_FILE,
    File,
    compiled_file,
    file_patch,
    kept_codes,
    kept_files,
    kept_results,
    room_beside,
)
from dbt_operator.reconcile.backend import Backend

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Keeper:
    """Stores the files of one run. Nothing depends on them: what cannot be stored is reported, and left."""

    run: str  # its name
    backend: Backend
    artifacts: status.RunArtifacts | None = None  # as they were when something was stored here at last
    output: status.RunOutput | None = None  # likewise

    async def keep(self, artifact: Artifact, *, attempt: int, run_ended: bool = False) -> None:
        """Store a file that the attempt of this index has printed, unless a later one has brought its own.

        run_ended: what is only for later attempts is not stored any more.
        """
        for_later = artifact.name not in artifacts.FOR_USER
        if run_ended and for_later:
            return
        if artifact.name == compiled.FILE:
            came = artifact.content
            if came is not None:
                await self._store(
                    names.cache_name(self.run),
                    lambda found: compiled_file(found, came=came, attempt=attempt),
                )
            return
        file = File(key=f"{artifact.name}.gz", content=artifact.content, parsed_by=attempt)
        if artifact.name == artifacts.PACKAGES:
            await self._store(names.packages_name(self.run), lambda _: file)
        elif for_later:
            await self._store(names.cache_name(self.run), lambda _: file)
        elif artifact.name in artifacts.ASKED_FOR:
            await self._keep_output(file)
        else:
            await self._keep_for_user(file)

    async def keep_results(
        self, *, history: History, views: Mapping[str, NodeView], spec: DbtRunSpec, started_at: datetime
    ) -> None:
        """Store run_results.json and sources.json of the whole run, each if there is anything to put into it."""
        outcomes = _outcomes(history, views)
        if not outcomes:
            return
        first = next((state for state in history.attempts if state.dbt_version), history.attempts[0])
        sources = sources_file(
            (outcome.node for outcome in outcomes),
            dbt_version=first.dbt_version.lstrip("="),
            invocation_id=first.invocation_id,
            started_at=started_at,
            completed_at=self.backend.now(),
        )
        if sources is not None:
            await self._keep_for_user(File(key=SOURCES_FILE, content=sources))
        if all(outcome.node.resource_type == "source" for outcome in outcomes):
            return
        cache = await self.backend.find_files(names.cache_name(self.run))
        before = await self.backend.find_files(names.artifacts_name(self.run))
        results = run_results(
            outcomes=outcomes,
            dbt_version=first.dbt_version.lstrip("="),
            invocation_id=first.invocation_id,
            started_at=started_at,
            completed_at=self.backend.now(),
            arguments=_arguments(spec),
            limit=RESULTS_LIMIT,
            codes=compiled.merged((*kept_codes(cache), *codes_in(kept_results(before))), (), attempt=0),
            room=min(RESULTS_LIMIT, room_beside(before, RESULTS_FILE)),
        )
        await self._keep_for_user(File(key=RESULTS_FILE, content=results))

    async def drop_inputs(self) -> None:
        """Delete what only attempts need: runner, packages, parse cache. The compiled code is in the results by now.

        A retry that is asked for later is given the runner again, installs the same versions, and parses the project.
        """
        for name in (names.cache_name(self.run), names.packages_name(self.run), *sorted(self.backend.runners)):
            await self._drop(name)

    async def _drop(self, name: str) -> None:
        try:
            found = await self.backend.find_files(name)
            if found is not None:
                await self.backend.delete_files(found)
        except ApiError as error:
            if error.transient:
                raise
            _log.warning("a file that is of no use any more is not deleted", config_map=name, error=str(error))

    async def _keep_output(self, file: File) -> None:
        name = names.output_name(self.run)
        config_map = await self._store(name, lambda _: file)
        if config_map is not None:
            self.output = status.RunOutput(config_map=name, files=tuple(sorted(kept_files(config_map))))

    async def _keep_for_user(self, file: File) -> None:
        name = names.artifacts_name(self.run)
        config_map = await self._store(name, lambda _: file)
        if config_map is None:
            return
        kept = kept_files(config_map)
        self.artifacts = status.RunArtifacts(
            config_map=name,
            run_results=RESULTS_FILE in kept,
            manifest=MANIFEST_FILE in kept,
            sources=True if SOURCES_FILE in kept else None,
        )

    async def _store(self, name: str, file_in: Callable[[Object | None], File]) -> Object | None:
        """The ConfigMap after the file was put in; None where there is no file, or it cannot be stored.

        file_in: makes the file, given the ConfigMap as it is now, which has perhaps a part of its content.
        """
        while True:
            try:
                return await self._put(name, file_in)
            except (ApiError, NameConflictError) as error:
                if isinstance(error, ApiError) and error.conflict:
                    continue  # another controller has put something in since it was read: look at that
                if isinstance(error, ApiError) and error.transient:
                    raise
                _log.warning("a file of dbt's is not stored", config_map=name, error=str(error))
                return None

    async def _put(self, name: str, file_in: Callable[[Object | None], File]) -> Object | None:
        # Read first: if a quota of ConfigMaps is used up, creating one that exists is refused as well.
        found = await self.backend.find_files(name)
        file = file_in(found)
        if found is None:
            if file.content is None:
                return None
            found, new = await self.backend.create_files(name, file)
            if new:
                return found
            file = file_in(found)
        patch = file_patch(found, file=file)
        if patch is None:
            return found
        return await self.backend.patch_files(name, patch)


def _outcomes(history: History, views: Mapping[str, NodeView]) -> list[NodeOutcome]:
    found = []
    for unique_id, view in views.items():
        report = history.report(unique_id)
        if report is not None and view.executed:
            found.append(NodeOutcome(node=report.node, phase=view.phase, reason=view.reason, message=view.message))
    return found


def _arguments(spec: DbtRunSpec) -> dict[str, object]:
    """dbt's arguments by their names in Python, as its own file has them."""
    arguments: dict[str, object] = {
        "which": spec.command.rules.words.split()[-1],
        **{to_snake(flag.field): list(value) if isinstance(value, tuple) else value for flag, value in spec.flags},
        "warn_error_options": spec.warn_error_options and spec.warn_error_options.model_dump(mode="json"),
        "profile": spec.profile.profile,
        "target": spec.profile.target,
    }
    return {name: value for name, value in arguments.items() if value not in (None, [], {})}
