"""The same project on the same Postgres by dbt-operator and by others, one after the other.

    python -m benchmarks.peers [--peers dbt,local,cosmos-local] [--nodes 100] [--rounds 1] [--threads 4]

One of the models fails the first time that it is executed. Each peer has what it needs ready before (services, and
where it wants one, the manifest), and is looked at five times a second where it shows states to people. One that does
not come to an end in ten minutes, or in what is left of --minutes, is stopped, and the table says so.

Needs the programs of Postgres; environments of the peers are installed from the package index once and kept. `cluster`
needs the development cluster with its images besides; scale an installed operator to 0.
"""

import argparse
import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.cluster import Cluster
from benchmarks.peers.cosmos import Cosmos
from benchmarks.peers.dagster import Dagster
from benchmarks.peers.local import Local
from benchmarks.peers.peer import Measured, NotHereError, Peer, Task, measure
from benchmarks.peers.plain import Plain
from benchmarks.peers.prefect import Prefect
from benchmarks.peers.warehouse import DATABASE, Server, server
from benchmarks.results import Result, Row, machine
from dev.cluster.network import node_address

PEERS: tuple[Peer, ...] = (
    Plain(),
    Local(),
    Cluster(),
    Dagster(),
    Prefect(),
    Cosmos("watcher"),
    Cosmos("local"),
)

_PATIENCE = 600  # seconds for one run
_LEAST = 30  # seconds, below which none is begun
_PARTS = "the cluster's own parts meanwhile"


def _rows(title: str, measured: Sequence[Measured]) -> Iterator[Row]:
    columns: tuple[tuple[str, str, Callable[[Measured], float | None]], ...] = (
        ("the run", "s", lambda one: one.wall),
        ("processor time", "s", lambda one: one.processor),
        ("memory before", "MiB", lambda one: one.idle),
        ("memory at most", "MiB", lambda one: one.memory),
        ("failure shown after", "s", lambda one: one.shown),
        ("green after", "s", lambda one: one.green),
        ("all else on the machine", "s", lambda one: one.others),
    )
    for what, unit, figure in columns:
        values = tuple(value for one in measured if (value := figure(one)) is not None)
        if values:
            yield Row(title, values, unit, column=what)
    beside = [one.beside for one in measured if one.beside is not None]
    if beside:
        yield Row(_PARTS, tuple(one[0] for one in beside), "s", column="processor time")
        yield Row(_PARTS, tuple(one[1] for one in beside), "MiB", column="memory at most")


def _notes(given: argparse.Namespace, said: Mapping[str, Iterable[str]]) -> str:
    lines = [
        f"{given.nodes} nodes with their tests, {given.threads} threads, {given.seconds:g} s of sleep in each model; of"
        f" each, this often: {given.rounds}.",
        "One model fails the first time; each peer retries it after 1 s where it lets one say how long.",
        "`failure shown after` and `green after` are counted from the moment at which Postgres reported the error; a",
        "dash is what was not shown. All are looked at every 0.2 s, so what is sooner than that is not told apart.",
        "Processor time and memory are those of all processes of a peer, without the warehouse, from the beginning of",
        "the run to its end; memory that processes share counts once. `all else on the machine` is the processor time",
        "of whatever else ran meanwhile, this measurement among it and the warehouse not: where it is much, times are",
        "too long, and not to be compared. All share the same processors; a fleet of workers would have its own.",
    ]
    told = [f"- {title}: {' '.join(sentences)}" for title, sentences in said.items()]
    return "\n".join([*lines, "", *told])


def _measured(given: argparse.Namespace, peers: Sequence[Peer], folder: Path, warehouse: Server) -> Result:
    on, until = machine(), time.monotonic() + given.minutes * 60
    found: dict[str, list[Measured]] = {}
    said = {peer.title: dict.fromkeys([peer.about()]) for peer in peers}  # without what was said before
    for number, peer in itertools.product(range(given.rounds), peers):
        patience = min(_PATIENCE, until - time.monotonic())
        task = Task(
            nodes=given.nodes, seconds=given.seconds, threads=given.threads, warehouse=warehouse, patience=patience
        )
        print(f"{peer.title} ...", flush=True)
        try:
            measured = _one(peer, task, folder / f"{peer.name}-{number}")
        except (NotHereError, subprocess.CalledProcessError, OSError) as error:
            said[peer.title][f"**Not measured: {error}.**"] = None
        else:
            print(measured, flush=True)
            found.setdefault(peer.title, []).append(measured)
            if measured.remark:
                said[peer.title][f"**{measured.remark}.**"] = None
    rows = [row for title, several in found.items() for row in _rows(title, several)]
    title = "The same project by dbt, dbt-operator and others"
    return Result(scenario="peers", title=title, rows=tuple(rows), notes=_notes(given, said), machine=on)


def _one(peer: Peer, task: Task, folder: Path) -> Measured:
    if task.patience < _LEAST:
        raise NotHereError("no time was left for it")
    folder.mkdir()
    return measure(peer, task, folder)


def main() -> None:
    """Measure, store and print."""
    names = [peer.name for peer in PEERS]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peers", default=",".join(names), help=f"which ones, of {', '.join(names)}")
    options.add_argument("--nodes", type=int, default=100)
    options.add_argument("--seconds", type=float, default=0, help="that each model sleeps in Postgres")
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--minutes", type=float, default=25, help="for all together")
    given = options.parse_args()
    wanted = given.peers.split(",")
    if unknown := set(wanted) - set(names):
        options.error(f"unknown peers: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="dbt-operator-peers-") as place:
        folder = Path(place)
        folder.chmod(0o755)  # Postgres has a user of its own
        # Pods do not reach the machine's own 127.0.0.1.
        addresses = ["127.0.0.1", *([node_address()] if Cluster.name in wanted else [])]
        with server(folder / "warehouse", databases=[DATABASE], addresses=addresses) as warehouse:
            _measured(given, [peer for peer in PEERS if peer.name in wanted], folder, warehouse).save()


if __name__ == "__main__":
    main()
