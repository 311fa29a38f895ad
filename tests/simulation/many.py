"""Many seeds, on several processes."""

import gc
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from tests.simulation.local_story import LocalStory
from tests.simulation.story import Report, Story

_BATCH = 100


def play(seeds: Sequence[int], *, processes: int, local: bool = False) -> Iterator[list[Report]]:
    """The reports, in batches, in the order of the seeds. local: of runs without a cluster."""
    batches = [seeds[at : at + _BATCH] for at in range(0, len(seeds), _BATCH)]
    if processes == 1 or len(batches) == 1:
        yield from (play_batch(batch, local=local) for batch in batches)
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting = [pool.submit(play_batch, batch, local=local) for batch in batches[: 4 * processes]]
        rest = iter(batches[4 * processes :])
        while waiting:
            yield waiting.pop(0).result()
            batch = next(rest, None)
            if batch is not None:
                waiting.append(pool.submit(play_batch, batch, local=local))


def play_batch(seeds: Sequence[int], *, local: bool = False) -> list[Report]:
    """The reports of these seeds, without their traces."""
    story = LocalStory if local else Story
    with _little_garbage_collection():
        return [story(seed=seed).run() for seed in seeds]


@contextmanager
def _little_garbage_collection() -> Iterator[None]:
    """A seventh of the time: a story makes many values that live to its end, and few of them in cycles."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def tell(seed: int, *, local: bool = False) -> int:
    """Print the story of a seed; 1 when an invariant is broken."""
    report = (LocalStory if local else Story)(seed=seed, tracing=True).run()
    sys.stdout.write("".join(f"{line}\n" for line in report.trace))
    end = f"{report.phase}, {report.attempts} attempts, {report.turns} turns"
    sys.stdout.write(f"seed {seed}: {report.message or 'all is well'} ({end})\n")
    return 0 if report.broken is None else 1
