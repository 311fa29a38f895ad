"""Init containers of the operator's own: programs that make something ready before dbt begins."""

from collections.abc import Iterable, Mapping
from typing import Any

from dbt_operator.api.names import RESERVED_PREFIX
from dbt_operator.pods.part import RESTRICTED
from dbt_operator.pods.runner_files import RUNNER, RUNNER_MOUNT
from dbt_operator.pods.template_lists import mappings

_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"})


def step(
    name: str,
    *,
    image: str,
    arguments: Iterable[str],
    mounts: Iterable[Mapping[str, Any]],
    env: Iterable[Any] = (),
    pull_policy: str | None = None,
) -> dict[str, Any]:
    """The init container that runs this program of the runner's archive (`runner/steps.py`)."""
    return {
        "name": f"{RESERVED_PREFIX}{name}",
        "image": image,
        **({"imagePullPolicy": pull_policy} if pull_policy else {}),
        "command": ["python3", RUNNER, name],
        "args": list(arguments),
        "env": list(env),
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [RUNNER_MOUNT, *mounts],
    }


def as_dbt_has_it(container: Mapping[str, Any], dbt: Mapping[str, Any]) -> dict[str, Any]:
    """The step, with what the user's template gives the container of dbt: its resources, and its way to the outside.

    A pod needs what the largest of its steps needs, or dbt: with the resources of dbt they cost nothing, and a quota
    that wants each container to have some is content.
    """
    proxies = [one for one in mappings(dbt.get("env")) if str(one.get("name", "")).upper() in _PROXIES]
    resources = {"resources": dbt["resources"]} if dbt.get("resources") else {}
    return {**container, "env": [*proxies, *container["env"]], **resources}
