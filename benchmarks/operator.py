"""The operator that is measured: a process beside the cluster, for one namespace, with the allocator of its image."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.images import instructions
from dev.install import NAMESPACE, RELEASE
from tests import conftest
from tests.api import Api
from tests.conftest import CHECKOUT, CLUSTER

KUBECONFIG = CLUSTER / "kubeconfig"
KUBECTL = str(CLUSTER / "bin" / "kubectl")
# Others where somebody else on this machine measures too.
METRICS_PORT = os.environ.get("DBT_OPERATOR_METRICS_PORT", "19090")
PROBE_PORT = os.environ.get("DBT_OPERATOR_PROBE_PORT", "18080")


def kubectl(*arguments: str) -> str:
    """What kubectl prints, about the development cluster."""
    command = [KUBECTL, "--kubeconfig", str(KUBECONFIG), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def new_namespace() -> Iterator[str]:
    """A namespace for as long as this lasts. Raises: SystemExit where there is no development cluster."""
    if not KUBECONFIG.exists():
        raise SystemExit(f"{KUBECONFIG} does not exist: start the development cluster with `make cluster`.")
    with conftest.new_namespace(Api(KUBECONFIG)) as namespace:
        yield namespace


@contextmanager
def operator(
    namespace: str, *, log: Path, probe: str = PROBE_PORT, metrics: str = METRICS_PORT
) -> Iterator[subprocess.Popen[bytes]]:
    """The operator, for our namespace only. One that is installed is scaled to 0 meanwhile.

    Raises: SystemExit where something else has its ports: what it says would be taken for the operator's.
    """
    for setting, port in (("METRICS_PORT", METRICS_PORT), ("PROBE_PORT", PROBE_PORT)):
        if _is_taken(int(port)):
            raise SystemExit(f"Port {port} is taken: set DBT_OPERATOR_{setting} to one that is free.")
    settings = {"WATCH_NAMESPACES": namespace, "PROBE_PORT": probe, "METRICS_PORT": metrics}
    environment = os.environ | _allocator() | {f"DBT_OPERATOR_{name}": value for name, value in settings.items()}
    command = (sys.executable, "-m", "dbt_operator", "run", "--kubeconfig", str(KUBECONFIG))
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        without_the_installed_one(),
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stderr=output, stdout=output) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def _is_taken(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def without_the_installed_one() -> Iterator[None]:
    """Scale an installed operator to 0 for as long as this lasts: it would execute the runs, too."""
    deployment = ("--namespace", NAMESPACE, f"deployment/{RELEASE}")
    replicas = kubectl("get", *deployment, "--ignore-not-found", "--output=jsonpath={.spec.replicas}")
    if replicas in ("", "0"):
        yield
        return
    kubectl("scale", *deployment, "--replicas=0")
    pods = ("--namespace", NAMESPACE, "pod", f"--selector=app.kubernetes.io/instance={RELEASE}")
    kubectl("wait", "--for=delete", "--timeout=120s", *pods)
    try:
        yield
    finally:
        kubectl("scale", *deployment, f"--replicas={replicas}")


def _allocator() -> dict[str, str]:
    """How the image of the operator sets glibc's allocator."""
    lines = instructions((CHECKOUT / "Dockerfile").read_text())
    words = [word for keyword, *words in lines if keyword == "ENV" for word in words]
    return dict(word.split("=", 1) for word in words if word.startswith("MALLOC_"))


async def memory(process: subprocess.Popen[bytes]) -> float:
    """MiB that the process has, once it has come to rest."""
    await asyncio.sleep(20)
    samples = []
    for _ in range(5):
        samples.append(resident(process.pid))
        await asyncio.sleep(2)
    return round(statistics.median(samples), 1)


def resident(pid: int) -> float:
    """MiB of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
