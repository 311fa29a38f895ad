"""The step `fetch`: brings the project of a run into the pod, as `spec.project` says."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dbt_operator.runner import fetch_archive, fetch_git
from dbt_operator.runner.limits import Limits
from dbt_operator.runner.steps import StepError

PROJECT_FILE = "dbt_project.yml"


def run(argv: list[str]) -> dict[str, str]:
    """Fetch the project; returns the commit, or the digest of the archive. Raises: StepError."""
    options = _options(argv)
    # dbt may run as another user than this program.
    os.umask(0o022)
    tree = Path(options.into)
    field = fetch_git.FIELD if options.git else fetch_archive.FIELD
    limits = Limits(tree=tree, size=options.size_limit, seconds=options.seconds, field=field)
    if options.git:
        git = _git(options)
        found, what = fetch_git.fetch(git, tree=tree, limits=limits), f"the {git.wanted[1]} of {git.url}"
    else:
        archive = _archive(options)
        found, what = fetch_archive.fetch(archive, tree=tree, limits=limits), f"the {archive.name}"
    check_path(tree=tree, path=options.path, field=field, what=what)
    return found


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="runner.pyz fetch", allow_abbrev=False)
    parser.add_argument("--into", required=True, metavar="FOLDER", help="where the files go; it does not exist")
    parser.add_argument("--path", default="", metavar="FOLDER", help="in it, of the project")
    parser.add_argument("--size-limit", type=int, required=True, metavar="BYTES")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--as-before", default="", help="what an earlier attempt has found")
    parser.add_argument("--ca", default="", metavar="FILE")
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
    archive = parser.add_argument_group("an archive")
    archive.add_argument("--archive", default="", metavar="FILE")
    archive.add_argument("--archive-name", default="", help="what messages call it")
    archive.add_argument("--archive-url", default="", metavar="URL")
    archive.add_argument("--sha256", default="")
    return parser.parse_args(argv)


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


def _archive(options: argparse.Namespace) -> fetch_archive.Source:
    return fetch_archive.Source(
        # What follows a question mark may be a signature that lets everybody in who has it.
        name=options.archive_name or f"archive {options.archive_url.partition('?')[0]}",
        file=Path(options.archive) if options.archive else None,
        url=options.archive_url,
        sha256=options.sha256,
        ca=options.ca,
        as_before=options.as_before,
    )


def check_path(*, tree: Path, path: str, field: str, what: str) -> None:
    """Check that the project is there, and that its path does not lead out of what was fetched. Raises: StepError."""
    project = (tree / path).resolve()
    if project != tree.resolve() and tree.resolve() not in project.parents:
        raise StepError(f"{field}.path ({path}) leads out of what was fetched by a link: name a folder inside of it.")
    if not project.is_dir():
        raise StepError(f"There is no folder {path} in {what}: correct {field}.path.")
    if not (project / PROJECT_FILE).is_file():
        others = sorted(str(file.parent.relative_to(tree)) for file in tree.glob(f"*/{PROJECT_FILE}"))
        hint = f" (there is one in {', '.join(others[:5])})" if others else ""
        where = f"the folder {path} of {what}" if path else f"the top folder of {what}"
        raise StepError(f"There is no {PROJECT_FILE} in {where}{hint}: correct {field}.path.")
