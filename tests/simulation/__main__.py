"""Play many seeds: python -m tests.simulation --seeds 0:10000 [--trace]."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.many import play, tell


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "--seeds", default="0:1000", help="A:B plays A up to B without B; a single number plays that one"
    )
    parser.add_argument("--local", action="store_true", help="runs without a cluster, whose processes are killed")
    parser.add_argument("--trace", action="store_true", help="print the story of each seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--keep-going", action="store_true", help="count broken invariants instead of ending at the first"
    )
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last) if last else int(first) + 1)
    if options.trace:
        return max((tell(seed, local=options.local) for seed in seeds), default=0)
    began = time.monotonic()
    broken: Counter[str] = Counter()
    examples: dict[str, list[int]] = {}
    phases: Counter[str] = Counter()
    played = attempts = turns = 0
    for batch in play(seeds, processes=options.processes, local=options.local):
        for report in batch:
            played += 1
            attempts, turns = attempts + report.attempts, turns + report.turns
            phases[report.phase] += 1
            if report.broken is not None:
                broken[report.broken] += 1
                examples.setdefault(report.broken, []).append(report.seed)
        if broken and not options.keep_going:
            break
    seconds = time.monotonic() - began
    sys.stdout.write(f"{played} seeds in {seconds:.0f} s, {attempts} attempts, {turns} turns, {dict(phases)}\n")
    for rule, number in broken.most_common():
        sys.stdout.write(f"  {rule}: {number} times, seeds {' '.join(map(str, sorted(examples[rule])[:8]))}\n")
    if broken and not options.keep_going:
        tell(min(seed for seeds in examples.values() for seed in seeds), local=options.local)
    return 1 if broken else 0


sys.exit(main())
