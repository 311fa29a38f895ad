"""The project of a run on this machine, where a cluster would have it in an image or on a volume."""

from pathlib import Path

from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.project import ImageProject, Project
from dbt_operator.api.spec import DbtRunSpec

_FILE = "dbt_project.yml"


def located(spec: DbtRunSpec, *, annotated: str | None, given: str | None, folder: Path) -> DbtRunSpec:
    """The spec with the folder of the project as it is here. One from git or an archive is fetched as in a pod.

    annotated: what the manifest says; given: what the command says. folder: of the manifest.

    Raises: InvalidSpec.
    """
    project = spec.project
    if given is not None:
        return _at(spec, _checked(Path(given), "--project-dir"))
    if project.image is not None:
        return _at(spec, _of_image(project.image.path, annotated=annotated, folder=folder))
    if project.volume is not None:
        host = project.volume.source.get("hostPath")
        if not isinstance(host, dict):
            raise InvalidSpec(
                "spec.project.volume is a volume of a cluster: say with --project-dir where the project is here."
            )
        path = Path(str(host.get("path")), project.volume.path or ".")
        return _at(spec, _checked(path, "spec.project.volume"))
    return spec


def _of_image(path: str, *, annotated: str | None, folder: Path) -> Path:
    if annotated is not None:
        return _checked(folder / annotated, "the annotation dbt-operator.io/local-project")
    places = [folder / path.lstrip("/"), Path(path)]
    for place in places:
        if (place / _FILE).is_file():
            return place
    looked = " nor ".join(str(place) for place in places)
    raise InvalidSpec(
        f"The project in {path} of the image is neither in {looked} here: say with --project-dir where it is, or in the"
        " annotation dbt-operator.io/local-project, relative to the file of the manifest."
    )


def _checked(place: Path, said: str) -> Path:
    if not (place / _FILE).is_file():
        raise InvalidSpec(f"There is no {_FILE} in {place}, where {said} says that the project is.")
    return place


def _at(spec: DbtRunSpec, place: Path) -> DbtRunSpec:
    project = Project(image=ImageProject(path=str(place.resolve())))
    return spec.model_copy(update={"project": project})
