"""Which execution of a node an attempt goes on with: none that was ended, and none of another state of what it reads.

A warehouse may go on with what a lost pod has asked for. Whoever goes on with that has to know which of several
executions of a node it belongs to: it is named after the attempt in which it began (`Decision.began_in`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.history import BEGUN
from dbt_operator.plan.attempt import Assessment, Decision


def continued(assessments: Sequence[Assessment], graph: Graph | None, nodes: Iterable[str]) -> Mapping[str, int]:
    """For each of these nodes with which an attempt to come goes on: the attempt, by its index, in which that began.

    Not of a node that was reported to have ended since, nor where something that it reads was executed again since:
    what was asked of the warehouse then is about another state of that.
    """
    if graph is None or not assessments:
        return {}
    new = max(each.attempt.decision.index for each in assessments) + 1
    wanted, newest = frozenset(nodes), dict[str, int]()  # of all that a node reads: in which attempt the newest began
    began: dict[str, int] = {}
    needed = _parents_first(graph, wanted)
    attempted = _last_attempts(assessments, frozenset(needed))
    for one in needed:
        read = [parent for parent in graph.reads(one) if parent in began]
        newest[one] = max((max(began[parent], newest[parent]) for parent in read), default=0)
        last = attempted.get(one)
        if last is None:
            began[one] = new if one in wanted else 0
        elif one in wanted and (_ended(last, one) or newest[one] > last.attempt.decision.index):
            began[one] = new
        else:
            began[one] = began_in(last.attempt.decision, one)
    return {one: began[one] for one in sorted(wanted) if began.get(one, new) != new}


def whole_began_in(assessments: Sequence[Assessment]) -> int | None:
    """The attempt in which an attempt at the whole command began, where those before it have said of no node a word."""
    if any(node.phase in BEGUN for each in assessments for node in each.state.nodes.values()):
        return None
    whole = [each.attempt.decision for each in assessments if each.attempt.decision.nodes is None]
    return whole[0].index if whole else None


def began_in(decision: Decision, unique_id: str) -> int:
    """In which attempt the execution of a node began that this one executes."""
    return decision.continued.get(unique_id, decision.began_in or decision.index)


def _ended(assessment: Assessment, unique_id: str) -> bool:
    node = assessment.state.nodes.get(unique_id)
    return node is not None and node.phase.terminal and not node.stopped


def _last_attempts(assessments: Sequence[Assessment], nodes: frozenset[str]) -> Mapping[str, Assessment]:
    """The last attempt at each of these nodes. Hundreds of attempts at a few nodes each are looked at once."""
    found: dict[str, Assessment] = {}
    for each in reversed(assessments):
        had = each.attempt.decision.covered(nodes)
        found |= dict.fromkeys(had, each)
        nodes -= had
    return found


def _parents_first(graph: Graph, wanted: frozenset[str]) -> Collection[str]:
    """These nodes and all that they depend on, each after what it reads."""
    needed = wanted | graph.ancestors(*wanted)
    found: dict[str, None] = {}
    for start in sorted(needed):
        # A stack instead of recursion: chains may be long, and a damaged list may hold a circle.
        stack, on_the_way = [start], set[str]()
        while stack:
            one = stack[-1]
            open_ = [each for each in graph.reads(one) if each not in found and each not in on_the_way]
            on_the_way.add(one)
            if one in found or not open_:
                found.setdefault(stack.pop())
            else:
                stack.extend(open_)
    return found
