"""The step `fetch`: brings the project of a run into the pod, as `spec.project` says."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dbt_operator.runner import fetch_archive, fetch_git
from dbt_operator.runner.limits import Limits
from dbt_operator.runner.steps import StepError

PROJECT_FILE = "dbt_project.yml"
FIELD = "spec.project.archive"


def run(argv: list[str]) -> dict[str, str]:
    """Fetch the project; returns the commit, or the digest of the archive. Raises: StepError."""
    options = _options(argv)
    # dbt may run as another user than this program.
    os.umask(0o022)
    tree = Path(options.into)
    field = fetch_git.FIELD if options.git else FIELD
    limits = Limits(tree=tree, size=options.size_limit, seconds=options.seconds, field=field)
    if options.git:
        git = _git(options)
        found, what = fetch_git.fetch(git, tree=tree, limits=limits), f"the {git.wanted[1]} of {git.url}"
    else:
        archive = archive_of(options, field=FIELD)
        found, what = {"project.digest": fetch_archive.fetch(archive, tree=tree, limits=limits)}, f"the {archive.name}"
    project = inside(tree=tree, path=options.path, field=field, what=what)
    if not (project / PROJECT_FILE).is_file():
        others = sorted(str(file.parent.relative_to(tree)) for file in tree.glob(f"*/{PROJECT_FILE}"))
        hint = f" (there is one in {', '.join(others[:5])})" if others else ""
        where = f"the folder {options.path} of {what}" if options.path else f"the top folder of {what}"
        raise StepError(f"There is no {PROJECT_FILE} in {where}{hint}: correct {field}.path.")
    return found


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options_parser("fetch")
    git = parser.add_argument_group("a git repository")
    git.add_argument("--git", default="", metavar="URL")
    git.add_argument("--branch", default="")
    git.add_argument("--tag", default="")
    git.add_argument("--commit", default="")
    git.add_argument("--depth", type=int, default=1)
    git.add_argument("--submodules", action="store_true")
    git.add_argument("--packages", action="store_true", help="fetch those of the same server as well")
    git.add_argument("--secret", default="", metavar="FOLDER")
    git.add_argument("--secret-name", default="")
    return parser.parse_args(argv)


def options_parser(step: str) -> argparse.ArgumentParser:
    """The options of a step that fetches, among them those of an archive."""
    parser = argparse.ArgumentParser(prog=f"runner.pyz {step}", allow_abbrev=False)
    parser.add_argument("--into", required=True, metavar="FOLDER", help="where the files go; it does not exist")
    parser.add_argument("--path", default="", metavar="FOLDER", help="in it, of what is wanted")
    parser.add_argument("--size-limit", type=int, required=True, metavar="BYTES")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--as-before", default="", help="what an earlier attempt has found")
    parser.add_argument("--ca", default="", metavar="FILE")
    archive = parser.add_argument_group("an archive")
    archive.add_argument("--archive", default="", metavar="FILE")
    archive.add_argument("--archive-name", default="", help="what messages call it")
    archive.add_argument("--archive-url", default="", metavar="URL")
    archive.add_argument("--sha256", default="")
    return parser


def _git(options: argparse.Namespace) -> fetch_git.Source:
    return fetch_git.Source(
        url=options.git,
        branch=options.branch,
        tag=options.tag,
        commit=options.commit,
        as_before=options.as_before,
        depth=options.depth,
        submodules=options.submodules,
        packages_of=options.path if options.packages else None,
        secret=Path(options.secret) if options.secret else None,
        secret_name=options.secret_name,
        ca=options.ca,
    )


def archive_of(options: argparse.Namespace, *, field: str) -> fetch_archive.Source:
    """The archive that these options say. `field`: of the spec, which says so."""
    return fetch_archive.Source(
        # What follows a question mark may be a signature that lets everybody in who has it.
        name=options.archive_name or f"archive {options.archive_url.partition('?')[0]}",
        file=Path(options.archive) if options.archive else None,
        url=options.archive_url,
        sha256=options.sha256,
        ca=options.ca,
        as_before=options.as_before,
        field=field,
    )


def inside(*, tree: Path, path: str, field: str, what: str) -> Path:
    """The folder of this path in what was fetched, out of which it does not lead. Raises: StepError."""
    folder = (tree / path).resolve()
    if folder != tree.resolve() and tree.resolve() not in folder.parents:
        raise StepError(f"{field}.path ({path}) leads out of what was fetched by a link: name a folder inside of it.")
    if not folder.is_dir():
        raise StepError(f"There is no folder {path} in {what}: correct {field}.path.")
    return folder
