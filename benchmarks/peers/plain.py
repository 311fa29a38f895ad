"""dbt alone: `dbt build`, and after a failure `dbt retry`."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.peers.command import Command
from benchmarks.peers.peer import Peer, Session, State, Task, environ_of, environment, versions

_LINE = re.compile(r"\d+ of \d+ (?P<word>OK|ERROR) creat.* \w+\.(?P<name>\w+) \.")


class Plain(Peer):
    """See above."""

    name = "dbt"
    title = "`dbt build`, then `dbt retry`"

    def about(self) -> str:
        """See Peer."""
        found = versions("dbt", "dbt-core", "dbt-postgres")
        return f"{found}; it parses the project first; what is shown is what it prints."

    @contextmanager
    def ready(self, task: Task, folder: Path) -> Iterator[Session]:
        """See Peer."""
        dbt = environment("dbt") / "dbt"
        project = task.write(folder / "project")
        script = f'"{dbt}" --no-use-colors build || {{ sleep {task.delay}; "{dbt}" --no-use-colors retry; }}'
        with ExitStack() as stack:
            environ = environ_of(environment("dbt"), PYTHONUNBUFFERED="1")
            yield _Printed(stack, ["sh", "-c", script], folder=project, environ=environ, model=task.model)


class _Printed(Command):
    def __init__(self, stack: ExitStack, line: list[str], *, folder: Path, environ: dict[str, str], model: str) -> None:
        super().__init__(stack, line, folder=folder, environ=environ)
        self._model = model

    def node(self) -> State:
        return printed_state(self.log.read_text(), self._model)


def printed_state(text: str, model: str) -> State:
    """What dbt has said last of a model."""
    words: list[str] = [match["word"] for match in _LINE.finditer(text) if match["name"] == model]
    if not words:
        return ""
    return "succeeded" if words[-1] == "OK" else "failed"
