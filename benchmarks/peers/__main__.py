"""The same project on the same Postgres by dbt-operator and by others, one after the other.

    python -m benchmarks.peers [--peers dbt,local,cosmos-local] [--nodes 40] [--seconds 0] [--threads 4]

One of the models fails the first time that it is executed. Each peer has what it needs ready before (services, and
where it wants one, the manifest), and is looked at five times a second where it shows states to people. One that does
not come to an end in ten minutes, or in what is left of --minutes, is stopped, and the table says so.

Needs the programs of Postgres; environments of the peers are installed from the package index once and kept. `cluster`
needs the development cluster with its images besides; scale an installed operator to 0.
"""

import argparse
import subprocess
import tempfile
import time
import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.cluster import Cluster
from benchmarks.peers.cosmos import Cosmos
from benchmarks.peers.dagster import Dagster
from benchmarks.peers.local import Local
from benchmarks.peers.peer import Measured, NotHereError, Peer, Task, measure
from benchmarks.peers.plain import Plain
from benchmarks.peers.prefect import Prefect
from benchmarks.peers.warehouse import DATABASE, server
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

_PATIENCE = 600  # seconds for one peer


def _rows(title: str, measured: Measured) -> Iterator[Row]:
    columns = (
        ("the run", measured.wall, "s"),
        ("processor time", measured.processor, "s"),
        ("memory before", measured.idle, "MiB"),
        ("memory at most", measured.memory, "MiB"),
        ("failure shown after", measured.shown, "s"),
        ("green after", measured.green, "s"),
        ("all else on the machine", measured.others, "s"),
    )
    for what, value, unit in columns:
        if value is not None:
            yield Row(title, (value,), unit, column=what)
    if measured.beside is not None:
        seconds, mebibytes = measured.beside
        beside = "the cluster's own parts meanwhile"
        yield Row(beside, (seconds,), "s", column="processor time")
        yield Row(beside, (mebibytes,), "MiB", column="memory at most")


def _notes(given: argparse.Namespace, said: Mapping[str, Sequence[str]]) -> str:
    lines = [
        f"{given.nodes} nodes with their tests, {given.threads} threads, {given.seconds:g} s of sleep in each model,"
        " one run each. One model fails the first time; each peer retries it after 1 s where it lets one say how long.",
        "`failure shown after` and `green after` are counted from the moment at which Postgres reported the error.",
        "Looked at every 0.2 s. Processor time and memory are those of all processes of a peer, without the warehouse.",
        "`all else on the machine` is the processor time of whatever else ran meanwhile, this measurement among it.",
        "Where it is much, times are too long, and cannot be compared.",
        "Memory that processes share counts once. All peers, Postgres and this measurement share the processors.",
    ]
    told = [f"- {title}: {' '.join(sentences)}" for title, sentences in said.items()]
    return "\n".join([*lines, "", *told])


def main() -> None:
    """Measure, store and print."""
    names = [peer.name for peer in PEERS]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peers", default=",".join(names), help=f"which ones, of {', '.join(names)}")
    options.add_argument("--nodes", type=int, default=40)
    options.add_argument("--seconds", type=float, default=0, help="that each model sleeps in Postgres")
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--minutes", type=float, default=25, help="for all peers together")
    given = options.parse_args()
    wanted = given.peers.split(",")
    if unknown := set(wanted) - set(names):
        options.error(f"unknown peers: {', '.join(sorted(unknown))}")
    on, rows, said, until = machine(), list[Row](), dict[str, list[str]](), time.time() + given.minutes * 60
    with tempfile.TemporaryDirectory(prefix="dbt-operator-peers-") as place:
        folder = Path(place)
        folder.chmod(0o755)  # Postgres has a user of its own
        # Pods do not reach the machine's own 127.0.0.1.
        addresses = ["127.0.0.1", *([node_address()] if Cluster.name in wanted else [])]
        with server(folder / "warehouse", databases=[DATABASE], addresses=addresses) as warehouse:
            for peer in (peer for peer in PEERS if peer.name in wanted):
                own = folder / peer.name
                own.mkdir()
                task = Task(
                    nodes=given.nodes,
                    seconds=given.seconds,
                    threads=given.threads,
                    warehouse=warehouse,
                    patience=max(0, min(_PATIENCE, until - time.time())),
                )
                print(f"{peer.title} ...", flush=True)
                try:
                    measured = measure(peer, task, own)
                except (NotHereError, subprocess.CalledProcessError, urllib.error.URLError) as error:
                    said[peer.title] = [f"not measured: {error}"]
                else:
                    print(measured, flush=True)
                    rows += _rows(peer.title, measured)
                    said[peer.title] = [peer.about(), *([f"**{measured.remark}**"] if measured.remark else [])]
    title = "The same project by others"
    Result(scenario="peers", title=title, rows=tuple(rows), notes=_notes(given, said), machine=on).save()


if __name__ == "__main__":
    main()
