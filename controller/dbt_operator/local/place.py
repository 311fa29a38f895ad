"""Where everything of local runs is: below one folder, `.dbt-operator` where nothing else is said.

state.db                      the objects (store.py)
runs/RUN/lock                 who executes the run (lock.py)
runs/RUN/attempts/ATTEMPT/    one process of dbt, with its log (attempts.py)
runs/RUN/artifacts/           manifest.json, run_results.json and what else dbt has written, once the run has ended
"""

from dataclasses import dataclass
from pathlib import Path

NAMESPACE = "local"
"""The one namespace of all local objects."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder with the state of local runs."""

    root: Path

    @property
    def state(self) -> Path:
        """The file with the objects."""
        return self.root / "state.db"

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / name

    def lock(self, name: str) -> Path:
        """The file that who executes a run has locked."""
        return self.run(name) / "lock"

    def attempts(self, name: str) -> Path:
        """The folder with the attempts of a run."""
        return self.run(name) / "attempts"

    def earlier(self, name: str) -> Path:
        """The file that says how long the nodes of a run took the last time."""
        return self.run(name) / "earlier.json"

    def artifacts(self, name: str) -> Path:
        """The folder with the files that dbt has written."""
        return self.run(name) / "artifacts"

    def make(self) -> None:
        """Make the folder. It is for one person, as the log of a run may tell more than its user would."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
