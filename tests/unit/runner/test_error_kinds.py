"""What is said of a run that an error ended before any node could."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.runner.conftest import Project, Run


def _error(run: Run) -> tuple[str, str, str]:
    assert run.code == run.finished["exit_code"] == 2
    assert run.finished["cancelled"] is False
    return run.finished["error"]["kind"], run.finished["phase"], run.finished["error"]["message"]


def test_missing_profiles_file(project: Project) -> None:
    (project.path / "profiles.yml").unlink()
    kind, phase, message = _error(project.run("build"))
    assert (kind, phase) == ("profile", "parse")
    assert "no profiles.yml" in message


def test_missing_target(project: Project) -> None:
    kind, phase, message = _error(project.run("build", "--target", "nosuch"))
    assert (kind, phase) == ("profile", "parse")
    assert "target named 'nosuch'" in message


def test_profile_that_is_no_yaml(project: Project) -> None:
    (project.path / "profiles.yml").write_text("torture: [")
    assert _error(project.run("build"))[:2] == ("profile", "parse")


def test_directory_without_a_project(project: Project) -> None:
    (project.path / "dbt_project.yml").unlink()
    assert _error(project.run("build"))[:2] == ("project", "parse")


def test_missing_project_directory(project: Project) -> None:
    shutil.rmtree(project.path)
    kind, phase, message = _error(project.run("build"))
    assert (kind, phase) == ("project", "start")
    assert str(project.path) in message  # where the spec says


def test_model_that_does_not_parse(project: Project) -> None:
    (project.path / "models" / "broken.sql").write_text("select {{ 1 +")
    run = project.run("build")
    assert _error(run)[:2] == ("parse", "parse")
    assert "broken.sql" in run.named("MainEncounteredError")[0]["exc"]
    assert run.finished["invocation_id"]


def test_packages_that_are_not_installed(project: Project) -> None:
    (project.path / "packages.yml").write_text("packages: [{package: dbt-labs/dbt_utils, version: 1.3.0}]\n")
    assert _error(project.run("build"))[:2] == ("dependencies", "parse")


def test_unknown_selector_is_reported_once_by_the_command_itself(project: Project) -> None:
    run = project.run("build", "--selector", "nosuch")
    assert _error(run)[:2] == ("selector", "execute")
    assert len(run.named("MainEncounteredError")) == 1


@pytest.mark.parametrize(
    ("selection", "kind"),
    [
        ("state:modified", "state"),
        ("result:error+", "state"),
        ("source_status:fresher+", "state"),
        ("test_type:nosuch", "selector"),
        ("resource_type:nosuch", "selector"),
    ],
)
def test_selection_that_dbt_cannot_follow(project: Project, selection: str, kind: str) -> None:
    assert _error(project.run("build", "--select", selection))[:2] == (kind, "execute")


def test_selectors_that_are_no_yaml(project: Project) -> None:
    (project.path / "selectors.yml").write_text("selectors:\n  - name: x\n   definition: a\n")
    assert _error(project.run("build"))[:2] == ("selector", "parse")


@pytest.mark.parametrize(
    ("warning", "arguments"),
    [
        ("NoNodesForSelectionCriteria", ("--select", "nosuch")),
        ("NoNodesForSelectionCriteria", ("--select", "nosuch", "ok_model")),
        ("NothingToDo", ("--exclude", "*")),
    ],
)
def test_selection_of_nothing_where_the_project_makes_that_an_error(
    project: Project, warning: str, arguments: tuple[str, ...]
) -> None:
    with (project.path / "dbt_project.yml").open("a") as file:
        file.write(f"\nflags: {{warn_error_options: {{error: [{warning}]}}}}\n")
    assert _error(project.run("build", *arguments))[:2] == ("nothing_selected", "execute")


def test_hook_that_fails_has_a_result_that_names_it(project: Project) -> None:
    with (project.path / "dbt_project.yml").open("a") as file:
        file.write("\non-run-start: ['select 1', 'select 1 from nowhere']\n")
    run = project.run("build", "--select", "s_users")
    assert run.code == 1
    results = {result["unique_id"]: result for result in run.digest}
    assert "" not in results
    failed = results["operation.torture.torture-on-run-start-1"]
    assert failed["status"] == "error"
    assert "nowhere does not exist" in failed["message"]


@pytest.mark.needs("dbt-core", "1.9", "hooks whose text ends the command")
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("{% if execute %}{{ exceptions.raise_compiler_error('not yet') }}{% endif %}", "not yet"),
        # dbt's own text does not say whose query this is.
        ("{% if execute %}{% do run_query('select 1 from nowhere') %}{% endif %}", "nowhere does not exist"),
    ],
)
def test_hook_that_fails_before_it_is_executed_is_named(project: Project, hook: str, said: str) -> None:
    with (project.path / "dbt_project.yml").open("a") as file:
        file.write(f"\non-run-start: ['select 1', \"{hook}\"]\n")
    _, phase, message = _error(project.run("build"))
    assert phase == "execute"
    assert said in message
    assert message.count("operation torture-on-run-start-1") >= 1


def test_unknown_option(project: Project) -> None:
    kind, phase, message = _error(project.run("build", "--nosuch"))
    assert (kind, phase) == ("usage", "start")
    assert "--nosuch" in message


def test_selection_of_nothing_is_no_error_but_is_told(project: Project) -> None:
    run = project.run("build", "--select", "nosuch")
    assert run.code == 0
    assert run.graph == {}
    assert len(run.named("NothingToDo")) == 1


def test_warehouse_that_refuses_connections(project: Project) -> None:
    nowhere = "{type: postgres, host: 127.0.0.1, port: 1, user: u, password: p, dbname: d, schema: s, threads: 1}"
    (project.path / "profiles.yml").write_text(f"torture: {{target: dev, outputs: {{dev: {nowhere}}}}}")
    run = project.run("build")
    kind, phase, message = _error(run)
    assert (kind, phase) == ("connection", "execute")
    assert "Connection refused" in message
    assert run.graph


def test_image_without_dbt(project: Project, tmp_path: Path) -> None:
    project.python = sys.executable
    run = project.run("build", environment={"PATH": str(tmp_path)}, as_pods_do=True)
    kind, phase, message = _error(run)
    assert (kind, phase) == ("dbt_not_found", "start")
    assert "no dbt-core was found" in message
    assert len(run.lines) == 3


def test_python_of_the_dbt_on_the_path_is_found(project: Project, dbt_python: str) -> None:
    project.python = sys.executable
    path = f"{Path(dbt_python).parent}{os.pathsep}{os.environ['PATH']}"
    run = project.run("build", "--select", "nosuch", environment={"PATH": path}, as_pods_do=True)
    assert run.code == 0
    assert len(run.named("RunnerStarted")) == 1
    assert run.events[0]["data"]["dbt_version"]


def test_reader_that_goes_away_does_not_disturb_the_build(project: Project) -> None:
    command = [str(project.warm), *project.command("build", "--select", "stg_users", "s_users")[1:]]
    with subprocess.Popen(command, env=project.environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 0
    assert (project.scratch / "target" / "run_results.json").exists()


WRAPPER = """
import sys
sys.path.insert(0, {archive!r})
from dbt_operator.runner import main, translator
take = translator.Callback._take
def breaking(self, message):
    if message.info.name == "LogModelResult":
        raise {error}("provoked")
    take(self, message)
translator.Callback._take = breaking
main.main()
"""


@pytest.mark.parametrize("error", ["ValueError", "SystemExit"])
def test_mistake_of_ours_in_the_callback_fails_no_node(project: Project, tmp_path: Path, error: str) -> None:
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(WRAPPER.format(archive=str(project.archive), error=error))
    project.archive = wrapper
    run = project.run("build", "--select", "s_users", "stg_users")
    assert run.code == 0
    assert "provoked" in run.named("RunnerWarning")[0]["message"]
    assert run.results["model.torture.stg_users"]["status"] == "success"
