"""A simulated cluster: the API, the Job controller, the kubelet, and what goes wrong with pods."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from dbt_operator.api import names
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.dbt.found import COMMIT
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.plan.attempt import Decision
from tests.simulation.objects import RUN, Job, Pod, Record, newer_manifest, run_manifest
from tests.simulation.process import Process
from tests.simulation.scenario import FATES, Scenario
from tests.simulation.warehouse import Warehouse
from tests.simulation.world import World
from tests.unit.reconcile.api_server import merged

_HEARD = 0.7  # how often the watch shows an operator in what state a pod was when it went

FULL = "exceeded quota: few, used: count/jobs.batch=1, limited: 1"
DENIED = 'admission webhook "guard.example" denied the request: no'


class Watcher(Protocol):
    """Who watches the objects of the run. Each is shown as it was at that moment."""

    def run_changed(self, run: Object) -> None:
        """The DbtRun."""

    def run_gone(self, run: Object) -> None:
        """The DbtRun was deleted."""

    def job_changed(self, job: Object, *, gone: bool) -> None:
        """A Job."""

    def pod_changed(self, pod: Object, *, gone: bool) -> None:
        """A pod."""

    def newer_changed(self, newer: Object | None) -> None:
        """The run that supersedes the other one, or that there is none."""

    def model_changed(self, model: Object) -> None:
        """A DbtModel: that a retry of it is asked for."""


class Cluster:
    """The objects of one run. Whoever changes one tells those who watch."""

    def __init__(self, *, world: World, scenario: Scenario, warehouse: Warehouse) -> None:
        self.world, self.scenario, self.warehouse = world, scenario, warehouse
        self._grace_ms = int(scenario.rules.grace.total_seconds() * 1000)
        self._gone = world.chance("pods that are gone")
        self._chance = world.chance("cluster")
        self._processes = world.chance("processes")
        self._twins = world.chance("twins")
        self.exists = True
        self.newer: Object | None = None  # a run that supersedes the other one, and of which nothing else is played
        self.foreign: int | None = None  # the index of a record that is somebody else's
        self.objects: dict[tuple[str, str], Object] = {}  # the DbtRun, DbtModels and files, by kind and name
        self.records: dict[int, Record] = {}
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, Pod] = {}  # those that the API shows, by their name
        self.all_pods: dict[str, Pod] = {}
        self.job_count = 0
        self.taken_back = 0  # how often a queue has taken a place back
        self.watchers: list[Watcher] = []
        self._version = 0
        self._status: tuple[Object, DbtRunStatus] | None = None
        self.put(DBT_RUNS.kind, run_manifest(scenario))

    # objects that are only stored

    @property
    def run(self) -> Object:
        """The DbtRun, as it is or as it was at last."""
        return self.objects[DBT_RUNS.kind, RUN]

    @property
    def status(self) -> DbtRunStatus:
        """The status of the run."""
        raw = self.run["status"]
        if self._status is None or self._status[0] is not raw:
            self._status = raw, DbtRunStatus.parse(raw) or DbtRunStatus()
        return self._status[1]

    @property
    def models(self) -> list[Object]:
        """The DbtModels."""
        return [obj for (kind, _), obj in self.objects.items() if kind == DBT_MODELS.kind]

    def find(self, kind: str, name: str) -> Object | None:
        """One object."""
        return self.objects.get((kind, name)) if self.exists or kind != DBT_RUNS.kind else None

    def put(self, kind: str, obj: Object) -> Object:
        """Store an object."""
        self._version += 1
        metadata = {"uid": obj["metadata"]["name"]} | obj["metadata"] | {"resourceVersion": str(self._version)}
        stored = {**obj, "metadata": metadata}
        self.objects[kind, metadata["name"]] = stored
        return stored

    def patch(self, kind: str, name: str, patch: Mapping[str, Any]) -> Object:
        """Merge into an object. Raises: ApiError, where it is not there, or not in the version of the patch."""
        found = self.find(kind, name)
        if found is None:
            raise ApiError(status=404, reason="NotFound", message=f"{name} not found")
        metadata = dict(patch.get("metadata") or {})
        if (
            metadata.pop("resourceVersion", found["metadata"]["resourceVersion"])
            != found["metadata"]["resourceVersion"]
        ):
            raise ApiError(status=409, reason="Conflict", message="the object has been modified")
        stored = self.put(kind, merged(found, {**patch, "metadata": metadata}))
        if kind == DBT_RUNS.kind:
            self.tell(lambda watcher: watcher.run_changed(stored))
        return stored

    def ask(self, token: str, *, unique_id: str | None) -> None:
        """A person asks for a retry: of a node, if it has a DbtModel by now, or of the run (None)."""
        annotation = {"metadata": {"annotations": {names.ANNOTATION_RETRY: token}}}
        if unique_id is None:
            self.patch(DBT_RUNS.kind, RUN, annotation)
            return
        model = next((model for model in self.models if model["spec"]["uniqueId"] == unique_id), None)
        if model is not None:
            stored = self.patch(DBT_MODELS.kind, model["metadata"]["name"], annotation)
            self.tell(lambda watcher: watcher.model_changed(stored))

    def change_spec(self, **fields: object) -> None:
        """A person changes the spec of the run."""
        generation = self.run["metadata"]["generation"] + 1
        self.patch(DBT_RUNS.kind, RUN, {"spec": fields, "metadata": {"generation": generation}})

    def wants(self, field: str) -> bool:
        """Whether the spec says so: cancel, suspend."""
        return bool(self.run["spec"].get(field))

    def supersede(self, there: bool) -> None:
        """A person creates a newer run, or deletes it."""
        self.newer = newer_manifest() if there else None
        newer = self.newer
        self.tell(lambda watcher: watcher.newer_changed(newer))

    def delete_models(self) -> None:
        """Delete the DbtModels."""
        for model in self.models:
            del self.objects[DBT_MODELS.kind, model["metadata"]["name"]]

    def delete_run(self) -> None:
        """Delete the run; the garbage collector is not waited for."""
        if self.exists:
            self.exists = False
            run = self.run
            self.tell(lambda watcher: watcher.run_gone(run))

    def tell(self, what: Callable[[Watcher], None], *, heard: float = 1.0) -> None:
        """Tell those who watch, unless their watch is broken. `heard`: how likely they hear of it at all."""
        for watcher in list(self.watchers):
            lost = not self.calm and self._chance.random() < self.scenario.lost_watches
            if not lost and (heard == 1.0 or self._gone.random() < heard):
                self.world.later(self._chance.choice((1, 20, 300)), partial(what, watcher))

    def _job_changed(self, job: Job) -> None:
        shown = job.shown()
        self.tell(lambda watcher: watcher.job_changed(shown, gone=job.removed))

    def _pod_changed(self, pod: Pod) -> None:
        shown = pod.shown()
        self.tell(lambda watcher: watcher.pod_changed(shown, gone=pod.removed), heard=_HEARD if pod.removed else 1.0)

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong any more."""
        return self.world.ms >= self.scenario.calm

    def _say(self, text: str) -> None:
        if self.world.tracing:
            self.world.say(f"cluster: {text}")

    # what the operator asks of the API

    def release_pod(self, pod: Pod) -> None:
        """Let a pod be scheduled."""
        if pod.removed or not pod.held:
            return
        pod.held = False
        self._say(f"pod {pod.name} is released")
        pod.start()
        self._pod_changed(pod)

    def create_job(self, decision: Decision) -> None:
        """Create the Job of an attempt, or adopt it. Raises: ApiError."""
        if decision.name in self.jobs:
            return
        troubled = not self.calm and self._chance.random() < self.scenario.obstacles
        kind = (
            self._chance.choice(("quota", "quota", "queue", "pod quota", "image", "image", "policy"))
            if troubled
            else ""
        )
        if kind == "quota":
            raise ApiError(status=403, reason="Forbidden", message=FULL)
        if kind == "policy" and self._chance.random() < 0.1:
            raise ApiError(status=400, reason="Denied", message=DENIED)
        self.job_count += 1
        job = Job(decision.name, self.job_count, decision, self.world.ms)
        self.jobs[job.name] = job
        self._say(f"Job {job.name} created{f' ({kind})' if kind else ''}")
        delay = self._chance.choice((10, 200, 1000))
        if kind == "queue":
            job.suspended = True
            self.world.later(self._chance.choice((3000, 30_000, 90_000)), partial(self._admit, job))
        elif kind == "pod quota":
            self.world.later(delay, partial(self._refuse_pod, job))
        else:
            self.world.later(delay, partial(self._create_pod, job, kind == "image"))
        self._job_changed(job)

    def delete_job(self, name: str, *, how: str = "background") -> None:
        """Delete a Job; its pod is deleted with it, unless it is made an orphan."""
        job = self.jobs.get(name)
        if job is None or job.deleting:
            return
        self._say(f"Job {name} deleted ({how})")
        if how == "foreground" and not all(pod.removed for pod in job.pods):
            job.deleting = True
        else:
            self._remove_job(job)
        for pod in job.pods if how != "orphan" else ():
            self.world.later(self._chance.choice((5, 100, 1500)), partial(self.delete_pod, pod))
        self._job_changed(job)

    def _remove_job(self, job: Job) -> None:
        job.removed = True
        if self.jobs.get(job.name) is job:
            del self.jobs[job.name]

    # the Job controller

    def _admit(self, job: Job) -> None:
        if not job.removed:
            job.suspended = False
            self._create_pod(job, stuck=False)

    def _refuse_pod(self, job: Job) -> None:
        if job.removed or job.deleting:
            return
        if self.calm or self._chance.random() < 0.3:
            self._create_pod(job, stuck=False)
            return
        job.refusal = "pods is forbidden: exceeded quota: pods"
        self._job_changed(job)
        self.world.later(5000, partial(self._refuse_pod, job))

    def _create_pod(self, job: Job, stuck: bool) -> None:
        if job.removed or job.deleting or job.pods:
            return
        job.refusal = None
        self._add_pod(job, f"{job.name}-{job.number}", stuck)
        if not self.calm and self._twins.random() < 0.02:
            # What Kubernetes says of itself: a Job may sometimes start its program twice.
            twin = self._add_pod(job, f"{job.name}-{job.number}-twin", stuck)
            self.world.later(self._twins.choice((1, 3000, 30_000)), partial(self._remove_surplus, job, twin))

    def _remove_surplus(self, job: Job, twin: Pod) -> None:
        """The Job controller notices that it has too many pods, and deletes one, of those without a node if it can."""
        found = [pod for pod in job.pods if not pod.removed and not pod.deleting and pod.terminated is None]
        if len(found) > 1:
            self.delete_pod(next((pod for pod in found if pod.held), twin))

    def _add_pod(self, job: Job, name: str, stuck: bool) -> Pod:
        pod = Pod(name, job, self.world.ms, held=True)
        job.pods.append(pod)
        self.pods[pod.name] = self.all_pods[pod.name] = pod
        self._say(f"pod {pod.name} created")
        if stuck:
            pod.waiting = ("ImagePullBackOff", "503 Service Unavailable")
        # Long starts come close to the start deadline, from both sides.
        deadline = int(self.scenario.rules.start_deadline.total_seconds() * 1000)
        late = (deadline - 300, deadline, deadline + 200, deadline + 2000, 10 * deadline)
        delay = self._chance.choice(late) if stuck else self._chance.choice((300, 1200, 1200, 4000))
        pod.start = partial(self.world.later, delay, partial(self._start, pod))
        self._pod_changed(pod)
        return pod

    def _after_pod(self, job: Job, *, good: bool) -> None:
        def act() -> None:
            if job.removed:
                return
            job.complete, job.failed = good, not good
            if job.deleting:
                self._remove_job(job)
            for pod in job.pods:
                if pod.terminated is None:
                    self.delete_pod(pod)
            self._job_changed(job)

        self.world.later(self._chance.choice((10, 300, 2000)), act)

    # the kubelet

    def _start(self, pod: Pod) -> None:
        if pod.removed or pod.deleting or pod.phase != "Pending":
            return
        pod.started, pod.phase, pod.waiting = self.world.ms, "Running", None
        pod.process = Process(
            world=self.world,
            chance=self._processes,
            warehouse=self.warehouse,
            job=pod.job.name,
            number=pod.job.number - 1,
            decision=pod.job.decision,
            commit=pod.job.decision.found.get(COMMIT) or f"commit-{len(self.warehouse.processes)}",
            exited=partial(self._exited, pod),
            hang_until=self.scenario.calm,
            skew=0 if self.calm else self._chance.choice(self.scenario.skews),
        )
        self._say(f"pod {pod.name} runs")
        self._pod_changed(pod)
        if not self.calm and self._chance.random() < self.scenario.fates:
            fate = self._chance.choice(FATES)
            delay = self._chance.choice((50, 600, 2500, 4000, 7000, 15_000, 40_000))
            self.world.later(delay + self._chance.randint(0, 1000), partial(self.strike, pod, fate))

    def _exited(self, pod: Pod, code: int) -> None:
        if pod.removed:
            return

        def act() -> None:
            if not pod.removed:
                self._terminated(pod, code=code, reason="Completed" if code == 0 else "Error")

        self.world.later(self._chance.choice((5, 100, 1000)), act)

    def _terminated(self, pod: Pod, *, code: int, reason: str) -> None:
        if pod.terminated is not None or pod.unreachable:
            return
        pod.terminated = (code, reason)
        pod.ended, pod.phase = self.world.ms, "Succeeded" if code == 0 else "Failed"
        self._say(f"pod {pod.name} ended with {code} {reason}")
        self._pod_changed(pod)
        if pod.deleting:
            self.world.later(self._chance.choice((5, 300, 1500)), partial(self._remove_pod, pod))
        else:
            self._after_pod(pod.job, good=code == 0)
            if not self.calm and self._chance.random() < 0.05:  # somebody cleans up
                self.world.later(self._chance.choice((10, 500)), partial(self._remove_pod, pod))

    def _remove_pod(self, pod: Pod) -> None:
        if pod.removed:
            return
        pod.removed = True
        del self.pods[pod.name]
        self._say(f"pod {pod.name} is gone")
        over = pod.job.complete or pod.job.failed or pod.job.suspended
        if not over and all(other.removed or other.held for other in pod.job.pods):
            self._after_pod(pod.job, good=pod.phase == "Succeeded")
        self._pod_changed(pod)

    def delete_pod(self, pod: Pod) -> None:
        """Delete a pod, with its grace period."""
        if pod.removed or pod.deleting:
            return
        pod.deleting = True
        self._say(f"pod {pod.name} is told to go")
        self._pod_changed(pod)
        if pod.process is None or pod.terminated is not None:
            self.world.later(self._chance.choice((5, 400)), partial(self._remove_pod, pod))
        elif not pod.unreachable:
            self._stop_process(pod, within=self._grace_ms)

    def _stop_process(self, pod: Pod, *, within: int) -> None:
        process = pod.process
        if process is None:
            return
        process.terminate()
        self.world.later(within, partial(self._kill, pod, "Error"))

    def _kill(self, pod: Pod, reason: str) -> None:
        process = pod.process
        if process is None or not process.alive:
            return
        process.kill()
        self._say(f"process of {pod.name} killed")
        if not pod.removed:
            self._terminated(pod, code=137, reason=reason)

    # harm

    def strike(self, pod: Pod, fate: str) -> None:
        """What goes wrong with a pod."""
        if pod.removed or pod.terminated is not None or pod.process is None or self.calm:
            return
        self._say(f"!! {fate}: {pod.name}")
        process, name = pod.process, pod.job.name
        harm: dict[str, Callable[[], None]] = {
            "kill": lambda: self._kill(pod, "Error"),
            "oom": lambda: self._kill(pod, "OOMKilled"),
            "evict": lambda: self._evict(pod, away=False),
            "evict away": lambda: self._evict(pod, away=True),
            "crash": process.crash,
            "drain": self._drain,
            "delete": lambda: self.delete_pod(pod),
            "force": lambda: self._force(pod),
            "node lost": lambda: self._lose_node(pod, process),
            "job": lambda: self.delete_job(name),
            "job foreground": lambda: self.delete_job(name, how="foreground"),
            "job orphan": lambda: self.delete_job(name, how="orphan"),
            "queue": lambda: self._take_back(pod),
        }
        harm[fate]()

    def _take_back(self, pod: Pod) -> None:
        """A queue gives the Job's place to somebody else, and lets it begin anew later, if it is still there."""
        job = pod.job
        if job.removed or job.deleting:
            return
        job.suspended = True
        self.taken_back += 1
        self.delete_pod(pod)
        self._job_changed(job)

        def again() -> None:
            if not (job.removed or job.deleting):
                job.suspended = False
                self._add_pod(job, f"{pod.name}-again", False)

        self.world.later(self._chance.choice((3000, 30_000)), again)

    def _evict(self, pod: Pod, *, away: bool) -> None:
        pod.disruption = "evicted"
        if away:
            self.delete_pod(pod)
        else:
            self._stop_process(pod, within=min(self._grace_ms, 5000))

    def _drain(self) -> None:
        for pod in list(self.pods.values()):
            if pod.process is not None and pod.terminated is None:
                self._evict(pod, away=True)

    def _lose_node(self, pod: Pod, process: Process) -> None:
        """The machine is off, and its pod is shown as running until somebody notices."""
        pod.unreachable = True
        process.kill()
        self.world.later(self._chance.choice((5000, 60_000)), partial(self._remove_pod, pod))

    def _force(self, pod: Pod) -> None:
        """The object goes at once; the process goes when the kubelet has noticed, within the grace period."""
        self._remove_pod(pod)
        process, grace = pod.process, self._grace_ms
        if process is not None:
            told = self._chance.choice((10, grace // 2, grace))
            self.world.later(told, process.terminate)
            self.world.later(grace - 1, process.kill)
