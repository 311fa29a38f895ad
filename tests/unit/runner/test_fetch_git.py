"""The step `fetch` with a real git server: what it brings, what it keeps to, and a sentence for whatever goes wrong."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dbt_operator.pods.archive import build_archive
from tests.gitserver.serve import make_server
from tests.unit.runner.git import Fetched, Repository, fetch, git


@dataclass(slots=True)
class Server:
    """A server of repositories, and what the step has made of them."""

    folder: Path
    archive: Path
    url: str
    asked: list[tuple[str, str]]
    count: int = field(default=0)

    def repository(self, name: str = "shop") -> Repository:
        return Repository.make(self.folder / "git", name)

    def fetch(self, *arguments: str, kind: str = "public", env: dict[str, str] | None = None) -> Fetched:
        """Fetch the repository `shop`, each time as another pod would."""
        self.count += 1
        url = f"--git={self.url}/{kind}/shop.git"
        given = () if any(one.startswith("--git=") for one in arguments) else (url,)
        return fetch(self.archive, self.folder / f"pod-{self.count}", *given, *arguments, env=env)

    def secret(self, **files: str) -> tuple[str, ...]:
        """The options for a Secret with these keys."""
        folder = self.folder / f"secret-{self.count}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_private", "-private")).write_text(content)
        return f"--secret={folder}", f"--secret-file={folder}", "--secret-name=repository"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "git" / "files").mkdir(parents=True)
    archive = tmp_path / "runner.pyz"
    archive.write_bytes(build_archive())
    asked: list[tuple[str, str]] = []
    web = make_server(tmp_path / "git", asked=asked)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield Server(
        folder=tmp_path,
        archive=archive,
        url=f"http://127.0.0.1:{web.server_address[1]}",
        asked=asked,
    )
    web.shutdown()
    web.server_close()
    thread.join()


def test_the_default_branch_is_fetched_and_its_commit_told(server: Server) -> None:
    repository = server.repository()
    commit = repository.commit({"models/orders.sql": "select 1"})
    fetched = server.fetch()
    assert (fetched.code, fetched.said, fetched.found) == (0, {}, {"project.commit": commit})
    assert (fetched.tree / "models/orders.sql").read_text() == "select 1"


@pytest.mark.parametrize("kind", ["branch", "tag", "commit"])
def test_what_the_ref_names_is_fetched(server: Server, kind: str) -> None:
    repository = server.repository()
    wanted = repository.commit({"a": "1"}, branch="feature/one")
    git(repository.work, "tag", "--annotate", "--message=x", "v1")
    git(repository.work, "push", "--quiet", "origin", "v1")
    repository.commit({"a": "2"})
    name = {"branch": "feature/one", "tag": "v1", "commit": wanted}[kind]
    fetched = server.fetch(f"--{kind}={name}")
    assert fetched.found == {"project.commit": wanted}
    assert (fetched.tree / "a").read_text() == "1"


def test_a_later_attempt_gets_the_same_commit_although_the_branch_has_moved(server: Server) -> None:
    repository = server.repository()
    first = server.fetch("--branch=main").found["project.commit"]
    repository.commit({"a": "2"})
    again = server.fetch("--branch=main", f"--as-before={first}")
    assert again.found == {"project.commit": first}
    assert not (again.tree / "a").exists()


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_a_commit_behind_a_branch_is_fetched_whether_or_not_the_server_gives_it_by_its_name(
    server: Server, allowed: str
) -> None:
    repository = server.repository()
    git(repository.bare, "config", "uploadpack.allowAnySHA1InWant", allowed)
    wanted = repository.commit({"a": "1"})
    repository.commit({"a": "2"})
    # By the newer protocol a server gives every commit that a branch leads to.
    fetched = server.fetch(f"--commit={wanted}", kind="old")
    assert (fetched.tree / "a").read_text() == "1"
