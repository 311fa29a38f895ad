"""Files in an archive, .tgz or .zip: from a file that is mounted, or from a URL."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import stat
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dbt_operator.runner.limits import Limits
from dbt_operator.runner.steps import StepError

MOST_ENTRIES = 100_000
_CHUNK = 1 << 20
_NO_ANSWER_SECONDS = 30.0
_BUSY = frozenset({408, 425, 429, *range(500, 600)})
_KINDS = {b"\x1f\x8b": "tgz", b"PK": "zip"}


@dataclass(frozen=True)
class Source:
    """Where the archive is. `name`: what messages call it, without an article.

    `as_before`: its digest in an earlier attempt of the run. `field`: of the spec, which says so.
    """

    name: str
    field: str
    file: Path | None = None
    url: str = ""
    sha256: str = ""
    ca: str = ""
    as_before: str = ""


@dataclass(frozen=True)
class _Entry:
    """What an archive has under a name. `target`: of a link; `strange`: what it is where it is none of the others."""

    name: str
    content: IO[bytes] | None = None
    executable: bool = False
    target: str = ""
    hard: bool = False
    strange: str = ""


def fetch(source: Source, *, tree: Path, limits: Limits) -> str:
    """Unpack the archive; returns its digest. Raises: StepError."""
    # Beside the tree, as there is room for it.
    file = source.file or tree.with_name("archive")
    try:
        if source.file is None:
            _download(source, file, limits)
        digest = _checked_digest(source, file)
        _unpack(source, file, tree=tree, limits=limits)
    finally:
        if source.file is None:
            file.unlink(missing_ok=True)
    return digest


def _checked_digest(source: Source, file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    found = f"sha256:{digest.hexdigest()}"
    if source.sha256 and found != f"sha256:{source.sha256}":
        raise StepError(
            f"The {source.name} has the digest {found}, and not that of {source.field}.sha256 (sha256:{source.sha256}):"
            " correct the field, or find out who has changed the file."
        )
    if source.as_before and found != source.as_before:
        raise StepError(
            f"The {source.name} has been changed since the run began with another archive ({source.as_before}), and an"
            " attempt of the run would have other files: create a new run."
        )
    return found


# a file from a URL


def _download(source: Source, file: Path, limits: Limits) -> None:
    context = ssl.create_default_context(cafile=source.ca or None)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(source.url, timeout=min(limits.left, _NO_ANSWER_SECONDS)) as answer, file.open("wb") as target:
            _copy(answer, target, used=0, limits=limits)
    except urllib.error.HTTPError as error:
        said = f"its server answers {error.code} {error.reason}"
        raise StepError(
            f"The {source.name} cannot be fetched, {said}: check {source.field}.url.",
            passing=error.code in _BUSY,
        ) from error
    except OSError as error:
        raise _unreachable(source, error) from error


def _unreachable(source: Source, error: OSError) -> StepError:
    why = getattr(error, "reason", None) or error
    if isinstance(why, ssl.SSLCertVerificationError):
        return StepError(
            f"The certificate of the server of the {source.name} is not signed by an authority that is trusted: name a"
            f" ConfigMap with the authority's certificate in {source.field}.caConfigMapRef ({why.verify_message})."
        )
    return StepError(
        f"The server of the {source.name} could not be reached, or the connection broke off: check {source.field}.url,"
        f" the server and the network ({why}).",
        passing=True,
    )


def _copy(content: IO[bytes], target: IO[bytes], *, used: int, limits: Limits) -> int:
    """Copy what there is; returns how many bytes are used with it. What an archive says of sizes is not relied on."""
    while chunk := content.read(_CHUNK):
        used += len(chunk)
        limits.check_time()
        limits.check_size(used)
        target.write(chunk)
    return used


# unpacking


def _unpack(source: Source, file: Path, *, tree: Path, limits: Limits) -> None:
    with file.open("rb") as content:
        kind = _KINDS.get(content.read(2), "")
    if not kind:
        raise StepError(f"The {source.name} is neither a .tgz nor a .zip: make one with `tar -czf` or `zip -r`.")
    tree.mkdir()
    entries = _entries_of_tar(file) if kind == "tgz" else _entries_of_zip(file)
    try:
        used = 0
        for count, entry in enumerate(entries, 1):
            if count > MOST_ENTRIES:
                raise StepError(
                    f"The {source.name} has more than {MOST_ENTRIES} entries: leave out what dbt does not need."
                )
            used = _place(source, entry, tree=tree, used=used, limits=limits)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise StepError(f"The {source.name} is no archive that can be unpacked: make it anew ({error}).") from error
    _check_links(source, tree)


def _entries_of_tar(file: Path) -> Iterator[_Entry]:
    with tarfile.open(file, mode="r:gz") as archive:
        for member in archive:
            if member.isdir():
                yield _Entry(name=f"{member.name}/")
            elif member.isreg():
                yield _Entry(
                    name=member.name, content=archive.extractfile(member), executable=bool(member.mode & stat.S_IXUSR)
                )
            elif member.issym() or member.islnk():
                yield _Entry(name=member.name, target=member.linkname, hard=member.islnk())
            else:
                yield _Entry(name=member.name, strange="a device, or something else that is no file")


def _entries_of_zip(file: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16  # 0 where it was not made on Unix
            if info.is_dir():
                yield _Entry(name=info.filename)
            elif stat.S_ISLNK(mode):
                yield _Entry(name=info.filename, target=os.fsdecode(archive.read(info)))
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with archive.open(info) as content:
                    yield _Entry(name=info.filename, content=content, executable=bool(mode & stat.S_IXUSR))
            else:
                yield _Entry(name=info.filename, strange="a device, or something else that is no file")


def _place(source: Source, entry: _Entry, *, tree: Path, used: int, limits: Limits) -> int:
    """Put an entry where it belongs; returns how many bytes are used with it."""
    place = _place_of(source, entry, tree)
    if entry.strange:
        raise StepError(f"The {source.name} has {entry.name!r}, which is {entry.strange}: leave it out.")
    if entry.name.endswith("/") and not entry.target and entry.content is None:
        place.mkdir(parents=True, exist_ok=True)
        return used
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() or place.is_file():
        place.unlink()  # the last entry of a name counts; nothing is ever written through a link
    if entry.target:
        _link(source, entry, place, tree)
        return used
    assert entry.content is not None  # noqa: S101 - for the type checker: it is a file
    with place.open("xb") as target:
        used = _copy(entry.content, target, used=used, limits=limits)
    if entry.executable:
        place.chmod(0o755)
    return used


def _place_of(source: Source, entry: _Entry, tree: Path) -> Path:
    parts = Path(entry.name).parts
    if entry.name.startswith("/") or "\\" in entry.name or ".." in parts:
        what = "an absolute path" if entry.name.startswith("/") else "a path that may lead out of the archive"
        raise StepError(f"The {source.name} has {entry.name!r}, which is {what}: make it with relative paths.")
    place = tree.joinpath(*parts)
    if parts and not _within(place.parent.resolve(), tree):  # most archives begin with an entry for the folder itself
        raise _leads_out(source, entry.name)
    return place


def _link(source: Source, entry: _Entry, place: Path, tree: Path) -> None:
    # That of a hard link is a path within the archive.
    target = (tree if entry.hard else place.parent) / entry.target
    if Path(entry.target).is_absolute() or not _within(target.resolve(), tree):
        raise _leads_out(source, entry.name)
    if not entry.hard:
        place.symlink_to(entry.target)
    elif target.is_file():
        shutil.copyfile(target, place)
    else:
        raise StepError(f"The {source.name} has {entry.name!r}, which is a link to what is not in it: make it anew.")


def _check_links(source: Source, tree: Path) -> None:
    """A link may have led elsewhere while not everything was there."""
    for folder, folders, files in os.walk(tree):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink() and not _within(path.resolve(), tree):
                raise _leads_out(source, str(path.relative_to(tree)))


def _within(path: Path, tree: Path) -> bool:
    top = tree.resolve()
    return path == top or top in path.parents


def _leads_out(source: Source, name: str) -> StepError:
    what = "which is, or lies behind, a link out of the archive"
    return StepError(f"The {source.name} has {name!r}, {what}: leave it out.")
