"""Plays a run without a cluster: the operator on an API server in memory, the real runner with the real dbt."""

import base64
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbt_operator.runner.environment import PARSE_CACHE
from tests.bad_input.cases import PROJECT, Played
from tests.unit.reconcile.cluster import NAMESPACE, Given

IN_POD = "/dbt"
"""How the folder above the project is called in what is compared: here it has another name each time."""


@dataclass(frozen=True, slots=True)
class Player:
    """What runs are played with."""

    python: Path
    archive: Path
    parsed: bytes
    """What dbt has kept of a parse of the small project, as an image may bring it: half of what a short run costs."""
    parsed_at: Path
    """Where the project was, which dbt has kept, too."""

    async def play(self, case: Played) -> tuple[Given, Path]:
        """The run after its end, and the folder above its project."""
        with short_folder() as folder:
            project = folder / "shop"
            shutil.copytree(PROJECT, project)
            (project / "target").mkdir()
            # Both are of the same length, so that what is written in MessagePack stays whole.
            here = self.parsed.replace(bytes(self.parsed_at), bytes(project))
            (project / "target" / PARSE_CACHE).write_bytes(here)
            case.lay_over(project)
            given = Given(spec={"project": {"image": {"path": str(project)}}} | case.spec)
            async with given:
                await self._to_the_end(given, folder)
        return given, folder

    async def _to_the_end(self, given: Given, folder: Path) -> None:
        done: set[str] = set()

        def left() -> set[str]:
            return set(given.server.names("jobs")) - done

        def waits() -> bool:
            return "completionTime" in given.status() or bool(left()) or given.said()[1] == "BackingOff"

        while "completionTime" not in given.status():
            await given.until(waits)
            for job in sorted(left()):
                done.add(job)
                self._execute(given, await given.pod(job), given.server.get("jobs", job), folder)
            if given.said()[1] == "BackingOff":
                given.later(minutes=10)
        await given.until(lambda: given.over)

    def _execute(self, given: Given, pod: str, job: dict[str, Any], folder: Path) -> None:
        """Be the kubelet: mount, start, and hand over what is printed."""
        template = job["spec"]["template"]["spec"]
        container = next(one for one in template["containers"] if one["name"] == "dbt")
        mounts = _mounted(given, template, container, Path(tempfile.mkdtemp(dir=folder)))
        arguments = [_elsewhere(one, mounts) for one in container["args"]]
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
        environment |= {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}
        given.server.run_pod(pod)
        command = [str(self.python), str(self.archive), *arguments]
        ended = subprocess.run(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        given.server.end_pod(pod, *ended.stdout.splitlines(), exit_code=ended.returncode)


@contextmanager
def short_folder() -> Iterator[Path]:
    # The length of its path is always the same: some messages are cut.
    folder = Path(tempfile.mkdtemp(prefix="shop-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _mounted(given: Given, template: dict[str, Any], container: dict[str, Any], place: Path) -> dict[str, Path]:
    """The ConfigMaps that the container mounts, as folders."""
    volumes = {one["name"]: one["configMap"]["name"] for one in template["volumes"] if "configMap" in one}
    mounts = {one["mountPath"]: volumes[one["name"]] for one in container["volumeMounts"] if one["name"] in volumes}
    folders = {}
    for number, (path, name) in enumerate(mounts.items()):
        folders[path] = place / str(number)
        folders[path].mkdir()
        found = given.server.objects.get(("configmaps", NAMESPACE, name), {})
        for key, text in (found.get("data") or {}).items():
            (folders[path] / key).write_text(text)
        for key, text in (found.get("binaryData") or {}).items():
            (folders[path] / key).write_bytes(base64.b64decode(text))
    return folders


def _elsewhere(argument: str, mounts: dict[str, Path]) -> str:
    for path, folder in mounts.items():
        if argument == path or argument.startswith(f"{path}/"):
            return str(folder) + argument.removeprefix(path)
    return argument
