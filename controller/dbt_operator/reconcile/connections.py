"""How a run connects: read once, when the first of its pods is made, and kept for all of its attempts."""

from dbt_operator.api import names
from dbt_operator.api.connection import Connection, parse_connection
from dbt_operator.api.profile import Profile
from dbt_operator.kube.objects import Objects
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_CONNECTIONS, owner_uids
from dbt_operator.pods.profile import kept_profile, profile_config_map
from dbt_operator.pods.profiles_yml import RenderedProfile
from dbt_operator.pods.run import RunRef


class MissingConnectionError(Exception):
    """The DbtConnection is not there, or not yet; the text is a sentence."""


async def profile_of_run(profile: Profile, *, run: RunRef, client: Objects) -> RenderedProfile | None:
    """The profile that is made of the run's connection, None where it has another source.

    Of two controllers, and of all attempts, the one that creates the ConfigMap decides what is in it.

    Raises: MissingConnectionError, InvalidSpec, ApiError, NameConflictError.
    """
    if not profile.made:
        return None
    found = await client.find(resource=CONFIG_MAPS, namespace=run.namespace, name=names.profile_name(run.name))
    if found is None or run.uid not in owner_uids(found):
        connection = await _connection(profile, run=run, client=client)
        manifest = profile_config_map(run, profile=profile, connection=connection)
        found, _ = await client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid=run.uid)
    return kept_profile(found)


async def _connection(profile: Profile, *, run: RunRef, client: Objects) -> Connection:
    if profile.connection is not None:
        return profile.connection
    assert profile.connection_ref is not None  # noqa: S101 - one of both
    name = profile.connection_ref.name
    found = await client.find(resource=DBT_CONNECTIONS, namespace=run.namespace, name=name)
    if found is None:
        raise MissingConnectionError(
            f"There is no DbtConnection {name} in namespace {run.namespace}, which spec.profile.connectionRef names."
        )
    return parse_connection(found)
