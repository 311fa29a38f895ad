"""A virtual environment for dbt: made by uv or by pip, the same in each attempt, and clear where it fails."""

import base64
import re
import shutil
import urllib.parse
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from dbt_operator.runner.installer_words import failure
from dbt_operator.runner.installers import PIP, Installation, Order
from dbt_operator.runner.steps import StepError
from tests.unit.runner.environments import INSTALLERS, MakePod
from tests.unit.runner.package_index import PackageIndex, serve


def packages(found: dict[str, str]) -> list[str]:
    """The packages that a step has found."""
    text = "".join(found[key] for key in sorted(found))
    return zlib.decompress(base64.b64decode(text)).decode().splitlines()


def as_before(found: dict[str, str]) -> str:
    return f"--as-before={''.join(found[key] for key in sorted(found))}"


@pytest.mark.parametrize("installer", INSTALLERS)
def test_dbt_is_the_one_that_was_asked_for_and_of_several_indexes_the_first_one_may_have_the_adapter_only(
    make_pod: MakePod, index: PackageIndex, installer: str
) -> None:
    with serve() as own:
        own.add("dbt-own", "1.0", needs="dbt-core")
        urls = f"{own.url.replace('//', '//team:first-password@')}\n{index.url}"
        pod = make_pod()
        ended = pod.run("--requirement=dbt-own", "--constraint=dbt-core<1.11", installer=installer, secret=urls)
        assert ended.code == 0, ended.log
        assert packages(ended.found) == ["dbt-core==1.10.4", "dbt-own==1.0"]
        assert "first-password" not in ended.log
        assert own.requests[0] == "/simple/dbt-own/"
    assert pod.runner()["dbt_version"] == "1.10.4"
    assert sorted(path.name for path in pod.into.iterdir()) == ["environment.json", "venv"]


def test_requirements_file_with_hashes(make_pod: MakePod, index: PackageIndex, tmp_path: Path) -> None:
    digest = index.add("dbt-core", "1.10.5")
    file = tmp_path / "requirements.txt"
    file.write_text(f"# locked\ndbt-core==1.10.5 \\\n    --hash=sha256:{digest}\n")
    pod = make_pod()
    ended = pod.run(f"--requirements-file={file}", "--option=--require-hashes")
    assert ended.code == 0, ended.log
    assert pod.runner()["dbt_version"] == "1.10.5"


WRONG_HASH = "dbt-core==1.11.2 --hash=sha256:" + "0" * 64
NOBODY = "http://127.0.0.1:9/simple"


@pytest.mark.parametrize(
    ("requirement", "options", "secret", "message"),
    [
        ("dbt-core==9.9", [], "", "there is no version of dbt-core==9.9"),
        ("dbt-core", [], NOBODY, "Connection refused"),
        (WRONG_HASH, ["--option=--require-hashes"], "", "Hash mismatch for `dbt-core==1.11.2` Expected: sha256:0000"),
    ],
    ids=["no such version", "no answer", "wrong hash"],
)
def test_what_cannot_be_installed_is_said_in_the_installers_own_words(
    make_pod: MakePod, requirement: str, options: list[str], secret: str, message: str
) -> None:
    ended = make_pod().run(f"--requirement={requirement}", *options, secret=secret)
    assert ended.message.startswith("The packages of spec.environment were not installed by uv: ")
    assert re.search(message, ended.message), ended.message
    assert "\n" not in ended.message
    assert ended.said["reason"] == ("SourceUnavailable" if secret else "EnvironmentFailed")


