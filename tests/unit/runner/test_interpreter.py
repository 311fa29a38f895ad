"""The Python that dbt lives in is found behind every kind of script that installers write."""

import os
from pathlib import Path

import pytest

from dbt_operator.runner.interpreter import interpreter_of, supported


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "a venv" / "bin" / "python3"
    path.parent.mkdir(parents=True)
    path.write_text("")
    path.chmod(0o755)
    return path


def _script(tmp_path: Path, text: str) -> str:
    file = tmp_path / "dbt"
    file.write_text(text)
    return str(file)


def test_first_line_of_the_script(tmp_path: Path) -> None:
    python = tmp_path / "python3.12"
    python.write_text("")
    python.chmod(0o755)
    assert interpreter_of(_script(tmp_path, f"#!{python} -I\nimport dbt\n")) == str(python)


def test_env(tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}/usr/bin")
    assert interpreter_of(_script(tmp_path, "#!/usr/bin/env python3\n")) == str(python)
    assert interpreter_of(_script(tmp_path, "#!/usr/bin/env -S python3 -E\n")) == str(python)


def test_shell_trampoline_for_long_paths(tmp_path: Path, python: Path) -> None:
    assert interpreter_of(_script(tmp_path, f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n")) == str(python)
    assert interpreter_of(_script(tmp_path, f"#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n' '''\n")) == str(python)


@pytest.mark.parametrize("text", ["\x7fELF", '#!/bin/bash\nexec docker run dbt "$@"\n', "#!/no/such/python3\n", ""])
def test_whatever_else_dbt_is(tmp_path: Path, text: str) -> None:
    assert interpreter_of(_script(tmp_path, text)) == ""
    assert interpreter_of(str(tmp_path / "missing")) == ""
    assert interpreter_of(None) == ""


def test_versions() -> None:
    assert [supported(version) for version in ("1.7.9", "1.8.0", "1.12.6", "1.13.0b1", "2.0.0", "")] == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]
