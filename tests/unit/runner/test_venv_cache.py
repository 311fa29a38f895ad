"""The cache of virtual environments: whole ones or none, whoever is killed, and none that its users lose."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dbt_operator.runner.venv_cache import CLOSED_SECONDS
from tests.unit.runner.environments import MakePod, Pod
from tests.unit.runner.package_index import PackageIndex

DAY = 86400.0


class Volume:
    """The volume of the cache, looked at from outside, with the time that passes there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def options(self) -> list[str]:
        return [f"--cache={self.path}", "--claim=environments", "--unused-days=30"]

    @property
    def environments(self) -> list[Path]:
        return sorted((self.path / "environments").iterdir())

    @property
    def whole(self) -> list[Path]:
        return [folder for folder in self.environments if (folder / "whole").exists()]

    def age(self, folder: Path, seconds: float) -> None:
        """Let the environment of this folder have been used, and closed, that long before."""
        then = time.time() - seconds
        for file in (self.path / "used" / folder.name, folder / "closed"):
            if file.exists():
                os.utime(file, (then, then))


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


def use(pod: Pod, volume: Volume, package: str = "dbt-core") -> list[str]:
    """Have the environment of a package in this pod; returns what was asked of the index for it."""
    before = len(pod.index.requests)
    ended = pod.run(f"--requirement={package}", *volume.options)
    assert ended.code == 0, ended.log
    return pod.index.requests[before:]


def test_environment_is_made_once_and_found_afterwards(make_pod: MakePod, volume: Volume) -> None:
    first, second, other = make_pod(), make_pod(), make_pod()
    assert use(first, volume)
    assert use(second, volume) == []
    assert second.venv == first.venv
    use(other, volume, "dbt-core<2")
    assert other.venv != first.venv
    assert len(volume.whole) == 2
    assert [pod.runner()["dbt_version"] for pod in (first, second)] == ["1.11.2", "1.11.2"]


def test_password_may_change_and_another_index_may_have_other_packages(
    make_pod: MakePod, volume: Volume, index: PackageIndex
) -> None:
    def found(url: str) -> bool:
        ended = make_pod().run("--requirement=dbt-core", *volume.options, secret=url)
        assert ended.code == 0, ended.log
        return "in the cache" in ended.log

    assert not found(index.url.replace("//", "//team:old-password@"))
    assert found(index.url.replace("//", "//team:new-password@"))
    assert not found(index.url.replace("127.0.0.1", "localhost"))


def test_two_that_make_the_same_one_at_once_wait_for_nobody(
    make_pod: MakePod, volume: Volume, index: PackageIndex
) -> None:
    first, second, third = make_pod(), make_pod(), make_pod()
    index.hold("/files/")
    started = first.start("--requirement=dbt-core", *volume.options)
    index.held.wait()
    use(second, volume)  # while the first one is in the middle of it
    assert volume.whole == [second.venv.parent]
    index.release()
    assert started.end().code == 0
    assert first.runner()["dbt_version"] == "1.11.2"
    assert len(volume.whole) == 2
    assert use(third, volume) == []


def test_one_that_is_killed_in_the_middle_is_in_nobodys_way(
    make_pod: MakePod, volume: Volume, index: PackageIndex
) -> None:
    killed, next_one = make_pod(), make_pod()
    index.hold("/files/")
    started = killed.start("--requirement=dbt-core", *volume.options)
    index.held.wait()
    started.kill()
    index.release()
    (left,) = volume.environments
    assert volume.whole == []
    assert use(next_one, volume)
    assert volume.whole == [next_one.venv.parent]
    # What it has left goes when nobody can be at work on it any more.
    volume.age(left, CLOSED_SECONDS + 1)
    use(make_pod(), volume)
    volume.age(left, CLOSED_SECONDS + 1)
    use(make_pod(), volume)
    assert volume.environments == [next_one.venv.parent]


def test_one_that_was_believed_dead_makes_nothing_whole(make_pod: MakePod, volume: Volume, index: PackageIndex) -> None:
    pod = make_pod()
    index.hold("/files/")
    started = pod.start("--requirement=dbt-core", *volume.options)
    index.held.wait()
    (folder,) = volume.environments
    (volume.path / "removed").mkdir()
    folder.rename(volume.path / "removed" / folder.name)
    index.release()
    ended = started.end()
    assert ended.code == 1
    assert volume.whole == []


