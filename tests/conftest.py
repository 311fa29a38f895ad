"""What all tests share: the development cluster, and nothing but it."""

import gc
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.api import Api
from tests.workers import Scheduling, place

# How long an example takes depends on what else the machine does, and is no property of the code.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

CHECKOUT = Path(__file__).resolve().parents[1]
CLUSTER = CHECKOUT / ".cluster"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bring the tests into the order in which pytest-xdist is to hand them out."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.nodeid))


def pytest_collection_finish() -> None:
    """What is collected stays: the garbage collection need not look at it again and again."""
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Take the place of pytest-xdist's own ways to spread tests, whatever --dist says."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl on the development cluster. Whatever KUBECONFIG says, no other cluster is ever touched."""

    program: str
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run it and return what it printed, whether it succeeded or not."""
        return subprocess.run(
            [self.program, "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=480,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and return its output; fail the test with its message if it fails."""
        done = self.run(*arguments, stdin=stdin)
        if done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}", pytrace=False)
        return done.stdout

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        """Run it with -o json and return the object."""
        return json.loads(self(*arguments, "-o", "json", stdin=stdin))

    def refused(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and return its message; fail the test if it succeeds."""
        done = self.run(*arguments, stdin=stdin)
        if done.returncode == 0:
            pytest.fail(f"kubectl {' '.join(arguments)} was expected to be refused, but: {done.stdout}", pytrace=False)
        return done.stderr


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of the development cluster. A missing cluster fails the test: a skipped promise is no promise."""
    path = CLUSTER / "kubeconfig"
    if not path.exists():
        pytest.fail(f"{path} does not exist: start the development cluster with `make cluster`.", pytrace=False)
    return path


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    """kubectl on the development cluster, which must answer."""
    own = CLUSTER / "bin" / "kubectl"
    command = Kubectl(program=str(own) if own.exists() else "kubectl", kubeconfig=kubeconfig)
    answer = command.run("get", "--raw", "/readyz", "--request-timeout=10s")
    if answer.returncode != 0:
        pytest.fail(
            f"The development cluster does not answer ({answer.stderr.strip()}): `make cluster`.", pytrace=False
        )
    return command


@pytest.fixture(scope="session")
def api(kubectl: Kubectl) -> Api:
    """The API server of the development cluster, which answers."""
    return Api(kubectl.kubeconfig)


@contextmanager
def new_namespace(api: Api) -> Iterator[str]:
    """A namespace for as long as the context lasts. Its deletion is not waited for, as nothing else uses it."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    api.create_namespace(name)
    try:
        yield name
    finally:
        if not os.environ.get("KEEP_NAMESPACES"):
            api.delete_namespace(name)


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    with new_namespace(api) as name:
        yield name
