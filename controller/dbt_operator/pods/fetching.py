"""Init containers that fetch files into an empty folder of the pod: what project and state files have in common."""

from collections.abc import Iterator, Mapping
from posixpath import join

from dbt_operator.api.project import ArchiveProject, CaConfigMap, size_in_bytes
from dbt_operator.pods.part import Items, Part, read_only
from dbt_operator.pods.steps import step


def fetched_part(
    fetching: Part, *, program: str, volume: str, directory: str, path: str | None, option: str, tools_image: str
) -> Part:
    """Files that an init container fetches into an empty folder, and the option that tells the runner where.

    fetching: what no other container has. program: of the step. path: of what is wanted, in the folder.

    Each pod fetches it anew, and nothing is kept between them: a folder that outlives its pod would need a volume that
    all of them can mount.
    """
    tree, found, tmp = tree_in(directory), f"{directory}/found.json", f"{volume}-tmp"
    arguments = [f"--into={tree}", f"--found={found}", *([f"--path={path}"] if path else []), *fetching.arguments]
    mounts: Items = (
        {"name": volume, "mountPath": directory},
        {"name": tmp, "mountPath": "/tmp"},  # noqa: S108 - the mount path of the step's own volume
        *fetching.mounts,
    )
    return Part(
        volumes=(
            {"name": volume, "emptyDir": {}},
            # A copy of the key for ssh lies there for a moment, and never on a disk.
            {"name": tmp, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            *fetching.volumes,
        ),
        mounts=(read_only(volume=volume, path=directory),),
        init_containers=(step(program, image=tools_image, arguments=arguments, mounts=mounts),),
        arguments=(option, join(tree, path or "").rstrip("/"), "--found", found),
    )


def tree_in(directory: str) -> str:
    """The folder for what is fetched, in the directory of its volume."""
    return f"{directory}/tree"


def archive_part(archive: ArchiveProject, *, prefix: str, as_before: str | None) -> Part:
    """What the step has that unpacks an archive. prefix: of the names of its volumes, and of where they are mounted."""
    parts = [Part(arguments=tuple(_archive_arguments(archive, as_before=as_before)))]
    parts.append(ca_part(archive.ca_config_map_ref, prefix=prefix))
    for kind, ref in (("ConfigMap", archive.config_map_ref), ("Secret", archive.secret_ref)):
        if ref is not None:
            volume = _one_file(kind, name=ref.name, key=ref.key, path="file")
            parts.append(files_part(f"{prefix}-archive", volume, option="--archive", file="file"))
            parts.append(Part(arguments=(f"--archive-name=archive {ref.key} in {kind} {ref.name}",)))
    return Part.joined(parts)


def _archive_arguments(archive: ArchiveProject, *, as_before: str | None) -> Iterator[str]:
    if archive.url is not None:
        yield f"--archive-url={archive.url}"
        yield f"--sha256={archive.sha256}"
    if as_before:
        yield f"--as-before={as_before}"
    yield f"--size-limit={size_in_bytes(archive.size_limit)}"
    yield f"--seconds={archive.timeout_seconds}"


def ca_part(ref: CaConfigMap | None, *, prefix: str) -> Part:
    """The certificates of the authorities that a server's may be signed by."""
    if ref is None:
        return Part()
    volume = _one_file("ConfigMap", name=ref.name, key=ref.key, path="ca.crt")
    return files_part(f"{prefix}-ca", volume, option="--ca", file="ca.crt")


def _one_file(kind: str, *, name: str, key: str, path: str) -> Mapping[str, object]:
    """A volume with one key of a ConfigMap or a Secret."""
    items = [{"key": key, "path": path}]
    if kind == "ConfigMap":
        return {"configMap": {"name": name, "items": items}}
    return {"secret": {"secretName": name, "items": items, "defaultMode": 0o440}}


def files_part(name: str, volume: Mapping[str, object], *, option: str, file: str = "") -> Part:
    """A volume that is mounted read-only, and the option that names it, or a file of it."""
    path = f"/dbt-operator/{name.removeprefix('dbt-operator-')}"
    return Part(
        volumes=({"name": name, **volume},),
        mounts=(read_only(volume=name, path=path),),
        arguments=(f"{option}={join(path, file) if file else path}",),
    )
