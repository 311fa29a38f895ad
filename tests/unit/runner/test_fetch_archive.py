"""The step `fetch` with archives: what is unpacked, and what is refused by name."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbt_operator.pods.archive import build_archive
from tests.unit.runner.git import Fetched, fetch, served

PROJECT = {"dbt_project.yml": b"name: shop", "models/orders.sql": b"select 1"}


def tar(files: dict[str, bytes] | None = None, *, more: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A .tgz with these files, and these entries after them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in (PROJECT if files is None else files).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


def entry(name: str, *, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """An entry of a tar archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(files: dict[str, bytes] | None = None, *, link: tuple[str, str] | None = None) -> bytes:
    """A .zip with these files, and a symbolic link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (PROJECT if files is None else files).items():
            archive.writestr(name, content)
        if link is not None:
            info = zipfile.ZipInfo(link[0])
            info.external_attr = 0o120777 << 16
            archive.writestr(info, link[1])
    return buffer.getvalue()


class Pods:
    """Each fetches an archive, as another pod would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = folder / "runner.pyz"
        self.runner.write_bytes(build_archive())
        self.count = 0

    def unpack(self, content: bytes, *arguments: str) -> Fetched:
        """Unpack an archive that is mounted."""
        file = self.folder / "archive"
        file.write_bytes(content)
        return self.fetch(f"--archive={file}", "--archive-name=archive shop.tgz in ConfigMap shop", *arguments)

    def fetch(self, *arguments: str) -> Fetched:
        self.count += 1
        return fetch(self.runner, self.folder / f"pod-{self.count}", *arguments)


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(tmp_path)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web/files").mkdir(parents=True)
    (tmp_path / "web/files/shop.tgz").write_bytes(tar())
    with served(tmp_path / "web") as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("content", [tar(), zipped()])
def test_an_archive_is_unpacked_and_its_digest_told(pods: Pods, content: bytes) -> None:
    fetched = pods.unpack(content)
    assert fetched.found == {"project.digest": f"sha256:{hashlib.sha256(content).hexdigest()}"}
    assert (fetched.tree / "models/orders.sql").read_bytes() == PROJECT["models/orders.sql"]


def test_links_within_the_archive_are_kept(pods: Pods) -> None:
    links = (
        entry("models/again.sql", kind=tarfile.SYMTYPE, target="../models/orders.sql"),
        entry("hard.sql", kind=tarfile.LNKTYPE, target="models/orders.sql"),
    )
    fetched = pods.unpack(tar(more=links))
    assert (fetched.tree / "models/again.sql").read_bytes() == (fetched.tree / "hard.sql").read_bytes() == b"select 1"
    assert pods.unpack(zipped(link=("a.sql", "models/orders.sql"))).code == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tar(more=(entry("/etc/x"),)), "'/etc/x', which is an absolute path"),
        (tar(more=(entry("a/../../x"),)), "'a/../../x', which is a path that may lead out of the archive"),
        (zipped({"../x": b""}), "'../x', which is a path that may lead out of the archive"),
        (tar(more=(entry("x", kind=tarfile.SYMTYPE, target="/etc"),)), "'x', which is, or lies behind, a link out of"),
        (tar(more=(entry("x", kind=tarfile.SYMTYPE, target="../.."),)), "'x', which is, or lies behind, a link out of"),
        (tar(more=(entry("x", kind=tarfile.LNKTYPE, target="../y"),)), "'x', which is, or lies behind, a link out of"),
        (zipped(link=("x", "/etc/passwd")), "'x', which is, or lies behind, a link out of"),
        (tar(more=(entry("x", kind=tarfile.CHRTYPE),)), "'x', which is a device"),
        (tar(more=(entry("x", kind=tarfile.FIFOTYPE),)), "'x', which is a device"),
        (b"name: shop", "is neither a .tgz nor a .zip"),
        (tar()[:60], "is no archive that can be unpacked"),
        (gzip.compress(b"name: shop"), "is no archive that can be unpacked"),
        (zipped()[:60], "is no archive that can be unpacked"),
        (tar({"shop/dbt_project.yml": b""}), "(there is one in shop): correct spec.project.archive.path."),
    ],
    ids=lambda value: "archive" if isinstance(value, bytes) else value,
)
def test_what_is_wrong_with_an_archive_is_said_by_name(pods: Pods, content: bytes, expected: str) -> None:
    failed = pods.unpack(content)
    assert (failed.code, failed.reason) == (1, "ProjectFetchFailed")
    assert "he archive shop.tgz in ConfigMap shop" in failed.message
    assert expected in failed.message


