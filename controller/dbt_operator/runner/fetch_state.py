"""The step `fetch-state`: brings the artifacts of another run into the pod, as `spec.state.artifactsFrom` says."""

from __future__ import annotations

import os
from pathlib import Path

from dbt_operator.runner import fetch_archive
from dbt_operator.runner.fetch import archive_of, inside, options_parser
from dbt_operator.runner.limits import Limits
from dbt_operator.runner.state_files import FILES
from dbt_operator.runner.steps import StepError

_FIELD = "spec.state.artifactsFrom.archive"


def run(argv: list[str]) -> dict[str, str]:
    """Unpack the archive; returns its digest. Raises: StepError."""
    options = options_parser("fetch-state").parse_args(argv)
    # dbt may run as another user than this program.
    os.umask(0o022)
    tree, archive = Path(options.into), archive_of(options, field=_FIELD)
    limits = Limits(
        tree=tree, size=options.size_limit, seconds=options.seconds, field=_FIELD, what="what spec.state names"
    )
    digest = fetch_archive.fetch(archive, tree=tree, limits=limits)
    folder = inside(tree=tree, path=options.path, field=_FIELD, what=f"the {archive.name}")
    if not any((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in FILES):
        where = f"the folder {options.path}" if options.path else "the top folder"
        raise StepError(f"There is none of {', '.join(FILES)} in {where} of the {archive.name}: correct {_FIELD}.path.")
    return {"state.digest": digest}
