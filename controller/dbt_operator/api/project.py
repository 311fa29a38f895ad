"""`spec.project`: where the dbt project comes from."""

from typing import Annotated

from pydantic import StringConstraints

from dbt_operator.api.strict import StrictModel


class ImageProject(StrictModel):
    """A dbt project that is part of the image."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern="^/")]


class Project(StrictModel):
    """Where the dbt project comes from."""

    image: ImageProject
