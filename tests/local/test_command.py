"""Whole runs by the command: what a person sees, what can be killed, and what is executed how often."""

import json
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.local.desk import MODELS, Desk, make_desk, manifest, signal_group

ONCE = Counter(dict.fromkeys(MODELS, 1))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, warm_python: Path, operator: Path) -> Desk:
    """Where a run has failed, as its third model cannot be executed."""
    desk = make_desk(tmp_path_factory.mktemp("desk"), warm_python, operator)
    desk.model("third", "select nothing from {{ ref('second') }}")
    desk.write(manifest(retry={"limit": 1, "backoff": {"duration": "0s"}}, podTemplate={"spec": {"nodeSelector": {}}}))
    return desk


@pytest.fixture(scope="module")
def failed(broken: Desk) -> str:
    """What the command has said."""
    options = ("--junit", "reports/dbt.xml")
    return broken.do("run", "-f", "run.yaml", *options, code=1, GITHUB_ACTIONS="true", GITLAB_CI="true")


class TestAFailureAndItsRetry:
    """One run; then its model is mended, and a retry asked for."""

    def test_it_says_what_happens_and_what_has_no_effect_here(self, failed: str) -> None:
        assert "Without a cluster these have no effect: spec.podTemplate.spec.nodeSelector." in failed
        assert "third failed:" in failed
        assert "small: Failed. 1 of 5 nodes failed: third" in failed

    def test_ci_systems_are_told_in_their_own_forms(self, failed: str, broken: Desk) -> None:
        assert "::error file=project/models/third.sql,title=Model third failed::Runtime Error" in failed
        [quality] = json.loads((broken.folder / "gl-code-quality-report.json").read_text())
        assert (quality["location"]["path"], quality["severity"]) == ("project/models/third.sql", "major")
        [suite] = ET.parse(broken.folder / "reports" / "dbt.xml").getroot()  # noqa: S314 - our own
        assert (suite.get("tests"), suite.get("errors"), suite.get("skipped")) == ("5", "1", "1")

    def test_statuses_are_those_of_a_cluster(self, failed: str, broken: Desk) -> None:
        assert failed
        phases = broken.phases()
        assert phases == {**dict.fromkeys(MODELS, "Succeeded"), "third": "Failed", "fourth": "Skipped"}
        status = broken.status()
        assert (status["phase"], status["reason"], status["retries"]) == ("Failed", "NodesFailed", 1)
        assert [each["kind"] for each in status["attempts"]] == ["Producer", "Retry"]
        fourth = broken.get("dbtmodels")["small.fourth"]
        assert fourth["status"]["blockedBy"] == "model.small.third"

    def test_tables_have_the_columns_of_kubectl(self, failed: str, broken: Desk) -> None:
        assert failed
        lines = broken.do("get", "dbtruns").splitlines()
        assert lines[0].split() == ["NAME", "PHASE", "NODES", "FAILED", "RETRIES", "DURATION", "AGE"]
        assert lines[1].split()[:5] == ["small", "Failed", "5/5", "1", "1"]
        both = broken.do("get", "dbtrun,dbtm")
        assert "dbtmodel.dbt-operator.io/small.third" in both
        assert "NodesFailed" in broken.do("get", "dbtruns", "-o", "wide")
        assert broken.do("get", "dbtruns", "-o", "name").splitlines() == ["dbtrun.dbt-operator.io/small"]

    def test_describe_has_the_events_and_logs_the_words_of_dbt(self, failed: str, broken: Desk) -> None:
        assert failed
        assert "NodeFailed" in broken.do("describe", "dbtrun", "small")
        assert "Finished running 1 table model" in broken.do("logs", "small")
        raw = broken.do("logs", "small", "--attempt", "producer-1", "-o", "json").splitlines()
        assert json.loads(raw[0])["info"]["name"] == "RunnerStarted"

    def test_the_artifacts_are_files(self, failed: str, broken: Desk) -> None:
        assert failed
        results = json.loads((broken.place.artifacts("small") / "run_results.json").read_text())
        assert {result["unique_id"] for result in results["results"]} == {f"model.small.{name}" for name in MODELS}
        assert json.loads((broken.place.artifacts("small") / "manifest.json").read_text())["nodes"]

    def test_a_retry_executes_what_is_left_and_nothing_else(self, failed: str, broken: Desk) -> None:
        assert failed
        broken.model("third", MODELS["third"])
        assert "small: Succeeded" in broken.do("retry", "small")
        assert broken.phases() == dict.fromkeys(MODELS, "Succeeded")
        assert broken.counted("done") == ONCE
        # The same command begins a run anew that has ended, and was told of.
        assert "The run small is begun anew." in broken.do("run", "-f", "run.yaml")
        assert broken.counted("done") == Counter(dict.fromkeys(MODELS, 2))


