"""Many disturbed runs, some of them side by side, until enough faults have happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from dev.chaos import clock
from dev.chaos.cluster import ChaosCluster
from dev.chaos.faults import FAULTS
from dev.chaos.plan import MOST_FAILING, make_plan
from dev.chaos.project import MODELS, NODES, TESTED
from dev.chaos.run import Outcome, disturbed_run


@dataclass(frozen=True, kw_only=True)
class Session:
    """What is wanted. runs: exactly so many; without it as many as `faults` faults take. first: number of the first."""

    seed: int
    faults: int
    per_run: int
    runs: int | None = None
    first: int = 0
    together: int = 3
    kinds: tuple[str, ...] = tuple(FAULTS)
    failing: int = MOST_FAILING
    keep: bool = False
    per_node: bool = False


@dataclass(kw_only=True)
class _Progress:
    """Which run is next. Faults that are planned count as long as it is not known whether they happened."""

    session: Session
    lock: threading.Lock = field(default_factory=threading.Lock)
    taken: int = 0
    expected: int = 0
    stopped: bool = False

    def stop(self) -> None:
        """Begin no more runs."""
        self.stopped = True

    def next(self) -> int | None:
        with self.lock:
            session = self.session
            if self.stopped or self._enough():
                return None
            self.taken += 1
            self.expected += session.per_run
            return session.first + self.taken - 1

    def _enough(self) -> bool:
        session = self.session
        if session.runs is not None:
            return self.taken >= session.runs
        # Where hardly any fault finds something to disturb, more runs do not help.
        hopeless = self.taken * session.per_run >= 3 * max(session.faults, session.per_run)
        return hopeless or self.expected >= session.faults

    def ended(self, outcome: Outcome) -> None:
        with self.lock:
            self.expected += outcome.faults - self.session.per_run


def execute(cluster: ChaosCluster, session: Session, *, seen: Callable[[Outcome], None]) -> list[Outcome]:
    """Do what is wanted; `seen` is told of each run as it ends, of one at a time. Raises: ChaosError."""
    progress, outcomes, telling = _Progress(session=session), list[Outcome](), threading.Lock()

    def worker() -> None:
        while (number := progress.next()) is not None:
            plan = make_plan(
                seed=session.seed,
                number=number,
                faults=session.per_run,
                kinds=session.kinds,
                nodes=NODES,
                models=MODELS,
                tested=TESTED,
                failing=session.failing,
                per_node=session.per_node,
            )
            outcome = disturbed_run(cluster, plan, keep=session.keep)
            progress.ended(outcome)
            with telling:
                outcomes.append(outcome)
                seen(outcome)

    with clock.adjustable(cluster), ThreadPoolExecutor(max_workers=session.together) as pool:
        workers = [pool.submit(worker) for _ in range(session.together)]
        try:
            wait(workers, return_when=FIRST_EXCEPTION)
        finally:  # also when it is interrupted: what has begun is brought to its end, and cleaned up
            progress.stop()
    for one in workers:
        one.result()
    return sorted(outcomes, key=lambda outcome: outcome.plan.number)
