"""The runner, as the pod of an attempt has it: a zipapp in a ConfigMap."""

import base64
import json
from typing import Any

from dbt_operator.api import names
from dbt_operator.pods.archive import build_archive
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.run import RunRef, child_config_map

_DIRECTORY = "/dbt-operator/runner"
_FILE = "runner.pyz"
_VOLUME = "dbt-operator-runner"

RUNNER = f"{_DIRECTORY}/{_FILE}"


def runner_config_map(run: RunRef) -> dict[str, Any]:
    """The ConfigMap that holds the runner as a zipapp. Its name tells its content: only with that is it adopted."""
    return child_config_map(run, name=_name(run)) | {"immutable": True, "binaryData": _files()}


def runner_part(run: RunRef) -> Part:
    """What makes the runner a file of the pod."""
    return Part(
        volumes=({"name": _VOLUME, "configMap": {"name": _name(run)}},),
        mounts=(read_only(volume=_VOLUME, path=_DIRECTORY),),
    )


def _name(run: RunRef) -> str:
    return names.runner_config_map_name(run.name, content=json.dumps(_files(), sort_keys=True))


def _files() -> dict[str, str]:
    return {_FILE: base64.b64encode(build_archive()).decode()}
