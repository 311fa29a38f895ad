"""From the Job of an attempt to processes of this machine: what a kubelet makes of a pod, less what needs a cluster.

The Job is the very one that a cluster would get, so whatever can be said of a run is said once. Volumes become folders
of the attempt, and the paths of the operator's own mounts, which all begin alike, the paths of those folders. What the
user's template mounts at other paths stays out: they are not this process's to make.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from dbt_operator.api.problems import InvalidSpec
from dbt_operator.pods.profiles_yml import FILES_DIRECTORY
from dbt_operator.pods.template import CONTAINER
from dbt_operator.pods.template_lists import mappings, named
from dbt_operator.pods.variables import yaml_text

OWN_MOUNTS = "/dbt-operator/"
_VARIABLE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMGT]i?|)")


class Sources(Protocol):
    """Where the files and values come from that a pod gets from objects."""

    def config_map(self, name: str) -> Mapping[str, bytes] | None:
        """What a ConfigMap has, by key; None where there is none."""

    def secret(self, name: str, *, keys: Iterable[str] | None) -> Mapping[str, bytes] | None:
        """What a Secret has of these keys (None: all that are known); None where nothing is known of it."""

    def where(self, name: str, key: str | None) -> str:
        """Where a key of a Secret is looked for, for a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A container, as a process."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    message_file: str  # of a step: where it says how it went


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an attempt needs to begin. `files`: by their path below the folder of the attempt; they may be secret."""

    folders: tuple[Path, ...]
    files: Mapping[str, bytes]
    steps: tuple[Program, ...]
    dbt: Program
    cwd: str
    grace_seconds: int
    memory_bytes: int  # 0: as much as there is

    def write_files(self, folder: Path) -> None:
        """Make the folders and files below the folder of the attempt. Only their owner can read them."""
        for each in (folder / "tmp", *self.folders):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in self.files.items():
            file = folder / path
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.write_bytes(content)

    def order(self, folder: Path) -> dict[str, Any]:
        """What the supervisor is told."""
        programs = [
            {
                "name": one.name,
                "argv": one.argv,
                "env": one.env,
                "cwd": self.cwd if one is self.dbt else str(folder),
                "message_file": one.message_file,
            }
            for one in (*self.steps, self.dbt)
        ]
        return {
            "folder": str(folder),
            "steps": programs[:-1],
            "dbt": programs[-1],
            "grace_seconds": self.grace_seconds,
            "memory_bytes": self.memory_bytes,
        }


def recipe_of(
    job: Mapping[str, Any],
    *,
    folder: Path,
    claims: Path,
    sources: Sources,
    environ: Mapping[str, str],
    python: str,
) -> Recipe:
    """The recipe of an attempt.

    folder: of the attempt. claims: below it are the folders that stand for PersistentVolumeClaims. environ: of the
    process that asks, on which the variables of the containers are laid. python: in the place of a container's python3.

    Raises: InvalidSpec, a sentence that names what is missing.
    """
    pod: Mapping[str, Any] = job["spec"]["template"]["spec"]
    container = named(pod.get("containers"), CONTAINER)
    own_steps = [one for one in mappings(pod.get("initContainers")) if _runs_ours(one)]
    making = _Making(pod, folder=folder, claims=claims, sources=sources)
    for one in (*own_steps, container):
        making.mount(one)
    base = {**environ, "TMPDIR": str(folder / "tmp")}
    return Recipe(
        folders=tuple(making.folders),
        files=making.files,
        steps=tuple(making.step(one, base=base, python=python) for one in own_steps),
        dbt=making.dbt(container, base=base, python=python),
        cwd=making.local(container["workingDir"]),
        grace_seconds=int(pod.get("terminationGracePeriodSeconds") or 30),
        memory_bytes=memory_bytes(container),
    )


def _runs_ours(container: Mapping[str, Any]) -> bool:
    """Whether it is a step of the operator's own: it runs the runner's archive."""
    command = container.get("command") or []
    return any(str(word).startswith(OWN_MOUNTS) for word in command)


def memory_bytes(container: Mapping[str, Any]) -> int:
    """The limit of memory of a container; 0: none."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    found = _QUANTITY.fullmatch(str(limit))
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


