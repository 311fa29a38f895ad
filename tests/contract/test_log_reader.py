"""The log reader against a real kubelet: every line arrives exactly, however the stream is disturbed."""

import asyncio
import hashlib
import inspect
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from dbt_operator.kube.client import Client, RetryPolicy
from dbt_operator.kube.logs import Ended, EndReason, Patience, follow
from dbt_operator.kube.resources import PODS
from tests.contract.fault_server import FaultServer, fault_server, refusal
from tests.contract.network import cutting_proxy

IMAGE = "localhost/dbt-operator/jaffle-shop:dev"
OVERSIZE = 2 * 1024 * 1024


def printed_lines(seed: int, size: int) -> list[bytes]:
    """What the pod prints: this very function runs in it too."""
    chance = random.Random(seed)  # noqa: S311  # lines, no secrets
    nasty = ["plain", "\u2028 \u2029 \x85 \x0b \x0c \x1c", "tab\tand\rcarriage return\r", '{"a": "\\u0000"}', "", " "]
    lines: list[bytes] = []
    total = 0
    while total < size:
        line = f"{len(lines)} {chance.choice(nasty)} {'x' * chance.randrange(300)}".encode()
        match len(lines) % 1000:
            case 100:
                line += b"\x00\xff\xfe\xc3\x28 not utf-8 \x80"
            case 200:
                line = b"y" * chance.randrange(16000, 50000)
            case 300:
                line = b""
            case 400:
                line = b"2026-11-20T17:11:13.219457123Z {looks like the kubelet's own stamp}"
        lines.append(line)
        total += len(line)
    lines.insert(len(lines) // 2, b"z" * (2 * 1024 * 1024))
    lines.append(b"a last line without its newline")
    return lines


PRINTER = f"""
import random, sys, time
{inspect.getsource(printed_lines)}
lines = printed_lines(int(sys.argv[1]), int(sys.argv[2]))
pause, code = float(sys.argv[3]), int(sys.argv[4])
for count, line in enumerate(lines):
    if pause and count == len(lines) // 3:
        sys.stdout.buffer.flush()
        time.sleep(pause)
    sys.stdout.buffer.write(line + (b"" if count == len(lines) - 1 else b"\\n"))
sys.stdout.buffer.flush()
sys.exit(code)
"""


class Sink:
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.batches: list[int] = []
        self.position: datetime | None = None

    def __call__(self, lines: Sequence[bytes], position: datetime | None) -> None:
        self.lines += lines
        self.batches.append(len(lines))
        self.position = position


def digest(lines: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def assert_exactly(sink: Sink, seed: int, size: int) -> None:
    """All lines, once each, in order, but for the one over the limit."""
    expected = [line for line in printed_lines(seed, size) if len(line) < OVERSIZE]
    assert len(sink.lines) == len(expected)
    assert digest(sink.lines) == digest(expected)


async def start_pod(client: Client, namespace: str, *command: str, name: str = "printer") -> str:
    """Start a pod with a container `main` and return its uid."""
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": list(command)}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    manifest = {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
    return str((await client.create(resource=PODS, manifest=manifest))["metadata"]["uid"])


async def start_printer(client: Client, namespace: str, *, size: int, pause: float = 0.0, code: int = 0) -> None:
    await start_pod(client, namespace, "python3", "-c", PRINTER, "7", str(size), str(pause), str(code))


async def phase_of(client: Client, namespace: str, name: str = "printer") -> str:
    pod = await client.get(resource=PODS, namespace=namespace, name=name)
    return str(pod["status"]["phase"])


async def until_phase(client: Client, namespace: str, *phases: str) -> None:
    async with asyncio.timeout(300):
        while await phase_of(client, namespace) not in phases:  # noqa: ASYNC110  # the state is the server's
            await asyncio.sleep(0.05)


async def read(client: Client, namespace: str, sink: Sink, **more: object) -> Ended:
    return await follow(client=client, namespace=namespace, pod="printer", container="main", sink=sink, **more)  # type: ignore[arg-type]  # options as they are


async def test_every_line_arrives_exactly_whenever_the_reader_comes(client: Client, namespace: str) -> None:
    size = 5_000_000  # with the long line and the stamps less than the 10 MiB at which the kubelet rotates a log
    early, middle, late = Sink(), Sink(), Sink()
    await start_printer(client, namespace, size=size, pause=3.0, code=3)
    first = asyncio.create_task(read(client, namespace, early))
    await until_phase(client, namespace, "Running")
    await asyncio.sleep(1.5)
    second = asyncio.create_task(read(client, namespace, middle))
    ends = [await first, await second, await read(client, namespace, late)]
    for sink, end in zip((early, middle, late), ends, strict=True):
        assert_exactly(sink, 7, size)
        assert (end.reason, end.exit_code, end.container_reason) == (EndReason.TERMINATED, 3, "Error")
        assert (end.lines, end.position) == (len(sink.lines), sink.position)
        assert end.dropped >= 1
        assert max(sink.batches) <= 500


async def test_every_line_arrives_exactly_through_a_connection_that_breaks(
    client: Client, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    size = 6_000_000
    # Long enough for a slow reader to follow, and to be cut, while there is more to come.
    await start_printer(client, namespace, size=size, pause=8.0)
    async with (
        cutting_proxy(kubeconfig=kubeconfig, folder=tmp_path, cut_after=700_000, cuts=8) as (path, proxy),
        await Client.connect(kubeconfig=str(path)) as through,
    ):
        sink = Sink()
        end = await read(through, namespace, sink)
        assert proxy.cuts < 8
    assert_exactly(sink, 7, size)
    assert end.reason is EndReason.TERMINATED
    assert end.reconnects >= 1


async def test_a_silent_container_is_followed_on(client: Client, namespace: str) -> None:
    size = 200_000
    await start_printer(client, namespace, size=size, pause=4.0)
    sink = Sink()
    end = await read(client, namespace, sink, patience=Patience(silence=0.7))
    assert_exactly(sink, 7, size)
    # A busy machine may be silent for longer than that more than once.
    assert end.reconnects >= 1


async def test_reading_goes_on_where_an_earlier_reader_stopped(client: Client, namespace: str) -> None:
    size = 500_000
    await start_printer(client, namespace, size=size, pause=2.5)
    first = Sink()
    task = asyncio.create_task(read(client, namespace, first))
    await until_phase(client, namespace, "Running")
    await asyncio.sleep(1.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    second = Sink()
    await read(client, namespace, second, since=first.position)
    expected = [line for line in printed_lines(7, size) if len(line) < OVERSIZE]
    assert 0 < len(first.lines) < len(expected)
    assert expected[: len(first.lines)] == first.lines
    assert second.lines == expected[-len(second.lines) :]
    assert len(first.lines) + len(second.lines) >= len(expected)


async def test_the_reader_says_when_it_has_the_past(client: Client, namespace: str) -> None:
    code = "import time; print('past', flush=True); time.sleep(3); print('present', flush=True)"
    await start_pod(client, namespace, "python3", "-c", code)
    await until_phase(client, namespace, "Running")
    await asyncio.sleep(1)
    sink, seen = Sink(), list[list[bytes]]()
    await read(client, namespace, sink, caught_up=lambda: seen.append(list(sink.lines)))
    assert seen == [[b"past"]]
    assert sink.lines == [b"past", b"present"]


async def test_a_deleted_pod_ends_the_reading(client: Client, namespace: str) -> None:
    await start_pod(client, namespace, "python3", "-c", "import time; print('here', flush=True); time.sleep(60)")
    sink = Sink()
    task = asyncio.create_task(read(client, namespace, sink))
    async with asyncio.timeout(300):
        while not sink.lines:  # noqa: ASYNC110  # shorter than a sink with an event
            await asyncio.sleep(0.05)
    await client.delete(resource=PODS, namespace=namespace, name="printer", grace_seconds=0)
    end = await asyncio.wait_for(task, 60)
    assert sink.lines == [b"here"]
    assert end.reason in (EndReason.POD_GONE, EndReason.TERMINATED)


async def test_a_pod_of_the_same_name_is_another_pod(client: Client, namespace: str) -> None:
    await start_pod(client, namespace, "python3", "-c", "print('not for you')")
    await until_phase(client, namespace, "Succeeded")
    sink = Sink()
    end = await read(client, namespace, sink, pod_uid="00000000-0000-0000-0000-000000000000")
    assert end.reason is EndReason.POD_GONE
    assert sink.lines == []


async def test_a_pod_that_is_not_there_has_no_log(client: Client, namespace: str) -> None:
    end = await read(client, namespace, Sink())
    assert end.reason is EndReason.POD_GONE


async def test_a_container_that_never_starts_is_waited_for_until_its_pod_is_gone(
    client: Client, namespace: str
) -> None:
    await start_pod(client, namespace, "/no/such/program")
    end = await read(client, namespace, Sink())
    assert (end.reason, end.lines, end.container_reason) == (EndReason.TERMINATED, 0, "StartError")


async def test_a_slow_sink_loses_nothing(client: Client, namespace: str) -> None:
    size = 2_000_000
    await start_printer(client, namespace, size=size)
    kept = Sink()

    async def slow(lines: Sequence[bytes], position: datetime | None) -> None:
        await asyncio.sleep(0.01)
        kept(lines, position)

    end = await follow(client=client, namespace=namespace, pod="printer", container="main", sink=slow)
    assert_exactly(kept, 7, size)
    assert end.finished_at is not None
    assert end.finished_at.tzinfo is not None
    assert end.finished_at <= datetime.now(UTC)


@pytest.fixture
async def faults(tmp_path: Path) -> AsyncIterator[tuple[FaultServer, Client]]:
    async with (
        fault_server(tmp_path) as (server, path),
        await Client.connect(kubeconfig=str(path), retry=RetryPolicy(attempts=1)) as connected,
    ):
        yield server, connected


HASTE = Patience(first=0.01, longest=0.02, longest_after_error=0.02, give_up=0.2)
POD = "/api/v1/namespaces/n/pods/printer"


def pod_in_state(**state: object) -> dict[str, object]:
    statuses = [{"name": "main", "state": state}]
    return {"metadata": {"name": "printer", "uid": "u"}, "status": {"containerStatuses": statuses}}


async def test_the_log_of_an_ended_container_that_stays_unreadable_is_given_up(
    faults: tuple[FaultServer, Client],
) -> None:
    server, client = faults
    server.objects[POD] = pod_in_state(terminated={"exitCode": 1, "reason": "Error"})
    server.fault = lambda request: refusal(500, message="no log") if request.path.endswith("/log") else None
    end = await read(client, "n", Sink(), patience=HASTE)
    assert (end.reason, end.exit_code) == (EndReason.UNREADABLE, 1)
    assert "no log" in end.message


async def test_a_log_that_was_removed_is_not_taken_for_an_empty_one(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults
    server.objects[POD] = pod_in_state(terminated={"exitCode": 0})
    words = b"unable to retrieve container logs for containerd://abc"
    server.fault = lambda request: web.Response(body=words) if request.path.endswith("/log") else None
    end = await read(client, "n", Sink(), patience=HASTE)
    assert (end.reason, end.message) == (EndReason.UNREADABLE, words.decode())


@pytest.mark.parametrize("heard", [b"", b"2026-11-20T17:11:13.219457123Z one\n2026-11-20T17:11:14.2194"])
async def test_an_answer_that_ends_early_is_not_taken_for_the_whole_log(
    faults: tuple[FaultServer, Client], heard: bytes
) -> None:
    """As the API server passes it on when its own connection to the kubelet breaks."""
    server, client = faults
    server.objects[POD] = pod_in_state(terminated={"exitCode": 0})
    log = b"2026-11-20T17:11:13.219457123Z one\n2026-11-20T17:11:14.219457123Z two\n"
    answers = iter([heard, heard])  # while it was followed, and when the container had ended

    def fault(request: web.Request) -> web.Response | None:
        return web.Response(body=next(answers, log)) if request.path.endswith("/log") else None

    server.fault = fault
    sink = Sink()
    end = await read(client, "n", sink, patience=HASTE)
    assert (end.reason, end.exit_code) == (EndReason.TERMINATED, 0)
    assert {b"one", b"two"} <= set(sink.lines)


async def test_lines_that_are_the_same_and_came_at_the_same_time_are_read_once_each(
    faults: tuple[FaultServer, Client],
) -> None:
    server, client = faults
    server.objects[POD] = pod_in_state(terminated={"exitCode": 0})
    log = b"2026-11-20T17:11:13.219457123Z one\n" + 1200 * b"2026-11-20T17:11:14.000000000Z again\n"
    server.fault = lambda request: web.Response(body=log) if request.path.endswith("/log") else None
    sink = Sink()
    end = await read(client, "n", sink, patience=HASTE)
    assert end.reason is EndReason.TERMINATED
    assert sink.lines == [b"one", *1200 * [b"again"]]


async def test_a_log_whose_lines_cannot_be_told_apart_is_not_read_for_ever(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults
    server.objects[POD] = pod_in_state(terminated={"exitCode": 0})
    server.fault = lambda request: web.Response(body=b"no stamp\n") if request.path.endswith("/log") else None
    sink = Sink()
    end = await read(client, "n", sink, patience=HASTE)
    assert end.reason is EndReason.TERMINATED
    assert set(sink.lines) == {b"no stamp"}


@pytest.mark.parametrize("caught_up", [None, lambda: None])
async def test_a_running_container_is_never_given_up_but_told(
    faults: tuple[FaultServer, Client], caught_up: Callable[[], None] | None
) -> None:
    server, client = faults
    server.objects[POD] = pod_in_state(running={})
    refused = 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal refused
        if not request.path.endswith("/log"):
            return None
        refused += 1
        if refused < 40:
            return refusal((403, 401, 500, 502)[refused % 4])
        server.objects[POD] = pod_in_state(terminated={"exitCode": 0})
        return web.Response(body=b"2026-11-20T17:11:13.219457123Z at last\n2026-11-20T17:11:14.219457123Z no newline")

    server.fault = fault
    sink, told = Sink(), list[str | None]()
    end = await read(client, "n", sink, patience=HASTE, caught_up=caught_up, stalled=told.append)
    assert end.reason is EndReason.TERMINATED
    assert sink.lines == [b"at last", b"no newline"]
    assert (len(told), told[0] is not None, told[-1]) == (2, True, None)


async def test_an_error_of_the_sink_is_the_callers(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults
    server.objects[POD] = pod_in_state(running={})
    server.fault = lambda request: web.Response(body=b"x\n") if request.path.endswith("/log") else None

    def broken(lines: Sequence[bytes], position: datetime | None) -> None:
        raise OSError(f"disk full: {len(lines)} {position}")

    with pytest.raises(OSError, match="disk full"):
        await follow(client=client, namespace="n", pod="printer", container="main", sink=broken, patience=HASTE)
