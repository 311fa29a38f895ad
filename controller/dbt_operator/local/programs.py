"""Which dbt is meant: the one on PATH, else the one that was installed beside this program."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dbt_operator.runner.interpreter import dbt_version, interpreter_of


@dataclass(frozen=True, slots=True)
class Programs:
    """`python`: runs the runner. `path`: where the processes of an attempt look for programs."""

    python: str
    path: str
    dbt: str | None

    @classmethod
    def found(cls, environ: Mapping[str, str]) -> Self:
        """What there is."""
        beside = str(Path(sys.executable).parent)
        path = os.pathsep.join(filter(None, (environ.get("PATH"), beside)))
        dbt = shutil.which("dbt", path=path)
        return cls(python=interpreter_of(dbt) or sys.executable, path=path, dbt=dbt)

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of the processes: that of whoever has asked for the run, as dbt would have it."""
        return {**environ, "PATH": self.path}

    @property
    def missing(self) -> bool:
        """Whether there is no dbt."""
        return self.dbt is None and not dbt_version()
