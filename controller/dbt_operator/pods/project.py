"""Where the project is in the container of dbt, and what brings it there."""

from dataclasses import dataclass

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.pods.part import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFiles:
    """The files of a dbt project. `path`: of the folder of its dbt_project.yml, absolute, in the container of dbt."""

    path: str
    part: Part


def project_files(spec: DbtRunSpec) -> ProjectFiles:
    """The project of a run, by `spec.project`."""
    path = spec.project.image.path
    return ProjectFiles(path=path, part=Part(arguments=("--project-dir", path)))
