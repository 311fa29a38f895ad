"""Where the project is in the container of dbt, and what brings it there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from posixpath import join

from dbt_operator.api.project import ArchiveProject, CaConfigMap, GitProject, VolumeProject, size_in_bytes
from dbt_operator.api.spec import DbtRunSpec, Deps
from dbt_operator.dbt.found import COMMIT, DIGEST
from dbt_operator.pods.lifetimes import outlives_the_pod
from dbt_operator.pods.part import PROJECT_VOLUME, Items, Part, read_only
from dbt_operator.pods.steps import step

_DIRECTORY = "/dbt-operator/project"
_TREE, _FOUND = f"{_DIRECTORY}/tree", f"{_DIRECTORY}/found.json"
_TMP = "dbt-operator-fetch-tmp"
_SECRET, _SECRET_DIRECTORY = "dbt-operator-fetch-secret", "/dbt-operator/fetch-secret"
_ARCHIVE, _ARCHIVE_DIRECTORY = "dbt-operator-fetch-archive", "/dbt-operator/fetch-archive"
_CA, _CA_DIRECTORY = "dbt-operator-fetch-ca", "/dbt-operator/fetch-ca"


PACKAGES_CONFIG = f"{_TREE}/.git/packages/config"
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
        return _fetched(_archive(project.archive, found=found), path=project.archive.path, tools_image=tools_image)
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
    """A project that an init container fetches into an empty folder. `fetching`: what no other container has.

    Each pod fetches it anew, and nothing is kept between them: a folder that outlives its pod would need a volume that
    all of them can mount.
    """
    target = join(_TREE, path) if path else _TREE
    arguments = [f"--into={_TREE}", f"--found={_FOUND}", *([f"--path={path}"] if path else []), *fetching.arguments]
    mounts: Items = (
        {"name": PROJECT_VOLUME, "mountPath": _DIRECTORY},
        {"name": _TMP, "mountPath": "/tmp"},  # noqa: S108 - the mount path of the step's own volume
        *fetching.mounts,
    )
    return ProjectFiles(
        path=target,
        start=_DIRECTORY,
        part=Part(
            volumes=(
                {"name": PROJECT_VOLUME, "emptyDir": {}},
                # A copy of the key for ssh lies there for a moment, and never on a disk.
                {"name": _TMP, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                *fetching.volumes,
            ),
            mounts=(read_only(volume=PROJECT_VOLUME, path=_DIRECTORY),),
            init_containers=(step("fetch", image=tools_image, arguments=arguments, mounts=mounts),),
            arguments=("--project-dir", target, "--found", _FOUND),
        ),
    )


def _git(git: GitProject, *, found: Mapping[str, str]) -> Part:
    """What the step has that fetches from a git repository."""
    parts = [Part(arguments=tuple(_git_arguments(git, found=found))), _ca(git.ca_config_map_ref)]
    if git.secret_ref is not None:
        name = git.secret_ref.name
        secret = {"secretName": name, "defaultMode": 0o440}
        parts.append(_files(_SECRET, {"secret": secret}, path=_SECRET_DIRECTORY, option="--secret"))
        parts.append(Part(arguments=(f"--secret-file={_SECRET_DIRECTORY}", f"--secret-name={name}")))
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


def _archive(archive: ArchiveProject, *, found: Mapping[str, str]) -> Part:
    """What the step has that unpacks an archive."""
    parts = [Part(arguments=tuple(_archive_arguments(archive, found=found))), _ca(archive.ca_config_map_ref)]
    for kind, ref in (("ConfigMap", archive.config_map_ref), ("Secret", archive.secret_ref)):
        if ref is not None:
            volume = _one_file(kind, name=ref.name, key=ref.key, path="file")
            parts.append(_files(_ARCHIVE, volume, path=_ARCHIVE_DIRECTORY, option="--archive", file="file"))
            parts.append(Part(arguments=(f"--archive-name=archive {ref.key} in {kind} {ref.name}",)))
    return Part.joined(parts)


def _archive_arguments(archive: ArchiveProject, *, found: Mapping[str, str]) -> Iterator[str]:
    if archive.url is not None:
        yield f"--archive-url={archive.url}"
        yield f"--sha256={archive.sha256}"
    if DIGEST in found:
        yield f"--as-before={found[DIGEST]}"
    yield f"--size-limit={size_in_bytes(archive.size_limit)}"
    yield f"--seconds={archive.timeout_seconds}"


def _ca(ref: CaConfigMap | None) -> Part:
    if ref is None:
        return Part()
    volume = _one_file("ConfigMap", name=ref.name, key=ref.key, path="ca.crt")
    return _files(_CA, volume, path=_CA_DIRECTORY, option="--ca", file="ca.crt")


def _one_file(kind: str, *, name: str, key: str, path: str) -> Mapping[str, object]:
    """A volume with one key of a ConfigMap or a Secret."""
    items = [{"key": key, "path": path}]
    if kind == "ConfigMap":
        return {"configMap": {"name": name, "items": items}}
    return {"secret": {"secretName": name, "items": items, "defaultMode": 0o440}}


def _files(name: str, volume: Mapping[str, object], *, path: str, option: str, file: str = "") -> Part:
    """A volume that is mounted read-only, and the option that names it, or a file of it."""
    return Part(
        volumes=({"name": name, **volume},),
        mounts=(read_only(volume=name, path=path),),
        arguments=(f"{option}={join(path, file) if file else path}",),
    )
