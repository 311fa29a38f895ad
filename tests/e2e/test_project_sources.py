"""Where the project comes from: git over https and ssh, archives, volumes; and one sentence for whatever is wrong."""

import base64
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import Api
from tests.conftest import CHECKOUT, Kubectl
from tests.e2e.conftest import JAFFLE_SHOP_IMAGE, Cluster, own_cluster
from tests.e2e.git_server import CA, HTTP, HTTPS, KEY, SSH, GitServer, everything, git_server
from tests.gitserver.serve import PASSWORD

__all__ = ["git_server"]  # a fixture: pytest finds it in the module that uses it

PROJECT = CHECKOUT / "tests" / "gitserver" / "project"
FILES = [str(path.relative_to(PROJECT)) for path in sorted(PROJECT.rglob("*")) if path.is_file()]


def https(**fields: Any) -> dict[str, Any]:
    return {"git": {"url": f"{HTTPS}/private/shop.git", "caConfigMapRef": {"name": CA}} | fields}


def ssh(secret: str, **fields: Any) -> dict[str, Any]:
    return {"git": {"url": SSH, "secretRef": {"name": secret}} | fields}


def create(cluster: Cluster, name: str, project: dict[str, Any], **fields: Any) -> None:
    cluster.create_run(name, **({"image": JAFFLE_SHOP_IMAGE, "project": project} | fields))


@pytest.fixture(scope="class")
def cluster(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """A namespace in which no pod may start that the restricted pod security standard does not allow."""
    with own_cluster(kubectl, api) as cluster:
        label = "pod-security.kubernetes.io/enforce=restricted"
        cluster.kubectl("label", "namespace", cluster.namespace, label)
        yield cluster


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(PROJECT, arcname="shop")
    return buffer.getvalue()


class TestProjectSources:
    """They share a git server, and so are a class. test_git_postgres.py has a private repository over https."""

    def test_a_project_is_built_from_git_over_ssh_an_archive_and_a_volume(
        self, cluster: Cluster, git_server: GitServer
    ) -> None:
        encoded = base64.b64encode(packed()).decode()
        archive = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop"}, "data": {"shop.tgz": encoded}}
        cluster.apply(archive)
        files = {str(number): (PROJECT / name).read_text() for number, name in enumerate(FILES)}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": files})
        items = [{"key": str(number), "path": f"shop/{name}"} for number, name in enumerate(FILES)]
        volume = {"source": {"configMap": {"name": "files", "items": items}}, "path": "shop"}
        create(cluster, "ssh", ssh(KEY))
        create(cluster, "secret", {"archive": {"secretRef": {"name": "shop", "key": "shop.tgz"}, "path": "shop"}})
        create(cluster, "volume", {"volume": volume})
        statuses = {name: cluster.wait_for_end(name) for name in ("ssh", "secret", "volume")}
        for name, status in statuses.items():
            assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), (name, status["message"])
        assert statuses["ssh"]["project"]["commit"] == git_server.commit
        assert statuses["secret"]["project"]["digest"].startswith("sha256:")
        assert "project" not in statuses["volume"]
        columns = cluster.kubectl("get", "dbtrun", "ssh", "-n", cluster.namespace, "-o", "wide").splitlines()
        assert columns[0].split()[-1] == "REVISION"
        assert columns[1].split()[-1] == git_server.commit[:7]
        public, secret = everything(cluster), git_server.private_key.splitlines()[1]
        assert secret not in public
        assert base64.b64encode(secret.encode()).decode() not in public

    def test_whatever_keeps_a_project_from_being_fetched_has_its_reason_and_its_sentence(
        self, cluster: Cluster, git_server: GitServer
    ) -> None:
        """Of ssh all of them. What a server over http answers is known to tests/unit/runner/test_fetch_git.py."""
        key, known_hosts = git_server.private_key, git_server.read("known_hosts")
        other_key = git_server.shell("rm -f /tmp/k; ssh-keygen -q -t ed25519 -N '' -f /tmp/k; cat /tmp/k")
        git_server.apply_secret("wrong-token", token="another")  # noqa: S106 - that it is wrong is the point
        git_server.apply_secret("wrong-key", **{"ssh-privatekey": other_key, "known_hosts": known_hosts})
        git_server.apply_secret("broken-key", **{"ssh-privatekey": "no key", "known_hosts": known_hosts})
        git_server.apply_secret("no-host", **{"ssh-privatekey": key, "known_hosts": "elsewhere ssh-ed25519 AAAA"})
        other_host = known_hosts.split()[0] + " " + " ".join(git_server.read("client.pub").split()[:2])
        git_server.apply_secret("changed-host", **{"ssh-privatekey": key, "known_hosts": other_host})
        wrong = {"url": f"{HTTP}/files/shop.tgz", "sha256": "0" * 64}
        git_server.shell("touch /data/git/files/shop.tgz")
        failures: dict[str, tuple[dict[str, Any], str, str]] = {
            "token": (https(secretRef={"name": "wrong-token"}), "ProjectFetchFailed", "in the Secret wrong-token"),
            "key": (ssh("wrong-key"), "ProjectFetchFailed", "refuses the key in the Secret wrong-key"),
            "broken-key": (ssh("broken-key"), "ProjectFetchFailed", "is no private key that ssh can use"),
            "host": (
                ssh("no-host"),
                "ProjectFetchFailed",
                "is not in known_hosts: add it to known_hosts in the Secret",
            ),
            "changed-host": (ssh("changed-host"), "ProjectFetchFailed", "is another one than known_hosts says"),
            "hangs": (
                {"git": {"url": f"{HTTP}/hang/x", "timeoutSeconds": 2}},
                "SourceUnavailable",
                "timeoutSeconds (2 s)",
            ),
            "digest": ({"archive": wrong}, "ProjectFetchFailed", "and not that of spec.project.archive.sha256"),
        }
        for name, (project, _, _) in failures.items():
            create(cluster, name, project)
        for name, (_, reason, expected) in failures.items():
            status = cluster.wait_for_end(name)
            assert (status["phase"], status["reason"]) == ("Failed", reason), (name, status["message"])
            assert expected in status["message"], name
            assert "\n" not in status["message"]
        public = everything(cluster)
        assert PASSWORD not in public
        assert key.splitlines()[1] not in public

    def test_a_volume_that_no_pod_can_have_is_refused_in_the_words_of_the_spec(self, cluster: Cluster) -> None:
        create(cluster, "refused", {"volume": {"source": {"persistentVolumeClaim": {"claimname": "projects"}}}})
        status = cluster.wait_for_end("refused")
        assert status["reason"] == "InvalidPodTemplate"
        assert 'unknown field "spec.project.volume.source.persistentVolumeClaim.claimname"' in status["message"]
