"""A miniature of the operator's reconciler: it keeps what the real one keeps, and does the same in the same order.

Each of its steps is a generator, which yields how many milliseconds it waits.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from dbt_operator.api.names import producer_job_name
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.attempt import Assessment, Attempt, Decision, LogFacts, Refusal, Release, Request, Sealed, Stage
from dbt_operator.plan.facts import JobFacts, PodFacts
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.run import Observation, Plan, Rules, plan_run
from dbt_operator.reconcile.memory import Memory
from dbt_operator.reconcile.run_status import dbt_info
from tests.simulation.calls import ApiError, Calls
from tests.simulation.checks import Checks
from tests.simulation.cluster import Cluster, Refused
from tests.simulation.follower import Follower
from tests.simulation.objects import Pod, Record, Status

if TYPE_CHECKING:
    from tests.simulation.operator import Operator

Steps = Generator[int, None, None]
_REFUSED_PAUSE = timedelta(seconds=5)
_FAILED = Refusal(RunReason.API_SERVER_ERROR, "the call has failed")


@dataclass(frozen=True)
class Seen:
    """One look at the cluster."""

    at: datetime
    version: int
    status: Status
    cancel: bool
    suspend: bool
    invalid: bool
    token: str | None
    node_requests: tuple[Request, ...]
    released: dict[int, Release]
    jobs: dict[str, JobFacts]
    pods: dict[str, tuple[Pod, PodFacts]]


class Reconciler:
    """Looks at the cluster, plans and acts, and keeps what the real one keeps between two turns."""

    def __init__(self, *, operator: "Operator", cluster: Cluster, checks: Checks, wake: Callable[[], None]) -> None:
        self._operator, self._cluster, self._checks, self._wake = operator, cluster, checks, wake
        self._world = operator.world
        self._call = Calls(operator=operator, cluster=cluster, checks=checks)
        self._last: Seen | None = None
        self._decisions: dict[int, Decision] = {}
        self._sealed: dict[int, Sealed] = {}
        self._releases: dict[int, Release] = {}
        self._in_doubt: set[int] = set()
        self._versions: dict[int, int] = {}
        self._followers: dict[str, Follower] = {}
        self._gone_pods: dict[str, PodFacts] = {}
        self._refusals: dict[str, Refusal] = {}
        self._withheld: dict[str, Refusal] = {}
        self._let_go: dict[str, datetime] = {}
        self._not_again_before: dict[str, datetime] = {}
        self._created: set[str] = set()
        self._memory: Memory | None = None
        self._shows = False
        self._handled: str | None = None
        self._handled_nodes: dict[str, str] = {}
        self._written: tuple[object, ...] | None = None

    def pod_gone(self, job: str, facts: PodFacts) -> None:
        """The watch shows in what state a pod was when it went."""
        if not facts.held:
            self._gone_pods[job] = facts

    def stop(self) -> None:
        """Follow no log any more."""
        for follower in self._followers.values():
            follower.stopped = True

    def _say(self, text: str) -> None:
        if self._world.tracing:
            self._operator.say(text)

    # look

    def look(self) -> Generator[int, None, Seen | None]:
        """What the cluster shows; None when the run is gone."""
        self._last = yield from self._look(self._last)
        return self._last

    def _look(self, before: Seen | None) -> Generator[int, None, Seen | None]:
        cluster, world = self._cluster, self._world
        looked_at = world.now
        if not (yield from self._call("read run", lambda: cluster.exists)):
            return None
        version, status = cluster.version, cluster.status
        cancel, suspend, invalid, token = cluster.cancel, cluster.suspend, cluster.invalid, cluster.token
        if self._memory is None:
            self._handled = status.handled
            self._handled_nodes = dict(cluster.handled)
        asked = tuple(Request(token=value, unique_id=one) for one, value in cluster.node_tokens.items())
        unsealed = self._decisions.keys() - self._sealed.keys()
        for index in sorted(unsealed if status.ended is not None else unsealed & self._in_doubt):
            yield from self._read(index)
        while (yield from self._read(len(self._decisions) + 1)):
            pass
        released = dict(self._releases)  # as they were recorded before the pods are listed
        jobs = yield from self._call("list jobs", lambda: {n: job.facts(world) for n, job in cluster.jobs.items()})
        pods = yield from self._call("list pods", partial(self._pods, released))
        for name, (_, facts) in (before.pods if before is not None else {}).items():
            if name not in pods and not facts.held:
                self._gone_pods.setdefault(name, facts)
        if self._memory is None:
            read = partial(cluster.models.read, first_job=producer_job_name("r", number=1))
            self._memory = yield from self._call("list models", read)
        for index, decision in self._decisions.items():
            self._follow(index, decision, pods)
        return Seen(looked_at, version, status, cancel, suspend, invalid, token, asked, released, jobs, pods)

    def _read(self, index: int) -> Generator[int, None, bool]:
        record = yield from self._call("read record", partial(self._cluster.records.get, index))
        if record is not None:
            self._take(record)
        return record is not None

    def _take(self, record: Record) -> None:
        index = record.decision.index
        self._decisions[index], self._versions[index] = record.decision, record.version
        self._in_doubt.discard(index)
        if record.release is not None:
            self._releases[index] = record.release
        if record.sealed is not None:
            self._sealed[index] = record.sealed

    def _pods(self, released: dict[int, Release]) -> dict[str, tuple[Pod, PodFacts]]:
        """The pod of each attempt, by its Job."""
        oldest_first = sorted(self._cluster.pods.values(), key=lambda pod: (pod.created, pod.name))
        found: dict[str, tuple[Pod, PodFacts]] = {}
        for index, decision in self._decisions.items():
            pods = [pod for pod in oldest_first if pod.job.name == decision.name]
            if index in released:
                chosen = next((pod for pod in pods if pod.name == released[index].pod), None)
            else:
                chosen = next((pod for pod in pods if not pod.held), pods[-1] if pods else None)
            if chosen is not None:
                found[decision.name] = (chosen, chosen.facts(self._world))
        return found

    def _follow(self, index: int, decision: Decision, pods: dict[str, tuple[Pod, PodFacts]]) -> None:
        follower = self._followers.get(decision.name)
        if follower is not None and index in self._sealed:
            follower.stopped = True
            del self._followers[decision.name]
        if follower is None and index not in self._sealed and decision.name in pods:
            pod, facts = pods[decision.name]
            if facts.has_started or facts.over:
                self._followers[decision.name] = Follower(operator=self._operator, pod=pod)

    def _ended(self, status: Status) -> Outcome | None:
        """How the run has ended, unless a retry was decided on after that, and before its status said so."""
        last = max(self._decisions, default=0)
        again = last and self._decisions[last].name not in status.attempts
        return None if again else status.ended

    def _observation(self, seen: Seen) -> Observation:
        scenario, status = self._cluster.scenario, seen.status
        ended = self._ended(status)
        whole = (Request(token=seen.token),) if seen.token is not None and seen.token != self._handled else ()
        nodes = tuple(one for one in seen.node_requests if self._handled_nodes.get(one.unique_id or "") != one.token)
        return Observation(
            run="r",
            now=self._world.now,
            looked_at=seen.at,
            attempts=self._attempts(seen),
            started=status.start_time is not None,
            rules=Rules(
                start_deadline=scenario.start_deadline,
                active_deadline=scenario.active_deadline,
                ttl=scenario.ttl,
                cancel=seen.cancel,
                suspend=seen.suspend,
                retry=scenario.retry,
            ),
            requests=(*whole, *nodes),
            invalid="The spec has a field that is not known." if seen.invalid else None,
            ended=ended,
            ended_at=status.ended_at if ended is not None else None,
        )

    def _attempts(self, seen: Seen) -> tuple[Attempt, ...]:
        assert self._memory is not None
        attempts = [self._attempt(index, decision, seen) for index, decision in sorted(self._decisions.items())]
        return self._memory.completed(attempts, dbt=seen.status.dbt)

    def _attempt(self, index: int, decision: Decision, seen: Seen) -> Attempt:
        name, sealed = decision.name, self._sealed.get(index)
        follower = self._followers.get(name)
        pod = seen.pods.get(name)
        return Attempt(
            name=name,
            job=seen.jobs.get(name),
            pod=pod[1] if pod is not None else None,
            last_pod=self._gone_pods.get(name),
            log=follower.facts if follower is not None and sealed is None else LogFacts(),
            refusal=(self._withheld if pod is not None else self._refusals).get(name),
            created=name in seen.status.attempts or name in self._created,
            began=seen.status.attempts.get(name),
            decision=decision,
            release=seen.released.get(index),
            let_go=self._let_go.get(name),
            sealed=sealed,
        )

    def plan(self, seen: Seen) -> Generator[int, None, Plan | None]:
        """What the run needs, once the ends of its attempts are stored; None when it takes another look for that."""
        plan = self._plan(seen)
        while plan.seal:
            for assessment in plan.seal:
                if not (yield from self._seal(assessment)):
                    return None
            for index, decision in self._decisions.items():
                self._follow(index, decision, seen.pods)
            plan = self._plan(seen)
        return plan

    def _plan(self, seen: Seen) -> Plan:
        observation = self._observation(seen)
        plan = plan_run(observation)
        self._checks.planned(self._operator.name, observation, plan)
        return plan

    # act

    def _seal(self, assessment: Assessment) -> Generator[int, None, bool]:
        decision, outcome = assessment.attempt.decision, assessment.outcome
        assert decision is not None
        assert outcome is not None
        index = decision.index
        sealed = Sealed(
            outcome=outcome,
            state=assessment.state,
            ended_at=self._world.now,
            gone=assessment.gone,
            started=assessment.attempt.started,
        )
        self._say(f"seals {decision.name}: {outcome.phase} {outcome.reason}{'' if sealed.gone else ', not known gone'}")
        follower = self._followers.get(decision.name)
        version = self._versions[index]
        process, position = (follower.pod.process, follower.position) if follower is not None else (None, 0)

        def seal() -> bool:
            done = self._cluster.seal(index, sealed, version=version)
            if done:
                self._checks.oracle.sealed(sealed, decision, process, position)
            return done

        self._in_doubt.add(index)
        done = yield from self._call("seal", seal)
        self._in_doubt.discard(index)
        self._take(self._cluster.records[index])  # as another one has written it, if it was not us
        if done:
            self._sealed[index] = sealed
        return done

    def act(self, plan: Plan, seen: Seen) -> Steps:
        """Do what is planned."""
        over = self._ended(seen.status) is not None and plan.phase.terminal
        if plan.start:
            self._wake()
            yield from self._call("start", lambda: self._mark_started(seen.version))
            return
        if not over:
            yield from self._record(plan, seen)
            for name in plan.create:
                yield from self._create(name)
            for name in plan.release:
                yield from self._release(name, seen)
        yield from self._note_handled(plan, over=over)
        if not over:
            yield from self._show(plan, seen)
        for job in plan.stop:
            self._say(f"stops {job}")
            self._wake()
            yield from self._call("stop", partial(self._cluster.delete_job, job))
        if plan.expire:
            yield from self._call("expire", self._expire)

    def _mark_started(self, version: int) -> None:
        cluster = self._cluster
        if cluster.version == version:
            cluster.version += 1
            cluster.status = replace(cluster.status, start_time=self._world.now)
            cluster.changed("status")

    def _expire(self) -> None:
        self._cluster.exists = False
        self._wake()

    def _record(self, plan: Plan, seen: Seen) -> Steps:
        if not plan.record:
            return
        before = len(self._sealed)
        for index in [index for index in self._decisions if index not in self._sealed]:
            yield from self._read(index)
        if len(self._sealed) > before:
            self._say("another one has sealed")
            self._wake()
            return
        self._checks.decided(self._observation(seen), plan)
        for decision in plan.record:
            self._wake()
            nodes = "all" if decision.nodes is None else " ".join(sorted(decision.nodes))
            self._say(f"decides {decision.index} {decision.name}: {nodes} {decision.requests or ''}")
            record = yield from self._call("record", partial(self._cluster.create_record, decision))
            if record is None:
                self._say("another one has decided")
                return
            self._take(record)

    def _create(self, name: str) -> Steps:
        decision = next(one for one in self._decisions.values() if one.name == name)
        if self._too_soon(name):
            return
        try:
            yield from self._call("create", partial(self._cluster.create_job, decision))
        except Refused as error:
            self._note(self._refusals, name, Refusal(error.reason, str(error)))
            return
        except ApiError:
            self._note(self._refusals, name, _FAILED)
            return
        self._created.add(name)
        self._wake()
        self._note(self._refusals, name, None)

    def _too_soon(self, name: str) -> bool:
        return name in self._not_again_before and self._world.now < self._not_again_before[name]

    def _note(self, refusals: dict[str, Refusal], name: str, refusal: Refusal | None) -> None:
        before = refusals.pop(name, None)
        if refusal is not None:
            refusals[name] = refusal
            self._not_again_before[name] = self._world.now + _REFUSED_PAUSE
        if refusal != before:
            self._say(f"{name} refused: {refusal}")
            self._wake()

    def _release(self, name: str, seen: Seen) -> Steps:
        index = next(index for index, one in self._decisions.items() if one.name == name)
        pod = seen.pods[name][0]
        if self._too_soon(name):
            return
        if index not in self._releases:
            release = Release(pod=pod.name, at=self._world.now)
            version = self._versions[index]
            done = yield from self._call("choose", partial(self._cluster.choose_pod, index, release, version=version))
            self._take(self._cluster.records[index])
            if not done:
                self._say(f"another one has written the record of {name}")
                self._wake()
                return
        try:
            yield from self._call("release", partial(self._cluster.release_pod, pod))
        except ApiError:
            self._note(self._withheld, name, _FAILED)
            return
        self._wake()
        self._let_go[name] = self._world.now
        self._note(self._withheld, name, None)

    def _note_handled(self, plan: Plan, *, over: bool) -> Steps:
        for request in plan.handled:
            self._say(f"handled {request}")
            if request.unique_id is None:
                self._handled = request.token
                if over:
                    yield from self._call("handled", partial(self._store_handled, request.token))
            else:
                self._handled_nodes[request.unique_id] = request.token
                yield from self._call(
                    "handled", partial(self._cluster.handled.__setitem__, request.unique_id, request.token)
                )

    def _store_handled(self, token: str) -> None:
        self._cluster.status = replace(self._cluster.status, handled=token)

    def _show(self, plan: Plan, seen: Seen) -> Steps:
        if not plan.phase.terminal and not all(follower.live for follower in self._followers.values()):
            return
        models = self._cluster.models
        if not self._shows:
            self._checks.kept(models.written, plan.history)
            self._shows = True
        models.show(plan.history, ((each.attempt.kind, each.attempt.name) for each in plan.assessments))
        if plan.phase.terminal:
            models.flush()
        attempts = {
            each.attempt.name: each.attempt.started or seen.status.attempts.get(each.attempt.name)
            for each in plan.assessments
            if each.attempt.existed or each.stage is Stage.ENDED
        }
        dbt = dbt_info(plan.history.attempts)
        what = (plan.phase, plan.reason, plan.message, attempts, self._handled, dbt)
        if self._written == what and seen.status.phase is plan.phase:
            return
        status = Status(
            start_time=seen.status.start_time,
            phase=plan.phase,
            reason=plan.reason,
            message=plan.message,
            ended_at=(seen.status.ended_at or self._world.now) if plan.phase.terminal else None,
            attempts=attempts,
            handled=self._handled,
            dbt=dbt,
        )
        self._say(f"shows {plan.phase} {plan.reason}: {plan.message}")
        yield from self._call("status", partial(self._write, status, plan))
        self._written = what

    def _write(self, status: Status, plan: Plan) -> None:
        self._cluster.status = status
        self._cluster.version += 1
        self._checks.shown(status, plan)
        if status.phase is not None and status.phase.terminal:
            self._cluster.changed("status")
