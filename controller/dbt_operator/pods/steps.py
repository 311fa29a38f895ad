"""Init containers of the operator's own: programs that make something ready before dbt begins."""

from collections.abc import Iterable, Mapping
from typing import Any

from dbt_operator.api.names import RESERVED_PREFIX
from dbt_operator.pods.part import RESTRICTED
from dbt_operator.pods.runner_files import RUNNER, RUNNER_MOUNT


def step(
    name: str, *, image: str, arguments: Iterable[str], mounts: Iterable[Mapping[str, Any]], env: Iterable[Any] = ()
) -> dict[str, Any]:
    """The init container that runs this program of the runner's archive (`runner/steps.py`)."""
    return {
        "name": f"{RESERVED_PREFIX}{name}",
        "image": image,
        "command": ["python3", RUNNER, name],
        "args": list(arguments),
        "env": list(env),
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [RUNNER_MOUNT, *mounts],
    }
