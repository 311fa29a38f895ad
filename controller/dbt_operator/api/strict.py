"""What the types of a spec have in common: strict values, and names that dbt cannot take for options."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema


def shown(value: object) -> str:
    """The value for a sentence, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


@dataclass(frozen=True, slots=True)
class Meant:
    """What a text has to be, in words: said in the place of the pattern that it does not match."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Pydantic's way to ask for a validator."""
        return core_schema.no_info_wrap_validator_function(self._in_words, handler(source))

    def _in_words(self, value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            if error.errors()[0]["type"] != "string_pattern_mismatch":
                raise
            raise ValueError(f"{shown(value)} is not {self.words}") from error


def _no_option(value: str) -> str:
    if value.startswith("-"):
        raise ValueError(f"{shown(value)} begins like an option of dbt, which it cannot")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
DbtName = Annotated[Name, AfterValidator(_no_option)]
Selection = Annotated[str, StringConstraints(min_length=1, max_length=2048), AfterValidator(_no_option)]
SecretKeyName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
    Meant("a key of a ConfigMap or Secret, which has letters, digits, '-', '_' and '.'"),
]

INT32 = 2**31 - 1
EXACT = 2**53  # the largest integer that every program which reads numbers as floats keeps, as Helm does


class StrictModel(BaseModel):
    """Strict, as JSON has types already: the text "8" is not a number of threads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)


class LocalObject(StrictModel):
    """An object in the namespace of the run, by name."""

    name: Name
