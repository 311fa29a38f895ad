"""Telling a CI system how runs have ended: a JUnit report, annotations of GitHub, a report of GitLab."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbt_operator.api.problems import InvalidSpec
from dbt_operator.kube.resources import Object
from dbt_operator.local.manifests import PROJECT_ANNOTATION
from dbt_operator.local.origin import origin_of
from dbt_operator.local.project import located
from dbt_operator.local.report import Ended, findings, github, gitlab, junit
from dbt_operator.reconcile.observe import unlisted

GITLAB_REPORT = Path("gl-code-quality-report.json")


def tell_ci(runs: Sequence[Ended], *, junit_file: Path | None, environ: Mapping[str, str]) -> None:
    """Write what was asked for, and what the variables of a CI system say that it reads."""
    if junit_file is not None:
        junit_file.parent.mkdir(parents=True, exist_ok=True)
        junit_file.write_text(junit(runs), encoding="utf-8")
    found = [one for run in runs for one in findings(run, folder=str(Path.cwd()))]
    if environ.get("GITHUB_ACTIONS") == "true":
        for one in found:
            print(github(one), flush=True)
    if environ.get("GITLAB_CI") == "true":
        GITLAB_REPORT.write_text(gitlab(found), encoding="utf-8")


def project_folder(run: Object) -> str | None:
    """The folder of the project of a run; None where it was fetched."""
    origin, annotations = origin_of(run), run["metadata"].get("annotations") or {}
    spec = unlisted(run, operator={}, config_map=None).spec
    if spec is None:
        return None
    try:
        spec = located(
            spec,
            annotated=annotations.get(PROJECT_ANNOTATION),
            given=origin.project,
            folder=Path(origin.folder),
        )
    except InvalidSpec:
        return None
    return spec.project.image.path if spec.project.image is not None else None