class _Making:
    def __init__(self, pod: Mapping[str, Any], *, folder: Path, claims: Path, sources: Sources) -> None:
        self._volumes = {str(one.get("name")): one for one in mappings(pod.get("volumes"))}
        self._folder, self._claims, self._sources = folder, claims, sources
        self._places: dict[str, str] = {}  # the operator's own mount paths, and what they are here
        self.folders: list[Path] = []
        self.files: dict[str, bytes] = {}

    def mount(self, container: Mapping[str, Any]) -> None:
        """Make what the operator's own mounts of a container show."""
        for mount in mappings(container.get("volumeMounts")):
            path, name = str(mount["mountPath"]), str(mount["name"])
            if not path.startswith(OWN_MOUNTS) or path in self._places:
                continue
            self._places[path] = str(self._source(name) / str(mount.get("subPath") or "."))
            if "hostPath" not in self._volumes[name]:  # that is there, or it is not
                self.folders.append(Path(self._places[path]))
        # Files name other mounts, whose places have to be known.
        for mount in mappings(container.get("volumeMounts")):
            name = str(mount["name"])
            if str(mount["mountPath"]) in self._places:
                for file, content in self._content(self._volumes[name]):
                    self.files[str(PurePosixPath("mounts", name, file))] = self._with_paths(content)

    def _source(self, volume: str) -> Path:
        """The folder that stands for a volume."""
        claim, host = (self._volumes[volume].get(kind) for kind in ("persistentVolumeClaim", "hostPath"))
        if host:
            return Path(str(host["path"]))
        return self._claims / str(claim["claimName"]) if claim else self._folder / "mounts" / volume

    def _content(self, volume: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        sources = mappings((volume.get("projected") or {}).get("sources")) or [volume]
        for source in sources:
            if source.get("configMap"):
                yield from self._of_config_map(source["configMap"])
            if source.get("secret"):
                yield from self._of_secret(source["secret"])

    def _of_config_map(self, source: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        name = source["name"]
        found = self._sources.config_map(name)
        if found is None:
            if source.get("optional"):
                return
            raise InvalidSpec(f"There is no ConfigMap {name}: put it into a file that is given with -f.")
        for key, path in _items(source) or [(key, key) for key in found]:
            if key not in found:
                raise InvalidSpec(f"ConfigMap {name} has no key {key}.")
            yield path, found[key]

    def _of_secret(self, source: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        name = str(source.get("secretName") or source.get("name"))
        items = _items(source)
        found = self._sources.secret(name, keys=[key for key, _ in items] or None)
        if found is None and source.get("optional"):
            return
        for key, path in items or [(key, key) for key in found or ()]:
            if key not in (found or {}):
                raise _missing(self._sources, name, key)
            yield path, (found or {})[key]
        if not found:
            raise _missing(self._sources, name, None)

    def _with_paths(self, content: bytes) -> bytes:
        """A file of ours that names files of the connection names them where they are here."""
        place = self._places.get(FILES_DIRECTORY)
        if place is None or FILES_DIRECTORY.encode() not in content:
            return content
        return content.replace(f"{FILES_DIRECTORY}/".encode(), f"{yaml_text(place)[1:-1]}/".encode())

    def local(self, text: str) -> str:
        """A path of the pod as it is here; anything else as it is."""
        for path in sorted(self._places, key=len, reverse=True):
            if text == path or text.startswith(f"{path}/"):
                return self._places[path] + text[len(path) :]
        return text

    def _argument(self, text: str) -> str:
        option, equals, value = text.partition("=")
        if text.startswith("--") and equals:
            return f"{option}={self.local(value)}"
        return self.local(text)

    def step(self, container: Mapping[str, Any], *, base: Mapping[str, str], python: str) -> Program:
        """A step before dbt."""
        name = str(container["name"])
        message = str(self._folder / f"{name}.message")
        arguments = [self._argument(str(one)) for one in (*container["command"][1:], *container.get("args", ()))]
        return Program(
            name=name,
            argv=(python, *arguments, f"--termination-message={message}"),
            env=self._env(container, base=base),
            message_file=message,
        )

    def dbt(self, container: Mapping[str, Any], *, base: Mapping[str, str], python: str) -> Program:
        """The runner."""
        command = container["command"][1:]
        arguments = [str(one) for one in container["args"]]
        split = arguments.index("--")
        ours = [self._argument(one) for one in _without_lifetimes(arguments[:split])]
        # All of this machine outlives the attempt, but what is the attempt's own.
        lifetimes = ["--kept-path", "/", "--lost-path", str(self._folder)]
        return Program(
            name=CONTAINER,
            argv=(python, *(self._argument(str(one)) for one in command), *ours, *lifetimes, *arguments[split:]),
            env=self._env(container, base=base),
            message_file="",
        )

    def _env(self, container: Mapping[str, Any], *, base: Mapping[str, str]) -> dict[str, str]:
        given: dict[str, str] = {}
        for source in mappings(container.get("envFrom")):
            prefix = str(source.get("prefix") or "")
            given |= {f"{prefix}{key}": value for key, value in self._env_from(source)}
        for variable in mappings(container.get("env")):
            value = self._value(variable, given)
            if value is not None:
                given[str(variable["name"])] = value
        return {**base, **given}

    def _env_from(self, source: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        secret, config_map = source.get("secretRef"), source.get("configMapRef")
        found: Mapping[str, bytes] = {}
        if secret:
            known = self._sources.secret(secret["name"], keys=None)
            if known is None and not secret.get("optional"):
                raise _missing(self._sources, secret["name"], None)
            found = known or {}
        if config_map:
            found = dict(self._of_config_map(config_map))
        yield from ((key, value.decode()) for key, value in found.items())

    def _value(self, variable: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
        source = variable.get("valueFrom") or {}
        secret, config_map = source.get("secretKeyRef"), source.get("configMapKeyRef")
        if secret:
            found = self._sources.secret(secret["name"], keys=[secret["key"]])
            if secret["key"] not in (found or {}):
                if secret.get("optional"):
                    return None
                raise _missing(self._sources, secret["name"], secret["key"])
            return (found or {})[secret["key"]].decode()
        if config_map:
            items = [{"key": config_map["key"], "path": config_map["key"]}]
            values = [value for _, value in self._of_config_map({**config_map, "items": items})]
            return values[0].decode() if values else None
        if source:
            return None  # a field of the pod: there is none
        return _expanded(str(variable.get("value") or ""), given)


def _missing(sources: Sources, name: str, key: str | None) -> InvalidSpec:
    what = f"key {key} of Secret {name}" if key else f"Secret {name}"
    return InvalidSpec(f"There is no {what} here: {sources.where(name, key)}.")


def _items(source: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(one["key"]), str(one["path"])) for one in mappings(source.get("items"))]


def _expanded(text: str, given: Mapping[str, str]) -> str:
    """As Kubernetes does: $(NAME) is a variable that stands before this one, $$ a dollar sign."""
    return _VARIABLE.sub(lambda found: given.get(found[1], found[0]) if found[1] else "$", text)


def _without_lifetimes(arguments: Iterable[str]) -> Iterator[str]:
    """Without what says which mounts of a pod outlive it."""
    arguments = iter(arguments)
    for one in arguments:
        if one in ("--kept-path", "--lost-path"):
            next(arguments)
        else:
            yield one


def bytes_of(config_map: Mapping[str, Any]) -> dict[str, bytes]:
    """What a ConfigMap or a Secret has, by key."""
    kind = config_map.get("kind")
    packed = config_map.get("binaryData" if kind == "ConfigMap" else "data") or {}
    plain = config_map.get("data" if kind == "ConfigMap" else "stringData") or {}
    return {key: base64.b64decode(value) for key, value in packed.items()} | {
        key: str(value).encode() for key, value in plain.items()
    }
