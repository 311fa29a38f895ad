"""A run on this machine: objects are in a file, attempts are groups of processes."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.logs import Ended, Sink
from dbt_operator.kube.objects import Objects
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_RUNS, Object
from dbt_operator.local.attempts import LocalAttempt
from dbt_operator.local.follow import followed
from dbt_operator.local.manifests import PROJECT_ANNOTATION
from dbt_operator.local.origin import Origin
from dbt_operator.local.place import NAMESPACE, Place
from dbt_operator.local.pod import bytes_of, recipe_of
from dbt_operator.local.programs import Programs
from dbt_operator.local.project import located
from dbt_operator.local.secrets import Secrets
from dbt_operator.local.store import Store
from dbt_operator.plan.facts import PodFacts
from dbt_operator.pods.images import Images
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Seen
from dbt_operator.reconcile.object_backend import ObjectBackend
from dbt_operator.reconcile.statuses import Statuses

_NO_IMAGE = "none"  # of the steps that fetch and install: here they are processes of this machine


@dataclass(slots=True, kw_only=True)
class LocalBackend(ObjectBackend):
    """See `Backend`."""

    store: Store
    place: Place
    origin: Origin
    secrets: Secrets
    programs: Programs
    _attempts: dict[str, LocalAttempt] = field(default_factory=dict)

    @property
    def objects(self) -> Objects:
        """The file."""
        return self.store

    async def find_runs(self, labels: Mapping[str, str]) -> list[Object]:
        """None: each run is executed by a command of its own, and takes the place of no other one."""
        del labels
        return []

    # attempts

    def attempts(self) -> Iterator[LocalAttempt]:
        """All attempts of the run that have a folder."""
        folder = self.place.attempts(self.run.name)
        for each in sorted(folder.iterdir()) if folder.is_dir() else ():
            yield self._attempt(each.name)

    def _attempt(self, name: str) -> LocalAttempt:
        return self._attempts.setdefault(name, LocalAttempt(self.place.attempts(self.run.name) / name))

    async def look(self) -> Seen:
        """Look at their folders, and at what lives."""
        jobs, pods = {}, {}
        for attempt in self.attempts():
            attempt.enforce(grace_seconds=_grace(attempt))
            # The pod first: a Job is never shown as complete beside a pod that runs.
            pod, job = attempt.pod_facts(), attempt.job_facts()
            if job is not None:
                jobs[attempt.name] = job
            if pod is not None:
                pods[attempt.name] = (pod,)
        return Seen(jobs=jobs, pods=pods)

    def _here(self, spec: DbtRunSpec) -> DbtRunSpec:
        run = self.store.get(DBT_RUNS, self.run.name, namespace=NAMESPACE) or {"metadata": {}}
        return located(
            spec,
            annotated=(run["metadata"].get("annotations") or {}).get(PROJECT_ANNOTATION),
            given=self.origin.project,
            folder=Path(self.origin.folder),
        )

    async def _create_job(self, job: Mapping[str, Any]) -> None:
        attempt = self._attempt(job["metadata"]["name"])
        self._recipe(attempt, job)  # what is missing is said before there is a process
        attempt.create(job, uid=f"{self.run.uid}-{attempt.name}", now=self.now())

    def _recipe(self, attempt: LocalAttempt, job: Mapping[str, Any]) -> Any:
        return recipe_of(
            job,
            folder=attempt.folder.resolve(),
            claims=(self.place.root / "volumes").resolve(),
            sources=_Sources(self.store, self.secrets),
            environ=self.programs.environ(os.environ),
            python=self.programs.python,
        )

    async def start_pod(self, pod: PodFacts) -> None:
        """Start its process."""
        attempt = self._attempt(pod.name)
        attempt.start(self._recipe(attempt, attempt.job))

    async def stop_attempt(self, name: str) -> None:
        """Tell its process to end."""
        self._attempt(name).stop()

    async def follow_log(
        self,
        pod: PodFacts,
        *,
        since: datetime | None,
        sink: Sink,
        caught_up: Callable[[], None],
        stalled: Callable[[str | None], None],
    ) -> Ended:
        """Follow the file that its process prints to. It is whole, so it is read from its beginning each time."""
        del since, stalled
        return await followed(self._attempt(pod.name), sink=sink, caught_up=caught_up, now=self.now)

    @property
    def runners(self) -> frozenset[str]:
        """None that has to go: they go with the run."""
        return frozenset()


def _grace(attempt: LocalAttempt) -> float:
    template = attempt.job.get("spec", {}).get("template", {}).get("spec", {})
    return float(template.get("terminationGracePeriodSeconds") or 30)


@dataclass(frozen=True, slots=True)
class _Sources:
    store: Store
    secrets: Secrets

    def config_map(self, name: str) -> Mapping[str, bytes] | None:
        found = self.store.get(CONFIG_MAPS, name, namespace=NAMESPACE)
        return None if found is None else bytes_of(found)

    def secret(self, name: str, *, keys: Iterable[str] | None) -> Mapping[str, bytes] | None:
        return self.secrets.find(name, keys=keys)

    def where(self, name: str, key: str | None) -> str:
        return self.secrets.where(name, key)


def backend_of(
    run: RunRef,
    *,
    store: Store,
    place: Place,
    origin: Origin,
    secrets: Secrets,
    programs: Programs,
    statuses: Statuses,
) -> LocalBackend:
    """The backend of one run."""
    return LocalBackend(
        run=run,
        statuses=statuses,
        images=Images(tools=_NO_IMAGE),
        store=store,
        place=place,
        origin=origin,
        secrets=secrets,
        programs=programs,
    )
