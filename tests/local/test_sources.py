"""A run whose project is in git, and whose dbt is installed for it: what its attempts have is decided once."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gitserver.serve import PASSWORD
from tests.local.desk import Desk
from tests.unit.runner.git import Repository, certificate, served
from tests.unit.runner.package_index import PackageIndex, serve

PROJECT = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop, config-version: 2, models: {+materialized: table}}",
    "profiles.yml": "shop: {target: dev, outputs: {dev: {type: duckdb, path: \"{{ env_var('SHOP_DUCKDB') }}\"}}}",
    "models/flaky.sql": "select {{ 'error(1)' if env_var('DBT_OPERATOR_ATTEMPT_KIND') == 'producer' else 1 }} as id",
    "models/below.sql": "select id from {{ ref('flaky') }}",
    "models/beside.sql": "select 1 as id",
}
OLDER, NEWER = "1.10.4", "1.11.2"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where all comes from that the run needs."""

    repository: Repository
    url: str
    authority: dict[str, Any]
    index: PackageIndex
    real: str  # the folder of the packages of the tests' dbt

    def release(self, version: str) -> None:
        """A new version of dbt: the one that there is, under another number."""
        self.index.add("dbt-core", version, leads_to=self.real)

    def spec(self, **git: Any) -> dict[str, Any]:
        """The fields of the spec that name them."""
        access = {"secretRef": {"name": "repository"}, "caConfigMapRef": {"name": "ca"}}
        return {
            "project": {"git": {"url": self.url, **access, **git}},
            "environment": {"virtualenv": {"requirements": ["dbt-core"], "options": [f"--index-url={self.index.url}"]}},
            "retry": {"limit": 0},
        }


@pytest.fixture(scope="class")
def sources(dbt_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    ask = [dbt_python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    real = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    root = tmp_path_factory.mktemp("git")
    tls = certificate(root)
    authority: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}}
    authority["data"] = {"ca.crt": Path(tls[0]).read_text()}
    with served(root, tls=tls) as port, serve() as index:
        url = f"https://127.0.0.1:{port}/private/shop.git"
        yield Sources(Repository.make(root), url, authority, index, real)


class TestWhatIsDecidedOnce:
    """The runs share what the ones before them have built, so that the order matters."""

    @pytest.fixture(autouse=True)
    def given(self, shop: Desk, sources: Sources, dbt_python: str) -> None:
        self.sources = sources
        environ = {**shop.environ, "SECRET_REPOSITORY_TOKEN": PASSWORD}
        self.desk = Desk(shop.folder, Path(dbt_python), environ, python=shop.python)

    def test_a_run_has_the_commit_of_its_branch_and_the_dbt_that_it_asks_for(self) -> None:
        commit = self.sources.repository.commit(PROJECT)
        self.sources.release(OLDER)
        status = self.desk.run("shop", "", self.sources.authority, **self.sources.spec())
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
        assert (status["project"]["commit"], status["dbt"]["version"]) == (commit, OLDER)
        assert self.desk.phases("shop") == {"flaky": "Failed", "below": "Skipped", "beside": "Succeeded"}
        assert [one["kind"] for one in status["attempts"]] == ["Producer"]

    def test_later_attempts_have_the_same_although_there_is_something_newer(self) -> None:
        before = self.desk.status("shop")
        self.sources.release(NEWER)
        self.sources.repository.commit({"dbt_project.yml": "no: [project"})
        self.desk.do("retry", "shop")
        status = self.desk.status("shop")
        assert (status["project"], status["dbt"]["version"]) == (before["project"], OLDER)
        assert self.desk.phases("shop") == dict.fromkeys(("flaky", "below", "beside"), "Succeeded")
        assert [one["kind"] for one in status["attempts"]] == ["Producer", "Resume"]

    def test_another_run_has_what_there_is_by_then(self) -> None:
        commit = self.desk.status("shop")["project"]["commit"]
        status = self.desk.run(
            "newer", "", self.sources.authority, **self.sources.spec(ref={"commit": commit}) | {"select": ["beside"]}
        )
        assert (status["project"]["commit"], status["dbt"]["version"]) == (commit, NEWER)

    def test_the_secret_of_the_repository_is_kept_nowhere(self) -> None:
        files = [file for file in self.desk.place.root.rglob("*") if file.is_file()]
        assert files
        assert [str(file) for file in files if PASSWORD.encode() in file.read_bytes()] == []
