"""The ConfigMaps that a run keeps its memory in, one for each attempt.

An attempt's record is created before its Job. Its name is the attempt's index, so that of two controllers that decide
at the same moment only one can decide on that index; the other one looks again. Which of its pods may be scheduled is
stored here before that pod is released. While its log is read, a checkpoint says how far; once the attempt has ended,
how it ended and what it did is stored here, as its Job, its pod and their log can be taken away by anybody at any time;
no pod is released any more then.
"""

import base64
import gzip
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from dbt_operator.api import names
from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.values import Value
from dbt_operator.dbt import stored
from dbt_operator.dbt.state import EMPTY, AttemptState, Periods
from dbt_operator.plan.attempt import Checkpoint, Decision, Left, PodChoice, Recorded, Release, Request, Sealed
from dbt_operator.plan.facts import optional_time
from dbt_operator.plan.outcome import Outcome
from dbt_operator.pods.run import RunRef, child_config_map

NODES_FILE = "nodes.json.gz"
OTHERS_FILE = "others.json.gz"  # the nodes that the attempt decides on, and does not execute
STATE_FILE = "state.json.gz"

_MOST = 1000 * 1024  # bytes: a ConfigMap holds 1 MiB of data, with the names of its files
_DECISION = f"{names.GROUP}/decision"
_RELEASE = f"{names.GROUP}/released-pod"
_CHECKPOINT = f"{names.GROUP}/checkpoint"
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
    microbatch_end: str | None = None
    found: dict[str, str] | None = None
    overrides: tuple[int, ...] | None = None
    stage: Stage | None = None
    resources: dict[str, dict[str, str]] | None = None
    began_in: int | None = None
    billed: int | None = None


class _Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node as the runner reads it. `periods`: what is left of a microbatch model, where it is not all.

    began_in: the attempt in which the execution began that this attempt goes on with, where it does.
    """

    unique_id: str
    periods: Periods | None = None
    incremental: bool | None = None
    began_in: int | None = None


class _Release(Value, frozen=True, kw_only=True):
    uid: str
    at: datetime


class _Checkpoint(Value, frozen=True, kw_only=True):
    position: datetime | None = None


class _End(Value, frozen=True, kw_only=True):
    phase: RunPhase
    reason: RunReason
    message: str
    ended_at: datetime
    gone: bool
    started_at: datetime | None = None


def attempt_record(*, run: RunRef, decision: Decision, release: Release | None = None) -> dict[str, Any]:
    """The record of a decision, with the list of nodes that its pod mounts."""
    decided = _Decision(
        kind=decision.kind,
        job=decision.name,
        nodes=None if decision.nodes is None else len(decision.nodes),
        requests=tuple(_Request(token=one.token, unique_id=one.unique_id) for one in decision.requests),
        roots=decision.roots,
        microbatch_end=decision.microbatch_end,
        found=dict(sorted(decision.found.items())) or None,
        overrides=decision.pod.overrides or None,
        stage=decision.stage,
        resources={kind: dict(amounts) for kind, amounts in decision.pod.resources} or None,
        began_in=decision.began_in,
        billed=decision.billed or None,
    )
    manifest = child_config_map(run, name=names.attempt_record_name(run.name, index=decision.index))
    manifest["metadata"]["labels"][names.LABEL_ATTEMPT_INDEX] = str(decision.index)
    manifest["metadata"]["labels"][names.LABEL_ATTEMPT_KIND] = decision.kind.value.lower()
    manifest["metadata"]["annotations"] = {_DECISION: _json(decided.to_dict())}
    if release is not None:
        manifest["metadata"]["annotations"] |= _released(release)
    if decision.nodes is not None:
        manifest["binaryData"] = _lists(decision)
    return manifest


def _lists(decision: Decision) -> dict[str, str]:
    """The files that the pod mounts, in base64."""
    files = {}
    if decision.nodes is not None:
        files[NODES_FILE] = _packed(msgspec.json.encode(_nodes(decision)))
    if decision.decides_on:
        others = [_Node(unique_id=each) for each in sorted(decision.decides_on)]
        files[OTHERS_FILE] = _packed(msgspec.json.encode(others))
    return files


def room_for_state(decision: Decision) -> int:
    """How many bytes there are for the state beside what is stored of the decision."""
    return _MOST - sum(len(each) * 3 // 4 for each in _lists(decision).values())


def _nodes(decision: Decision) -> list[_Node]:
    left = {one.unique_id: one for one in decision.left}
    return [
        _Node(
            unique_id=each,
            periods=left[each].periods if each in left else None,
            incremental=left[each].incremental if each in left else None,
            began_in=decision.continued.get(each),
        )
        for each in sorted(decision.nodes or ())
    ]


def same_decision(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether the record that was found says what the manifest of ours would have said."""
    said = _annotations(record).get(_DECISION) == _annotations(manifest).get(_DECISION)
    found, own = (each.get("binaryData") or {} for each in (record, manifest))
    return said and all(found.get(file) == own.get(file) for file in (NODES_FILE, OTHERS_FILE))


