"""Repositories for the tests of the step `fetch`, and what a step has said."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gitserver.serve import make_server

AUTHOR = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git; returns its output."""
    env = os.environ | AUTHOR
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True
    ).stdout.strip()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate of this machine that nobody trusts, and its key."""
    files = (str(folder / "cert.pem"), str(folder / "key.pem"))
    options = ("-nodes", "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *options, "-out", files[0], "-keyout", files[1]]
    subprocess.run(argv, check=True, capture_output=True)
    return files


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with a work tree, and the bare one beside it that is served."""

    work: Path
    bare: Path

    @classmethod
    def make(cls, folder: Path, name: str = "shop") -> "Repository":
        """One with a dbt project in its top folder."""
        repository = cls(work=folder / f"{name}-work", bare=folder / f"{name}.git")
        repository.work.mkdir(parents=True)
        git(repository.work, "init", "--quiet", "--initial-branch=main")
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(repository.bare))
        git(repository.work, "remote", "add", "origin", str(repository.bare))
        repository.commit({"dbt_project.yml": "name: shop\n"})
        return repository

    def commit(self, files: dict[str, str], *, branch: str = "main") -> str:
        """Commit these files and push them; returns the commit."""
        for name, content in files.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(content)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "--message=x")
        git(self.work, "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return git(self.work, "rev-parse", "HEAD")


@contextmanager
def served(
    root: Path, *, tls: tuple[str, str] | None = None, asked: list[tuple[str, str]] | None = None
) -> Iterator[int]:
    """A web server of these repositories; its port."""
    web = make_server(root, tls=tls, asked=asked)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield int(web.server_address[1])
    web.shutdown()
    web.server_close()
    thread.join()


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a step has ended."""

    code: int
    said: dict[str, Any]  # its termination message
    found: dict[str, str]
    tree: Path
    errors: str

    @property
    def message(self) -> str:
        """Its sentence."""
        text: str = self.said["message"]
        return text

    @property
    def reason(self) -> str:
        """The reason that the run has for it."""
        text: str = self.said["reason"]
        return text


def fetch(archive: Path, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Fetched:
    """Run the step `fetch` of the runner's archive."""
    folder.mkdir(exist_ok=True)
    tree, found, said = folder / "tree", folder / "found.json", folder / "termination-log"
    options = [f"--into={tree}", f"--found={found}", f"--termination-message={said}"]
    limits = [] if any(one.startswith("--size-limit") for one in arguments) else ["--size-limit=100000000"]
    limits += [] if any(one.startswith("--seconds") for one in arguments) else ["--seconds=60"]
    argv = [sys.executable, str(archive), "fetch", *options, *limits, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | (env or {}))
    return Fetched(
        code=done.returncode,
        said=json.loads(said.read_text()) if said.exists() else {},
        found=json.loads(found.read_text()) if found.exists() else {},
        tree=tree,
        errors=done.stderr,
    )
