"""`spec.environment`: which dbt a run uses."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dbt_operator.api.strict import INT32, Meant, Name, SecretKeyName, StrictModel

_PASSWORD = re.compile(r"://[^/\s]*@")


def _no_password(value: str) -> str:
    if _PASSWORD.search(value):
        raise ValueError("a URL with a user or a password belongs into a Secret, which indexFrom names")
    return value


# None that begins like an option of an installer, and none of several lines.
Requirement = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9][^\r\n]*$"),
    Meant("a requirement of one line, such as dbt-postgres==1.10.*; options of the installer go into options"),
    AfterValidator(_no_password),
]
Option = Annotated[
    str,
    StringConstraints(
        max_length=1024,
        pattern=(
            r"^--(pre|no-deps|no-index|require-hashes|no-build-isolation|"
            r"(only-binary|no-binary|trusted-host|index-url|extra-index-url)=\S+)$"
        ),
    ),
    Meant("one of the options that uv and pip have in common (kubectl explain has them)"),
    AfterValidator(_no_password),
]
Link = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^-\s]\S*$"),
    Meant("a URL or an absolute path"),
    AfterValidator(_no_password),
]


class KeyRef(StrictModel):
    """A key of a ConfigMap or of a Secret in the namespace of the run."""

    name: Name
    key: SecretKeyName


class RequirementsFrom(StrictModel):
    """Where a requirements file comes from."""

    config_map_key_ref: KeyRef


class IndexFrom(StrictModel):
    """Where the URLs of package indexes come from."""

    secret_key_ref: KeyRef


class Claim(StrictModel):
    """A PersistentVolumeClaim in the namespace of the run."""

    claim_name: Name


class Cache(StrictModel):
    """Where virtual environments are kept for later pods."""

    persistent_volume_claim: Claim
    unused_days: Annotated[int, Field(ge=1, le=3650)] = 30


class ParseCache(StrictModel):
    """Where what dbt has parsed is kept for later runs."""

    persistent_volume_claim: Claim


class Virtualenv(StrictModel):
    """A virtual environment that is made before dbt begins."""

    requirements: Annotated[tuple[Requirement, ...], Field(strict=False, max_length=200)] = ()
    requirements_from: RequirementsFrom | None = None
    constraints: Annotated[tuple[Requirement, ...], Field(strict=False, max_length=200)] = ()
    options: Annotated[tuple[Option, ...], Field(strict=False, max_length=20)] = ()
    index_from: IndexFrom | None = None
    find_links: Annotated[tuple[Link, ...], Field(strict=False, max_length=20)] = ()
    system_site_packages: bool = False
    timeout_seconds: Annotated[int, Field(ge=1, le=INT32)] = 180
    cache: Cache | None = None

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if bool(self.requirements) == (self.requirements_from is not None):
            raise ValueError("exactly one of requirements and requirementsFrom is required")
        return self


class Environment(StrictModel):
    """Which dbt a run uses; of the image, where nothing is said."""

    virtualenv: Virtualenv | None = None
