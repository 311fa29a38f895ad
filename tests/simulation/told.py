"""What a simulated story tells in a process of its own, where sets have an order that the seed of hashes decides."""

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = (
    "import json; from tests.simulation.{module} import {story};"
    "print(json.dumps([line for seed in range({seeds}) for line in {story}(seed=seed, tracing=True).run().trace]))"
)


def told(module: str, story: str, *, seeds: int) -> set[str]:
    """The lines of these seeds as JSON, with two orders of sets: one text where the order makes no difference."""
    program = _PROGRAM.format(module=module, story=story, seeds=seeds)
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
