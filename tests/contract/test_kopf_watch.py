"""kopf on a real API server, as an operator that has rights in some of the namespaces that it is told to watch."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from dbt_operator.kube.kopf_watch import KopfWatch, Restarts, Subscription
from dbt_operator.kube.login import connection_info
from dbt_operator.kube.resources import DBT_RUNS, JOBS, PODS
from dbt_operator.kube.watch import Change
from dbt_operator.pods.run import RunRef
from tests.conftest import Kubectl

HASTY = Restarts(first=0.1, longest=0.5, settled=5.0)


@pytest.fixture
def other(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """A second namespace, in which the account has no rights yet."""
    name = f"{namespace}-other"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def allow(kubectl: Kubectl, *, namespace: str, home: str) -> None:
    """Give the account the right to watch in a namespace."""
    kubectl("create", "role", "watcher", "-n", namespace, "--verb=list,watch", "--resource=dbtruns,jobs,pods")
    account = f"--serviceaccount={home}:watcher"
    kubectl("create", "rolebinding", "watcher", "-n", namespace, "--role=watcher", account)


def account(kubectl: Kubectl, *, home: str, kubeconfig: Path, folder: Path) -> Path:
    """A kubeconfig of a new account, which has no rights yet."""
    kubectl("create", "serviceaccount", "watcher", "-n", home)
    config = yaml.safe_load(kubeconfig.read_bytes())
    config["users"][0]["user"] = {"token": kubectl("create", "token", "watcher", "-n", home).strip()}
    (folder / "watcher").write_text(yaml.safe_dump(config))
    return folder / "watcher"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - what is waited for happens elsewhere, and sets no event
            await asyncio.sleep(0.05)


async def test_a_namespace_in_which_nothing_is_allowed_holds_up_no_other_and_is_watched_once_it_is(
    run: RunRef, other: str, kubectl: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    config = account(kubectl, home=run.namespace, kubeconfig=kubeconfig, folder=tmp_path)
    await asyncio.to_thread(allow, kubectl, namespace=run.namespace, home=run.namespace)
    told: list[tuple[str, str]] = []

    def take(change: Change) -> None:
        told.append((change.obj["metadata"]["namespace"], change.obj["metadata"]["name"]))

    ours = {"app.kubernetes.io/managed-by": "dbt-operator"}
    subscriptions = [Subscription(DBT_RUNS, take), Subscription(JOBS, take, ours), Subscription(PODS, take, ours)]
    login = partial(connection_info, kubeconfig=str(config))
    watches = [
        KopfWatch(namespace=namespace, subscriptions=subscriptions, login=login, restarts=HASTY)
        for namespace in (other, run.namespace)
    ]
    tasks = [asyncio.create_task(watch.run()) for watch in watches]
    try:
        await until(lambda: (run.namespace, run.name) in told)
        manifest = """
apiVersion: batch/v1
kind: Job
metadata: {name: theirs, labels: {app.kubernetes.io/managed-by: dbt-operator}}
spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}
"""
        await asyncio.to_thread(kubectl, "apply", "-n", other, "-f", "-", stdin=manifest)
        assert (other, "theirs") not in told
        await asyncio.to_thread(allow, kubectl, namespace=other, home=run.namespace)
        await until(lambda: (other, "theirs") in told)
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
