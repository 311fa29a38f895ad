"""Peers that are a command: dbt itself, dbt-operator without a cluster, and Prefect's flow."""

import subprocess
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers.peer import Look, Session, State
from benchmarks.peers.processes import Processes, ended, started


class Command(Session):
    """A command whose end is the run's. `services`: the first processes of what has to be there besides."""

    def __init__(
        self,
        stack: ExitStack,
        line: Sequence[str | Path],
        *,
        folder: Path,
        environ: Mapping[str, str],
        services: Sequence[int] = (),
    ) -> None:
        self._stack, self._line, self._folder, self._environ = stack, line, folder, environ
        self._services = services
        self.log = folder / "printed"
        self._process: subprocess.Popen[bytes] | None = None

    def roots(self, seen: Processes) -> Iterable[int]:
        """See Session."""
        del seen
        return [*self._services, *([self._process.pid] if self._process is not None else [])]

    def begin(self) -> None:
        """See Session."""
        start = started(self._line, cwd=self._folder, environ=self._environ, log=self.log)
        self._process = self._stack.enter_context(start)

    def look(self) -> Look:
        """See Session."""
        code = ended(self._process) if self._process is not None else None
        run: State = "" if code is None else "failed" if code else "succeeded"
        # Read after the end was noticed, so that nothing of it is missed.
        return Look(node=self.node(), run=run)

    @abstractmethod
    def node(self) -> State:
        """What is shown of the model that fails once."""
