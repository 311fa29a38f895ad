"""What a certain attempt is given beside the project: its nodes, and what dbt has parsed before."""

import json

from dbt_operator.api import names
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods.dbt_arguments import argument
from dbt_operator.pods.files import CACHE_FILE
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.record import NODES_FILE, OTHERS_FILE
from dbt_operator.pods.run import RunRef

_NODES, _NODES_DIRECTORY = "dbt-operator-nodes", "/dbt-operator/nodes"
_CACHE, _CACHE_DIRECTORY = "dbt-operator-cache", "/dbt-operator/cache"


def inputs_part(run: RunRef, decision: Decision) -> Part:
    """What the runner reads of this decision. An attempt at the whole command is given neither nodes nor a cache."""
    microbatch = (f"--microbatch-end={decision.microbatch_end}",) if decision.microbatch_end else ()
    if decision.nodes is None:
        return Part(arguments=microbatch)
    record = names.attempt_record_name(run.name, index=decision.index)
    others = (OTHERS_FILE,) if decision.decides_on else ()
    nodes = {"name": record, "items": [{"key": file, "path": file} for file in (NODES_FILE, *others)]}
    return Part(
        volumes=(
            {"name": _NODES, "configMap": nodes},
            {"name": _CACHE, "configMap": {"name": names.cache_name(run.name), "optional": True}},
        ),
        mounts=(read_only(volume=_NODES, path=_NODES_DIRECTORY), read_only(volume=_CACHE, path=_CACHE_DIRECTORY)),
        arguments=(
            *("--nodes", f"{_NODES_DIRECTORY}/{NODES_FILE}"),
            *(f"--decides-on={_NODES_DIRECTORY}/{file}" for file in others),
            *("--parse-cache", f"{_CACHE_DIRECTORY}/{CACHE_FILE}"),
            *microbatch,
        ),
    )


def overrides_part(spec: DbtRunSpec) -> Part:
    """What the runner is told of `nodes`: it says which of them are about which nodes of the project.

    Raises: InvalidSpec where that does not fit into an argument of a process.
    """
    if not spec.nodes:
        return Part()
    told = {"nodes": {"__all__": {"select", "active_deadline_seconds"}}}
    items = spec.model_dump(mode="json", by_alias=True, exclude_unset=True, include=told)
    # Kubernetes replaces $(NAME) in arguments.
    text = json.dumps(items["nodes"], separators=(",", ":")).replace("$", "\\u0024")
    return Part(arguments=(argument("--overrides", text, field="nodes"),))
