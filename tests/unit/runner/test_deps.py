"""Packages that are not installed: dbt installs them in the pod, once for the run, and only where it has to."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gitserver.serve import PASSWORD, make_server
from tests.packages import Hub, files_in, package_files, serving, shop, tarball, write
from tests.unit.runner.conftest import Project, Run
from tests.unit.runner.git import Repository, fetch

GREETINGS = {"package": "acme/greetings", "version": [">=1.0.0", "<2.0.0"]}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub()) as hub:
        hub.put("words", "0.1.0", "hello")
        hub.put("greetings", "1.0.0", "hello of 1.0.0", needs=[{"package": "acme/words", "version": "0.1.0"}])
        yield hub


@dataclass(frozen=True, slots=True)
class Shop:
    """A project that needs packages, with what its pods are given."""

    project: Project
    hub: Hub

    @property
    def path(self) -> Path:
        return self.project.path

    def run(self, *options: str, may: bool = True, environment: dict[str, str] | None = None) -> Run:
        """An attempt, in a pod of its own. may: install packages."""
        pod = self.project.scratch / "pod"
        shutil.rmtree(pod, ignore_errors=True)
        where = [f"--packages-dir={pod}/work"] if may else []
        env = {"DBT_PACKAGE_HUB_URL": self.hub.url, "DBT_TARGET_PATH": f"{pod}/target"} | (environment or {})
        return self.project.run("build", options=[*where, *options], environment=env)

    def given(self, before: Run, *, archive: bool = True) -> list[str]:
        """The options of an attempt after this one."""
        (found,) = before.named("Found")
        options = [f"--packages-lock={found['packages.lock']}"]
        if archive:
            file = self.project.scratch / "packages.tar.gz"
            file.write_bytes(before.artifacts["packages.tar"])
            options.append(f"--packages={file}")
        return options

    def said(self, run: Run) -> str:
        """What the model has selected."""
        compiled = (run.target / "run" / "shop" / "models" / "greeting.sql").read_text()
        return compiled.partition("'")[2].partition("'")[0]


@pytest.fixture
def make(hub: Hub, dbt_python: str, warm_python: Path, archive: Path, tmp_path: Path) -> Callable[..., Shop]:
    def make(*packages: Any, calls: str = "greetings.greetings") -> Shop:
        path = shop(tmp_path / "repository" / "shop", packages, calls=calls)
        return Shop(Project(python=dbt_python, archive=archive, path=path, scratch=tmp_path, warm=warm_python), hub)

    return make


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_packages_that_are_missing_are_installed_and_nothing_is_written_to_the_project(
    make: Callable[..., Shop], hub: Hub
) -> None:
    made = make(GREETINGS)
    before = listing(made.path)
    run = made.run()
    assert (run.code, made.said(run)) == (0, "hello of 1.0.0"), run.finished
    assert listing(made.path) == before
    kept = files_in(run.artifacts["packages.tar"])
    assert {name for name in kept if name.endswith(".sql")} == {
        "dbt_packages/greetings/macros/greetings.sql",
        "dbt_packages/words/macros/words.sql",
    }
    assert hub.asked
    # The error with which dbt has asked for them ends nothing.
    assert not run.named("MainEncounteredError")


def test_later_attempts_fetch_nothing_and_need_no_parse(make: Callable[..., Shop], hub: Hub) -> None:
    made = make(GREETINGS)
    first = made.run()
    hub.put("greetings", "1.1.0", "hello of 1.1.0")
    hub.broken, hub.asked = True, []
    cache = made.project.scratch / "cache.gz"
    cache.write_bytes(first.artifacts["partial_parse.msgpack"])
    run = made.run(*made.given(first), f"--parse-cache={cache}")
    assert (run.code, made.said(run), hub.asked) == (0, "hello of 1.0.0", []), run.finished
    assert not run.artifacts.keys() & {"partial_parse.msgpack", "packages.tar"}


def test_where_the_packages_are_not_kept_later_attempts_have_the_same_versions(
    make: Callable[..., Shop], hub: Hub
) -> None:
    made = make(GREETINGS)
    first = made.run()
    hub.put("greetings", "1.1.0", "hello of 1.1.0")
    run = made.run(*made.given(first, archive=False))
    assert (run.code, made.said(run)) == (0, "hello of 1.0.0"), run.finished


def test_a_corrected_image_with_other_packages_gets_those(make: Callable[..., Shop], hub: Hub) -> None:
    made = make(GREETINGS)
    first = made.run()
    hub.put("greetings", "2.0.0", "hello of 2.0.0")
    write(made.path, {"packages.yml": "packages: [{package: acme/greetings, version: 2.0.0}]"})
    run = made.run(*made.given(first))
    assert (run.code, made.said(run)) == (0, "hello of 2.0.0"), run.finished


def test_the_lock_of_the_project_is_honoured(make: Callable[..., Shop], hub: Hub) -> None:
    made = make(GREETINGS)
    first = made.run()
    write(made.path, {"package-lock.yml": files_in(first.artifacts["packages.tar"])["package-lock.yml"].decode()})
    hub.put("greetings", "1.1.0", "hello of 1.1.0")
    run = made.run()
    assert (run.code, made.said(run), len(run.named("Found"))) == (0, "hello of 1.0.0", 1), run.finished


def test_where_all_packages_are_installed_nothing_is_asked_or_written(make: Callable[..., Shop], hub: Hub) -> None:
    made = make(GREETINGS)
    made.run()
    shutil.copytree(made.project.scratch / f"pod/work/{made.path}/dbt_packages", made.path / "dbt_packages")
    hub.asked = []
    run = made.run()
    assert (run.code, hub.asked) == (0, []), run.finished
    assert not (made.project.scratch / "pod/work").exists()
    assert "packages.tar" not in run.artifacts


def test_where_none_may_be_installed_dbt_says_that_they_are_missing(make: Callable[..., Shop], hub: Hub) -> None:
    run = make(GREETINGS).run(may=False)
    assert (run.code, run.finished["error"]["kind"], hub.asked) == (2, "dependencies", [])


def test_packages_beside_the_project_from_a_tarball_and_from_git(
    make: Callable[..., Shop], hub: Hub, tmp_path: Path
) -> None:
    repository = Repository.make(tmp_path / "git", "greetings")
    commit = repository.commit(package_files("greetings", "hello of git"))
    hub.files["/shout.tgz"] = tarball("shout", package_files("shout", "loud"))
    made = make(
        {"git": f"file://{repository.bare}", "revision": "main"},
        {"local": "../shared"},
        {"tarball": f"{hub.url}shout.tgz", "name": "shout"},
    )
    write(made.path.parent / "shared", package_files("shared", "of us all"))
    first = made.run()
    assert (first.code, made.said(first)) == (0, "hello of git"), first.finished
    assert not [name for name in files_in(first.artifacts["packages.tar"]) if "/.git/" in name]
    # The branch has moved, and the server of the tarball is gone.
    repository.commit(package_files("greetings", "hello of later"))
    hub.broken = True
    again = made.run(*made.given(first))
    assert (again.code, made.said(again)) == (0, "hello of git"), again.finished
    hub.broken = False
    locked = made.run(*made.given(first, archive=False))
    assert (locked.code, made.said(locked)) == (0, "hello of git"), locked.finished
    lock = yaml.safe_load(files_in(locked.artifacts["packages.tar"])["package-lock.yml"])
    assert lock["packages"][0]["revision"] == commit


@pytest.fixture
def private(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A git server that wants a password; the folder of its repositories, and the URL of the project."""
    server = make_server(tmp_path / "git")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "git", f"http://127.0.0.1:{server.server_port}/private/shop.git"
    server.shutdown()
    server.server_close()


