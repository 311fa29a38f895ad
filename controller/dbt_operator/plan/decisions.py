"""The decision for a further attempt, once it is known what the attempt executes."""

from collections.abc import Mapping, Sequence

from dbt_operator.api import names
from dbt_operator.api.phases import AttemptKind
from dbt_operator.dbt.found import found_by
from dbt_operator.plan.attempt import Decision
from dbt_operator.plan.microbatch import end_of, left_of
from dbt_operator.plan.situation import Situation

SEVERAL = "nodes"  # in the name of a retry of more than one node


def new_producer(situation: Situation) -> Decision:
    """An attempt that runs the whole command."""
    number = 1 + sum(each.attempt.kind is AttemptKind.PRODUCER for each in situation.assessments)
    return Decision(
        index=situation.last_index + 1,
        kind=AttemptKind.PRODUCER,
        name=names.producer_job_name(situation.run, number=number),
        microbatch_end=end_of(situation.assessments),
        found=_found(situation),
    )


def new_retry(situation: Situation, *, key: str, nodes: frozenset[str], ahead: Sequence[Decision] = ()) -> Decision:
    """A retry of these nodes, called after `key`, as the next attempt after those `ahead` of it."""
    return _of_nodes(situation, kind=AttemptKind.RETRY, key=key, nodes=nodes, ahead=ahead)


def new_resume(situation: Situation, *, nodes: frozenset[str], ahead: Sequence[Decision] = ()) -> Decision:
    """An attempt that goes on with these nodes, as the next one after those `ahead` of it."""
    return _of_nodes(situation, kind=AttemptKind.RESUME, key="", nodes=nodes, ahead=ahead)


def _of_nodes(
    situation: Situation, *, kind: AttemptKind, key: str, nodes: frozenset[str], ahead: Sequence[Decision]
) -> Decision:
    taken = {each.attempt.name for each in situation.assessments} | {each.name for each in ahead}
    number = 1
    while (name := _job_name(situation.run, kind=kind, key=key, number=number)) in taken:
        number += 1
    return Decision(
        index=situation.last_index + len(ahead) + 1,
        kind=kind,
        name=name,
        nodes=nodes,
        microbatch_end=end_of(situation.assessments),
        left=left_of(situation.assessments, nodes),
        found=_found(situation),
    )


def _found(situation: Situation) -> Mapping[str, str]:
    return found_by(each.state for each in situation.assessments)


def _job_name(run: str, *, kind: AttemptKind, key: str, number: int) -> str:
    if kind is AttemptKind.RETRY:
        return names.retry_job_name(run, key=key, number=number)
    return names.resume_job_name(run, number=number)
