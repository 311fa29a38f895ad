"""The probes and the metrics answer at every address that the pod may have."""

import errno
import socket

import aiohttp
import pytest

from dbt_operator.metrics import RUNS
from dbt_operator.reconcile.endpoints import endpoints


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("", 0))
        other.bind(("", 0))
        return one.getsockname()[1], other.getsockname()[1]


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_probes_and_metrics_answer_at_addresses_of_both_families(host: str) -> None:
    probes, metrics = free_ports()
    wrong: list[str] = []
    async with endpoints(probe_port=probes, metrics_port=metrics, check=lambda: next(iter(wrong), None)):
        assert await get(f"http://{host}:{probes}/healthz") == (200, "ok")
        wrong.append("It is not well.")
        assert await get(f"http://{host}:{probes}/healthz") == (503, "It is not well.")
        status, text = await get(f"http://{host}:{metrics}/metrics")
        assert status == 200
        assert next(iter(RUNS.describe())).name in text


@pytest.mark.parametrize(
    ("missing", "host"), [(socket.AF_INET6, "127.0.0.1"), (socket.AF_INET, "[::1]")], ids=["no-ipv6", "no-ipv4"]
)
async def test_a_machine_without_a_family_of_addresses_has_the_other(
    missing: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Machine(socket.socket):
        """A socket of a kernel that does not know the family."""

        def __init__(self, family: int = -1, *args: int, **more: int) -> None:
            if family == missing:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **more)

    probes, metrics = free_ports()
    with monkeypatch.context() as kernel:
        kernel.setattr("dbt_operator.reconcile.endpoints.socket.socket", Machine)
        serving = endpoints(probe_port=probes, metrics_port=metrics, check=lambda: None)
        await serving.__aenter__()
    try:
        assert await get(f"http://{host}:{probes}/healthz") == (200, "ok")
    finally:
        await serving.__aexit__(None, None, None)


async def test_a_port_that_is_taken_is_an_error() -> None:
    probes, metrics = free_ports()
    with socket.socket() as other:
        other.bind(("", metrics))
        other.listen()
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with endpoints(probe_port=probes, metrics_port=metrics, check=lambda: None):
                pass
    async with endpoints(probe_port=probes, metrics_port=metrics, check=lambda: None):
        assert (await get(f"http://127.0.0.1:{probes}/healthz"))[0] == 200
