"""Which run supersedes which, and that none begins before those that it supersedes have ended."""

from typing import Any

import pytest

from dbt_operator.api.status import DbtRunStatus
from dbt_operator.reconcile.run_key import RunKey, key_of
from dbt_operator.reconcile.supersession import Rivals, Supersession, rivals
from tests.unit.plan import lines
from tests.unit.reconcile.cluster import NAMESPACE, RUN, Cluster, Given
from tests.unit.reconcile.operator import run

LABEL = "ci/pull-request"
LIVE, ENDED = DbtRunStatus(), DbtRunStatus.parse({"phase": "Succeeded"}) or DbtRunStatus()


def pull(name: str, *, at: int = 0, value: str = "17", supersedes: bool = True, **fields: Any) -> dict[str, Any]:
    """A run of a pull request."""
    made = run(name)
    made["spec"] = made["spec"] | ({"supersedes": {"label": LABEL}} if supersedes else {})
    created = f"2026-11-20T03:00:{at:02d}Z"
    made["metadata"] |= {"uid": f"uid-of-{name}", "creationTimestamp": created, "labels": {LABEL: value}} | fields
    return made


def known(*runs: dict[str, Any]) -> Supersession:
    found = Supersession()
    for each in runs:
        found.observed(each, LIVE)
    return found


@pytest.mark.parametrize(
    ("other", "newer"),
    [
        (pull("b", at=1), "b"),
        (pull("b", at=0), "b"),  # within the same second the name decides
        (pull("A", at=0), ""),
        (pull("b", at=1, value="18"), ""),
        (pull("b", at=1, supersedes=False), ""),
        (pull("b", at=1, namespace="other"), ""),
        (pull("b", at=1, labels={"other": "17"}), ""),
        (pull("b", at=1, deletionTimestamp="2026-11-20T03:00:02Z"), ""),
    ],
)
def test_the_newer_run_with_the_same_value_supersedes(other: dict[str, Any], newer: str) -> None:
    assert known(other).newer(pull("a")) == newer
    assert known(other, pull("a")).newer(pull("a", supersedes=False)) == newer


def test_of_several_the_newest_is_named_and_one_that_is_deleted_is_none() -> None:
    found = known(pull("b", at=1), pull("c", at=2))
    assert found.newer(pull("a")) == "c"
    found.forget(key_of(pull("c")))
    assert found.newer(pull("a")) == "b"
    found.observed(pull("b", at=1, labels={}), LIVE)
    assert found.newer(pull("a")) == ""
    assert found == Supersession(wake=found.wake, _living={key_of(pull("b")): frozenset()})


def test_those_that_live_hear_of_a_newer_run_and_the_newer_one_of_their_end() -> None:
    woken: list[str] = []

    def wake(key: RunKey) -> None:
        woken.append(key.name)

    found = Supersession(wake=wake)
    found.observed(pull("ended"), ENDED)
    found.observed(pull("live", supersedes=False), LIVE)
    found.observed(pull("other", value="18", supersedes=False), LIVE)
    assert woken == []
    found.observed(pull("newer", at=1), LIVE)
    assert woken == ["live"]
    found.observed(pull("newer", at=1), LIVE)
    assert woken == ["live"]
    found.observed(pull("live", supersedes=False), ENDED)
    assert woken == ["live", "newer"]


def test_a_run_waits_for_older_ones_that_live() -> None:
    ended = pull("ended") | {"status": {"phase": "Cancelled", "completionTime": "2026-11-20T03:00:00Z"}}
    others = [pull("a"), pull("c", at=1, supersedes=False), ended, pull("mine", at=2), pull("later", at=3)]
    assert rivals(pull("mine", at=2), others) == Rivals(older=("a", "c"), newer="later")
    assert rivals(pull("later", at=3), others).newer == ""
    assert rivals(pull("a"), [pull("a")]) == Rivals()


async def test_a_run_without_the_label_is_told_so() -> None:
    async with Given(spec={"supersedes": {"label": LABEL}}) as given:
        await given.until(lambda: given.said()[0] == "Failed")
        assert given.said()[1:] == (
            "InvalidSpec",
            "spec.supersedes.label names the label ci/pull-request, which the run does not have: add it in a new run.",
        )


@pytest.mark.parametrize("down", [False, True])
async def test_the_newer_run_begins_when_the_older_one_has_ended(down: bool) -> None:
    async with Given(server=Cluster()) as given:
        given.server.change("dbtruns", RUN, metadata={"labels": {LABEL: "17"}})
        pod = await given.pod(f"{RUN}-producer-1")
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.said()[0] == "Running")
        newer = pull("pull-2", creationTimestamp="2027-11-20T03:00:00Z") | {"status": {}}
        await given.down(down, lambda: _put(given, newer))

        def said(name: str) -> str:
            return str((given.server.objects["dbtruns", NAMESPACE, name].get("status") or {}).get("reason"))

        await given.until(lambda: said("pull-2") == "Superseding")
        await given.until(lambda: f"{RUN}-producer-1" not in given.server.names("jobs"))
        assert not [job for job in given.server.names("jobs") if job.startswith("pull-2")]
        assert "startTime" not in given.server.objects["dbtruns", NAMESPACE, "pull-2"]["status"]
        await given.until(lambda: said(RUN) == "Superseded")
        await given.until(lambda: "pull-2-producer-1" in given.server.names("jobs"))
        assert given.said()[0] == "Cancelled"


def _put(given: Given, manifest: dict[str, Any]) -> None:
    given.server.put("dbtruns", manifest)
