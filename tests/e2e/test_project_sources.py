"""Where the project comes from: git over https and ssh, archives, volumes; and one sentence for whatever is wrong."""

import base64
import hashlib
import io
import tarfile
from typing import Any

from tests.conftest import CHECKOUT
from tests.e2e.conftest import JAFFLE_SHOP_IMAGE, Cluster
from tests.e2e.git_server import CA, HTTP, HTTPS, KEY, SSH, TOKEN, GitServer, everything, git_server
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


def restrict(cluster: Cluster) -> None:
    """Let no pod start in the namespace that the restricted pod security standard does not allow."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", cluster.namespace, label, "--overwrite")


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(PROJECT, arcname="shop")
    return buffer.getvalue()


def test_a_project_is_built_from_git_over_https_and_ssh_and_no_secret_shows(
    cluster: Cluster, git_server: GitServer
) -> None:
    restrict(cluster)
    create(cluster, "token", https(secretRef={"name": TOKEN}, ref={"branch": "main"}))
    create(cluster, "key", ssh(KEY))
    create(cluster, "plain", {"git": {"url": f"{HTTP}/public/shop.git", "ref": {"commit": git_server.commit}}})
    for name in ("token", "key", "plain"):
        status = cluster.wait_for_end(name)
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert status["project"]["commit"] == git_server.commit
    columns = cluster.kubectl("get", "dbtrun", "token", "-n", cluster.namespace, "-o", "wide").splitlines()
    assert columns[0].split()[-1] == "REVISION"
    assert columns[1].split()[-1] == git_server.commit[:7]
    public = everything(cluster)
    for secret in (PASSWORD, git_server.private_key.splitlines()[1]):
        assert secret not in public
        assert base64.b64encode(secret.encode()).decode() not in public


def test_whatever_keeps_a_project_from_being_fetched_has_its_reason_and_its_sentence(
    cluster: Cluster, git_server: GitServer
) -> None:
    key, known_hosts = git_server.private_key, git_server.read("known_hosts")
    other_key = git_server.shell("rm -f /tmp/k; ssh-keygen -q -t ed25519 -N '' -f /tmp/k; cat /tmp/k")
    git_server.apply_secret("wrong-token", token="another")  # noqa: S106 - that it is wrong is the point
    git_server.apply_secret("wrong-key", **{"ssh-privatekey": other_key, "known_hosts": known_hosts})
    git_server.apply_secret("no-key", known_hosts=known_hosts)
    git_server.apply_secret("broken-key", **{"ssh-privatekey": "no key", "known_hosts": known_hosts})
    git_server.apply_secret("no-host", **{"ssh-privatekey": key, "known_hosts": "elsewhere ssh-ed25519 AAAA"})
    other_host = known_hosts.split()[0] + " " + " ".join(git_server.read("client.pub").split()[:2])
    git_server.apply_secret("changed-host", **{"ssh-privatekey": key, "known_hosts": other_host})
    wrong = {"url": f"{HTTP}/files/shop.tgz", "sha256": "0" * 64}
    git_server.shell("touch /data/git/files/shop.tgz")
    failures: dict[str, tuple[dict[str, Any], str, str]] = {
        "branch": (https(secretRef={"name": TOKEN}, ref={"branch": "mian"}), "ProjectFetchFailed", "no branch mian"),
        "path": (https(secretRef={"name": TOKEN}, path="shop"), "ProjectFetchFailed", "There is no folder shop in"),
        "private": (https(), "ProjectFetchFailed", "name a Secret with the keys username and password, or token"),
        "token": (https(secretRef={"name": "wrong-token"}), "ProjectFetchFailed", "in the Secret wrong-token"),
        "ca": ({"git": {"url": f"{HTTPS}/public/shop.git"}}, "ProjectFetchFailed", "spec.project.git.caConfigMapRef"),
        "key": (ssh("wrong-key"), "ProjectFetchFailed", "refuses the key in the Secret wrong-key"),
        "no-key": (ssh("no-key"), "ProjectFetchFailed", "has no key ssh-privatekey"),
        "broken-key": (ssh("broken-key"), "ProjectFetchFailed", "is no private key that ssh can use"),
        "host": (ssh("no-host"), "ProjectFetchFailed", "is not in known_hosts: add it to known_hosts in the Secret"),
        "changed-host": (ssh("changed-host"), "ProjectFetchFailed", "is another one than known_hosts says"),
        "large": (https(secretRef={"name": TOKEN}, sizeLimit="4Ki"), "ProjectFetchFailed", "sizeLimit (4Ki) allows"),
        "hangs": ({"git": {"url": f"{HTTP}/hang/x", "timeoutSeconds": 2}}, "SourceUnavailable", "timeoutSeconds (2 s)"),
        "nowhere": ({"git": {"url": "https://nowhere.invalid/x"}}, "SourceUnavailable", "spec.project.git.url"),
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


def test_a_project_is_built_from_an_archive_and_from_a_volume(cluster: Cluster, git_server: GitServer) -> None:
    restrict(cluster)
    content = packed()
    digest = hashlib.sha256(content).hexdigest()
    encoded = base64.b64encode(content).decode()
    for kind in ("ConfigMap", "Secret"):
        field = "binaryData" if kind == "ConfigMap" else "data"
        cluster.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": "shop"}, field: {"shop.tgz": encoded}})
    git_server.shell("base64 -d > /data/git/files/shop.tgz", stdin=encoded)
    files = {str(number): (PROJECT / name).read_text() for number, name in enumerate(FILES)}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": files})
    items = [{"key": str(number), "path": f"shop/{name}"} for number, name in enumerate(FILES)]
    key = {"name": "shop", "key": "shop.tgz"}
    create(cluster, "config-map", {"archive": {"configMapRef": key, "path": "shop"}})
    create(cluster, "secret", {"archive": {"secretRef": key, "path": "shop"}})
    create(cluster, "url", {"archive": {"url": f"{HTTP}/files/shop.tgz", "sha256": digest, "path": "shop"}})
    create(cluster, "volume", {"volume": {"source": {"configMap": {"name": "files", "items": items}}, "path": "shop"}})
    for name in ("config-map", "secret", "url", "volume"):
        status = cluster.wait_for_end(name)
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), (name, status["message"])
        assert status.get("project", {}).get("digest") == (None if name == "volume" else f"sha256:{digest}")


def test_a_volume_that_no_pod_can_have_is_refused_in_the_words_of_the_spec(cluster: Cluster) -> None:
    create(cluster, "shop", {"volume": {"source": {"persistentVolumeClaim": {"claimname": "projects"}}}})
    status = cluster.wait_for_end()
    assert status["reason"] == "InvalidPodTemplate"
    assert 'unknown field "spec.project.volume.source.persistentVolumeClaim.claimname"' in status["message"]


def test_a_project_that_is_not_on_the_volume_is_looked_for_where_the_spec_says(cluster: Cluster) -> None:
    create(cluster, "shop", {"volume": {"source": {"emptyDir": {}}, "path": "shop"}})
    status = cluster.wait_for_end()
    assert status["reason"] == "ProjectNotFound"
    assert "/dbt-operator/project/shop" in status["message"]
