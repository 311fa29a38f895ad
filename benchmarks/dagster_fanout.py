"""So many operations of Dagster that wait, by dagster-async-executor: one gives out the items, one collects them.

    python dagster_fanout.py OPERATIONS SECONDS

It is executed by the Python of an environment of its own (requirements/dagster.txt), which has nothing of this
project. The shape and the measured time are those of the executor's own performance test: from the start of the run to
its end, as Dagster has stored them, on a temporary instance. Prints JSON.
"""

import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

# Of another environment, so that nothing of them is known here.
anyio: Any = importlib.import_module("anyio")
dagster: Any = importlib.import_module("dagster")
executor: Any = importlib.import_module("dagster_async_executor").async_executor


def job(operations: int, seconds: float) -> Any:
    """The job; found by its name when Dagster makes it anew."""

    async def give() -> Any:  # what Dagster takes for the type of the items
        for number in range(operations):
            yield dagster.DynamicOutput(value=number, mapping_key=f"n{number}")

    async def wait(item: Any) -> Any:
        await anyio.sleep(seconds)
        return item

    async def collect(items: Any) -> Any:
        return len(items)

    given, waiting, collected = dagster.op(out=dagster.DynamicOut())(give), dagster.op(wait), dagster.op(collect)

    def fanout() -> None:
        collected(given().map(waiting).collect())

    return dagster.job(executor_def=executor)(fanout)


def main() -> None:
    """Execute it once."""
    operations, seconds = int(sys.argv[1]), float(sys.argv[2])
    made = dagster.build_reconstructable_job(
        reconstructor_module_name="dagster_fanout",
        reconstructor_function_name="job",
        reconstructable_args=(operations, seconds),
        reconstructable_kwargs={},
    )
    began, used = time.perf_counter(), time.process_time()
    with dagster.instance_for_test() as instance, dagster.execute_job(made, instance=instance) as result:
        wall, used = time.perf_counter() - began, time.process_time() - used
        if not result.success:
            raise SystemExit("the job has failed")
        stats = instance.get_run_stats(result.run_id)
    found = {
        "fan_out": stats.end_time - stats.start_time,
        "wall": wall,
        "cpu": used,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