def test_private_packages_from_the_server_of_the_project_are_installed_without_its_credentials(
    make: Callable[..., Shop], private: tuple[Path, str], archive: Path, tmp_path: Path
) -> None:
    folder, url = private
    words = Repository.make(folder, "words")
    words.commit(package_files("words", "hello"))
    needs = [{"git": url.replace("shop", "words"), "revision": "main"}]
    greetings = Repository.make(folder, "greetings")
    first = greetings.commit(package_files("greetings", "hello of private", needs=needs))
    made = make({"git": url.replace("shop", "greetings"), "revision": first})
    greetings.commit(package_files("greetings", "hello of later"))
    without = made.run()
    assert without.finished["error"]["kind"] == "deps"
    repository = Repository.make(folder, "shop")
    repository.commit({f"dbt/{name}": (made.path / name).read_text() for name in ("packages.yml", "dbt_project.yml")})
    secret = write(tmp_path / "secret", {"token": PASSWORD})
    fetched = fetch(archive, tmp_path / "fetched", f"--git={url}", f"--secret={secret}", "--path=dbt", "--packages")
    assert fetched.code == 0, fetched.errors
    run = made.run(f"--git-config={fetched.tree}/.git/packages/config")
    assert (run.code, made.said(run)) == (0, "hello of private"), run.finished
    lock = yaml.safe_load(files_in(run.artifacts["packages.tar"])["package-lock.yml"])
    assert {each["git"] for each in lock["packages"]} == {url.replace("shop", name) for name in ("words", "greetings")}