def test_nothing_is_written_through_a_link_that_is_made_later(pods: Pods, tmp_path: Path) -> None:
    """Each of the two links leads to within the archive by itself when it is made."""
    out = tmp_path / "out"
    out.mkdir()
    links = (
        entry("a", kind=tarfile.SYMTYPE, target="b/../.."),
        entry("b", kind=tarfile.SYMTYPE, target="c"),
        entry("a/out/x"),
    )
    failed = pods.unpack(tar(more=links))
    assert failed.reason == "ProjectFetchFailed"
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("content", [tar({"large": bytes(4_000_000)}), zipped({"large": bytes(4_000_000)})])
def test_what_becomes_too_large_is_given_up(pods: Pods, content: bytes) -> None:
    assert len(content) < 100_000
    failed = pods.unpack(content, f"--size-limit={2**20}")
    assert failed.reason == "ProjectFetchFailed"
    assert "larger than spec.project.archive.sizeLimit (1Mi) allows" in failed.message
    assert sum(file.stat().st_size for file in failed.tree.rglob("*")) <= 2**20


def test_too_many_entries_are_given_up(pods: Pods) -> None:
    itself = entry("./", kind=tarfile.DIRTYPE).tobuf()
    assert "has more than 100000 entries" in pods.unpack(gzip.compress(itself * 100_001 + bytes(1024))).message


def test_an_archive_that_was_changed_is_not_what_the_run_began_with(pods: Pods) -> None:
    content = tar()
    before = pods.unpack(content).found["project.digest"]
    assert pods.unpack(content, f"--as-before={before}").code == 0
    failed = pods.unpack(tar({"dbt_project.yml": b""}), f"--as-before={before}")
    assert failed.reason == "ProjectFetchFailed"
    assert f"has been changed since the run began with another archive ({before})" in failed.message


class TestUrl:
    """An archive that is fetched."""

    def test_it_is_unpacked_where_its_digest_is_the_one(self, pods: Pods, url: str) -> None:
        digest = hashlib.sha256(tar()).hexdigest()
        fetched = pods.fetch(f"--archive-url={url}/files/shop.tgz?signature=geheim", f"--sha256={digest}")
        assert fetched.found == {"project.digest": f"sha256:{digest}"}
        assert not (fetched.tree.parent / "archive").exists()

    def test_another_digest_is_refused(self, pods: Pods, url: str) -> None:
        failed = pods.fetch(f"--archive-url={url}/files/shop.tgz?signature=geheim", f"--sha256={'0' * 64}")
        assert failed.reason == "ProjectFetchFailed"
        assert "and not that of spec.project.archive.sha256" in failed.message
        assert "geheim" not in failed.message

    @pytest.mark.parametrize(
        ("path", "reason"), [("/files/other.tgz", "ProjectFetchFailed"), ("/broken/x", "SourceUnavailable")]
    )
    def test_what_a_server_answers_decides_whether_it_may_pass(
        self, pods: Pods, url: str, path: str, reason: str
    ) -> None:
        failed = pods.fetch(f"--archive-url={url}{path}", f"--sha256={'0' * 64}")
        assert failed.reason == reason
        assert f"{url}{path} cannot be fetched, its server answers" in failed.message

    def test_a_server_that_is_not_there_may_be_back(self, pods: Pods) -> None:
        failed = pods.fetch("--archive-url=http://127.0.0.1:1/shop.tgz", f"--sha256={'0' * 64}")
        assert failed.reason == "SourceUnavailable"

    def test_a_server_that_hangs_is_given_up(self, pods: Pods, url: str) -> None:
        failed = pods.fetch(f"--archive-url={url}/hang/shop.tgz", f"--sha256={'0' * 64}", "--seconds=1")
        assert failed.reason == "SourceUnavailable"
