"""All scenarios, one after the other, then the report: `python -m benchmarks [--length usual] [--only retry,start]`.

Each is a process of its own, and stores what it has measured in `benchmarks/results/`. One that fails does not keep the
others from their turn. Nothing else should use the machine or the cluster meanwhile.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass

LENGTHS = ("short", "usual", "long")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A module, and its arguments for each of the lengths."""

    module: str
    short: str = ""
    usual: str = ""
    long: str = ""

    def command(self, length: str) -> list[str]:
        """What is executed."""
        return [sys.executable, "-m", f"benchmarks.{self.module}", *str(getattr(self, length)).split()]


THREADS = "--threads 1,2,4,8,16"
SCENARIOS = (
    Scenario("planning", short="--models 200 --turns 5", long="--turns 100"),
    Scenario("events", short="--models 300"),
    Scenario("async_fanout", short="--nodes 1 20 --dbt 20 --dagster 20 --rounds 1", long="--rounds 5"),
    Scenario("start", short="--rounds 1", usual="--demo", long="--rounds 15 --demo"),
    Scenario("retry", short="--rounds 1", long="--rounds 15"),
    Scenario("overhead", short="--pairs 1 --sample 2", usual=THREADS, long=f"{THREADS} --pairs 10"),
    Scenario(
        "overhead",
        short="--warehouse postgres --pairs 1 --sample 2",
        usual=f"--warehouse postgres {THREADS}",
        long=f"--warehouse postgres {THREADS} --pairs 10",
    ),
    Scenario("width", short="--nodes 100,300", long="--nodes 100,300,1000,3000,10000"),
    Scenario("many_runs", short="--runs 3 --pace 5"),
    Scenario("soak", short="--runs 60", usual="--runs 200", long="--runs 500"),
)


def main() -> int:
    """Run them; 1 where any has failed."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--length", choices=LENGTHS, default="usual", help="how much each measures")
    options.add_argument("--only", type=_modules, default=[], help="these scenarios, with commas")
    given = options.parse_args()
    chosen = [each for each in SCENARIOS if not given.only or each.module in given.only]
    failed = [words for words in (_run(each.command(given.length)) for each in chosen) if words]
    subprocess.run([sys.executable, "-m", "benchmarks.report"], check=True)
    if failed:
        print("Not all were measured, and of these the last result stands:", *failed, sep="\n  ", file=sys.stderr)
    return int(bool(failed))


def _run(command: list[str]) -> str:
    """Execute a scenario; how it was called where it has failed."""
    words = " ".join(["python", *command[1:]])
    print(f"\n$ {words}", flush=True)
    return "" if subprocess.run(command, check=False).returncode == 0 else words


def _modules(text: str) -> list[str]:
    found, known = text.split(","), {each.module for each in SCENARIOS}
    if unknown := [name for name in found if name not in known]:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}, only {', '.join(sorted(known))}")
    return found


if __name__ == "__main__":
    sys.exit(main())