def test_packages_with_a_secret_in_them_are_not_printed_and_their_versions_are(
    make: Callable[..., Shop], hub: Hub
) -> None:
    hub.put("greetings", "1.2.0", "not-to-be-told")
    made = make(GREETINGS)
    run = made.run("--secret-env=HIDDEN", environment={"HIDDEN": "not-to-be-told"})
    assert (run.code, made.said(run)) == (0, "not-to-be-told"), run.finished
    assert [each["reason"] for each in run.named("ArtifactOmitted") if each["name"] == "packages.tar"] == ["Secret"]
    hub.put("greetings", "1.3.0", "of later")
    again = made.run(*made.given(run, archive=False))
    assert made.said(again) == "not-to-be-told"


def no_git(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin")}


@pytest.mark.parametrize(
    ("packages", "kind", "words"),
    [
        ([GREETINGS], "source", "could not be reached"),
        ([{"package": "acme/absent", "version": "1.0.0"}], "deps", "acme/absent"),
        ([{"git": "http://127.0.0.1:9/x.git", "revision": "v1"}], "source", "127.0.0.1"),
        ([{"git": "http://127.0.0.1:9/x.git", "revision": "v1"}], "deps", "the image has no git"),
        ([{"local": "../absent"}], "deps", "No dbt_project.yml found"),
        ([{"tarball": "TARBALL", "name": "shout"}], "deps", "empty file"),
    ],
    ids=["hub", "no such package", "git server", "no git", "no folder", "no such tarball"],
)
def test_what_cannot_be_installed_is_one_sentence(
    make: Callable[..., Shop],
    hub: Hub,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    packages: Sequence[Any],
    kind: str,
    words: str,
) -> None:
    hub.broken = packages == [GREETINGS]
    given = [each | {"tarball": f"{hub.url}shout.tgz"} if "tarball" in each else each for each in packages]
    environment = no_git(tmp_path) if "no git" in request.node.name else {}
    run = make(*given).run(environment=environment)
    assert run.code == 2
    error = run.finished["error"]
    assert (error["kind"], words in error["message"]) == (kind, True), error
    assert "\n" not in error["message"]
    assert "Traceback" not in b"".join(run.lines).decode()


def test_the_mirror_of_a_project_has_its_folders_and_leads_to_its_files(tmp_path: Path) -> None:
    from dbt_operator.runner.mirror import mirrored

    project = write(
        tmp_path / "a" / "shop", {"models/x/m.sql": "select 1", "dbt_packages/old/a": "x", ".git/HEAD": "x"}
    )
    write(tmp_path / "a" / "shared", {"macros/m.sql": "x"})
    mirror = mirrored(project, top=tmp_path / "work", without=[project / "dbt_packages", project / "package-lock.yml"])
    assert mirror == tmp_path / "work" / str(project).lstrip(os.sep)
    assert listing(mirror) == ["models", "models/x", "models/x/m.sql"]
    assert (mirror / "models/x").is_dir()
    assert not (mirror / "models/x").is_symlink()
    assert (mirror / "models/x/m.sql").read_text() == "select 1"
    assert (mirror.parent / "shared/macros/m.sql").read_text() == "x"