def releasing(release: Release, *, version: str) -> dict[str, Any]:
    """The patch that stores in the record, as of this resource version, which pod may be scheduled."""
    return {"metadata": {"resourceVersion": version, "annotations": _released(release)}}


def _released(release: Release) -> dict[str, str]:
    return {_RELEASE: _json(_Release(uid=release.pod, at=release.at).to_dict())}


def checkpointing(state: bytes, *, position: datetime | None, version: str) -> dict[str, Any]:
    """The patch that stores in the record, as of this resource version, how far the log was read.

    state: as `stored.encode` packs it. A version of the operator that knows no checkpoints looks at no state that has
    not been sealed.
    """
    return {
        "metadata": {
            "resourceVersion": version,
            "annotations": {_CHECKPOINT: _json(_Checkpoint(position=position).to_dict())},
        },
        "binaryData": {STATE_FILE: base64.b64encode(state).decode()},
    }


def sealing(sealed: Sealed, decision: Decision, *, version: str) -> dict[str, Any]:
    """The patch that stores in its record, as of this resource version, how the attempt of a decision ended."""
    end = _End(
        phase=sealed.outcome.phase,
        reason=sealed.outcome.reason,
        message=sealed.outcome.message,
        ended_at=sealed.ended_at,
        gone=sealed.gone,
        started_at=sealed.started,
    )
    state = base64.b64encode(stored.encode(sealed.state, limit=room_for_state(decision))).decode()
    metadata = {"resourceVersion": version, "annotations": {_END: _json(end.to_dict()), _CHECKPOINT: None}}
    return {"metadata": metadata, "binaryData": {STATE_FILE: state}}


def parse_record(record: Mapping[str, Any]) -> Recorded:
    """What a record says, also one of another version of the operator.

    Raises: ValueError, a sentence with what to do, where it cannot be read: nothing may be executed for it then.
    """
    name = record["metadata"]["name"]
    try:
        sealed = _sealed(record)
        decided = _read(record, _DECISION, _Decision)
        known = decided.kind.known and (decided.stage is None or decided.stage.known)
        if not known and sealed is None:
            raise _NewerError
        return Recorded(
            decision=_decision(record, decided),
            release=_release(record),
            checkpoint=_checkpoint(record) if sealed is None else None,
            sealed=sealed,
            at=optional_time(record["metadata"].get("creationTimestamp")),
        )
    except _NewerError:
        text = (
            f"ConfigMap {name} was written by a later version of the operator, and this one cannot read it:"
            " install that version again, or a later one"
        )
        raise ValueError(text) from None
    except (KeyError, ValueError, msgspec.MsgspecError, OSError, EOFError, zlib.error) as error:
        text = f"ConfigMap {name} does not hold the record of an attempt: {error}. Delete it:"
        raise ValueError(f"{text} the attempt is then decided on anew") from error


