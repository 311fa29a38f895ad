"""Packages from git that come from the server of the project: fetched beside it, with its credentials.

So dbt, which installs them, needs no credentials: git takes what lies there in the place of their URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Callable

from dbt_operator.runner.limits import ProgramError

CONFIG = "config"
_FILES = ("packages.yml", "dependencies.yml", "package-lock.yml")
_GIT = re.compile(r"""\bgit["']?\s*:\s*["']?([^"'\s,}#]+)""")


def fetch_packages(*, project: Path, into: Path, server: str, git: Callable[..., str]) -> None:
    """Fetch those that the files of the project name, and those that these name.

    server: what their URLs begin with. git: runs it, with the credentials for that server.
    """
    into.mkdir()
    waiting = _urls((project / name).read_text(encoding="utf-8") for name in _FILES if (project / name).is_file())
    copies: dict[str, Path] = {}
    for number, url in enumerate(waiting):  # it grows meanwhile
        if url in copies or not url.startswith(server):
            continue
        copy = copies[url] = into / f"{number}.git"
        try:
            git("clone", "--quiet", "--mirror", url, str(copy))
            # dbt asks for the commit that its lock has, by its name.
            git("-C", str(copy), "config", "uploadpack.allowAnySHA1InWant", "true")
        except ProgramError:
            continue  # dbt asks for it as well, and says what is wrong with it
        waiting += _urls(_shown(git, copy, name) for name in _FILES)
    lines = (f'[url "file://{copy}"]\n\tinsteadOf = "{url}"\n' for url, copy in copies.items() if copy.is_dir())
    (into / CONFIG).write_text("".join(lines), encoding="utf-8")


def _urls(texts: Iterable[str]) -> list[str]:
    return [url for text in texts for url in _GIT.findall(text) if "{" not in url]


def _shown(git: Callable[..., str], copy: Path, name: str) -> str:
    try:
        return git("-C", str(copy), "show", f"HEAD:{name}")
    except ProgramError:
        return ""  # it names no package there
