"""The runner, as the pod of an attempt has it: a zipapp in a ConfigMap."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dbt_operator.api import names
from dbt_operator.pods.archive import build_archive
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.run import RunRef, child_config_map

_DIRECTORY = "/dbt-operator/runner"
_FILE = "runner.pyz"
_VOLUME = "dbt-operator-runner"

RUNNER = f"{_DIRECTORY}/{_FILE}"
RUNNER_MOUNT = read_only(volume=_VOLUME, path=_DIRECTORY)


def runner_config_map(run: RunRef) -> dict[str, Any]:
    """The ConfigMap that holds the runner as a zipapp. Its name tells its content: only with that is it adopted."""
    return child_config_map(run, name=runner_name(run)) | {"immutable": True, "binaryData": _files()}


def runner_name(run: RunRef) -> str:
    """The name of that ConfigMap."""
    return names.runner_config_map_name(run.name, content=json.dumps(_files(), sort_keys=True))


def runners_of(job: Mapping[str, Any]) -> Iterator[str]:
    """The name of the ConfigMap that a Job, perhaps one of another version, has its runner from."""
    for volume in job["spec"]["template"]["spec"].get("volumes") or ():
        if volume["name"] == _VOLUME and volume.get("configMap"):
            yield volume["configMap"]["name"]


def runner_part(run: RunRef) -> Part:
    """What makes the runner a file of the pod."""
    return Part(
        volumes=({"name": _VOLUME, "configMap": {"name": runner_name(run)}},),
        mounts=(RUNNER_MOUNT,),
    )


def _files() -> dict[str, str]:
    return {_FILE: base64.b64encode(build_archive()).decode()}
