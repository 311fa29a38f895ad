"""What gives dbt its profiles.yml."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dbt_operator.api import names
from dbt_operator.api.connection import Connection
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.profile import OWN_PROFILE, OWN_TARGET, Profile
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.profiles_yml import FILES_DIRECTORY, RenderedProfile, render_profile
from dbt_operator.pods.run import RunRef, child_config_map

_DIRECTORY = "/dbt-operator/profiles"
_VOLUME = "dbt-operator-profiles"
_FILES_VOLUME = "dbt-operator-connection"
_FILE = "profiles.yml"
_KEPT_FILE = "secrets.json"  # which keys of which Secrets profiles.yml refers to
# Only a file that not everybody may read is taken by some drivers (libpq, of a private key).
_FILE_MODE = 0o440


def profile_config_map(run: RunRef, *, profile: Profile, connection: Connection) -> dict[str, Any]:
    """The ConfigMap that keeps how the run connects. All attempts use the first one that was made."""
    rendered = render_profile(
        connection,
        profile=profile.profile or OWN_PROFILE,
        target=profile.target or OWN_TARGET,
        schema=profile.schema_,
    )
    kept = msgspec.json.encode({"variables": rendered.variables, "files": rendered.files}).decode()
    data = {_FILE: rendered.text, _KEPT_FILE: kept}
    return child_config_map(run, name=names.profile_name(run.name)) | {"immutable": True, "data": data}


def kept_profile(config_map: Mapping[str, Any]) -> RenderedProfile:
    """What such a ConfigMap says, perhaps of another version of the operator.

    Raises: InvalidSpec where somebody has put something else in its place.
    """
    try:
        kept = msgspec.json.decode(config_map["data"][_KEPT_FILE])
        return msgspec.convert({"text": config_map["data"][_FILE], **kept}, type=RenderedProfile)
    except (KeyError, TypeError, msgspec.MsgspecError) as error:
        name = config_map["metadata"]["name"]
        raise InvalidSpec(
            f"ConfigMap {name} does not say how the run connects: delete it, and ask for a retry."
        ) from error


def profile_part(profile: Profile, *, run: RunRef, kept: RenderedProfile | None, project: str) -> Part:
    """The part for `spec.profile`. project: where the project lies in the container of dbt.

    kept: what was made of the run's connection, where it has one.
    """
    if kept is not None:
        return _of_connection(kept, config_map=names.profile_name(run.name))
    secret = profile.secret_ref
    if secret is None:
        return Part(arguments=("--profiles-dir", project))
    items = [{"key": secret.key, "path": _FILE}]
    return Part(
        volumes=({"name": _VOLUME, "secret": {"secretName": secret.name, "items": items}},),
        mounts=(read_only(volume=_VOLUME, path=_DIRECTORY),),
        arguments=("--profiles-dir", _DIRECTORY, "--secret-file", f"{_DIRECTORY}/{_FILE}"),
    )


def _of_connection(kept: RenderedProfile, *, config_map: str) -> Part:
    text = {"name": config_map, "items": [{"key": _FILE, "path": _FILE}]}
    part = Part(
        volumes=({"name": _VOLUME, "configMap": text},),
        mounts=(read_only(volume=_VOLUME, path=_DIRECTORY),),
        env=tuple(
            {"name": each.variable, "valueFrom": {"secretKeyRef": {"name": each.secret, "key": each.key}}}
            for each in kept.variables
        ),
        arguments=(
            *("--profiles-dir", _DIRECTORY),
            *(text for each in kept.variables for text in ("--secret-env", each.variable)),
        ),
    )
    return Part.joined((part, _files(kept))) if kept.files else part


def _files(kept: RenderedProfile) -> Part:
    sources = [
        {"secret": {"name": each.secret, "items": [{"key": each.key, "path": each.path}]}} for each in kept.files
    ]
    return Part(
        volumes=({"name": _FILES_VOLUME, "projected": {"defaultMode": _FILE_MODE, "sources": sources}},),
        mounts=(read_only(volume=_FILES_VOLUME, path=FILES_DIRECTORY),),
        arguments=("--secret-file", FILES_DIRECTORY),
    )
