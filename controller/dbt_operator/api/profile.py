"""`spec.profile`: how dbt connects."""

from typing import Annotated, Self

from pydantic import StringConstraints, model_validator

from dbt_operator.api.strict import DbtName, Name, StrictModel


class SecretKey(StrictModel):
    """A key of a Secret in the namespace of the run."""

    name: Name
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = "profiles.yml"


class Profile(StrictModel):
    """How dbt connects: the source of profiles.yml, and what to use of it."""

    in_project: bool | None = None
    secret_ref: SecretKey | None = None
    profile: DbtName | None = None
    target: DbtName | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.in_project) == (self.secret_ref is not None):
            raise ValueError("exactly one of inProject (true) and secretRef is required")
        return self
