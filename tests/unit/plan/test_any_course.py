"""Whatever happens to its attempts, a run comes to its end, never does a thing twice at once, and tells the truth."""

from random import Random
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.spec import RetryOn
from dbt_operator.plan.ledger import LOST
from tests.unit.dbt.logs import data_test, ephemeral, model, unit_test
from tests.unit.plan.story import Story
from tests.unit.plan.world import Process, World

_STEPS = 600


def some_nodes(random: Random) -> list[dict[str, Any]]:
    """A small graph in dbt's order."""
    models: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for number in range(random.randint(2, 5)):
        names = [one["name"] for one in models]
        parents = random.sample(names, k=min(len(names), random.randint(0, 2)))
        make = ephemeral if parents and random.random() < 0.15 else model
        models.append(make(f"m{number}", *parents))
        if make is model and random.random() < 0.3:
            others.append(unit_test(f"u{number}", f"m{number}"))
    for number in range(random.randint(0, 3)):
        names = [one["name"] for one in models]
        others.append(data_test(f"t{number}", *random.sample(names, k=min(len(names), random.randint(1, 2)))))
    return models + others


def some_rules(random: Random) -> dict[str, Any]:
    """A spec."""
    kinds = [kind for kind in RetryOn if random.random() < 0.85]
    return {
        "adapter": random.choice(("postgres", "postgres", "duckdb")),
        "limit": random.randint(0, 3),
        "on": frozenset(kinds),
        "per_node": random.random() < 0.3,
        "parallelism": random.randint(1, 3),
        "together": random.randint(1, 4),
        "max_restarts": random.randint(0, 6),
        "fail_fast": random.random() < 0.15,
    }


def lived(random: Random, *, loss: float, failure: float, disturbance: float) -> World:
    """A run from its beginning to its end."""
    rules = some_rules(random)
    run = Story(*some_nodes(random), **rules)
    world = World(run, random)
    note(f"{rules}\n{[(one['unique_id'], one['depends_on']) for one in run.nodes.values()]}")
    disturbances = 4
    for _ in range(_STEPS):
        decided = run.next()
        if decided:
            world.say(f"decided: {decided}")
        if run.ended is not None and not run.rules.suspend:
            world.say(f"{run.phase()}: {run.message()}")
            if not (disturbances and random.random() < 5 * disturbance):
                break
            disturbances -= 1
            ask(world)
        if disturbances and random.random() < disturbance:
            disturbances -= 1
            disturb(world)
        elif not move(world, loss=loss, failure=failure):
            run.now = max(run.now, run.plan().wake_at)
            if run.rules.suspend:
                world.say("continued")
                run.change(suspend=False)
        world.check_number()
    note("\n".join(world.story))
    assert run.ended is not None, "the run does not come to its end"
    assert len(run.attempts) < 60
    return world


def disturb(world: World) -> None:
    """Somebody changes the run."""
    run = world.run
    if world.random.random() < 0.6:
        world.say("continued" if run.rules.suspend else "suspended")
        run.change(suspend=not run.rules.suspend)
    else:
        ask(world)


def ask(world: World) -> None:
    """Somebody asks for a retry."""
    name = world.random.choice([None, *world.run.ids])
    world.say(f"asked for {name or 'the run'}")
    decided = world.run.ask(f"t{len(world.story)}", name)
    if decided:
        world.say(f"decided: {decided}")


def move(world: World, *, loss: float, failure: float) -> bool:
    """One thing happens in one of the attempts; whether there was one."""
    live = [dbt for dbt in world.run.attempts if dbt.sealed is None and dbt.decision.name not in over(world)]
    startable = [dbt for dbt in live if dbt.decision.name in world.processes or dbt.job is not None]
    if not startable:
        return False
    dbt = world.random.choice(startable)
    process = world.processes.get(dbt.decision.name)
    if process is None:
        dbt.starts()
        world.processes[dbt.decision.name] = process = Process(world, dbt)
        world.say(f"{process.name} starts")
    elif world.random.random() < loss:
        process.is_lost()
    else:
        process.step(chance_of_failure=failure)
    return True


def over(world: World) -> set[str]:
    return {name for name, process in world.processes.items() if process.over}


def check_end(world: World) -> None:
    """The end tells the truth."""
    run = world.run
    bad = [one for one in run.nodes if world.executed(one) and world.results.get(one) not in ("success", "pass")]
    if run.phase() is RunPhase.SUCCEEDED:
        assert not bad
    elif not bad:
        lost = [dbt for dbt in run.attempts if dbt.sealed is not None and "Lost" in dbt.sealed.outcome.reason]
        assert lost, f"everything is done, and yet: {run.message()}"


def check_nothing_is_left(world: World) -> None:
    """What could have been executed was, and what could have been retried was, as often as it may be."""
    rules = world.run.rules.retry
    lost = [dbt for dbt in world.run.attempts if dbt.sealed is not None and dbt.sealed.outcome.reason in LOST]
    if rules.fail_fast or len(lost) > rules.max_restarts:
        return
    for one in filter(world.executed, world.run.nodes):
        if any(world.results.get(need) not in ("success", "pass") for need in world.needs(one)):
            continue
        assert one in world.results, f"{one} was not executed"
        kind = RetryOn.COMPILE_ERROR if "Compilation" in world.texts.get(one, "") else RetryOn.ERROR
        if world.results[one] == "error" and kind in rules.on:
            assert world.failed[one] > rules.limit, f"{one} was not retried"


_SETTINGS = settings(max_examples=60)


@_SETTINGS
@given(random=st.randoms(use_true_random=False))
def test_with_failures_alone_no_model_fails_more_often_than_its_tries(random: Random) -> None:
    world = lived(random, loss=0.0, failure=0.3, disturbance=0.0)
    check_end(world)
    check_nothing_is_left(world)
    limit = world.run.rules.retry.limit
    assert all(count <= limit + 1 for one, count in world.failed.items() if one.startswith("model."))


@_SETTINGS
@given(random=st.randoms(use_true_random=False))
def test_with_losses_alone_a_run_succeeds_or_has_used_up_its_restarts(random: Random) -> None:
    world = lived(random, loss=0.1, failure=0.0, disturbance=0.0)
    check_end(world)
    check_nothing_is_left(world)
    run = world.run
    ended = [dbt.sealed.outcome.phase for dbt in run.attempts if dbt.sealed is not None]
    assert run.phase() is RunPhase.SUCCEEDED or ended.count(RunPhase.FAILED) > run.rules.retry.max_restarts


@_SETTINGS
@given(random=st.randoms(use_true_random=False))
def test_with_failures_and_losses_what_can_be_done_is_done(random: Random) -> None:
    world = lived(random, loss=0.05, failure=0.2, disturbance=0.0)
    check_end(world)
    check_nothing_is_left(world)


@_SETTINGS
@given(random=st.randoms(use_true_random=False))
def test_with_everything_at_once(random: Random) -> None:
    check_end(lived(random, loss=0.04, failure=0.2, disturbance=0.03))
