"""The operator's settings, read once from environment variables. The chart sets them from its values."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "DBT_OPERATOR_"


class InvalidSettings(Exception):  # noqa: N818 - reads as the sentence it carries
    """An environment variable has a value that cannot be used; the text is a sentence that names it."""


class Settings(BaseSettings):
    """What the administrator decides for all runs. A variable is called DBT_OPERATOR_ and its field in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    watch_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """The namespaces whose DbtRuns are executed, separated by commas; empty: all of the cluster."""

    defaults: Annotated[dict[str, Any], NoDecode] = Field(default_factory=dict)
    """What the spec of a run is given where it and its namespace are silent: fields of a spec, as JSON."""

    history_limit_label: str = ""
    """The label by whose values ended runs are counted in a namespace; empty: no run is deleted for their number."""

    history_limit_succeeded: Annotated[int, Field(ge=0)] | None = None
    """How many successful runs with the same value of that label are kept; None: all of them."""

    history_limit_failed: Annotated[int, Field(ge=0)] | None = None
    """The same of runs that failed or were cancelled."""

    max_writes_per_second: Annotated[int, Field(ge=1)] = 100
    """How many statuses and events are written per second, over all runs; what is over it waits and is merged."""

    max_models_per_run: Annotated[int, Field(ge=0)] = 20_000
    """How many DbtModels a run may have. Of a run with more nodes only those that have failed have one."""

    tools_image: Annotated[str, Field(min_length=1)] = "localhost/dbt-operator/tools:dev"
    """The image of the init containers that make a pod ready for dbt: it has Python, git, ssh and uv."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe messages that the operator logs."""

    log_format: Literal["json", "text"] = "json"
    """json: one object per line, for log collectors. text: for people."""

    probe_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    """Port of /healthz, for the liveness and readiness probes."""

    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9090
    """Port of /metrics, for Prometheus."""

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        return value

    @field_validator("defaults", mode="before")
    @classmethod
    def _json(cls, value: object) -> object:
        return json.loads(value or "{}") if isinstance(value, str) else value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


def load_settings() -> Settings:
    """The settings from the environment.

    Raises: InvalidSettings with one sentence that names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = PREFIX + "_".join(str(part) for part in problem["loc"]).upper()
        what = problem["msg"][:1].lower() + problem["msg"][1:]
        raise InvalidSettings(f"The environment variable {name} is wrong: {what}, not {problem['input']!r}.") from error
