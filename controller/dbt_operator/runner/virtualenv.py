"""The step `environment`: gives dbt a virtual environment of its own, as `spec.environment.virtualenv` says."""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

from dbt_operator.runner import venv_key
from dbt_operator.runner.installers import Installation, Order, installer
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.steps import StepError
from dbt_operator.runner.venv_cache import Cache, Entry
from dbt_operator.runner.venv_place import Place

# What this step finds out: the packages that are installed, in pieces that an event takes.
PACKAGES = "environment.packages"
_PIECE, _MOST_PIECES = 2000, 3
_FIELD = "spec.environment.virtualenv"
# Run by the interpreter of an environment: what that has of its own, and which dbt is found there. Imports none of it.
_LIST = """
import importlib.metadata as metadata, json, sys
own = {}
for found in metadata.distributions(path=[path for path in sys.path if path.startswith(sys.prefix)]):
    own.setdefault(found.metadata["Name"], [found.version, json.loads(found.read_text("direct_url.json") or "{}")])
try:
    dbt = metadata.version("dbt-core")
except metadata.PackageNotFoundError:
    dbt = ""
print(json.dumps({"own": own, "dbt": dbt}))
"""


def run(argv: list[str]) -> dict[str, str]:
    """Make the environment, or find it in the cache. Raises: StepError."""
    options = _options(argv)
    # dbt may run as another user than this program.
    os.umask(0o022)
    indexes = _lines(options.index_file)
    masker = Masker(values=venv_key.secrets_of(indexes))
    order = Order(
        requirements="\n".join(options.requirement) or _text(options.requirements_file),
        constraints="\n".join(options.constraint),
        options=tuple(options.option),
        find_links=tuple(options.find_links),
        indexes=tuple(indexes),
        system_site_packages=options.system_site_packages,
    )
    make = _Making(order, wanted=unpacked(options.as_before), seconds=options.seconds, masker=masker)
    into = Path(options.into)
    try:
        if options.cache:
            cache = Cache(Path(options.cache), unused_seconds=options.unused_days * 86400)
            place, packages = _in_cache(make, cache)
        else:
            cache, (place, packages) = None, _beside(make, into)
        place.write(into)
        if cache:
            cache.prune()
    except OSError as error:
        where = f"in the cache on the claim {options.claim}" if options.cache else "in the pod"
        raise StepError(f"The environment of dbt cannot be made {where}: {error}.") from error
    except StepError as error:
        # An installer may repeat what it was given.
        raise StepError(masker.text(str(error)), passing=error.passing) from error
    return packed(packages)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="runner.pyz environment", allow_abbrev=False)
    parser.add_argument("--into", required=True, metavar="FOLDER", help="of this pod, for what it has to itself")
    parser.add_argument("--requirement", action="append", default=[])
    parser.add_argument("--requirements-file", default="", metavar="FILE")
    parser.add_argument("--constraint", action="append", default=[])
    parser.add_argument("--option", action="append", default=[], help="of uv and of pip")
    parser.add_argument("--find-links", action="append", default=[], metavar="PLACE")
    parser.add_argument("--index-file", default="", metavar="FILE", help="with a URL in each line")
    parser.add_argument("--system-site-packages", action="store_true")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--as-before", default="", help="the packages that an earlier attempt has found")
    parser.add_argument("--cache", default="", metavar="FOLDER")
    parser.add_argument("--claim", default="", help="the name of the volume of the cache, for messages")
    parser.add_argument("--unused-days", type=float, default=30.0)
    return parser.parse_args(argv)


