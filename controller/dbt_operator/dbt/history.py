"""What all attempts of a run have said, oldest first, and whose word stands for which node.

A later attempt replaces an earlier one for the nodes that it has begun or skipped, and says nothing of those that it
never came to. A test speaks about one build of the nodes that it reads: once one of them is built again, what was found
before is no longer about what is there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.graph import Graph, is_test
from dbt_operator.dbt.state import AttemptState, NodeState

BEGUN = frozenset({NodePhase.RUNNING, NodePhase.SUCCEEDED, NodePhase.FAILED})


class Word(NamedTuple):
    """What stands for a node: the state of the attempt that said it, and what it said of the node."""

    state: AttemptState
    node: NodeState
    attempt: int  # which one said it, from 0


@dataclass(frozen=True)
class History:
    """The states of the attempts in their order. `pending`: nodes that are to be executed yet, whatever they were.

    `parts`: those attempts, from 0, that were asked for certain nodes only. What they select is not what the run
    selects, and may never stand for it: where the word of the first attempt was lost, the run would look finished
    with a part of its nodes.
    `since`: the first attempt, from 0, after a person asked for a retry of a run that had ended.
    """

    attempts: tuple[AttemptState, ...] = ()
    pending: frozenset[str] = frozenset()
    parts: frozenset[int] = frozenset()
    since: int = 0

    @cached_property
    def graph(self) -> Graph | None:
        """The graph of the run: what the first attempt at all of it that came so far has selected."""
        whole = (state.graph for index, state in enumerate(self.attempts) if index not in self.parts)
        return next((graph for graph in whole if graph is not None), None)

    def word(self, unique_id: str) -> Word | None:
        """What stands for the node; None when no attempt has mentioned it."""
        if len(self.attempts) == 1:
            node = self.attempts[0].nodes.get(unique_id)
            return None if node is None else Word(self.attempts[0], node, 0)
        if is_test(unique_id):
            return self._word_of_test(unique_id)
        if unique_id.startswith("operation."):
            # Hooks belong to their attempt. None of a later one makes up for one that failed.
            failed = next(self._words(unique_id, said=_has_failed, since=self.since), None)
            if failed is not None:
                return failed
        silent = None
        for index in range(len(self.attempts) - 1, -1, -1):
            node = self.attempts[index].nodes.get(unique_id)
            if node is None:
                continue
            if node.phase is not NodePhase.PENDING:
                return Word(self.attempts[index], node, index)
            silent = silent or Word(self.attempts[index], node, index)
        return silent

    def inlined(self, unique_id: str) -> bool:
        """Whether it is an ephemeral model that was good although no attempt says so: dbt's own results never list it.

        dbt executes what contains it only after it.
        """
        graph, word = self.graph, self.word(unique_id)
        if graph is None or word is None or unique_id not in graph.nodes or not graph.nodes[unique_id].ephemeral:
            return False
        finished = word.state.finished
        if finished is not None and finished.success:
            return True
        containing = (self.word(one) for one in graph.held_back(unique_id))
        return any(
            each is not None and each.node.phase in BEGUN and each.attempt >= word.attempt for each in containing
        )

    def unique_ids(self) -> Iterator[str]:
        """Every node that an attempt has mentioned, once."""
        seen: dict[str, None] = {}
        for state in self.attempts:
            seen.update(dict.fromkeys(state.nodes))
        return iter(seen)

    def _word_of_test(self, unique_id: str) -> Word | None:
        since = self.built(unique_id)
        # A test that runs again by itself has not yet taken back what it found before, nor has one that was stopped.
        for said in (_has_a_result, _was_begun, None):
            word = next(self._words(unique_id, said=said, since=since), None)
            if word is not None:
                return word
        earlier = next(self._words(unique_id), None)
        if earlier is None:
            return None
        node = earlier.node
        unsaid = NodeState(
            unique_id=unique_id,
            name=node.name,
            resource_type=node.resource_type,
            attached_node=node.attached_node,
            package=node.package,
            path=node.path,
        )
        return Word(self.attempts[since], unsaid, since)

    def built(self, test: str) -> int:
        """Index of the attempt that began last to build what the test is about; 0 when none has."""
        subjects = self.graph.subjects(test) if self.graph is not None else ()
        builds = (next(self._words(node, said=_was_built), None) for node in subjects)
        return max((word.attempt for word in builds if word is not None), default=0)

    def _words(
        self, unique_id: str, *, said: Callable[[NodeState], bool] | None = None, since: int = 0
    ) -> Iterator[Word]:
        """What the attempts say of the node, the newest first."""
        for index in range(len(self.attempts) - 1, since - 1, -1):
            node = self.attempts[index].nodes.get(unique_id)
            if node is not None and (said is None or said(node)):
                yield Word(self.attempts[index], node, index)


def _has_failed(node: NodeState) -> bool:
    return node.phase is NodePhase.FAILED and not node.stopped


def _was_built(node: NodeState) -> bool:
    return node.phase in BEGUN


def _was_begun(node: NodeState) -> bool:
    return node.phase is not NodePhase.PENDING


def _has_a_result(node: NodeState) -> bool:
    return node.phase.terminal and not node.stopped


def history_of(told: AttemptState | History) -> History:
    """The history itself, or that of a single attempt."""
    return told if isinstance(told, History) else History(attempts=(told,))
