"""Where the values of Secrets come from on a machine without a cluster. They are read when a process needs them.

One rule, for each key of each Secret; the first place that has it counts:

1. a Secret in the files that are given with -f;
2. the file NAME/KEY below the folder that is given with --secrets, as a mounted Secret looks;
3. the variable SECRET_NAME_KEY in the file that is given with --env-file;
4. the variable SECRET_NAME_KEY of the environment.

In names of variables all letters are capitals, and all that is neither letter nor digit is an underscore.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path


class InvalidEnvFile(Exception):  # noqa: N818 - reads as the sentence it carries
    """A file of variables cannot be read; the text is a sentence."""


def variable_of(name: str, key: str) -> str:
    """The variable that has this key of a Secret."""
    return re.sub(r"[^A-Z0-9]", "_", f"SECRET_{name}_{key}".upper())


class Secrets:
    """The Secrets of a run. `given`: those of the files with the manifests, by name."""

    def __init__(
        self,
        *,
        given: Mapping[str, Mapping[str, bytes]],
        folder: Path | None,
        env_file: Path | None,
        environ: Mapping[str, str],
    ) -> None:
        self._given, self._folder = given, folder
        self._variables = [*([read_env_file(env_file)] if env_file is not None else ()), environ]

    def find(self, name: str, *, keys: Iterable[str] | None) -> dict[str, bytes] | None:
        """These keys of a Secret (None: all that are known); None where nothing is known of it."""
        wanted = self._known_keys(name) if keys is None else keys
        found = {key: value for key in wanted if (value := self._value(name, key)) is not None}
        return found or None

    def where(self, name: str, key: str | None) -> str:
        """Where a key is looked for, for a sentence."""
        folder = str(self._folder) if self._folder is not None else "the folder given with --secrets"
        file, variable = f"{name}/{key or 'KEY'}", variable_of(name, key or "KEY")
        return f"put it into the file {file} below {folder}, or into the variable {variable}"

    def _value(self, name: str, key: str) -> bytes | None:
        if key in self._given.get(name, {}):
            return self._given[name][key]
        if self._folder is not None:
            file = self._folder / name / key
            if file.is_file():
                return file.read_bytes()
        variable = variable_of(name, key)
        return next((each[variable].encode() for each in self._variables if variable in each), None)

    def _known_keys(self, name: str) -> set[str]:
        """Where nobody says which keys a Secret has, variables give it those in small letters."""
        keys = set(self._given.get(name, {}))
        if self._folder is not None and (self._folder / name).is_dir():
            keys |= {file.name for file in (self._folder / name).iterdir() if file.is_file()}
        known, prefix = {variable_of(name, key) for key in keys}, variable_of(name, "")
        variables = {variable for each in self._variables for variable in each if variable.startswith(prefix)}
        return keys | {one.removeprefix(prefix).lower() for one in variables - known - {prefix}}


def read_env_file(file: Path) -> dict[str, str]:
    """The variables of a file with NAME=VALUE in each line. Values may stand in quotes; # begins a comment.

    Raises: InvalidEnvFile.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidEnvFile(f"The file of variables {file} cannot be read: {error}.") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix("export ").lstrip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            raise InvalidEnvFile(f"Line {number} of {file} is not NAME=VALUE.")  # its text may be a secret
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        inner = value[1:-1]
        return inner.replace("\\n", "\n").replace('\\"', '"') if value[0] == '"' else inner
    return value.partition(" #")[0].rstrip()
