"""The same simulated projects by one pod, and with a pod for each node: the same ends, for the same reasons."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from dbt_operator.api.reason_table import LOST
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import ConcurrencyPolicy, Group, PerNode, RetryReason
from dbt_operator.dbt.view import NodeView, node_views
from tests.simulation.mix import DRAWN
from tests.simulation.project import draw_project, with_own_pods, with_sources
from tests.simulation.scenario import Scenario, draw_scenario
from tests.simulation.story import Story
from tests.simulation.world import World

PROJECTS = 30
FIRST = 900_000  # seeds that nothing else plays


def scenario(seed: int, *, limit: int, group: Group | None) -> Scenario:
    """The project of the seed where nothing goes wrong but its nodes; its retries are for all kinds of failures."""
    world = World(seed=seed, tracing=False)
    world.loop.close()
    drawn = draw_scenario(world)
    (mix,) = world.chance("mix").choices(tuple(DRAWN), tuple(DRAWN.values()))
    project = with_sources(draw_project(world.chance("project of both"), mix), world.chance("sources of both"))
    # What dbt says of it is another thing with each thread, or each pod: such as which hook failed, of how many.
    project = replace(
        project, fail_fast=False, start_hook=(True,), end_hook=(True,), fatal="", executed={}, lengths=(400,)
    )
    nodes = {
        one: replace(node, results=tuple("error" if each == "silent" else each for each in node.results))
        for one, node in project.nodes.items()
    }
    project = replace(project, nodes=nodes, executed={})
    if group is not None:
        project = with_own_pods(project, world.chance("groups of both"))
    retry = drawn.rules.retry.model_copy(
        update={"limit": limit, "reasons": tuple(RetryReason), "concurrency_policy": ConcurrencyPolicy.AUTO}
    )
    rules = replace(
        drawn.rules,
        retry=retry,
        nodes=(),
        fail_fast=False,
        active_deadline=None,
        ttl=None,
        per_node=None if group is None else PerNode(parallelism=3, group=group),
    )
    return replace(
        drawn,
        project=project,
        rules=rules,
        wishes=(),
        down=(),
        skews=(0,),
        fates=0.0,
        api_errors=0.0,
        crashes=0.0,
        stalls=0.0,
        obstacles=0.0,
        lost_watches=0.0,
    )


@cache
def end(seed: int, *, limit: int, group: Group | None) -> dict[str, tuple[Any, ...]] | None:
    """How nodes and run end, as a person sees it; None where pods or the warehouse were lost even so."""
    story = Story(seed=seed, scenario=scenario(seed, limit=limit, group=group))
    report = story.run()
    assert report.broken is None, report.message
    status, plan = story.cluster.status, story.checks.plan
    assert plan is not None
    if any(each.ended_as(LOST | {RunReason.CONNECTION_FAILED}) for each in plan.assessments):
        return None
    views = node_views(state=plan.history)
    nodes = {one: (view.phase, view.reason, view.blocked_by, _counts(view)) for one, view in views.items()}
    return {"": (status.phase, status.reason), **nodes}


def _counts(view: NodeView) -> tuple[Any, ...]:
    """The counts of the tests of a node, with those that failed."""
    tests = view.tests
    if tests is None:
        return ()
    counts = (tests.total, tests.passed, tests.warned, tests.failed, tests.errored, tests.skipped)
    return (*counts, *sorted(each.unique_id for each in tests.failing))


def test_a_run_ends_the_same_whether_its_nodes_share_a_pod_or_not() -> None:
    seeds = range(FIRST, FIRST + PROJECTS)
    # One test, as each way to have pods is compared with the same runs in one pod.
    assert {group: different for group in Group if (different := _different(seeds, limit=0, group=group))} == {}


def test_a_run_whose_failures_are_tried_again_ends_the_same_too() -> None:
    seeds = range(FIRST + PROJECTS, FIRST + 2 * PROJECTS)
    found = _different(seeds, limit=2, group=Group.NODE)
    # Of a test that a retry came before, one pod for all may not have heard what has held it back.
    assert {one: both for one, both in found.items() if [each and each[0] for each in both] != [both[0][0]] * 2} == {}


def _different(seeds: Iterable[int], *, limit: int, group: Group) -> dict[tuple[int, str], tuple[Any, Any]]:
    """What ends in another way with a pod for each group, by seed and node; "" is the run."""
    found: dict[tuple[int, str], tuple[Any, Any]] = {}
    for seed in seeds:
        ends = end(seed, limit=limit, group=None), end(seed, limit=limit, group=group)
        together, apart = ends
        if together is not None and apart is not None:
            nodes = together.keys() | apart.keys()
            pairs = {one: (together.get(one), apart.get(one)) for one in nodes}
            found |= {(seed, one): both for one, both in pairs.items() if both[0] != both[1]}
    return found
