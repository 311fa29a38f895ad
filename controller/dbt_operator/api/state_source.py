"""`spec.state`: the artifacts of an earlier run, which dbt compares with or reads from (`--state`)."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator

from dbt_operator.api.project import ArchiveProject, Folder
from dbt_operator.api.strict import LocalObject, Name, StrictModel

_Label = Annotated[str, StringConstraints(max_length=63)]


class Last(StrEnum):
    """Which of the runs that match a selector: the newest one of these."""

    SUCCEEDED = "Succeeded"
    ENDED = "Ended"


class RunSelector(StrictModel):
    """Labels that a run has."""

    match_labels: Annotated[dict[str, _Label], Field(min_length=1, max_length=20)]


class RunReference(StrictModel):
    """An earlier run of the namespace."""

    name: Name | None = None
    selector: RunSelector | None = None
    last: Annotated[Last, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.selector is None):
            raise ValueError("exactly one of name and selector is required")
        if self.last is not None and self.selector is None:
            raise ValueError("last says which of the runs that selector matches: it cannot be combined with name")
        return self


class StateVolume(StrictModel):
    """A volume with the artifacts on it, mounted read-only. `source`: as in a pod."""

    source: Annotated[dict[str, JsonValue], Field(min_length=1)]
    path: Folder | None = None

    @model_validator(mode="after")
    def _no_name(self) -> Self:
        if "name" in self.source:
            raise ValueError("source has a name: the operator gives the volume its name")
        return self


class ArtifactsSource(StrictModel):
    """Where artifacts are that no run of the namespace has made."""

    config_map_ref: LocalObject | None = None
    volume: StateVolume | None = None
    archive: ArchiveProject | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(each is not None for each in (self.config_map_ref, self.volume, self.archive)) != 1:
            raise ValueError("exactly one of configMapRef, volume and archive is required")
        return self


class StateSource(StrictModel):
    """Whose artifacts dbt is given: exactly one of both."""

    run_ref: RunReference | None = None
    artifacts_from: ArtifactsSource | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.run_ref is None) == (self.artifacts_from is None):
            raise ValueError("exactly one of runRef and artifactsFrom is required")
        return self

    @property
    def kept(self) -> bool:
        """Whether the run keeps a copy of its own of the artifacts."""
        return self.artifacts_from is None or self.artifacts_from.config_map_ref is not None
