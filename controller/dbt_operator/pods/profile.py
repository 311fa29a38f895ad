"""What gives dbt its profiles.yml."""

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.pods.part import Part, read_only

_DIRECTORY = "/dbt-operator/profiles"
_VOLUME = "dbt-operator-profiles"
_FILE = "profiles.yml"


def profile_part(spec: DbtRunSpec, *, project: str) -> Part:
    """The part for `spec.profile`. project: where the project lies in the container of dbt."""
    secret = spec.profile.secret_ref
    if secret is None:
        return Part(arguments=("--profiles-dir", project))
    items = [{"key": secret.key, "path": _FILE}]
    return Part(
        volumes=({"name": _VOLUME, "secret": {"secretName": secret.name, "items": items}},),
        mounts=(read_only(volume=_VOLUME, path=_DIRECTORY),),
        arguments=("--profiles-dir", _DIRECTORY, "--secret-file", f"{_DIRECTORY}/{_FILE}"),
    )
