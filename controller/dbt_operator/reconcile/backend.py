"""What the loop of a run needs of the place where the run lives: the one door from `reconcile/` to the outside.

It speaks of a run, its attempts, their records and logs. `kubernetes.py` is the backend for a cluster; another one may
start processes and keep files. What every backend promises:

- A record is created by one caller only, and changed only by who has read its newest version.
- A call whose answer was lost may have been done: each may be made again.
- Errors are ApiErrors, whose properties say what may pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.event_manifest import EventType
from dbt_operator.kube.logs import Ended, Sink
from dbt_operator.kube.resources import Object
from dbt_operator.plan.attempt import Decision, Recorded, Refusal, Release, Sealed
from dbt_operator.plan.facts import JobFacts, PodFacts
from dbt_operator.pods.files import File
from dbt_operator.reconcile.statuses import Statuses


class UnreadableRecordError(Exception):
    """Somebody has changed a record so that nobody can read it; the text is a sentence that names it."""


class StoredRecord(NamedTuple):
    """A record as it is stored, in one version of it."""

    content: Recorded
    version: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of the attempts of a run."""

    jobs: Mapping[str, JobFacts] = field(default_factory=dict)  # by name
    pods: Mapping[str, tuple[PodFacts, ...]] = field(default_factory=dict)  # by the name of their Job, the newest last


@dataclass(frozen=True, slots=True)
class Creation:
    """What came of creating an attempt. Neither created nor refused: something was in the way that passes by itself."""

    created: bool = False
    refusal: Refusal | None = None


class Backend(Protocol):
    """The backend of one run. Where nothing else is said a method raises ApiError."""

    @property
    def statuses(self) -> Statuses:
        """Where the statuses of the run and of its nodes are written."""

    def now(self) -> datetime:
        """The time by which deadlines are measured: that of whoever writes the times of Jobs and pods."""

    # the run

    async def find_run(self) -> Object | None:
        """The DbtRun; None when it is gone or going: what belongs to it goes with it."""

    async def find_runs(self, labels: Mapping[str, str]) -> list[Object]:
        """The DbtRuns beside it that have these labels, itself among them."""

    async def find_defaults(self) -> Object | None:
        """The ConfigMap with the defaults that the namespace gives its runs, if there is one."""

    async def may_delete_run(self, *, version: str) -> bool:
        """Whether this is still the resource version of the run, and it could be deleted."""

    async def delete_run(self, *, version: str) -> None:
        """Delete the run, with all that belongs to it, if this is still its resource version.

        Where that comes to nothing DbtModels may be gone all the same.
        """

    async def find_models(self) -> list[Object]:
        """The DbtModels of the run."""

    async def find_model(self, name: str) -> Object | None:
        """One DbtModel."""

    async def post_event(self, *, regarding: Object, kind: EventType, reason: str, message: str, key: str) -> None:
        """Tell people of something, once for the same words and key. Raises nothing: its failure never matters."""

    # the records of its attempts

    async def read_record(self, index: int) -> StoredRecord | None:
        """The record of the attempt of this index, if there is one. Raises: ApiError, UnreadableRecordError."""

    async def create_record(self, decision: Decision, *, release: Release | None = None) -> StoredRecord | None:
        """The record of a decision, new or not; None where the index is taken, for ever or for a moment.

        Raises: ApiError, UnreadableRecordError, and NameConflictError where it is somebody else's for ever.
        """

    async def store_release(self, index: int, release: Release, *, version: str) -> StoredRecord:
        """Store which pod of an attempt may start, onto this version of its record: else ApiError, a conflict."""

    async def store_checkpoint(self, index: int, state: bytes, *, position: datetime | None, version: str) -> str:
        """Store how far the log of an attempt was read, onto this version of its record: else ApiError, a conflict.

        It is tried once: another one follows. Returns the version that the record has then.
        """

    async def store_end(self, decision: Decision, sealed: Sealed, *, version: str) -> StoredRecord:
        """Store how an attempt ended, onto this version of its record: else ApiError, a conflict."""

    # its attempts

    async def look(self) -> Seen:
        """What there is of the attempts."""

    async def create_attempt(self, decision: Decision, *, spec: DbtRunSpec) -> Creation:
        """Create the Job of an attempt, once. Raises: ApiError where only another try can tell."""

    async def start_pod(self, pod: PodFacts) -> None:
        """Let a pod that is held start."""

    async def stop_attempt(self, name: str) -> None:
        """Stop an attempt: its process is told to end, and killed after its grace period."""

    async def follow_log(
        self,
        pod: PodFacts,
        *,
        since: datetime | None,
        sink: Sink,
        caught_up: Callable[[], None],
        stalled: Callable[[str | None], None],
    ) -> Ended:
        """Hand all lines of a pod to the sink, until there will be no more. Raises what the sink raises.

        `since`: a time that the sink was told once. What was printed before need not come again, and may.
        `caught_up` is called when the sink has everything that was printed before; `stalled` with why the log of a
        process that may go on cannot be read for long, and with None when it can be again.
        """

    # the files that are kept of it

    @property
    def runners(self) -> frozenset[str]:
        """Names of the ConfigMaps with the program that attempts were started with, as far as is known."""

    async def find_files(self, name: str) -> Object | None:
        """The ConfigMap of this name, if the run has one."""

    async def create_files(self, name: str, file: File) -> tuple[Object, bool]:
        """A ConfigMap with this file, and whether it is new. Raises: ApiError, NameConflictError."""

    async def patch_files(self, name: str, patch: Mapping[str, Any]) -> Object:
        """Change a ConfigMap."""

    async def delete_files(self, found: Object) -> None:
        """Delete a ConfigMap that was found."""
