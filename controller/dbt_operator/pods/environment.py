"""What gives dbt a virtual environment of its own."""

from collections.abc import Iterator, Mapping

from dbt_operator.api.environment import Cache, KeyRef, Virtualenv
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.dbt.found import packages_in
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.steps import step

_VOLUME, _DIRECTORY = "dbt-operator-environment", "/dbt-operator/environment"
_FOUND = f"{_DIRECTORY}/found.json"
_CACHE, _CACHE_DIRECTORY = "dbt-operator-environments", "/dbt-operator/environments"
_MARKS = "used"  # a folder of the cache: see runner/venv_cache.py


def environment_part(spec: DbtRunSpec, *, image: str, found: Mapping[str, str]) -> Part:
    """The part for `spec.environment`. It is made in the image of dbt, as it leads to a Python there.

    found: what an earlier attempt has found out, which is kept to.
    """
    virtualenv = spec.environment.virtualenv
    if virtualenv is None:
        return Part()
    inputs = Part.joined((*_files(virtualenv), _cached(virtualenv.cache)))
    making = step(
        "environment",
        image=image,
        pull_policy=spec.image_pull_policy,
        arguments=[
            *(f"--into={_DIRECTORY}", f"--found={_FOUND}"),
            *_arguments(virtualenv, found=found),
            *inputs.arguments,
        ],
        mounts=({"name": _VOLUME, "mountPath": _DIRECTORY}, *inputs.mounts),
    )
    marks = {"name": _CACHE, "mountPath": f"{_CACHE_DIRECTORY}/{_MARKS}", "subPath": _MARKS}
    cache = (read_only(volume=_CACHE, path=_CACHE_DIRECTORY), marks) if virtualenv.cache else ()
    return Part(
        volumes=({"name": _VOLUME, "emptyDir": {}}, *inputs.volumes),
        mounts=(read_only(volume=_VOLUME, path=_DIRECTORY), *cache),
        init_containers=(making,),
        arguments=("--environment", _DIRECTORY, "--found", _FOUND),
    )


def _arguments(virtualenv: Virtualenv, *, found: Mapping[str, str]) -> Iterator[str]:
    yield from (f"--requirement={each}" for each in virtualenv.requirements)
    yield from (f"--constraint={each}" for each in virtualenv.constraints)
    yield from (f"--option={each}" for each in virtualenv.options)
    yield from (f"--find-links={each}" for each in virtualenv.find_links)
    if virtualenv.system_site_packages:
        yield "--system-site-packages"
    if packages := packages_in(found):
        yield f"--as-before={packages}"
    yield f"--seconds={virtualenv.timeout_seconds}"


def _files(virtualenv: Virtualenv) -> Iterator[Part]:
    """The file with the requirements and the one with the indexes, where the spec names them."""
    if virtualenv.requirements_from is not None:
        ref = virtualenv.requirements_from.config_map_key_ref
        yield _file("requirements", {"configMap": {"name": ref.name, **_items("requirements", ref)}})
    if virtualenv.index_from is not None:
        ref = virtualenv.index_from.secret_key_ref
        secret = {"secret": {"secretName": ref.name, "defaultMode": 0o440, **_items("index", ref)}}
        yield _file("index", secret, more=("--secret-file=",))


def _items(kind: str, ref: KeyRef) -> dict[str, object]:
    return {"items": [{"key": ref.key, "path": kind}]}


def _file(kind: str, source: Mapping[str, object], *, more: tuple[str, ...] = ()) -> Part:
    name, path = f"{_VOLUME}-{kind}", f"{_DIRECTORY}-{kind}"
    return Part(
        volumes=({"name": name, **source},),
        mounts=(read_only(volume=name, path=path),),
        arguments=tuple(f"{option}{path}/{kind}" for option in (f"--{kind}-file=", *more)),
    )


def _cached(cache: Cache | None) -> Part:
    if cache is None:
        return Part()
    claim = cache.persistent_volume_claim.claim_name
    return Part(
        volumes=({"name": _CACHE, "persistentVolumeClaim": {"claimName": claim}},),
        mounts=({"name": _CACHE, "mountPath": _CACHE_DIRECTORY},),
        arguments=(f"--cache={_CACHE_DIRECTORY}", f"--claim={claim}", f"--unused-days={cache.unused_days}"),
    )