class _NewerError(Exception):
    """A later version has stored what this one has no word for."""


_Part = TypeVar("_Part", bound=Value)


def _read(record: Mapping[str, Any], annotation: str, kind: type[_Part]) -> _Part:
    return msgspec.convert(msgspec.json.decode(_annotations(record)[annotation]), type=kind)


def _decision(record: Mapping[str, Any], decided: _Decision) -> Decision:
    kind = decided.kind
    if not kind.known:
        kind = (
            AttemptKind.PRODUCER if decided.nodes is None else AttemptKind.RESUME
        )  # it has ended: what it was for is past
    data = record.get("binaryData") or {}
    nodes = None if decided.nodes is None else _read_nodes(data[NODES_FILE])
    others = _read_nodes(data[OTHERS_FILE]) if OTHERS_FILE in data else []
    return Decision(
        # By its name, which nobody can change.
        index=int(record["metadata"]["name"].rpartition("-")[2]),
        kind=kind,
        name=decided.job,
        nodes=None if nodes is None else frozenset(node.unique_id for node in nodes),
        requests=tuple(Request(token=one.token, unique_id=one.unique_id) for one in decided.requests),
        roots=decided.roots,
        microbatch_end=decided.microbatch_end,
        found=decided.found or {},
        stage=decided.stage if decided.stage is not None and decided.stage.known else None,
        pod=_pod(decided),
        began_in=decided.began_in,
        billed=decided.billed or 0,
        continued={node.unique_id: node.began_in for node in nodes or () if node.began_in is not None},
        left=tuple(
            Left(node.unique_id, node.periods, incremental=bool(node.incremental))
            for node in nodes or ()
            if node.periods is not None
        ),
        decides_on=frozenset(node.unique_id for node in others),
    )


def _pod(decided: _Decision) -> PodChoice:
    resources = sorted((kind, tuple(sorted(amounts.items()))) for kind, amounts in (decided.resources or {}).items())
    return PodChoice(overrides=decided.overrides or (), resources=tuple(resources))


def _release(record: Mapping[str, Any]) -> Release | None:
    if _RELEASE not in _annotations(record):
        return None
    release = _read(record, _RELEASE, _Release)
    return Release(pod=release.uid, at=release.at)


def _checkpoint(record: Mapping[str, Any]) -> Checkpoint | None:
    """None also where it cannot be read: it only spares reading the log from its beginning, while there is one."""
    packed = (record.get("binaryData") or {}).get(STATE_FILE)
    if _CHECKPOINT not in _annotations(record) or packed is None:
        return None
    state = stored.decode(base64.b64decode(packed))
    position = _read(record, _CHECKPOINT, _Checkpoint).position
    return None if state is None else Checkpoint(state=state, position=position)


def _sealed(record: Mapping[str, Any]) -> Sealed | None:
    if _END not in _annotations(record):
        return None
    end = _read(record, _END, _End)
    return Sealed(
        # An end that this version has no word for is no success.
        outcome=Outcome(
            phase=end.phase if end.phase.known else RunPhase.FAILED, reason=end.reason, message=end.message
        ),
        state=_state((record.get("binaryData") or {}).get(STATE_FILE)),
        ended_at=end.ended_at,
        gone=end.gone,
        started=end.started_at,
    )


def _state(packed: str | None) -> AttemptState:
    if packed is None:
        return EMPTY
    data = base64.b64decode(packed)
    state = stored.decode(data)
    if state is None and stored.intact(data):
        raise _NewerError
    if state is None:
        raise ValueError(f"{STATE_FILE} is damaged")
    return state


def _read_nodes(packed: str) -> list[_Node]:
    return msgspec.json.decode(gzip.decompress(base64.b64decode(packed)), type=list[_Node])


def _annotations(obj: Mapping[str, Any]) -> Mapping[str, str]:
    annotations: Mapping[str, str] = obj["metadata"].get("annotations") or {}
    return annotations


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
