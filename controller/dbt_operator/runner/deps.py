"""Packages of the project that are not installed: dbt's own `deps` installs them, before the project is parsed.

dbt says whether it needs that: it refuses to parse a project that names more packages than are installed. Where all are
there, or none is named, nothing happens here.

What was installed is printed, and given to later attempts of the run, which then fetch nothing. Where it is too large,
or has a secret in it, they have the same versions, by the package-lock.yml that dbt has made.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from dbt_operator.runner import error_kinds
from dbt_operator.runner.fetch_git import is_passing
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.mirror import mirrored
from dbt_operator.runner.options import Options

ARCHIVE = "packages.tar"
LOCK_FACT = "packages.lock"
_LOCK = "package-lock.yml"
_DECLARED = ("packages.yml", "dependencies.yml", _LOCK)
_DEFAULT_PATH = "dbt_packages"
_LONGEST_LOCK = 1900  # packed: the reader takes no fact that is much longer
_ABOUT = "dbt-operator.packages"  # a header of the archive: the digest of what declares the packages, and their folder


class Packages:
    """The packages of the project in which this process has been started."""

    def __init__(self, *, options: Options, environ: MutableMapping[str, str], masker: Masker) -> None:
        self._options = options
        self._environ = environ
        self._masker = masker
        self._project = self._mirror_path = Path(os.path.abspath(options.project_dir or "."))  # noqa: PTH100 - links stay
        self._install_path = _DEFAULT_PATH
        self._installed = False  # by this attempt: what is missing afterwards is missing for good

    def may_help(self, text: str) -> bool:
        """Whether dbt could go on, once packages are installed, where this is why it could not."""
        missing = error_kinds.kind_of_text(text) == error_kinds.DEPENDENCIES
        return missing and bool(self._options.packages_dir) and not self._installed

    def restore(self) -> None:
        """Put in place what an earlier attempt has installed, where that was for this project."""
        with contextlib.suppress(OSError, EOFError, zlib.error, tarfile.TarError):
            content = gzip.decompress(Path(self._options.packages).read_bytes()) if self._options.packages else b""
            if content:
                with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                    digest, _, folder = archive.pax_headers.get(_ABOUT, "").partition(" ")
                    if digest == self._digest():  # else the image is another one since
                        self._install_path = folder
                        _unpack(archive, into=self._mirror())

    @contextlib.contextmanager
    def installing(self, error: BaseException) -> Iterator[None]:
        """While dbt installs them. error: that with which dbt has refused to go on without them."""
        self._installed = True
        self._install_path = str(getattr(error, "packages_install_path", "") or _DEFAULT_PATH)
        mirror = self._mirror()
        digest, _, packed = self._options.packages_lock.partition(":")
        lock = _unpacked(packed) if packed and digest == self._digest() else self._read(self._project / _LOCK)
        if lock:
            (mirror / _LOCK).write_bytes(lock)
        before = Path.cwd()
        with _within(self._environ, self._git()):
            try:
                yield
            finally:
                os.chdir(before)  # dbt goes to the folder of the project

    def _git(self) -> Mapping[str, str]:
        """What git is told: to ask nobody, and where packages are that the step `fetch` has fetched."""
        env, config = {"GIT_TERMINAL_PROMPT": "0"}, self._options.git_config
        if config and Path(config).is_file():
            # Beside what the image has configured, which may be credentials for other servers.
            count = int(self._environ.get("GIT_CONFIG_COUNT") or 0)
            env = {**env, f"GIT_CONFIG_KEY_{count}": "include.path", f"GIT_CONFIG_VALUE_{count}": config}
            env["GIT_CONFIG_COUNT"] = str(count + 1)
        return env

    def facts(self) -> dict[str, str]:
        """What later attempts keep to: the versions that dbt has chosen, for a project that names these packages."""
        lock = self._read(self._mirror_path / _LOCK)
        packed = base64.b64encode(zlib.compress(lock, 9)).decode("ascii")
        fits = len(packed) <= _LONGEST_LOCK and not self._masker.occurs_in(lock)
        return {LOCK_FACT: f"{self._digest()}:{packed if fits else ''}"}

    def archive(self) -> Path:
        """A file with what was installed, without the history of packages from git, nor projects within packages."""
        mirror = self._mirror_path
        file = Path(tempfile.mkdtemp(prefix="packages-")) / ARCHIVE
        about = {_ABOUT: f"{self._digest()} {self._install_path}"}
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT, pax_headers=about) as archive:
            for name in (_LOCK, self._install_path):
                # Packages somewhere else in the image's file system are installed anew.
                if (mirror / name).exists() and not Path(name).is_absolute():
                    archive.add(str(mirror / name), arcname=name, filter=self._needed)
        return file

    def _needed(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = self._mirror_path / member.name
        within = len(path.parts) - len((self._mirror_path / self._install_path).parts)
        nested = within > 1 and member.isdir() and (path / "dbt_project.yml").is_file()
        return None if nested or path.name == ".git" else member

    def _mirror(self) -> Path:
        """The mirror of the project, without packages; from now on it is the project, for dbt."""
        installed, lock = self._project / self._install_path, self._project / _LOCK
        mirror = mirrored(self._project, top=Path(self._options.packages_dir), without=(installed, lock))
        for name in ("DBT_TARGET_PATH", "DBT_LOG_PATH"):
            if name in self._environ:
                self._environ[name] = str(self._project / self._environ[name])
        self._environ["DBT_PROJECT_DIR"] = str(mirror)
        self._mirror_path = mirror
        return mirror

    def _digest(self) -> str:
        declared = b"\0".join(self._read(self._project / name) for name in _DECLARED)
        return hashlib.sha256(declared).hexdigest()[:16]

    @staticmethod
    def _read(file: Path) -> bytes:
        with contextlib.suppress(OSError):
            return file.read_bytes()
        return b""


def _unpack(archive: tarfile.TarFile, *, into: Path) -> None:
    for member in archive:
        path = into / member.name
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.issym():
            path.symlink_to(member.linkname)
        elif member.isfile():
            source = archive.extractfile(member)
            path.write_bytes(source.read() if source is not None else b"")


def _unpacked(fact: str) -> bytes:
    return zlib.decompress(base64.b64decode(fact))


@contextlib.contextmanager
def _within(environ: MutableMapping[str, str], variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: environ.get(name) for name in variables}
    environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value


# Of the texts of dbt and requests.
_CONNECTION = r"External connection exception occurred"
# Where a file is not there dbt takes the page that says so for the archive.
_REFUSED = r"\b4(?!08|29)\d\d Client Error|not a gzip file|could not be opened|empty file|invalid header"
_NO_PROGRAM = r"Could not find command.*\"git\"|cannot run ssh"


def explained(error: BaseException) -> tuple[str, str]:
    """The kind of an error with which dbt could not install packages, and a sentence."""
    text = " ".join(error_kinds.message_of(error).split()).rstrip(".")
    if re.search(_NO_PROGRAM, text):
        program = "ssh" if "ssh" in text else "git"
        return error_kinds.DEPS, (
            f"The packages of the project cannot be installed: one comes from git, and the image has no {program}."
            f" Install it in the image, or the packages when the image is built ({text})."
        )
    refused = re.search(_REFUSED, text)
    if (re.search(_CONNECTION, text) and not refused) or is_passing(text):
        return error_kinds.SOURCE, (
            "A server of the project's packages could not be reached, or did not answer: check the network and what"
            f" packages.yml names, or install the packages when the image is built ({text})."
        )
    return error_kinds.DEPS, f"dbt could not install the packages of the project: {text}."
