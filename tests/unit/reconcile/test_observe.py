"""What a look at the run keeps of the look before it."""

from typing import Any

from dbt_operator.kube.resources import Object
from dbt_operator.reconcile.observe import Cluster, unlisted

_SPEC = {"image": "shop:1", "project": {"image": {"path": "/dbt"}}, "profile": {"inProject": True}}


def _run(labels: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata = {"namespace": "data", "name": "r", "uid": "u", "generation": 1, "labels": labels or {}}
    return {"metadata": metadata, "spec": _SPEC | spec, "status": {}}


def _look(run: Object, *, before: Cluster | None = None, **operator: Any) -> Cluster:
    return unlisted(run, operator=operator, config_map=None, before=before)


def test_a_spec_that_is_the_same_is_not_read_anew() -> None:
    first = _look(_run(threads=2))
    assert _look(_run(threads=2), before=first).spec is first.spec


def test_a_spec_that_has_changed_is_read_anew() -> None:
    first = _look(_run())
    found = _look(_run(cancel=True), before=first)
    assert found.spec is not None
    assert found.spec.cancel


def test_other_defaults_count_until_the_run_has_started() -> None:
    first = _look(_run(), threads=2)
    found = _look(_run(), before=first, threads=3)
    assert found.spec is not None
    assert found.spec.threads == 3


def test_an_invalid_spec_stays_invalid_until_it_is_mended() -> None:
    first = _look(_run(threads=0))
    second = _look(_run(threads=0), before=first)
    assert (second.spec, second.invalid) == (None, first.invalid)
    mended = _look(_run(threads=1), before=second)
    assert mended.spec is not None
    assert mended.invalid is None


def test_a_missing_label_is_looked_for_in_each_look() -> None:
    supersedes = {"label": "ci/pull-request"}
    first = _look(_run(supersedes=supersedes))
    assert first.invalid is not None
    found = _look(_run({"ci/pull-request": "7"}, supersedes=supersedes), before=first)
    assert found.invalid is None