def test_the_operator_is_killed_and_its_run_goes_on_without_it(desk: Desk, operator: Path) -> None:
    process = desk.start("run", "-f", "run.yaml", PAUSE="0.5")
    desk.wait(lambda: desk.counted("begun")["second"], process=process)
    signal_group(desk.attempt(), signal.SIGSTOP)  # so that dbt does not come to its end before anybody looks
    others = replace(desk, python=operator)
    second = others.do("run", "-f", "run.yaml", code=4)
    assert f"The run small is executed by process {process.pid} (since" in second
    process.kill()
    process.communicate()
    assert "No process executes the run small" in others.do("get", "dbtruns")
    again = others.start("run", "-f", "run.yaml")
    assert again.stderr is not None
    assert again.stderr.readline() == "The run small goes on with what is left of it.\n"
    signal_group(desk.attempt(), signal.SIGCONT)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, out + err
    assert desk.counted("begun") == ONCE
    assert desk.status()["retries"] == 0


def test_dbt_is_killed_and_what_is_left_is_executed(quick: Desk) -> None:
    process = quick.start("run", "-f", "run.yaml", PAUSE="0.5")
    quick.wait(lambda: quick.counted("begun")["second"], process=process)
    signal_group(quick.attempt(), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert quick.counted("done") == ONCE
    assert [each["state"] for each in quick.status()["attempts"]] == ["Lost", "Succeeded"]


def test_both_are_killed_and_the_same_command_goes_on(quick: Desk) -> None:
    process = quick.start("run", "-f", "run.yaml", PAUSE="1")
    quick.wait(lambda: quick.counted("begun")["second"], process=process)
    attempt = quick.attempt()
    process.kill()
    process.communicate()
    signal_group(attempt, signal.SIGKILL)
    assert "small: Succeeded" in quick.do("run", "-f", "run.yaml")
    assert quick.counted("done") == ONCE
    assert not (attempt.folder / "tmp").exists()


def test_it_ends_while_nobody_looks_and_the_same_command_tells_how(quick: Desk) -> None:
    process = quick.start("run", "-f", "run.yaml")
    quick.wait(lambda: quick.counted("begun")["first"], process=process)
    process.kill()
    process.communicate()
    attempt = quick.attempt()
    quick.wait(lambda: not attempt.alive)
    assert "small: Succeeded" in quick.do("run", "-f", "run.yaml")
    assert quick.counted("begun") == ONCE


def test_the_first_signal_cancels_the_run_and_a_retry_goes_on(quick: Desk) -> None:
    process = quick.start("run", "-f", "run.yaml", PAUSE="1")
    quick.wait(lambda: quick.counted("begun")["second"], process=process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, out + err
    assert quick.status()["phase"] == "Cancelled"
    assert '"CancelRequested"' in quick.log("small")
    before = quick.counted("done")
    assert before != ONCE
    quick.do("retry", "small")
    assert quick.counted("done") == ONCE


def test_the_second_signal_stops_it_and_the_same_command_goes_on(desk: Desk, warm_python: Path, operator: Path) -> None:
    process = desk.start("run", "-f", "run.yaml", PAUSE="1")
    desk.wait(lambda: desk.counted("begun")["second"], process=process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "Cancelling" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert not desk.attempt().alive
    replace(desk, dbt=warm_python, python=operator).do("run", "-f", "run.yaml")
    assert desk.counted("done") == ONCE


def test_another_process_cancels(quick: Desk) -> None:
    process = quick.start("run", "-f", "run.yaml", PAUSE="1")
    quick.wait(lambda: quick.counted("begun")["first"], process=process)
    assert "is told to end" in quick.do("cancel", "small")
    process.communicate(timeout=120)
    assert process.returncode == 3


def test_a_run_that_takes_too_long_is_stopped(quick: Desk) -> None:
    # Time enough for a first node to begin, however busy the machine is.
    quick.write(manifest(activeDeadlineSeconds=25))
    quick.do("run", "-f", "run.yaml", code=1, PAUSE="600")
    status = quick.status()
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded"), status["message"]
    assert "Cancelled" in quick.phases().values()


def test_several_runs_come_one_after_the_other_and_the_worst_end_counts(quick: Desk) -> None:
    broken = manifest("broken", vars={"more": "nothing"}, select=["third"], retry={"limit": 0})
    quick.write(manifest("one", select=["first", "second"]), broken, manifest("two", select=["beside"]))
    out = quick.do("run", "-f", "run.yaml", code=1)
    assert out.index("one: Succeeded") < out.index("broken: Failed") < out.index("two: Succeeded")


def test_the_values_of_secrets_reach_dbt_and_nothing_that_stays(quick: Desk) -> None:
    secret = "correct-horse-battery"  # noqa: S105 - what the test looks for
    quick.write(
        manifest(
            profile={"secretRef": {"name": "warehouse", "key": "profiles.yml"}},
            podTemplate={"spec": {"containers": [{"name": "dbt", "env": [
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
            ]}]}},
        )
    )  # fmt: skip
    (quick.folder / "project" / "profiles.yml").rename(quick.folder / "profiles.yml")
    quick.model(
        "first",
        "select 1 as id, '{{ env_var('PASSWORD') }}' as word, '{{ log(env_var('PASSWORD'), info=true) }}' as said",
    )
    out = quick.do("run", "-f", "run.yaml", code=1)
    assert "There is no key profiles.yml of Secret warehouse here" in out
    kept = quick.folder / "secrets" / "warehouse"
    kept.mkdir(parents=True)
    (quick.folder / "profiles.yml").rename(kept / "profiles.yml")
    (quick.folder / ".env").write_text(f"SECRET_LOGIN_PASSWORD={secret}\n")
    out = quick.do("run", "-f", "run.yaml", "--secrets", "secrets", "--env-file", ".env")
    assert secret not in out
    files = [file for file in quick.place.root.rglob("*") if file.is_file()]
    assert files
    assert [str(file) for file in files if secret.encode() in file.read_bytes()] == []


def test_a_wrong_manifest_is_one_sentence_and_begins_nothing(quick: Desk) -> None:
    quick.write(manifest(threadz=4))
    assert "spec.threadz is not a field" in quick.do("run", "-f", "run.yaml", code=2)
    assert "nothing.yaml cannot be read" in quick.do("run", "-f", "nothing.yaml", code=2)
    quick.write(manifest())
    assert "no dbt on PATH" in quick.do("run", "-f", "run.yaml", code=2, PATH="/nowhere")
    assert "There is no run other" in quick.do("logs", "other", code=2)
    assert not (quick.place.root / "runs").exists()


def test_it_needs_nothing_of_kubernetes(quick: Desk) -> None:
    absent = "import sys\nfor name in ('kopf', 'kubernetes', 'aiohttp', 'tenacity'): sys.modules[name] = None\n"
    (quick.folder / "sitecustomize.py").write_text(absent)
    path = os.pathsep.join([str(quick.folder), *filter(None, sys.path)])
    assert "small: Succeeded" in quick.do("run", "-f", "run.yaml", PYTHONPATH=path)
