"""What dbt has parsed in earlier runs, on a volume that the runs of a namespace share."""

from dbt_operator.api.environment import ParseCache
from dbt_operator.pods.part import Part

_VOLUME, _DIRECTORY = "dbt-operator-parses", "/dbt-operator/parses"


def parse_cache_part(cache: ParseCache | None) -> Part:
    """The part for `spec.parseCache`: the runner reads what is there, and leaves there what dbt has parsed."""
    if cache is None:
        return Part()
    claim = {"claimName": cache.persistent_volume_claim.claim_name}
    return Part(
        volumes=({"name": _VOLUME, "persistentVolumeClaim": claim},),
        mounts=({"name": _VOLUME, "mountPath": _DIRECTORY},),
        arguments=("--shared-parse", _DIRECTORY),
    )
