"""What projects, rules and faults are drawn from: what falls together in one seed is what the seed can find."""

from dataclasses import dataclass, replace

from dbt_operator.api.commands import Command


@dataclass(frozen=True)
class Mix:
    """Choices, each as likely as the others, and likelihoods. Times are in milliseconds, waits in seconds."""

    models: tuple[int, int]  # at least, at most
    parents: int  # of a model, at most
    trouble: tuple[float, ...]  # how likely a node fails at first
    adapters: tuple[str, ...]
    fail_fast: float
    ephemeral: float  # how likely a model is
    selections: float  # how likely only a part of the project is selected
    lengths: tuple[int, ...]  # of executions
    retried: float  # how likely a kind of failure is one to retry
    limits: tuple[int, ...]
    first_waits: tuple[int, ...]
    parallelism: tuple[int, ...]
    commands: tuple[Command, ...] = (
        *(Command.BUILD,) * 7,
        *(Command.RUN, Command.TEST, Command.SEED, Command.SNAPSHOT, Command.CLONE),
    )
    after_all: float = 0.25  # how likely the tests of `build` have a stage of their own
    fates: tuple[float, ...] = (0.0, 0.2, 0.5, 0.8)  # how likely a pod comes to harm
    crashes: tuple[float, ...] = (0.0, 0.0, 0.005, 0.02)  # how likely the operator dies at a call
    stalls: tuple[float, ...] = (0.0, 0.0, 0.05, 0.3)  # how likely a call takes long


ANY = Mix(
    models=(2, 4),
    parents=2,
    trouble=(0.0, 0.1, 0.3, 0.5),
    adapters=("duckdb", "postgres", "postgres"),
    fail_fast=0.12,
    ephemeral=0.15,
    selections=0.25,
    lengths=(150, 400, 900, 2000, 5000, 12_000),
    retried=0.65,
    limits=(0, 1, 1, 2, 3),
    first_waits=(0, 1, 5, 20),
    parallelism=(1, 2, 5),
)

# Much fails beside much that is built slowly, so that retries run beside each other and beside the first attempt.
BUSY = Mix(
    models=(3, 5),
    parents=1,
    trouble=(0.3, 0.5),
    adapters=("postgres",),
    fail_fast=0.03,
    ephemeral=0.08,
    selections=0.1,
    lengths=(900, 5000, 12_000, 30_000, 60_000),
    retried=0.9,
    limits=(1, 1, 2),
    first_waits=(0, 1),
    parallelism=(2, 5),
)

# The operator and the pods die in the same seconds.
HARSH = replace(BUSY, fates=(0.8,), crashes=(0.02,))

# Pods go while the API server takes minutes.
SLOW = replace(BUSY, lengths=(12_000, 30_000, 60_000), fates=(0.8,), stalls=(0.3,))

DRAWN = {BUSY: 4, ANY: 4, HARSH: 1, SLOW: 1}  # how many seeds of ten
