"""Where the project is in the container of dbt, and what brings it there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from posixpath import join

from dbt_operator.api.project import GitProject, VolumeProject, size_in_bytes
from dbt_operator.api.spec import DbtRunSpec, Deps
from dbt_operator.dbt.found import COMMIT, DIGEST
from dbt_operator.pods.fetching import archive_part, ca_part, fetched_part, files_part, tree_in
from dbt_operator.pods.lifetimes import outlives_the_pod
from dbt_operator.pods.part import PROJECT_VOLUME, Part

_DIRECTORY = "/dbt-operator/project"
_PREFIX = "dbt-operator-fetch"  # of the volumes of the step that fetches
PACKAGES_CONFIG = f"{tree_in(_DIRECTORY)}/.git/packages/config"
"""A file of git's that says where packages from the server of the project are, which the step has fetched."""
_PACKAGES = Part(arguments=("--packages",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFiles:
    """The files of a dbt project.

    path: of the folder of its dbt_project.yml, absolute, in the container of dbt. It is the same in all attempts, as
        dbt's parse cache depends on it.
    start: where the container is started: a folder that is there whatever becomes of the project.
    """

    path: str
    start: str
    part: Part


def project_files(spec: DbtRunSpec, *, found: Mapping[str, str], tools_image: str) -> ProjectFiles:
    """The project of a run, by `spec.project`. found: what an earlier attempt has found out, which is kept to."""
    project = spec.project
    if project.git is not None:
        git = Part.joined((_git(project.git, found=found), *([_PACKAGES] if spec.deps is Deps.AUTO else [])))
        return _fetched(git, path=project.git.path, tools_image=tools_image)
    if project.archive is not None:
        archive = archive_part(project.archive, prefix=_PREFIX, as_before=found.get(DIGEST))
        return _fetched(archive, path=project.archive.path, tools_image=tools_image)
    if project.volume is not None:
        return _on_volume(project.volume)
    assert project.image is not None  # noqa: S101 - for the type checker: there is exactly one source
    path = project.image.path
    return ProjectFiles(path=path, start=path, part=Part(arguments=("--project-dir", path)))


def _on_volume(volume: VolumeProject) -> ProjectFiles:
    path = join(_DIRECTORY, volume.path) if volume.path else _DIRECTORY
    mount = {"name": PROJECT_VOLUME, "mountPath": _DIRECTORY, "readOnly": volume.read_only}
    lifetime = "--kept-path" if outlives_the_pod(volume.source) else "--lost-path"
    part = Part(
        volumes=({"name": PROJECT_VOLUME, **volume.source},),
        mounts=(mount,),
        arguments=("--project-dir", path, lifetime, _DIRECTORY),
    )
    return ProjectFiles(path=path, start=_DIRECTORY, part=part)


def _fetched(fetching: Part, *, path: str | None, tools_image: str) -> ProjectFiles:
    """A project that an init container fetches. `fetching`: what no other container has."""
    tree = tree_in(_DIRECTORY)
    part = fetched_part(
        fetching,
        program="fetch",
        volume=PROJECT_VOLUME,
        directory=_DIRECTORY,
        path=path,
        option="--project-dir",
        tools_image=tools_image,
    )
    return ProjectFiles(path=join(tree, path) if path else tree, start=_DIRECTORY, part=part)


def _git(git: GitProject, *, found: Mapping[str, str]) -> Part:
    """What the step has that fetches from a git repository."""
    parts = [Part(arguments=tuple(_git_arguments(git, found=found))), ca_part(git.ca_config_map_ref, prefix=_PREFIX)]
    if git.secret_ref is not None:
        name = git.secret_ref.name
        secret = {"secretName": name, "defaultMode": 0o440}
        volume = files_part(f"{_PREFIX}-secret", {"secret": secret}, option="--secret")
        parts.append(volume)
        parts.append(Part(arguments=(f"--secret-file={volume.mounts[0]['mountPath']}", f"--secret-name={name}")))
    return Part.joined(parts)


def _git_arguments(git: GitProject, *, found: Mapping[str, str]) -> Iterator[str]:
    yield f"--git={git.url}"
    for kind in ("branch", "tag", "commit"):
        if git.ref is not None and (name := getattr(git.ref, kind)) is not None:
            yield f"--{kind}={name}"
    if COMMIT in found:
        yield f"--as-before={found[COMMIT]}"
    yield f"--depth={git.depth}"
    if git.submodules:
        yield "--submodules"
    yield f"--size-limit={size_in_bytes(git.size_limit)}"
    yield f"--seconds={git.timeout_seconds}"
