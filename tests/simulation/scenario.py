"""What one seed is about: the project, the rules, and what people and the cluster do to the run."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random

from dbt_operator.api.commands import Command
from dbt_operator.api.spec import (
    Backoff,
    ConcurrencyPolicy,
    Downstream,
    Group,
    NodeOverride,
    PerNode,
    Retry,
    RetryReason,
)
from dbt_operator.plan.observation import Rules
from tests.simulation.mix import DRAWN, Mix
from tests.simulation.project import Project, differing, draw_project, with_executors, with_own_pods, with_sources
from tests.simulation.world import World

FATES = (
    "kill",
    "oom",
    "evict",
    "evict away",
    "delete",
    *("force",) * 3,  # the one that a process outlives
    "node lost",
    "crash",
    *("drain",) * 3,  # the one that meets all pods at once
    "job",
    "job foreground",
    "job orphan",
    "queue",
)


@dataclass(frozen=True)
class Scenario:
    """All that is drawn before the story begins. Times are in milliseconds from the beginning."""

    project: Project
    rules: Rules
    calm: int  # from then on nothing goes wrong any more, and nobody asks for anything
    wishes: tuple[tuple[int, str], ...]  # what people do, and when
    down: tuple[tuple[int, int], ...]  # when the warehouse cannot be reached
    fates: float  # how likely a pod comes to harm
    api_errors: float  # how likely a call fails
    crashes: float  # how likely the operator dies at a call
    stalls: float  # how likely the operator is held up between two steps
    obstacles: float  # how likely a Job waits for a quota or a queue, or a pod for its image
    lost_watches: float
    skews: tuple[int, ...] = field(default=(0,))  # of the clocks of pods

    def retry_of(self, one: str) -> Retry:
        """How a node is retried: the last item of spec.nodes that says anything about it does, else the run."""
        said = [self.rules.nodes[at].retry for at in self.project.nodes[one].overrides]
        limits = [each.limit for each in said if each is not None and each.limit is not None]
        reasons = [each.reasons for each in said if each is not None and each.reasons is not None]
        retry = self.rules.retry
        return retry.model_copy(update={"limit": (retry.limit, *limits)[-1], "reasons": (retry.reasons, *reasons)[-1]})

    def pod_of(self, one: str) -> tuple[int, ...]:
        """The items of spec.nodes whose podTemplate a node is executed with."""
        return tuple(at for at in self.project.nodes[one].overrides if self.rules.nodes[at].pod_template)


_OWN_PODS = 0.2  # how often each node has a pod of its own
_ASYNC = 0.15  # how often nodes of the others are executed without dbt, where they can be
_WITHOUT_DBT = (Command.BUILD, Command.RUN, Command.TEST)


def draw_scenario(world: World) -> Scenario:
    """The scenario of a seed."""
    chance = world.chance("scenario")
    calm = chance.choice((20, 60, 60, 150, 300)) * 1000
    (mix,) = chance.choices(tuple(DRAWN), tuple(DRAWN.values()))
    project = with_sources(draw_project(world.chance("project"), mix), world.chance("sources"))
    own, per_node = world.chance("pods of their own"), None
    if own.random() < _OWN_PODS:
        project = with_own_pods(project, own)
        per_node = PerNode(parallelism=own.choice((1, 2, 5)), group=own.choice((*Group, Group.NODE)))
    elif project.command in _WITHOUT_DBT and project.adapter == "postgres" and own.random() < _ASYNC:
        project = with_executors(project, own)
    quiet = chance.random() < 0.15  # nothing but dbt itself goes wrong
    grace = timedelta(seconds=chance.choice((5, 30, 60)))
    nodes = _draw_nodes(world.chance("nodes"))
    return Scenario(
        project=differing(project, world.chance("nodes that differ"), len(nodes)),
        rules=replace(_draw_rules(chance, mix, project, grace), nodes=nodes, per_node=per_node),
        calm=calm,
        wishes=_draw_wishes(chance, project, calm),
        down=_draw_down(chance, calm),
        fates=0.0 if quiet else chance.choice(mix.fates),
        api_errors=0.0 if quiet else chance.choice((0.0, 0.0, 0.03, 0.15)),
        crashes=0.0 if quiet else chance.choice(mix.crashes),
        stalls=0.0 if quiet else chance.choice(mix.stalls),
        obstacles=0.0 if quiet else chance.choice((0.0, 0.1, 0.4)),
        lost_watches=0.0 if quiet else chance.choice((0.0, 0.1)),
        skews=(0,) if quiet or chance.random() < 0.8 else (0, -40_000, 30_000, 600_000, -3_600_000),
    )


def _draw_rules(chance: Random, mix: Mix, project: Project, grace: timedelta) -> Rules:
    retry = Retry(
        reasons=tuple(one for one in RetryReason if chance.random() < mix.retried),
        limit=chance.choice(mix.limits),
        backoff=_draw_backoff(chance, mix),
        downstream=Downstream.PER_NODE if chance.random() < 0.3 else Downstream.TOGETHER,
        parallelism=chance.choice(mix.parallelism),
        together=chance.choice((1, 2, 20)),
        concurrency_policy=chance.choice((*ConcurrencyPolicy, ConcurrencyPolicy.AUTO)),
    )
    return Rules(
        retry=retry,
        max_restarts=chance.choice((0, 1, 3, 3, 10)),
        fail_fast=project.fail_fast and not project.by_flag,
        grace=grace,
        start_deadline=timedelta(seconds=chance.choice((20, 60, 300))),
        active_deadline=timedelta(seconds=chance.choice((15, 60, 600))) if chance.random() < 0.12 else None,
        ttl=timedelta(seconds=chance.choice((0, 30))) if chance.random() < 0.1 else None,
    )


def _draw_nodes(chance: Random) -> tuple[NodeOverride, ...]:
    """What is another thing for some nodes: which ones is drawn with the project."""
    if chance.random() < 0.75:
        return ()
    return tuple(_draw_item(chance) for _ in range(chance.choice((1, 2, 3))))


def _draw_item(chance: Random) -> NodeOverride:
    item: dict[str, object] = {"select": [{"name": "drawn"}]}
    if chance.random() < 0.7:
        item["podTemplate"] = {"spec": {"priorityClassName": "drawn"}}
    if "podTemplate" not in item or chance.random() < 0.5:
        reasons = [one for one in RetryReason if chance.random() < 0.5]
        item["retry"] = {"limit": chance.choice((0, 1, 3)), **({"reasons": reasons} if chance.random() < 0.5 else {})}
    return NodeOverride.model_validate(item)


def _draw_backoff(chance: Random, mix: Mix) -> Backoff:
    first, factor, longest = chance.choice(mix.first_waits), chance.choice((1.0, 2.0, 10.0)), chance.choice((0, 10, 60))
    return Backoff.model_validate({"duration": f"{first}s", "factor": factor, "max": f"{longest}s"})


def _draw_down(chance: Random, calm: int) -> tuple[tuple[int, int], ...]:
    if chance.random() >= 0.12:
        return ()
    since = chance.randint(0, calm)
    return ((since, min(calm, since + chance.choice((3000, 15000, 60000)))),)


def _draw_wishes(chance: Random, project: Project, calm: int) -> tuple[tuple[int, str], ...]:
    """What people do, at any time."""
    found = [*_draw_retries(chance, project, calm), *_draw_suspensions(chance, calm)]
    if chance.random() < 0.12:
        found.append((chance.randint(0, calm), "cancel"))
        if chance.random() < 0.3:
            found.append((chance.randint(0, calm), "uncancel"))
    if chance.random() < 0.05:
        found.append((chance.randint(0, calm), "supersede"))
        if chance.random() < 0.3:
            found.append((chance.randint(0, calm), "delete the newer"))
    if chance.random() < 0.05:
        at = chance.randint(0, calm)
        found.append((at, "invalid"))
        if chance.random() < 0.5:
            found.append((min(calm, at + chance.choice((100, 5000, 30_000))), "valid"))
    found += [(chance.randint(0, calm), rare) for rare in ("foreign record", "delete") if chance.random() < 0.02]
    return tuple(sorted(found))


def _draw_retries(chance: Random, project: Project, calm: int) -> list[tuple[int, str]]:
    """Retries of the run or of nodes."""
    if chance.random() >= 0.3:
        return []
    found = []
    for _ in range(chance.choice((1, 1, 2, 4))):
        one = chance.choice(("run", chance.choice(project.executables or ("run",))))
        found.append((chance.randint(0, calm), f"retry {one}"))
    return found


def _draw_suspensions(chance: Random, calm: int) -> list[tuple[int, str]]:
    """Suspensions, most of which are ended."""
    found: list[tuple[int, str]] = []
    if chance.random() < 0.25:
        at = chance.randint(0, calm // 2)
        for _ in range(chance.choice((1, 1, 2))):
            found.append((at, "suspend"))
            at += chance.choice((100, 1500, 10_000, 40_000))
            if chance.random() < 0.95:
                found.append((at, "unsuspend"))
            at += chance.choice((100, 1500, 10_000))
    return found
