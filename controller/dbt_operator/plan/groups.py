"""Which nodes have a pod of their own together, where not one pod executes all that is to be executed.

A group is a node, the nodes with the same tags, or the nodes in the same folder; the tests of a node go with it. Where
a group needs something that needs the group, no pod could execute all of it: it is executed in parts.
"""

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

from dbt_operator.api.spec import Group
from dbt_operator.dbt.edges import inverse
from dbt_operator.dbt.graph import Graph
from dbt_operator.plan.attempt import Decision, PodChoice
from dbt_operator.plan.decisions import new_node, new_resume
from dbt_operator.plan.ledger import Ledger, Standing
from dbt_operator.plan.overrides import leading, pod_of, resumes_by_pod
from dbt_operator.plan.retries import build_of
from dbt_operator.plan.situation import Situation


def attempts_by_group(
    situation: Situation,
    ledger: Ledger,
    left: frozenset[str],
    *,
    coming: Collection[str],
    ahead: Sequence[Decision] = (),
) -> list[Decision]:
    """The attempts at the groups that can be executed now.

    left: what can be executed, by attempts one after the other; none of it is related to what is `ahead`. coming: what
        is to be executed sooner or later; a group is not begun without what of it is to come.
    Where sources are to be looked at, one attempt executes all, as what is not executed because of them is decided
    together.
    """
    if any(one.startswith("source.") for one in left) and ledger.graph.command.rules.looks_at_sources:
        return resumes_by_pod(situation, ledger, left, ahead=ahead)
    begun = {one for each in situation.assessments for one in each.attempt.nodes or ()}
    first_time = situation.rules.per_node is not None
    found: list[Decision] = []
    taken, anew = frozenset[str](), _anew(ledger, left)
    for group in _groups(situation, ledger, left, coming):
        if len(found) >= situation.room - len(ahead):
            break
        nodes = _able(ledger, group, anew)
        if nodes and taken.isdisjoint(nodes):
            make = new_node if first_time and begun.isdisjoint(nodes) else new_resume
            first = min(nodes, key=lambda one: (ledger.graph.nodes[one].test, one))
            pod = _pod(situation, ledger.graph, first)
            found.append(make(situation, nodes=nodes, pod=pod, ahead=[*ahead, *found]))
            taken |= nodes
    return found


def _anew(ledger: Ledger, left: frozenset[str]) -> frozenset[str]:
    """What is done and is to be built again, with what depends on it."""
    again = [one for one in left if ledger.standings[one] is Standing.DONE]
    return ledger.graph.descendants(*again).union(again)


def _able(ledger: Ledger, group: frozenset[str], anew: frozenset[str]) -> frozenset[str]:
    """What of a group can be executed now: all of it, perhaps without some tests, or nothing.

    What reads something that another group builds again waits for that. The tests among it follow by themselves.
    """
    late = {one for one in group if any(read in anew and read not in group for read in ledger.graph.reads(one))}
    nodes = group - {one for one in late if one.startswith("test.")}
    able = late.isdisjoint(nodes) and all(ledger.satisfied(one, within=nodes) for one in nodes)
    return nodes if able else frozenset()


def _groups(
    situation: Situation, ledger: Ledger, left: frozenset[str], coming: Collection[str]
) -> Iterator[frozenset[str]]:
    """What each pod executes: nodes, with those of their tests that can run after them; then tests by themselves."""
    graph, built = ledger.graph, set[str]()
    for part in _parts(situation, graph):
        nodes = [one for one in part if one in coming]
        built.update(nodes)
        if nodes and left.issuperset(nodes):
            yield _in_one_pod(situation, ledger, nodes, left)
    alone: dict[Hashable, list[str]] = {}
    for test in (one for one in ledger.standings if one in left and graph.nodes[one].test):
        if built.isdisjoint(graph.tested_nodes(test)) and ledger.satisfied(test):
            alone.setdefault(_key(situation, graph, test), []).append(test)
    yield from map(frozenset, alone.values())


def _in_one_pod(situation: Situation, ledger: Ledger, nodes: Sequence[str], left: frozenset[str]) -> frozenset[str]:
    """The nodes with their tests. A test with another pod follows by itself, if nothing here needs it."""
    graph, pod = ledger.graph, _pod(situation, ledger.graph, nodes[0])
    found = build_of(ledger, nodes) & left
    along = (*nodes, *(one for one in found if one.startswith("unit_test.")))
    alike = found.intersection(along).union(one for one in found if _pod(situation, graph, one) == pod)
    return alike if all(ledger.satisfied(one, within=alike) for one in alike) else found


def _pod(situation: Situation, graph: Graph, unique_id: str) -> PodChoice:
    of = leading(graph, unique_id, graph.nodes) if graph.nodes[unique_id].ephemeral else unique_id
    return pod_of(situation.rules, graph, of)


def _key(situation: Situation, graph: Graph, unique_id: str) -> Hashable:
    """What the nodes of a group have in common.

    A test belongs to the node that it is listed on, and an ephemeral model to what it is first a part of: by itself
    there is nothing to execute.
    """
    of = graph.nodes[leading(graph, unique_id, graph.nodes)]
    pod = _pod(situation, graph, unique_id)
    match situation.rules.group:
        case Group.TAG if of.tags:
            return pod, tuple(sorted(of.tags))
        case Group.PATH if of.path:
            return pod, of.package, of.path.rpartition("/")[0]
        case _:
            return pod, of.unique_id


def _parts(situation: Situation, graph: Graph) -> Sequence[Sequence[str]]:
    """The nodes of the run without its tests, in groups none of which needs another one that needs it."""
    rules = situation.rules
    asked = rules.group, tuple(bool(each.pod_template) for each in rules.nodes)
    if asked not in graph.parts:  # the same in each turn
        nodes = [one for one in graph.executables() if not graph.nodes[one].test and not one.startswith("source.")]
        needs = {one: graph.order.built_before(one) for one in nodes}
        graph.parts[asked] = tuple(convex_parts(needs, {one: _key(situation, graph, one) for one in nodes}))
    return graph.parts[asked]


def convex_parts(needs: Mapping[str, Sequence[str]], keys: Mapping[str, Hashable]) -> Iterator[Sequence[str]]:
    """The nodes with the same key together, each group after all that it needs; in parts where it cannot be whole.

    A node is free once all that it needs is in parts before, or is free and of the same key. A group is taken when all
    of it is free; if there is no such group, the one with the most free nodes is taken as far as it is free.
    """
    needed_by = inverse({one: tuple(need for need in found if need in keys) for one, found in needs.items()})
    missing = {one: sum(need in keys for need in found) for one, found in needs.items()}
    left, free = Counter(keys.values()), dict[Hashable, list[str]]()
    new = [one for one in keys if not missing[one]]

    def met(one: str, *, alike: bool) -> None:
        for other in needed_by.get(one, ()):
            if (keys[other] == keys[one]) is alike:
                missing[other] -= 1
                if not missing[other]:
                    new.append(other)

    whole: deque[Hashable] = deque()
    while True:
        for one in new:  # grows as it goes
            found = free.setdefault(keys[one], [])
            found.append(one)
            met(one, alike=True)
            if len(found) == left[keys[one]]:
                whole.append(keys[one])
        new.clear()
        if not free:
            return
        key = whole.popleft() if whole else max(free, key=lambda each: len(free[each]))
        part = free.pop(key)
        left[key] -= len(part)
        yield part
        for one in part:
            met(one, alike=False)
