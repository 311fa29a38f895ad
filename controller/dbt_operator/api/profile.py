"""`spec.profile`: how dbt connects."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from dbt_operator.api.connection import Connection
from dbt_operator.api.strict import DbtName, LocalObject, Name, SecretKeyName, StrictModel

# What the profile and its target are called that are made of a connection, where nobody wants to have them otherwise.
OWN_PROFILE, OWN_TARGET = "dbt_operator", "default"


class SecretKey(StrictModel):
    """A key of a Secret in the namespace of the run."""

    name: Name
    key: SecretKeyName = "profiles.yml"


class Profile(StrictModel):
    """How dbt connects: where profiles.yml comes from, and what to use of it."""

    in_project: bool | None = None
    secret_ref: SecretKey | None = None
    connection: Connection | None = None
    connection_ref: LocalObject | None = None
    profile: DbtName | None = None
    target: DbtName | None = None
    schema_: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = Field(
        default=None, alias="schema"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        others = (self.secret_ref, self.connection, self.connection_ref)
        if bool(self.in_project) + sum(one is not None for one in others) != 1:
            raise ValueError("exactly one of inProject (true), secretRef, connection and connectionRef is required")
        if self.schema_ is not None and not self.made:
            raise ValueError("schema goes with connection and connectionRef; here profiles.yml says it")
        return self

    @property
    def made(self) -> bool:
        """Whether profiles.yml is made of a connection."""
        return self.connection is not None or self.connection_ref is not None

    @property
    def name(self) -> str | None:
        """The profile that dbt is to use; None: the one that dbt_project.yml names."""
        return self.profile or (OWN_PROFILE if self.made else None)

    @property
    def target_name(self) -> str | None:
        """The target that dbt is to use; None: what profiles.yml says."""
        return self.target or (OWN_TARGET if self.made else None)
