"""The ConfigMaps that a run keeps its memory in, one for each attempt.

An attempt's record is created before its Job. Its name is the attempt's index, so that of two controllers that decide
at the same moment only one can decide on that index; the other one looks again. Which of its pods may be scheduled is
stored here before that pod is released. Once the attempt has ended, how it ended and what it did is stored here too, as
its Job, its pod and their log can be taken away by anybody at any time; no pod is released any more then.
"""

import base64
import gzip
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from dbt_operator.api import names
from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.values import Value
from dbt_operator.dbt import stored
from dbt_operator.dbt.state import EMPTY
from dbt_operator.plan.attempt import Assessment, Decision, Recorded, Release, Request, Sealed
from dbt_operator.plan.outcome import Outcome
from dbt_operator.pods.run import RunRef, child_config_map

NODES_FILE = "nodes.json.gz"
STATE_FILE = "state.json.gz"

# A ConfigMap holds 1 MiB of data; the rest is room for its annotations and the list of nodes.
STATE_LIMIT = 700 * 1024
_DECISION = f"{names.GROUP}/decision"
_RELEASE = f"{names.GROUP}/released-pod"
_END = f"{names.GROUP}/end"


class _Request(Value, frozen=True, kw_only=True):
    token: str
    unique_id: str | None = None


class _Decision(Value, frozen=True, kw_only=True):
    kind: AttemptKind
    job: str
    nodes: int | None = None
    requests: tuple[_Request, ...] = ()
    roots: tuple[str, ...] | None = None


class _Release(Value, frozen=True, kw_only=True):
    uid: str
    at: datetime


class _End(Value, frozen=True, kw_only=True):
    phase: RunPhase
    reason: RunReason
    message: str
    ended_at: datetime
    gone: bool
    started_at: datetime | None = None


def attempt_record(*, run: RunRef, decision: Decision, release: Release | None = None) -> dict[str, Any]:
    """The record of a decision, with the list of nodes that its pod mounts."""
    said = _Decision(
        kind=decision.kind,
        job=decision.name,
        nodes=None if decision.nodes is None else len(decision.nodes),
        requests=tuple(_Request(token=one.token, unique_id=one.unique_id) for one in decision.requests),
        roots=decision.roots,
    )
    manifest = child_config_map(run, name=names.attempt_record_name(run.name, index=decision.index))
    manifest["metadata"]["labels"][names.LABEL_ATTEMPT_INDEX] = str(decision.index)
    manifest["metadata"]["labels"][names.LABEL_ATTEMPT_KIND] = decision.kind.value.lower()
    manifest["metadata"]["annotations"] = {_DECISION: _json(said.to_dict())}
    if release is not None:
        manifest["metadata"]["annotations"] |= _released(release)
    if decision.nodes is not None:
        nodes = [{"unique_id": unique_id} for unique_id in sorted(decision.nodes)]
        manifest["binaryData"] = {NODES_FILE: _packed(msgspec.json.encode(nodes))}
    return manifest


def same_decision(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether the record that was found says what the manifest of ours would have said."""
    return bool(
        _annotations(record).get(_DECISION) == _annotations(manifest).get(_DECISION)
        and (record.get("binaryData") or {}).get(NODES_FILE) == (manifest.get("binaryData") or {}).get(NODES_FILE)
    )


def releasing(release: Release, *, version: str) -> dict[str, Any]:
    """The patch that stores in the record, as of this resource version, which pod may be scheduled."""
    return {"metadata": {"resourceVersion": version, "annotations": _released(release)}}


def _released(release: Release) -> dict[str, str]:
    return {_RELEASE: _json(_Release(uid=release.pod, at=release.at).to_dict())}


def sealing(assessment: Assessment, *, now: datetime, version: str) -> tuple[dict[str, Any], Sealed]:
    """The patch that stores in its record, as of this resource version, how an attempt ended; and that as a value."""
    outcome = assessment.outcome
    if outcome is None:
        raise ValueError(f"{assessment.attempt.name} has not ended")
    sealed = Sealed(
        outcome=outcome,
        state=assessment.state,
        ended_at=now,
        gone=assessment.gone,
        started=assessment.attempt.started,
    )
    end = _End(
        phase=outcome.phase,
        reason=outcome.reason,
        message=outcome.message,
        ended_at=now,
        gone=sealed.gone,
        started_at=sealed.started,
    )
    state = base64.b64encode(stored.encode(assessment.state, limit=STATE_LIMIT)).decode()
    metadata = {"resourceVersion": version, "annotations": {_END: _json(end.to_dict())}}
    patch = {"metadata": metadata, "binaryData": {STATE_FILE: state}}
    return patch, sealed


def parse_record(record: Mapping[str, Any]) -> Recorded:
    """What a record says. Raises: ValueError where it was changed to something that cannot be read."""
    metadata, files = record["metadata"], record.get("binaryData") or {}
    try:
        said = msgspec.convert(msgspec.json.decode(_annotations(record)[_DECISION]), type=_Decision)
        nodes = None if said.nodes is None else _node_ids(files[NODES_FILE])
        release = _release(record)
    except (KeyError, msgspec.MsgspecError, OSError, EOFError) as error:
        raise ValueError(f"ConfigMap {metadata['name']} does not hold the record of an attempt: {error}") from error
    decision = Decision(
        index=int(metadata["labels"][names.LABEL_ATTEMPT_INDEX]),
        kind=said.kind,
        name=said.job,
        nodes=nodes,
        requests=tuple(Request(token=one.token, unique_id=one.unique_id) for one in said.requests),
        roots=said.roots,
    )
    return Recorded(decision=decision, release=release, sealed=_sealed(record))


def _release(record: Mapping[str, Any]) -> Release | None:
    text = _annotations(record).get(_RELEASE)
    if text is None:
        return None
    release = msgspec.convert(msgspec.json.decode(text), type=_Release)
    return Release(pod=release.uid, at=release.at)


def _sealed(record: Mapping[str, Any]) -> Sealed | None:
    text = _annotations(record).get(_END)
    if text is None:
        return None
    end = msgspec.convert(msgspec.json.decode(text), type=_End)
    state = stored.decode(base64.b64decode((record.get("binaryData") or {}).get(STATE_FILE) or ""))
    return Sealed(
        outcome=Outcome(phase=end.phase, reason=end.reason, message=end.message),
        state=state if state is not None else EMPTY,
        ended_at=end.ended_at,
        gone=end.gone,
        started=end.started_at,
    )


def _node_ids(packed: str) -> frozenset[str]:
    nodes = msgspec.json.decode(gzip.decompress(base64.b64decode(packed)))
    return frozenset(node["unique_id"] for node in nodes)


def _annotations(obj: Mapping[str, Any]) -> Mapping[str, str]:
    annotations: Mapping[str, str] = obj["metadata"].get("annotations") or {}
    return annotations


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
