"""The runner as its users meet it: a zipapp, a real dbt, a small project, and the lines it prints."""

import base64
import fcntl
import functools
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.pods.archive import build_archive
from dev import dbt_venv
from tests.unit.runner.environments import MakePod, Pod
from tests.unit.runner.package_index import PackageIndex, serve
from tests.warm import warm_dbt

PROJECTS = Path(__file__).resolve().parents[2] / "projects"
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the runner printed, and how it ended."""

    lines: tuple[bytes, ...]
    code: int
    target: Path

    @property
    def events(self) -> list[Event]:
        return [json.loads(line) for line in self.lines]

    def named(self, name: str) -> list[Event]:
        return [event["data"] for event in self.events if event["info"]["name"] == name]

    @property
    def finished(self) -> Event:
        last = self.events[-1]
        assert last["info"]["name"] == "RunFinished"
        data: Event = last["data"]
        return data

    @property
    def results(self) -> dict[str, Event]:
        return {result["unique_id"]: result for result in self.named("NodeResult")}

    @property
    def digest(self) -> list[Event]:
        return [result for part in self.named("RunResults") for result in part["results"]]

    @property
    def graph(self) -> dict[str, Event]:
        return {node["unique_id"]: node for part in self.named("SelectedNodes") for node in part["nodes"]}

    @property
    def output(self) -> list[tuple[str, str]]:
        return [(event["stream"], event["text"]) for event in self.named("Output")]

    @property
    def artifacts(self) -> dict[str, bytes]:
        """The printed files, still compressed; each piece is decoded by itself and the whole is checked."""
        pieces: dict[str, list[Event]] = {}
        for piece in self.named("Artifact"):
            pieces.setdefault(piece["name"], []).append(piece)
        files = {}
        for name, parts in pieces.items():
            assert [part["part"] for part in parts] == list(range(parts[0]["parts"]))
            files[name] = b"".join(base64.b64decode(part["data"], validate=True) for part in parts)
            assert len(files[name]) == parts[0]["size"]
            assert hashlib.sha256(files[name]).hexdigest() == parts[0]["sha256"]
        return files

    @property
    def parsed(self) -> dict[str, bytes]:
        """Those of the printed files that dbt wrote when it had parsed the project."""
        return {name: content for name, content in self.artifacts.items() if name != "compiled.json"}

    @property
    def selected(self) -> set[str]:
        return {unique_id for unique_id, node in self.graph.items() if node.get("selected", True)}

    def run_results(self) -> Event:
        """What dbt itself wrote of this invocation."""
        written: Event = json.loads((self.target / "run_results.json").read_text())
        return written


@dataclass(slots=True)
class Project:
    """A copy of a project, and everything needed to run the runner on it.

    warm: where there is one, the Python of all runs but those that say that they are to start as pods do.
    """

    python: str
    archive: Path
    path: Path
    scratch: Path
    warm: Path | None = None

    def command(self, *dbt: str, options: Sequence[str] = ()) -> list[str]:
        own = ["--attempt", "producer-1", "--run-uid", "uid-1", "--project-dir", str(self.path), *options]
        return [self.python, str(self.archive), *own, "--", *dbt]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of this process nothing but the way to programs: dbt reads many variables."""
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.scratch),
            "TMPDIR": str(self.scratch),
            "DBT_DUCK": "torture.duckdb",  # in the project's folder; not by its whole path, as that is part of a parse
            "DBT_TARGET_PATH": str(self.scratch / "target"),
        }
        return own | dict(extra or {})

    def run(
        self,
        *dbt: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stop_at: Callable[[Event], bool] | None = None,
        prefix: Sequence[str] = (),
        as_pods_do: bool = False,
    ) -> Run:
        """Run to the end; send SIGTERM at the first event that `stop_at` is true of.

        as_pods_do: start Python, and let it import dbt. What has a prefix always does.
        """
        command = self.command(*dbt, options=options)
        if self.warm and not as_pods_do and not prefix:
            command[0] = str(self.warm)
        with subprocess.Popen(
            [*prefix, *command],
            env=self.environment(environment),
            cwd=self.scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if stop_at is not None and stop_at(json.loads(line)):
                    _terminate(process.pid, inside=bool(prefix))
                    stop_at = None
        assert process.returncode is not None
        assert stop_at is None, f"the awaited event never came: {b''.join(lines[-3:])!r}"
        target = Path(self.environment(environment)["DBT_TARGET_PATH"])
        return Run(lines=tuple(lines), code=process.returncode, target=target)

    def again(
        self,
        producer: Run,
        unique_ids: Sequence[str],
        *dbt: str,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Run:
        """A retry of these nodes with what the producer has printed, in a target directory that is empty at first."""
        place = Path(tempfile.mkdtemp(dir=self.scratch))
        (place / "nodes.json.gz").write_bytes(
            gzip.compress(json.dumps([{"unique_id": x} for x in unique_ids]).encode())
        )
        (place / "cache.gz").write_bytes(producer.artifacts.get("partial_parse.msgpack", b""))
        return self.run(
            *(dbt or ("build",)),
            options=[
                *("--attempt-kind", "retry"),
                *("--nodes", str(place / "nodes.json.gz")),
                *("--parse-cache", str(place / "cache.gz")),
                *options,
            ],
            environment={"DBT_TARGET_PATH": str(place / "target"), **(environment or {})},
        )

    def edit(self, name: str, old: str, new: str) -> None:
        file = self.path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


def _terminate(pid: int, *, inside: bool) -> None:
    # With a prefix (unshare) the runner is that process's child.
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if inside else [str(pid)]
    os.kill(int(children[0]), signal.SIGTERM)


def _dbt_python() -> str:
    return os.environ.get("DBT_OPERATOR_TEST_DBT_PYTHON") or str(dbt_venv.location() / "bin" / "python")


@pytest.fixture(scope="session")
def dbt_python() -> str:
    """The Python with the real dbt, built by `make` or by `python -m dev.dbt_venv`."""
    named = _dbt_python()
    if not Path(named).exists():
        pytest.fail(f"{named} does not exist: build it with `python -m dev.dbt_venv`.", pytrace=False)
    return named


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zipapp as pods get it."""
    path = tmp_path_factory.mktemp("runner") / "runner.pyz"
    path.write_bytes(build_archive())
    return path


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the whole session, whichever worker this is."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def warm_python(dbt_python: str, session_folder: Path) -> Path:
    """A Python with the real dbt, whose processes need not import it."""
    return warm_dbt(Path(dbt_python), session=session_folder)


@pytest.fixture(scope="session")
def make_project(
    dbt_python: str,
    archive: Path,
    warm_python: Path,
    session_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Project]:
    """Makes copies of the torture project, with what dbt keeps of a parse: half of what a short run costs."""

    def copy() -> Project:
        scratch = tmp_path_factory.mktemp("torture")
        shutil.copytree(PROJECTS / "torture", scratch / "project")
        path = scratch / "project"
        return Project(python=dbt_python, archive=archive, path=path, scratch=scratch, warm=warm_python)

    parsed = session_folder / "parsed"
    with (session_folder / "parsed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one worker does it for all
        if not parsed.exists():
            shutil.copytree(copy().run("parse").target, parsed)

    def make() -> Project:
        project = copy()
        shutil.copytree(parsed, project.scratch / "target")
        return project

    return make


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()


IN_VARIABLE = "s3cr€t 'quoted\"/value"
IN_FILE = "from-a-mounted-file"
IN_PROFILE = "hidden in the profile"


@pytest.fixture(scope="session")
def torture(make_project: Callable[[], Project]) -> Run:
    """One run in which everything goes wrong that can go wrong; many tests look at it."""
    project = make_project()
    secrets = project.scratch / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text(IN_FILE + "\n")
    project.edit("profiles.yml", "type: duckdb", f"type: duckdb\n      token: '{IN_PROFILE}'")
    project.edit(
        "models/shout/shouts_sql.sql",
        "select 1 as id",
        f"{{% do print('{IN_FILE}, {IN_PROFILE}') %}}\nselect 1 as id",
    )
    return project.run(
        "build",
        *("--vars", json.dumps({"shout": True, "mbfail": True, "utbad": True, "badjinja": True})),
        options=["--secret-env", "SHOUTED", "--secret-file", str(secrets)],
        environment={"SHOUTED": IN_VARIABLE},
        as_pods_do=True,
    )


@pytest.fixture(scope="session")
def green(make_project: Callable[[], Project]) -> Run:
    """A run in which nothing fails, with the other spelling of --select."""
    selection = ("-m", "+ok_model", "+uses_eph", "--exclude", "s_events")
    return make_project().run("build", *selection, "--threads=1")


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    """A package index with dbt-core in two versions, and an adapter that needs it."""
    with serve() as made:
        made.add("dbt-core", "1.10.4")
        made.add("dbt-core", "1.11.2")
        made.add("dbt-duckdb", "1.10.1", needs="dbt-core>=1.8")
        yield made


@pytest.fixture
def make_pod(archive: Path, index: PackageIndex, tmp_path: Path) -> MakePod:
    """Makes pods in which a virtual environment is made."""
    numbers = itertools.count()
    return lambda: Pod(archive=archive, index=index, folder=tmp_path / str(next(numbers)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what a test needs a newer version for: @pytest.mark.needs("dbt-core", "1.9", "microbatch models")."""
    for marker in item.iter_markers("needs"):
        package, oldest, what = marker.args
        installed = _installed(_dbt_python(), package)
        if _numbers(installed) < _numbers(oldest):
            pytest.skip(f"{package} {installed} has no {what}, which came with {oldest}")


@functools.cache
def _installed(python: str, package: str) -> str:
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
