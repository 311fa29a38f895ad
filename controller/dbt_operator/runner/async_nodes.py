"""Which nodes can be executed without dbt, by the statements that dbt's own materialization makes of them.

What is refused here is executed by dbt. To refuse too much costs time, to refuse too little would cost a wrong table:
so what is not known to be simple is refused. A second look is taken when the statements are recorded (`recording`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ADAPTERS = ("postgres", "bigquery")
_MODELS = ("table", "view")
# A contract is checked by a query whose result decides what is built; of the others the statements are many, or are
# calls of an API, and what they do depends on what is there.


class Project(NamedTuple):
    """What is to be known beside the node itself.

    packages: of each materialization the package that has it, by dbt's own choice among several of one name.
    unit_tested: the models whose unit tests are executed too.
    store_failures: whether tests store what they find, where they say nothing themselves.
    """

    packages: Mapping[str, str]
    unit_tested: frozenset[str] = frozenset()
    store_failures: bool = False


def refusals(*, nodes: Sequence[Any], project: Project) -> dict[str, str]:
    """Why each of these nodes of a manifest is executed by dbt; "" where it need not be."""
    found = {node.unique_id: refusal(node=node, project=project) for node in nodes}
    for node in nodes:
        if _word(node.resource_type) == "test" and not found[node.unique_id]:
            tested = _tested(node) & found.keys()
            # It goes with them: else dbt would be started once more for what reads them.
            if tested and all(found[one] for one in tested):
                found[node.unique_id] = "it tests what dbt executes"
    return found


def refusal(*, node: Any, project: Project) -> str:
    """Why the node is executed by dbt, as far as the node itself says; "" where it need not be."""
    kind = _word(node.resource_type)
    if kind not in ("model", "test"):
        return f"it is a {kind.replace('_', ' ')}"
    materialized = str(_config(node, "materialized") or "")
    if kind == "model" and materialized not in _MODELS:
        return f"it is materialized as {materialized}"
    if _word(getattr(node, "language", "sql")) != "sql":
        return f"it is written in {_word(node.language)}"
    package = project.packages.get(materialized, "")
    if package != "dbt" and package not in {f"dbt_{adapter}" for adapter in ADAPTERS}:
        return f"the materialization {materialized} is not dbt's own but that of {package or 'another package'}"
    if kind == "test":
        return "it stores the rows that it finds" if _stores(node, project) else ""
    if node.unique_id in project.unit_tested:
        return "its unit tests are executed right before it"
    return next((reason for field, reason in _SETTINGS if _given(_config(node, field))), "")


# Settings of a model, of which none may be given.
_SETTINGS = (
    ("pre_hook", "it has a pre-hook"),
    ("post_hook", "it has a post-hook"),
    ("grants", "it has grants"),
    ("grant_access_to", "it is an authorized view (grant_access_to)"),
    ("persist_docs", "its descriptions are kept in the warehouse (persist_docs)"),
    ("contract", "it has a contract"),
)


def _given(value: Any) -> bool:
    """Whether a setting says anything: a mapping of which all is false or empty does not."""
    enforced = getattr(value, "enforced", None)
    if enforced is not None:
        return bool(enforced)
    if isinstance(value, Mapping):
        return any(map(bool, value.values()))
    return bool(value)


def _config(node: Any, name: str) -> Any:
    config = node.config
    if hasattr(config, name):
        return getattr(config, name)
    extra = getattr(config, "_extra", None) or {}
    return extra.get(name)


def _stores(node: Any, project: Project) -> bool:
    stored_as = _config(node, "store_failures_as")
    if stored_as:
        return str(stored_as) != "ephemeral"
    stores = _config(node, "store_failures")
    return project.store_failures if stores is None else bool(stores)


def _tested(node: Any) -> frozenset[str]:
    attached = getattr(node, "attached_node", None)
    return frozenset((attached,)) if attached else frozenset(node.depends_on.nodes)


def _word(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
