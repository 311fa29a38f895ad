"""What is to happen in a run: which faults at which moments, and which nodes fail by themselves. Pure.

A moment is a number of nodes that dbt has reported, and a delay after that: so the same seed disturbs the same phase
of a run, however fast the machine is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LONGEST_DELAY = 1.5
MOST_FAILING = 2
NULLS_PART = 0.5
"""In this part of the runs the test of a model fails the first time."""
BROKEN_EVERY = 4
"""In one of so many runs a node fails however often it is tried."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A fault of the table, after so many nodes were reported and `delay` seconds. `choice` picks among pods."""

    fault: str
    after: int
    delay: float
    choice: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. `flaky`: models that fail the first times; `nulls`: models whose test fails the first times."""

    number: int
    moments: tuple[Moment, ...]
    flaky: Mapping[str, int]
    nulls: Mapping[str, int]
    broken: str | None
    per_node: bool = False  # each node has a pod of its own


def make_plan(
    *,
    seed: int,
    number: int,
    faults: int,
    kinds: Sequence[str],
    nodes: int,
    models: Sequence[str],
    tested: Sequence[str],
    failing: int = MOST_FAILING,
    per_node: bool = False,
) -> Plan:
    """The plan of a run. Over the runs of a seed every kind comes equally often, in an order of the seed's own.

    number: which run of the seed it is, from 0; kinds: names of faults; nodes: how many there are, seeds included;
    tested: those of the models that have a test; failing: how many models fail by themselves at most, and how often.
    """
    order = random.Random(seed).sample(list(kinds), k=len(kinds))  # noqa: S311 - not for secrets, here and below
    chance = random.Random(f"{seed}/{number}")  # noqa: S311
    moments = tuple(
        Moment(
            fault=order[(number * faults + index) % len(order)],
            # From before the first result until after the last.
            after=chance.randint(0, nodes),
            delay=round(chance.uniform(0, LONGEST_DELAY), 2),
            choice=chance.randrange(1000),
        )
        for index in range(faults)
    )
    flaky_models = chance.sample(list(models), k=chance.randint(0, failing))
    flaky = {name: chance.randint(1, failing) for name in flaky_models}
    null = chance.choice([name for name in tested if name not in flaky])
    nulls = {null: 1} if chance.random() < NULLS_PART else {}
    broken = chance.choice([name for name in models[len(models) // 2 :] if name not in {*flaky, null}])
    return Plan(
        number=number,
        moments=tuple(sorted(moments, key=lambda moment: (moment.after, moment.delay))),
        flaky=flaky,
        nulls=nulls,
        broken=broken if number % BROKEN_EVERY == BROKEN_EVERY - 1 else None,
        per_node=per_node,
    )
