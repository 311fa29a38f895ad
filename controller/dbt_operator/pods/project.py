"""Where the project is in the container of dbt, and what brings it there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from posixpath import join

from dbt_operator.api.project import GitProject, size_in_bytes
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.dbt.found import COMMIT
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.steps import step

_VOLUME, _DIRECTORY = "dbt-operator-project", "/dbt-operator/project"
_TREE, _FOUND = f"{_DIRECTORY}/tree", f"{_DIRECTORY}/found.json"
_TMP = "dbt-operator-fetch-tmp"
_SECRET, _SECRET_DIRECTORY = "dbt-operator-fetch-secret", "/dbt-operator/fetch-secret"
_CA, _CA_DIRECTORY = "dbt-operator-fetch-ca", "/dbt-operator/fetch-ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFiles:
    """The files of a dbt project.

    path: of the folder of its dbt_project.yml, absolute, in the container of dbt. The same in all attempts, as dbt's
        parse cache holds it.
    start: where the container is started: a folder that is there whatever becomes of the project.
    """

    path: str
    start: str
    part: Part


def project_files(spec: DbtRunSpec, *, found: Mapping[str, str], tools_image: str) -> ProjectFiles:
    """The project of a run, by `spec.project`. found: what an earlier attempt has found out, which is kept to."""
    project = spec.project
    if project.git is not None:
        return _fetched(_git(project.git, found=found), path=project.git.path, tools_image=tools_image)
    assert project.image is not None  # noqa: S101 - for the type checker: there is exactly one source
    path = project.image.path
    return ProjectFiles(path=path, start=path, part=Part(arguments=("--project-dir", path)))


def _fetched(fetching: Part, *, path: str | None, tools_image: str) -> ProjectFiles:
    """A project that an init container fetches into an empty folder. `fetching`: what that has and no other one."""
    target = join(_TREE, path) if path else _TREE
    arguments = [f"--into={_TREE}", f"--found={_FOUND}", *([f"--path={path}"] if path else []), *fetching.arguments]
    mounts = (
        {"name": _VOLUME, "mountPath": _DIRECTORY},
        {"name": _TMP, "mountPath": "/tmp"},  # noqa: S108 - the mount path of the step's own volume
        *fetching.mounts,
    )
    return ProjectFiles(
        path=target,
        start=_DIRECTORY,
        part=Part(
            # A copy of the key for ssh lies in the second one for a moment, and never on a disk.
            volumes=(
                {"name": _VOLUME, "emptyDir": {}},
                {"name": _TMP, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                *fetching.volumes,
            ),
            mounts=(read_only(volume=_VOLUME, path=_DIRECTORY),),
            init_containers=(step("fetch", image=tools_image, arguments=arguments, mounts=mounts),),
            arguments=("--project-dir", target, "--found", _FOUND),
        ),
    )


def _git(git: GitProject, *, found: Mapping[str, str]) -> Part:
    """The arguments and mounts of the step that fetches from a git repository."""
    parts = [Part(arguments=tuple(_git_arguments(git, found=found)))]
    if git.secret_ref is not None:
        secret = {"name": _SECRET, "secret": {"secretName": git.secret_ref.name, "defaultMode": 0o440}}
        options = (f"--secret={_SECRET_DIRECTORY}", f"--secret-file={_SECRET_DIRECTORY}")
        parts.append(
            Part(
                volumes=(secret,),
                mounts=(read_only(volume=_SECRET, path=_SECRET_DIRECTORY),),
                arguments=(*options, f"--secret-name={git.secret_ref.name}"),
            )
        )
    if git.ca_config_map_ref is not None:
        ca = git.ca_config_map_ref
        files = {"name": ca.name, "items": [{"key": ca.key, "path": "ca.crt"}]}
        parts.append(
            Part(
                volumes=({"name": _CA, "configMap": files},),
                mounts=(read_only(volume=_CA, path=_CA_DIRECTORY),),
                arguments=(f"--ca={_CA_DIRECTORY}/ca.crt",),
            )
        )
    return Part.joined(parts)


def _git_arguments(git: GitProject, *, found: Mapping[str, str]) -> Iterator[str]:
    yield f"--git={git.url}"
    ref = git.ref
    for kind in ("branch", "tag", "commit"):
        if ref is not None and (name := getattr(ref, kind)) is not None:
            yield f"--{kind}={name}"
    if COMMIT in found:
        yield f"--as-before={found[COMMIT]}"
    yield f"--depth={git.depth}"
    if git.submodules:
        yield "--submodules"
    yield f"--size-limit={size_in_bytes(git.size_limit)}"
    yield f"--seconds={git.timeout_seconds}"