@pytest.fixture(scope="module")
def made_by_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which nothing can be installed; pip takes three seconds to make one."""
    folder = tmp_path_factory.mktemp("pip")
    Installation(Order(""), by=PIP, scratch=folder, seconds=180, log=print).create(folder / "venv")
    return folder / "venv"


@pytest.mark.parametrize(
    ("order", "nobody", "message"),
    [
        (Order("dbt-core"), True, "the index did not answer for .*Connection refused"),
        (
            Order(WRONG_HASH, options=("--require-hashes",)),
            False,
            "DO NOT MATCH THE HASHES.*dbt-core==1.11.2.*Expected sha256 0000.*Got",
        ),
    ],
    ids=["no answer", "wrong hash"],
)
def test_what_pip_cannot_install_is_said_in_its_own_words(
    made_by_pip: Path, index: PackageIndex, tmp_path: Path, order: Order, nobody: bool, message: str
) -> None:
    order = replace(order, indexes=(NOBODY if nobody else index.url,))
    with pytest.raises(StepError, match=message) as raised:
        Installation(order, by=PIP, scratch=tmp_path, seconds=180, log=print).install(made_by_pip, compiled=False)
    assert str(raised.value).startswith("The packages of spec.environment were not installed by pip: ")
    assert "\n" not in str(raised.value)
    assert raised.value.passing is nobody


def test_environment_without_dbt_is_refused(make_pod: MakePod, index: PackageIndex) -> None:
    index.add("requests", "1.0")
    assert "requirements brings no dbt" in make_pod().run("--requirement=requests").message


def test_installer_that_takes_too_long_is_ended(make_pod: MakePod, index: PackageIndex) -> None:
    index.hold("/files/")
    ended = make_pod().run("--requirement=dbt-core", "--seconds=3")
    assert "were not installed within 3 s" in ended.message
    assert ended.said["reason"] == "SourceUnavailable"


PASSWORD = "s3cr€t/of the index"  # noqa: S105 - of a server that lives as long as its test


def test_index_with_a_password_which_is_never_printed(make_pod: MakePod, index: PackageIndex) -> None:
    index.user = f"team:{PASSWORD}"
    quoted = urllib.parse.quote(PASSWORD, safe="")
    url = index.url.replace("//", f"//team:{quoted}@")
    assert make_pod().run("--requirement=dbt-core", secret=url).code == 0
    # The name that is missing makes an installer name the URL.
    refused = make_pod().run("--requirement=dbt-core", secret=f"{url}wrong/place/")
    wrong = make_pod().run("--requirement=dbt-core", secret=url.replace(quoted, "other-password"))
    for ended, secret in ((refused, quoted), (refused, PASSWORD), (wrong, "other-password")):
        assert ended.code == 1
        assert secret not in ended.log + ended.message
    assert "401" in wrong.message


@pytest.mark.parametrize("installer", INSTALLERS)
def test_later_attempt_has_the_packages_of_the_first_one_although_there_are_newer(
    make_pod: MakePod, index: PackageIndex, installer: str
) -> None:
    first = make_pod().run("--requirement=dbt-duckdb")
    index.add("dbt-core", "1.12.0")
    index.add("dbt-duckdb", "1.11.0", needs="dbt-core>=1.8")
    pod = make_pod()
    later = pod.run("--requirement=dbt-duckdb", as_before(first.found), installer=installer)
    assert later.found == first.found, later.log
    assert pod.runner()["dbt_version"] == "1.11.2"


def test_where_the_packages_cannot_be_the_same_the_later_attempt_says_so(
    make_pod: MakePod, index: PackageIndex, tmp_path: Path
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"dbt-core==1.11.3 --hash=sha256:{index.add('dbt-core', '1.11.3')}\n")
    first = make_pod().run(f"--requirements-file={file}")
    # Somebody edits the ConfigMap between two attempts.
    file.write_text(f"dbt-core==1.11.4 --hash=sha256:{index.add('dbt-core', '1.11.4')}\n")
    later = make_pod().run(f"--requirements-file={file}", as_before(first.found))
    assert "(dbt-core==1.11.3, dbt-core==1.11.4)" in later.message
    assert "has changed since the run began" in later.message


def test_runner_never_takes_another_dbt_where_the_environment_is_gone(make_pod: MakePod) -> None:
    pod = make_pod()
    assert pod.run("--requirement=dbt-core").code == 0
    shutil.rmtree(pod.venv)
    assert "the environment that was made for dbt cannot be used" in pod.runner_end()["error"]["message"]


def test_modules_of_a_venv_whose_python_has_none() -> None:
    lines = [
        "The virtual environment was not created successfully because ensurepip is not",
        "available.  On Debian/Ubuntu systems, you need to install the python3-venv",
        "package using the following command.",
        "Failing command: /tmp/x/bin/python3",
    ]
    assert "ensurepip is not available" in str(failure(lines, by="pip"))
