"""One look at the cluster: what it shows of a run, as facts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from dbt_operator.api import names
from dbt_operator.api.commands import Mode
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.spec import DbtRunSpec, Producer
from dbt_operator.kube.resources import Object
from dbt_operator.plan.facts import JobFacts, PodFacts
from dbt_operator.plan.observation import Rules
from dbt_operator.pods.layers import longest_grace
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.defaults import Fields, spec_of, taken
from dbt_operator.reconcile.run_status import RunRecord, run_record


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one look at the cluster showed of a run."""

    run: Object
    record: RunRecord
    spec: DbtRunSpec | None
    invalid: str | None
    jobs: Mapping[str, JobFacts]  # by name
    pods: Mapping[str, tuple[PodFacts, ...]]  # by the name of their Job, the newest last

    @property
    def generation(self) -> int:
        """The generation of the run that this look has seen."""
        generation: int = self.run["metadata"]["generation"]
        return generation

    @property
    def token(self) -> str | None:
        """The token of the retry of the whole run that a person asks for."""
        return names.retry_token(self.run["metadata"])

    def rules(self, *, ttl: timedelta | None) -> Rules:
        """What the spec asks for. ttl: how long the run is to be kept after its end."""
        spec = self.spec
        if spec is None:  # whatever else is wrong with it, it is not to be kept for ever
            return Rules(start_deadline=timedelta(seconds=Producer().start_deadline_seconds), ttl=ttl)
        return Rules(
            start_deadline=timedelta(seconds=spec.producer.start_deadline_seconds),
            active_deadline=_seconds(spec.active_deadline_seconds),
            ttl=ttl,
            cancel=spec.cancel,
            suspend=spec.suspend,
            retry=spec.retry,
            nodes=spec.nodes,
            max_restarts=spec.producer.max_restarts,
            fail_fast=bool(spec.fail_fast),
            repeats=spec.rules.repeats,
            budget=spec.mode is Mode.ASYNC and spec.async_.maximum_bytes_billed is not None,
            compares=spec.compares,
            stages=spec.rules.stages,
            per_node=spec.per_node if spec.mode is Mode.PER_NODE else None,
            grace=timedelta(seconds=longest_grace(spec)),
        )


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


def run_ref(run: Object) -> RunRef:
    """The identity of a DbtRun, for its children."""
    metadata = run["metadata"]
    return RunRef(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        labels=metadata.get("labels") or {},
    )


def unlisted(run: Object, *, operator: Fields, config_map: Object | None, before: Cluster | None = None) -> Cluster:
    """The DbtRun alone, before its children are looked at.

    operator, config_map: the defaults of the operator, and the ConfigMap with those of the namespace, for a run that
        takes its defaults now. One that has started keeps what it has taken.
    before: the last look, whose spec is not read anew where it is the same.
    """
    record, invalid = run_record(run), None
    if record.start_time is None:
        record = replace(record, defaults=taken(operator, config_map))
    same = before is not None and (before.run["spec"], before.record.defaults) == (run["spec"], record.defaults)
    spec = before.spec if before is not None and same else None
    try:
        spec = spec or spec_of(run["spec"], defaults=record.defaults)
    except InvalidSpec as error:
        invalid = str(error)
    label = spec.supersedes.label if spec is not None and spec.supersedes is not None else ""
    if label and label not in (run["metadata"].get("labels") or {}) and not record.attempts:
        invalid = f"spec.supersedes.label names the label {label}, which the run does not have: add it in a new run."
    return Cluster(run=run, record=record, spec=spec, invalid=invalid, jobs={}, pods={})
