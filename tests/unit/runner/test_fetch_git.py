"""The step `fetch` with a real git server: what it brings, what it keeps to, and a sentence for whatever goes wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dbt_operator.pods.archive import build_archive
from tests.gitserver.serve import PASSWORD
from tests.unit.runner.git import Fetched, Repository, certificate, fetch, git, served


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
    with served(tmp_path / "git", asked=asked) as port:
        yield Server(folder=tmp_path, archive=archive, url=f"http://127.0.0.1:{port}", asked=asked)


def test_the_default_branch_is_fetched_and_its_commit_told(server: Server) -> None:
    repository = server.repository()
    commit = repository.commit({"models/orders.sql": "select 1"})
    fetched = server.fetch()
    assert fetched.found == {"project.commit": commit}
    assert (fetched.code, fetched.said) == (0, {"found": fetched.found})
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


def test_a_path_names_the_folder_of_the_project(server: Server) -> None:
    server.repository().commit({"transform/shop/dbt_project.yml": "name: other"})
    fetched = server.fetch("--path=transform/shop")
    assert (fetched.code, len(fetched.found)) == (0, 1)


def test_submodules_come_along(server: Server) -> None:
    repository, macros = server.repository(), server.repository("macros")
    macros.commit({"m.sql": "select 1"})
    add = (
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        f"{server.url}/public/macros.git",
        "macros",
    )
    git(repository.work, *add)
    repository.commit({})
    assert not (server.fetch().tree / "macros/m.sql").exists()
    assert (server.fetch("--submodules").tree / "macros/m.sql").read_text() == "select 1"


def test_the_history_is_as_deep_as_was_asked_for(server: Server) -> None:
    repository = server.repository()
    for number in range(3):
        repository.commit({"a": str(number)})
    assert git(server.fetch().tree, "rev-list", "--count", "HEAD") == "1"
    assert git(server.fetch("--depth=3").tree, "rev-list", "--count", "HEAD") == "3"


@pytest.mark.parametrize("keys", [{"token": PASSWORD}, {"username": "me", "password": PASSWORD}])
def test_a_secret_opens_a_private_repository_and_shows_nowhere(server: Server, keys: dict[str, str]) -> None:
    commit = server.repository().commit({})
    fetched = server.fetch(*server.secret(**keys), kind="private")
    assert fetched.found == {"project.commit": commit}
    left = "".join(file.read_text(errors="replace") for file in fetched.tree.rglob("*") if file.is_file())
    assert PASSWORD not in left + fetched.errors


def test_a_secret_is_in_no_argument_and_no_environment_of_a_process(server: Server) -> None:
    arguments = (f"--git={server.url}/slow/shop.git", "--seconds=20", *server.secret(token=PASSWORD))
    argv = [sys.executable, str(server.archive), "fetch", f"--into={server.folder}/t", "--size-limit=99999", *arguments]
    step = subprocess.Popen(argv)
    while not any(credentials for _, credentials in server.asked):
        time.sleep(0.05)
    group = [one for one in Path("/proc").glob("[0-9]*") if _descends(one, step.pid)]
    shown = b"".join((one / file).read_bytes() for one in group for file in ("cmdline", "environ"))
    step.terminate()
    step.wait(timeout=30)
    assert b"git" in shown
    assert PASSWORD.encode() not in shown


def _descends(process: Path, ancestor: int) -> bool:
    """Whether a process was started by another one, or by one of its children."""
    number = int(process.name)
    while number not in (0, ancestor):
        try:
            number = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False  # it has ended meanwhile
    return number == ancestor


def test_no_other_server_is_sent_the_secret(server: Server) -> None:
    """A submodule may lie anywhere; so may what a repository has become by a redirect."""
    repository, macros = server.repository(), server.repository("macros")
    macros.commit({})
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    git(repository.work, "submodule", "--quiet", "add", f"{server.url}/public/macros.git", "macros")
    (repository.work / ".gitmodules").write_text(
        f'[submodule "macros"]\n\tpath = macros\n\turl = {elsewhere}/private/macros.git\n'
    )
    repository.commit({})
    fetched = server.fetch("--submodules", *server.secret(token=PASSWORD), kind="private")
    assert fetched.reason == "ProjectFetchFailed"
    sent = {bool(credentials) for path, credentials in server.asked if "macros" in path}
    assert sent == {False}


class TestFailures:
    """Each has its reason, and names the field and what to do."""

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("--branch=mian",), "has no branch mian: correct spec.project.git.ref"),
            (("--tag=v9",), "has no tag v9: correct spec.project.git.ref"),
            ((f"--commit={'0' * 40}",), f"has no commit {'0' * 40}: correct spec.project.git.ref"),
            (("--path=shop",), "There is no folder shop in the default branch of"),
            (("--path=models",), "There is no dbt_project.yml in the folder models of the default branch of"),
            (("--path=away",), "leads out of what was fetched by a link"),
        ],
    )
    def test_what_is_missing_is_named(self, server: Server, arguments: tuple[str, ...], expected: str) -> None:
        repository = server.repository()
        (repository.work / "away").symlink_to("/")
        repository.commit({"models/a.sql": ""})
        failed = server.fetch(*arguments)
        assert (failed.code, failed.reason) == (1, "ProjectFetchFailed")
        assert expected in failed.message

    def test_a_project_in_another_folder_is_pointed_at(self, server: Server) -> None:
        repository = server.repository()
        git(repository.work, "mv", "dbt_project.yml", "README")
        repository.commit({"transform/dbt_project.yml": ""})
        assert "(there is one in transform): correct spec.project.git.path." in server.fetch().message

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            (None, "wants to know who asks: name a Secret with the keys username and password, or token"),
            ({"token": "another"}, "refuses the credentials in the Secret repository: correct them"),
            ({"user": "me"}, "The Secret repository of spec.project.git.secretRef has neither of the keys token and"),
            ({"password": PASSWORD}, "The Secret repository of spec.project.git.secretRef has no key username"),
        ],
    )
    def test_credentials(self, server: Server, keys: dict[str, str] | None, expected: str) -> None:
        server.repository()
        secret = () if keys is None else server.secret(**keys)
        failed = server.fetch(*secret, kind="private")
        assert failed.reason == "ProjectFetchFailed"
        assert expected in failed.message
        assert PASSWORD not in failed.message + failed.errors

    def test_a_repository_that_does_not_exist(self, server: Server) -> None:
        failed = server.fetch(kind="public")
        assert failed.reason == "ProjectFetchFailed"
        assert failed.message.startswith(f"There is no repository {server.url}/public/shop.git, or nobody without a")

    def test_a_commit_that_is_gone_since_the_run_began(self, server: Server) -> None:
        server.repository()
        failed = server.fetch("--branch=main", f"--as-before={'1' * 40}")
        assert failed.reason == "ProjectFetchFailed"
        assert f"no longer has the commit {'1' * 40}, with which the run began: create a new run" in failed.message

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("http://127.0.0.1:1/shop.git", "could not be reached"),
            ("http://nowhere.invalid/shop.git", "is not known: correct spec.project.git.url"),
        ],
    )
    def test_a_server_that_is_not_there_may_be_back(self, server: Server, url: str, expected: str) -> None:
        failed = server.fetch(f"--git={url}")
        assert (failed.code, failed.reason) == (1, "SourceUnavailable")
        assert expected in failed.message

    def test_a_server_that_answers_with_an_error_of_its_own_may_be_well_again(self, server: Server) -> None:
        failed = server.fetch(kind="broken")
        assert (failed.code, failed.reason) == (1, "SourceUnavailable")

    def test_a_server_that_hangs_is_given_up(self, server: Server) -> None:
        failed = server.fetch("--seconds=1", kind="hang")
        assert (failed.code, failed.reason) == (1, "SourceUnavailable")
        assert "longer than spec.project.git.timeoutSeconds (1 s) allows" in failed.message

    def test_a_repository_that_is_too_large_is_given_up(self, server: Server) -> None:
        server.repository().commit({"seeds/large.csv": os.urandom(2_000_000).hex()})
        failed = server.fetch(f"--size-limit={2**20}")
        assert (failed.code, failed.reason) == (1, "ProjectFetchFailed")
        assert "larger than spec.project.git.sizeLimit (1Mi) allows: raise it" in failed.message

    def test_a_certificate_that_nobody_trusts(self, server: Server, tmp_path: Path) -> None:
        files = certificate(tmp_path)
        with served(tmp_path / "git", tls=files) as port:
            commit = server.repository().commit({})
            url = f"--git=https://127.0.0.1:{port}/public/shop.git"
            failed = server.fetch(url)
            assert failed.reason == "ProjectFetchFailed"
            assert "with the authority's certificate in spec.project.git.caConfigMapRef" in failed.message
            assert server.fetch(url, f"--ca={files[0]}").found == {"project.commit": commit}

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({"known_hosts": "x"}, "has no key ssh-privatekey: ssh needs ssh-privatekey, and known_hosts"),
            ({"ssh_privatekey": "x"}, "has no key known_hosts: ssh needs ssh-privatekey, and known_hosts"),
        ],
    )
    def test_ssh_needs_a_key_and_known_hosts(self, server: Server, keys: dict[str, str], expected: str) -> None:
        failed = server.fetch("--git=git@127.0.0.1:shop.git", *server.secret(**keys))
        assert failed.reason == "ProjectFetchFailed"
        assert f"The Secret repository of spec.project.git.secretRef {expected}" in failed.message

    def test_a_repository_leads_to_no_file_of_the_container(self, server: Server) -> None:
        failed = server.fetch("--git=file:///etc")
        assert failed.reason == "ProjectFetchFailed"


def test_a_step_that_is_told_to_end_does_so_at_once(server: Server) -> None:
    """As the first process of a container it would not hear that it is to end."""
    argv = [
        sys.executable,
        str(server.archive),
        "fetch",
        f"--into={server.folder}/t",
        "--size-limit=99999",
        "--seconds=60",
    ]
    step = subprocess.Popen([*argv, f"--git={server.url}/hang/shop.git"])
    while not server.asked:
        time.sleep(0.05)
    step.terminate()
    assert step.wait(timeout=30) == 128 + signal.SIGTERM
