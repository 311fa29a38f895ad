"""A git server of the test's own, with the repository shop.git: https with a password, ssh with a key, plain http."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.conftest import CHECKOUT
from tests.e2e.conftest import Cluster
from tests.gitserver.serve import PASSWORD

_SERVER = CHECKOUT / "tests" / "gitserver" / "server.yaml"
TOKEN, KEY, CA = "git-token", "git-key", "git-ca"
"""The names of the Secrets for https and ssh, and of the ConfigMap with the certificate."""
HTTP, HTTPS = "http://git:8080", "https://git:8443"
SSH = "ssh://git@git:8022/data/git/shop.git"


@dataclass(frozen=True, slots=True)
class GitServer:
    """The server in the test's namespace."""

    cluster: Cluster

    def deploy(self) -> None:
        """Apply the server, and what runs need to use it."""
        for manifest in yaml.safe_load_all(_SERVER.read_text()):
            self.cluster.apply(manifest)
        self.cluster.until("the git server is ready", lambda: self._ready)
        self.apply_secret(TOKEN, token=PASSWORD)
        self.apply_secret(KEY, **{"ssh-privatekey": self.private_key, "known_hosts": self.read("known_hosts")})
        self.cluster.apply(_object("ConfigMap", CA, data={"ca.crt": self.read("cert.pem")}))

    @property
    def _ready(self) -> bool:
        pods = self.cluster.objects("pods", labels="app=git")
        return any(each.get("ready") for pod in pods for each in pod["status"].get("containerStatuses", ()))

    @property
    def private_key(self) -> str:
        """The key that the server lets in."""
        return self.read("client")

    def apply_secret(self, name: str, **keys: str) -> None:
        """A Secret with these keys."""
        self.cluster.apply(_object("Secret", name, stringData=keys))

    def read(self, file: str) -> str:
        """A file that the server has made."""
        return self.shell(f"cat /data/{file}")

    def shell(self, script: str, *arguments: str, stdin: str | None = None) -> str:
        """Run a script beside the server."""
        options = ("-i", "-n", self.cluster.namespace, "deploy/git", "--")
        program = f"set -e; export HOME=/data GIT_CONFIG_GLOBAL=/data/gitconfig; cd /data/work; {script}"
        return self.cluster.kubectl("exec", *options, "sh", "-c", program, "sh", *arguments, stdin=stdin or "")

    @property
    def commit(self) -> str:
        """What the branch main is at."""
        return self.shell("git -C ../git/shop.git rev-parse main").strip()

    def push(self, files: dict[str, str]) -> str:
        """Commit these files to the branch main; returns the commit."""
        for name, content in files.items():
            self.shell('mkdir -p "$(dirname "$1")"; cat > "$1"', name, stdin=content)
        self.shell("git add --all; git commit --quiet --message x; git push --quiet --force ../git/shop.git HEAD:main")
        return self.commit


def _object(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def everything(cluster: Cluster) -> str:
    """All that somebody without a right on Secrets can read in the namespace, as one text."""
    kinds = ("dbtruns", "dbtmodels", "events", "jobs", "pods", "configmaps")
    objects = {kind: cluster.objects(kind) for kind in kinds}
    own = [pod for pod in objects["pods"] if "dbt-operator.io/run" in pod["metadata"]["labels"]]
    logs = [
        cluster.kubectl.run("logs", pod["metadata"]["name"], "-n", cluster.namespace, "--all-containers").stdout
        for pod in own
    ]
    return json.dumps(objects) + "".join(logs)


@pytest.fixture
def git_server(cluster: Cluster) -> GitServer:
    """A server in the test's namespace that answers; it goes with the namespace."""
    server = GitServer(cluster=cluster)
    server.deploy()
    return server
