"""What is another thing for some nodes than for all: their retries, and what the pods are like that execute them.

Which items of `spec.nodes` are about a node, its tests included, the runner says in its listing of the nodes; and what
the project itself says of it.
"""

from collections.abc import Collection, Sequence

from pydantic import ValidationError

from dbt_operator.api.spec import NodeRetry, Retry
from dbt_operator.dbt.graph import Graph
from dbt_operator.plan.attempt import PLAIN, Decision, PodChoice
from dbt_operator.plan.decisions import new_resume
from dbt_operator.plan.ledger import Ledger
from dbt_operator.plan.observation import Rules
from dbt_operator.plan.situation import Situation


def retry_rules(rules: Rules, graph: Graph, unique_id: str) -> Retry:
    """What is done about this node when it fails.

    A later item of spec.nodes goes before those before it, all of them before what the project says of the node, and
    that before what is said of all nodes: who applies the run knows the cluster, and who writes a node that node.
    """
    retry = _of_project(rules.retry, graph, unique_id)
    for index in _items(rules, graph, unique_id):
        over = rules.nodes[index].retry
        retry = retry if over is None else retry.under(over)
    return retry


def pod_of(rules: Rules, graph: Graph, unique_id: str) -> PodChoice:
    """What the pod is to be like that executes this node, and no other one that differs from it in that."""
    node = graph.nodes.get(unique_id)
    return PodChoice(
        overrides=tuple(index for index in _items(rules, graph, unique_id) if rules.nodes[index].pod_template),
        resources=node.settings.resources if node is not None and node.settings is not None else (),
    )


def _of_project(retry: Retry, graph: Graph, unique_id: str) -> Retry:
    node = graph.nodes.get(unique_id)
    if node is None or node.settings is None or not node.settings.retry:
        return retry
    try:
        return retry.under(NodeRetry.model_validate(node.settings.retry))
    except ValidationError:  # what a runner of another version has understood
        return retry


def _items(rules: Rules, graph: Graph, unique_id: str) -> Sequence[int]:
    node = graph.nodes.get(unique_id)
    return sorted(index for index in (node.overrides if node is not None else ()) if index < len(rules.nodes))


def by_pod(rules: Rules, graph: Graph, unique_ids: Collection[str]) -> dict[PodChoice, frozenset[str]]:
    """These nodes, by the pod that they are to be executed in.

    A test goes with the node that it is listed on, which a unit test cannot be executed without, and an ephemeral model
    with what it is first a part of.
    """
    choices = {one: pod_of(rules, graph, one) for one in unique_ids}
    if len(set(choices.values())) <= 1:
        return {next(iter(choices.values()), PLAIN): frozenset(unique_ids)}
    found: dict[PodChoice, set[str]] = {}
    for one in unique_ids:
        found.setdefault(choices[leading(graph, one, choices)], set()).add(one)
    return {pod: frozenset(found[pod]) for pod in sorted(found, key=lambda each: (each.overrides, each.resources))}


def leading(graph: Graph, unique_id: str, among: Collection[str]) -> str:
    """The node among these that this one goes with: itself, unless it is a test or an ephemeral model."""
    node = graph.nodes[unique_id]
    if node.test:
        first = graph.tested_nodes(unique_id)
    elif node.ephemeral:
        below = graph.descendants(unique_id)
        first = tuple(one for one in graph.relations() if one in below)
    else:
        first = ()
    return next((one for one in first if one in among), unique_id)


def resumes_by_pod(
    situation: Situation, ledger: Ledger, left: frozenset[str], *, ahead: Sequence[Decision] = ()
) -> list[Decision]:
    """Attempts that go on with what is left, one for each kind of pod, which may all live at once.

    What needs a node that is to have another pod follows when that is done. Where sources are to be looked at, there is
    one for all, as in the first attempt: what is not executed because of them is decided together.
    """
    looks = ledger.graph.command.rules.looks_at_sources
    if looks and any(one.startswith("source.") for one in left):
        return [new_resume(situation, nodes=left, pod=PLAIN, ahead=ahead)]
    found: list[Decision] = []
    for pod, nodes in by_pod(situation.rules, ledger.graph, left).items():
        taken = frozenset[str]().union(*(each.nodes or () for each in found))
        # Also what could be executed by itself waits, where something that it reads is executed again.
        ready = ledger.ready(nodes - ledger.related(taken) - ledger.graph.descendants(*(left - nodes)))
        if ready:
            found.append(new_resume(situation, nodes=ready, pod=pod, ahead=[*ahead, *found]))
    return found
