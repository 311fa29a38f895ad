"""The decision for a further attempt, once it is known what the attempt executes."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count

from dbt_operator.api import names
from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.dbt.found import found_by
from dbt_operator.dbt.state import AttemptState, Periods
from dbt_operator.plan.attempt import PLAIN, Assessment, Decision, Left, PodChoice
from dbt_operator.plan.continuing import continued, whole_began_in
from dbt_operator.plan.situation import Situation

SEVERAL = "nodes"  # in the name of a retry of more than one node


def new_producer(situation: Situation) -> Decision:
    """An attempt that runs the whole command, or the whole of its first stage."""
    name = partial(names.producer_job_name, situation.run)
    stage = next(iter(situation.rules.stages), None)
    return _decision(situation, kind=AttemptKind.PRODUCER, name=name, nodes=None, stage=stage)


def new_tests(situation: Situation, *, nodes: frozenset[str], ahead: Sequence[Decision] = ()) -> Decision:
    """An attempt that executes these tests, which are all that can be executed, in a stage of their own."""
    name = partial(names.tests_job_name, situation.run)
    return _decision(situation, kind=AttemptKind.PRODUCER, name=name, nodes=nodes, stage=Stage.TEST, ahead=ahead)


def new_node(
    situation: Situation, *, nodes: frozenset[str], pod: PodChoice, ahead: Sequence[Decision] = ()
) -> Decision:
    """The first attempt at these nodes, which have a pod of their own."""
    name = partial(names.node_job_name, situation.run)
    return _at_nodes(situation, kind=AttemptKind.NODE, name=name, nodes=nodes, pod=pod, ahead=ahead)


def new_retry(
    situation: Situation, *, key: str, nodes: frozenset[str], pod: PodChoice, ahead: Sequence[Decision] = ()
) -> Decision:
    """A retry of these nodes, called after `key`, as the next attempt after those `ahead` of it."""
    name = partial(names.retry_job_name, situation.run, key=key)
    return _at_nodes(situation, kind=AttemptKind.RETRY, name=name, nodes=nodes, pod=pod, ahead=ahead)


def new_resume(
    situation: Situation, *, nodes: frozenset[str], pod: PodChoice, ahead: Sequence[Decision] = ()
) -> Decision:
    """An attempt that goes on with these nodes, as the next one after those `ahead` of it."""
    name = partial(names.resume_job_name, situation.run)
    return _at_nodes(situation, kind=AttemptKind.RESUME, name=name, nodes=nodes, pod=pod, ahead=ahead)


def first_part(situation: Situation, nodes: frozenset[str]) -> frozenset[str]:
    """Those of the nodes that one attempt can execute: in a run with stages, the ones of the first of these."""
    stage = stage_of(situation, nodes)
    return nodes if stage is None else stage.rules.of(nodes)


def stage_of(situation: Situation, nodes: Iterable[str]) -> Stage | None:
    """The first stage that executes any of the nodes; None in a run without stages."""
    return next((stage for stage in situation.rules.executing if stage.rules.of(nodes)), None)


def _at_nodes(
    situation: Situation,
    *,
    kind: AttemptKind,
    name: Callable[..., str],
    nodes: frozenset[str],
    pod: PodChoice,
    ahead: Sequence[Decision],
) -> Decision:
    """In the stage that these nodes belong to."""
    stage = stage_of(situation, nodes)
    return _decision(situation, kind=kind, name=name, nodes=nodes, stage=stage, pod=pod, ahead=ahead)


def _decision(
    situation: Situation,
    *,
    kind: AttemptKind,
    name: Callable[..., str],
    nodes: frozenset[str] | None,
    stage: Stage | None,
    pod: PodChoice = PLAIN,
    ahead: Sequence[Decision] = (),
) -> Decision:
    assessments, ledger = situation.assessments, situation.ledger
    taken = {each.attempt.name for each in assessments} | {each.name for each in ahead}
    return Decision(
        index=situation.last_index + len(ahead) + 1,
        kind=kind,
        name=next(free for number in count(1) if (free := name(number=number)) not in taken),
        nodes=nodes,
        stage=stage,
        microbatch_end=_microbatch_end(assessments),
        left=_microbatch_left(assessments, nodes or ()),
        found=found_by(each.state for each in assessments),
        pod=pod,
        decides_on=ledger.decides_on(nodes) if ledger is not None and nodes is not None else frozenset(),
        began_in=whole_began_in(assessments) if nodes is None else None,
        continued=continued(assessments, situation.history.graph, nodes or ()),
        billed=billed(each.state for each in assessments) if situation.rules.budget else 0,
    )


def billed(states: Iterable[AttemptState]) -> int:
    """The bytes that count towards the budget of the run: what was executed without dbt, as far as it is reported."""
    nodes = (node for state in states for node in state.nodes.values())
    return sum(node.bytes_billed or 0 for node in nodes if node.executor and node.executor != "dbt")


# Microbatch models: an attempt executes the batches of the run's first attempt that are left. By itself dbt would
# divide the time before its present start into batches. On another day these are other batches.


def _microbatch_end(assessments: Iterable[Assessment]) -> str | None:
    """Until when microbatch models are executed, as the first attempt has said that came so far."""
    for each in assessments:
        if each.state.microbatch.end:
            return each.state.microbatch.end
        if each.state.nodes and each.state.graph is None and each.attempt.started is not None:
            # It has executed nodes, and its log was rotated away before it was read: dbt began a moment later.
            return each.attempt.started.isoformat()
    return None


def _microbatch_left(assessments: Sequence[Assessment], nodes: Iterable[str]) -> tuple[Left, ...]:
    """What is left of those of the nodes that are microbatch models and have begun."""
    states = [each.state for each in assessments]
    begun = {unique_id for state in states for unique_id in state.microbatch.windows}
    return tuple(_left(assessments, unique_id) for unique_id in sorted(begun.intersection(nodes)))


def _left(assessments: Sequence[Assessment], unique_id: str) -> Left:
    first: Periods = ()
    left: Periods = ()
    for state in (each.state for each in assessments):
        window, node = state.microbatch.windows.get(unique_id, ()), state.nodes.get(unique_id)
        first = first or window
        if unique_id in state.microbatch.left:
            left = state.microbatch.left[unique_id]
        elif node is not None and node.phase in (NodePhase.SUCCEEDED, NodePhase.FAILED):
            # All batches have succeeded, or all have failed. What builds the model again builds all of it.
            left = first
        elif window:
            left = window  # the attempt was lost before it had come to an end of this
    return Left(unique_id, left, incremental=left != first)
