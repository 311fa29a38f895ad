"""What the types of a spec have in common: strict values, and names that dbt cannot take for options."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel


def shown(value: object) -> str:
    """The value for a sentence, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _no_option(value: str) -> str:
    if value.startswith("-"):
        raise ValueError(f"{shown(value)} begins like an option of dbt, which it cannot")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
DbtName = Annotated[Name, AfterValidator(_no_option)]
Selection = Annotated[str, StringConstraints(min_length=1, max_length=2048), AfterValidator(_no_option)]
SecretKeyName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]

INT32 = 2**31 - 1


class StrictModel(BaseModel):
    """Strict, as JSON has types already: the text "8" is not a number of threads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)


class LocalObject(StrictModel):
    """An object in the namespace of the run, by name."""

    name: Name