class _Making:
    """How the environment of this run is made. wanted: the packages that an earlier attempt has had."""

    def __init__(self, order: Order, *, wanted: list[str] | None, seconds: float, masker: Masker) -> None:
        self.wanted = wanted
        self._by, self._seconds, self._masker = installer(), seconds, masker
        exact = wanted is not None and not venv_key.pinned_by_hashes(order)
        self._order = _exactly(wanted or [], order) if exact else order
        # One that was made as the spec says may have just these packages. Under the last key one is made that has them.
        self.keys = [venv_key.key_of(each, by=self._by.name) for each in dict.fromkeys((order, self._order))]

    def make(self, venv: Path, *, scratch: Path, compiled: bool) -> list[str]:
        """Make it; returns what is installed. Raises: StepError."""
        scratch.mkdir()
        try:
            making = Installation(self._order, by=self._by, scratch=scratch, seconds=self._seconds, log=self._log)
            making.create(venv)
            brought, _ = _inside(venv)
            making.install(venv, compiled=compiled)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        packages, dbt = _inside(venv)
        if not dbt:
            raise StepError(
                f"{_FIELD}.requirements brings no dbt: name dbt-core there, and the adapter, such as dbt-postgres."
            )
        packages = [package for package in packages if package not in brought]
        if self.wanted not in (None, packages):
            others = ", ".join(sorted(set(packages) ^ set(self.wanted or ()))[:6])
            raise StepError(
                f"The packages are others than in the attempts before this one ({others}): what {_FIELD} refers to has"
                " changed since the run began. Undo that, or start a new run."
            )
        return packages

    def _log(self, line: str) -> None:
        print(self._masker.text(line), flush=True)  # noqa: T201 - the log of the init container


def _exactly(packages: list[str], order: Order) -> Order:
    """An order of just these packages, from where the order takes them."""
    options = tuple(dict.fromkeys((*order.options, "--no-deps")))
    return replace(order, requirements="\n".join(packages), constraints="", options=options)


def _beside(make: _Making, into: Path) -> tuple[Place, list[str]]:
    """In the pod itself; its modules are compiled by the one process that imports them."""
    venv = into / "venv"
    return Place(venv=str(venv)), make.make(venv, scratch=into / "scratch", compiled=False)


def _in_cache(make: _Making, cache: Cache) -> tuple[Place, list[str]]:
    for key in make.keys:
        found = cache.find(key, packages=make.wanted)
        if found is not None:
            print(f"found {found.name} in the cache", flush=True)  # noqa: T201 - the log of the init container
            return Place(venv=str(found.venv), mark=str(found.mark)), found.packages() or []
    entry: Entry = cache.begin(make.keys[-1])
    try:
        packages = make.make(entry.venv, scratch=entry.folder / "scratch", compiled=True)
        entry.make_whole(packages=packages)
    except BaseException:
        cache.give_up(entry)
        raise
    return Place(venv=str(entry.venv), mark=str(entry.mark)), packages


def _inside(venv: Path) -> tuple[list[str], str]:
    """The packages that an environment has of its own, and the version of dbt that is found from there."""
    command = [str(venv / "bin" / "python"), "-I", "-c", _LIST]
    listed = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603 - without a shell
    return sorted(_requirement(name, *about) for name, about in listed["own"].items()), listed["dbt"]


def _requirement(name: str, version: str, direct: dict[str, dict[str, str] | str]) -> str:
    """The line of a requirements file for just this package. direct: where from, if it was not an index (PEP 610)."""
    url, vcs, folder = direct.get("url"), direct.get("vcs_info"), direct.get("subdirectory")
    if not url:
        return f"{name}=={version}"
    if isinstance(vcs, dict):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    return f"{name} @ {url}{f'#subdirectory={folder}' if folder else ''}"


def packed(packages: list[str]) -> dict[str, str]:
    """The list of packages as this step reports it. Raises: StepError, where it is too long for an event."""
    text = base64.b64encode(zlib.compress("\n".join(packages).encode(), 9)).decode()
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    if len(pieces) > _MOST_PIECES:
        raise StepError(
            f"{_FIELD} installs {len(packages)} packages, more than a run can remember for its later attempts."
        )
    return {f"{PACKAGES}.{number}": piece for number, piece in enumerate(pieces)}


def unpacked(text: str) -> list[str] | None:
    """The list of packages, of its pieces in their order; None where there are none."""
    return zlib.decompress(base64.b64decode(text)).decode().splitlines() if text else None


def _text(file: str) -> str:
    return Path(file).read_text(encoding="utf-8") if file else ""


def _lines(file: str) -> list[str]:
    return [line.strip() for line in _text(file).split() if line.strip()]