def test_one_that_fails_or_is_stopped_leaves_nothing(make_pod: MakePod, volume: Volume, index: PackageIndex) -> None:
    assert make_pod().run("--requirement=dbt-core==9.9", *volume.options).code == 1
    index.hold("/files/")
    started = make_pod().start("--requirement=dbt-core", *volume.options)
    index.held.wait()
    started.process.terminate()
    assert started.end().code == 128 + signal.SIGTERM
    assert volume.environments == []
    assert list((volume.path / "used").iterdir()) == []


class Reader:
    """A process in an environment that imports what it needs only when it is asked to."""

    def __init__(self, pod: Pod) -> None:
        lines = (
            f"import sys; sys.path.insert(0, {str(pod.archive)!r})",
            "from dbt_operator.runner import venv_place",
            "venv_place.TOUCH_SECONDS = 0.05",  # as the runner does, only more often
            f"venv_place.read_place({str(pod.into)!r}).keep()",
            "print('ready', flush=True)",
            "input()",
            "import dbt_core.late",
            "print(dbt_core.late.version)",
        )
        command = [str(pod.venv / "bin" / "python"), "-c", "\n".join(lines)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def end(self) -> str:
        """Let it import the module; returns what that says."""
        out, _ = self._process.communicate("go on\n")
        return out.strip()


def test_environment_that_is_in_use_is_not_removed(make_pod: MakePod, volume: Volume) -> None:
    pod, others = make_pod(), "dbt-core<2"
    use(pod, volume)
    (folder,) = volume.environments
    volume.age(folder, 31 * DAY)
    use(make_pod(), volume, others)
    assert (folder / "closed").exists()  # nobody has used it for long
    reader = Reader(pod)  # … but this one has begun to at the same moment
    mark = volume.path / "used" / folder.name
    waited_for = time.time() - DAY
    while mark.stat().st_mtime < waited_for:
        time.sleep(0.01)
    then = time.time() - 31 * DAY
    os.utime(folder / "closed", (then, then))
    use(make_pod(), volume, others)
    assert reader.end() == "1.11.2"
    assert folder.exists()


def test_environment_that_nobody_uses_is_closed_and_then_removed(make_pod: MakePod, volume: Volume) -> None:
    old, new, others = make_pod(), make_pod(), "dbt-core<2"
    use(old, volume)
    (folder,) = volume.environments
    volume.age(folder, 29 * DAY)
    use(make_pod(), volume, others)
    assert not (folder / "closed").exists()
    volume.age(folder, 31 * DAY)
    use(make_pod(), volume, others)
    # A new user makes a new one, as this one may go at any moment.
    assert use(new, volume)
    assert new.venv != old.venv
    assert folder.exists()
    volume.age(folder, 31 * DAY)
    use(make_pod(), volume, others)
    assert not folder.exists()
    assert not (volume.path / "used" / folder.name).exists()
    assert new.venv.exists()


def test_removal_that_was_broken_off_is_finished(make_pod: MakePod, volume: Volume) -> None:
    left = volume.path / "removed" / "abc.def" / "venv"
    left.mkdir(parents=True)
    use(make_pod(), volume)
    assert not left.exists()


def test_later_attempt_takes_only_what_has_the_packages_of_the_first_one(
    make_pod: MakePod, volume: Volume, index: PackageIndex
) -> None:
    first = make_pod().run("--requirement=dbt-core<1.11")  # without the cache, which then gets a later version
    index.add("dbt-core", "1.10.9")
    assert make_pod().run("--requirement=dbt-core<1.11", *volume.options).code == 0
    pods = make_pod(), make_pod()
    for pod in pods:
        before = f"--as-before={''.join(first.found.values())}"
        assert pod.run("--requirement=dbt-core<1.11", before, *volume.options).found == first.found
        assert pod.runner()["dbt_version"] == "1.10.4"
    assert pods[0].venv == pods[1].venv
    # Nobody else gets the old version by that.
    other = make_pod()
    assert other.run("--requirement=dbt-core<1.11", *volume.options).code == 0
    assert other.runner()["dbt_version"] == "1.10.9"


def test_volume_that_cannot_be_written(make_pod: MakePod, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = make_pod().run("--requirement=dbt-core", *Volume(tmp_path / "file").options)
    assert ended.message.startswith("The environment of dbt cannot be made in the cache on the claim environments: ")
