"""Names and labels of everything the operator creates.

Names are deterministic: a controller that died between two actions finds what it made by computing the name again.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

GROUP = "dbt-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "dbt-operator"

LABEL_RUN = f"{GROUP}/run"
LABEL_RUN_UID = f"{GROUP}/run-uid"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_ATTEMPT_KIND = f"{GROUP}/attempt-kind"
LABEL_ATTEMPT_INDEX = f"{GROUP}/attempt-index"
LABEL_RESOURCE_TYPE = f"{GROUP}/resource-type"
LABEL_PACKAGE = f"{GROUP}/package"
ANNOTATION_RETRY = f"{GROUP}/retry"
# A scheduling gate of each pod: no scheduler may have it before the operator has removed the gate.
GATE = f"{GROUP}/one-pod-for-an-attempt"
RESERVED_PREFIX = "dbt-operator-"
"""How the names of the operator's own volumes and init containers in a pod begin, and no name of a user's."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "dbt-operator"
# The ConfigMap of a namespace, and its key, with what the specs of runs are given where they are silent.
DEFAULTS, DEFAULTS_KEY = "dbt-operator-defaults", "defaults.yaml"

# Kubernetes' own limits: a label value has at most 63 characters, an object name (DNS subdomain) 253. A Job's name
# ends up in the pod's label and host name, so it keeps to 63 too, less the suffix Kubernetes adds to pods ("-xxxxx").
LABEL_VALUE_LIMIT = 63
JOB_NAME_LIMIT = 57
OBJECT_NAME_LIMIT = 253
_LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")


def digest(text: str, *, length: int = 8) -> str:
    """A short stable hash of a text, in lower-case hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def label_value(text: str) -> str:
    """The text itself where Kubernetes accepts it as a label value, else its legal beginning and a hash of it all."""
    if _LABEL_VALUE.match(text):
        return text
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[: LABEL_VALUE_LIMIT - 9].strip("._-")
    return f"{cleaned}-{digest(text)}" if cleaned else digest(text)


def slug(text: str) -> str:
    """A dbt name as a part of a DNS subdomain: lower case, every other character a dash."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def run_prefix(run: str, *, limit: int) -> str:
    """The run's name, shortened with a hash where a child's name would become too long."""
    return run if len(run) <= limit else f"{run[: limit - 9].rstrip('.-')}-{digest(run)}"


def retry_token(metadata: Mapping[str, Any]) -> str | None:
    """The token of the retry that a person asks for on an object, short enough for a status; None: none is asked for.

    Annotations may be longer than what a status can repeat; such a token is shortened with a hash of it all.
    """
    token: str = (metadata.get("annotations") or {}).get(ANNOTATION_RETRY) or ""
    if len(token) <= OBJECT_NAME_LIMIT:
        return token or None
    return f"{token[: OBJECT_NAME_LIMIT - 9]}-{digest(token)}"


def producer_job_name(run: str, *, number: int) -> str:
    """Name of the Job of the run's producer attempt `number` (from 1)."""
    return _job_name(run, suffix=f"-producer-{number}")


def retry_job_name(run: str, *, key: str, number: int) -> str:
    """Name of the Job of retry `number` (from 1) of a node (its unique_id), or of several (a word)."""
    return _job_name(run, suffix=f"-retry-{digest(key) if '.' in key else key}-{number}")


def tests_job_name(run: str, *, number: int) -> str:
    """Name of the Job of attempt `number` (from 1) that executes all tests of the run in a stage of their own."""
    return _job_name(run, suffix=f"-tests-{number}")


def node_job_name(run: str, *, number: int) -> str:
    """Name of the Job of attempt `number` (from 1) at nodes that have a pod of their own."""
    return _job_name(run, suffix=f"-node-{number}")


def resume_job_name(run: str, *, number: int) -> str:
    """Name of the Job of the run's resume `number` (from 1)."""
    return _job_name(run, suffix=f"-resume-{number}")


def _job_name(run: str, *, suffix: str) -> str:
    return run_prefix(run, limit=JOB_NAME_LIMIT - len(suffix)) + suffix


def attempt_record_name(run: str, *, index: int) -> str:
    """Name of the ConfigMap that records the attempt `index` (from 1) of a run."""
    return _config_map_name(run, suffix=f"-attempt-{index}")


def cache_name(run: str) -> str:
    """Name of the ConfigMap that holds dbt's parse cache for the later attempts of a run."""
    return _config_map_name(run, suffix="-parse-cache")


def packages_name(run: str) -> str:
    """Name of the ConfigMap that holds the packages that an attempt has installed, for the later attempts of a run."""
    return _config_map_name(run, suffix="-packages")


def profile_name(run: str) -> str:
    """Name of the ConfigMap that keeps how a run connects, for all of its attempts."""
    return _config_map_name(run, suffix="-profile")


def state_name(run: str) -> str:
    """Name of the ConfigMap that keeps the artifacts of another run that a run is given, for all of its attempts."""
    return _config_map_name(run, suffix="-state")


def artifacts_name(run: str) -> str:
    """Name of the ConfigMap that holds the artifacts of a run."""
    return _config_map_name(run, suffix="-artifacts")


def output_name(run: str) -> str:
    """Name of the ConfigMap that holds what the command of a run was asked for, and is no artifact of every command."""
    return _config_map_name(run, suffix="-output")


def _config_map_name(run: str, *, suffix: str) -> str:
    return run_prefix(run, limit=OBJECT_NAME_LIMIT - len(suffix)) + suffix


def runner_config_map_name(run: str, *, content: str) -> str:
    """Name of the ConfigMap that holds the runner for Jobs of a run: another one for each content.

    Operators of different versions bring different runners, and may both have Jobs in one run.
    """
    return _config_map_name(run, suffix=f"-runner-{digest(content)}")


def model_names(run: str, *, nodes: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Object names of a run's DbtModels, by unique_id.

    `nodes` are pairs (unique_id, dbt name). Those whose slugs collide, are empty or too long get a hash of the
    unique_id, all of the colliding ones, so that a name never depends on the order of the nodes.
    """
    nodes = list(nodes)
    prefix = run_prefix(run, limit=120) + "."
    slugs = {unique_id: slug(name) for unique_id, name in nodes}
    taken: dict[str, int] = {}
    for value in slugs.values():
        taken[value] = taken.get(value, 0) + 1
    return {
        unique_id: prefix + _unique(value, unique_id, alone=taken[value] == 1) for unique_id, value in slugs.items()
    }


def lone_model_name(run: str, *, unique_id: str, name: str) -> str:
    """Name of a DbtModel that the graph did not announce: always with the hash, as its rivals are not known."""
    return run_prefix(run, limit=120) + "." + _unique(slug(name), unique_id, alone=False)


def _unique(value: str, unique_id: str, *, alone: bool) -> str:
    limit = OBJECT_NAME_LIMIT - 121
    if alone and value and len(value) <= limit:
        return value
    return f"{value[: limit - 9].rstrip('-')}-{digest(unique_id)}".lstrip("-")
