"""dbt's artifacts of a whole run, over all its attempts, as users find them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHECKOUT
from tests.e2e.alike import assert_alike, execute_sql, of_profiles, warehouse
from tests.e2e.repair import FRESH, QUICK, Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them


def _told(runs: Runs, folder: Path, file: str) -> Any:
    """Do what docs/dbtrun.md says, in the namespace of the run, for this file."""
    (command,) = re.findall(r"^\$ (kubectl get configmap nightly-artifacts .*)$", _documentation(), flags=re.MULTILINE)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_bytes(runs.cluster.kubectl.kubeconfig.read_bytes())
    own = f"{Path(runs.cluster.kubectl.program).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": own}

    def shell(script: str) -> str:
        argv = ["bash", "-o", "pipefail", "-c", script]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shell(f"kubectl config set-context --current --namespace={runs.cluster.namespace}")
    return json.loads(shell(command.replace(r"run_results\.json", file.replace(".", r"\."))))


def _documentation() -> str:
    return (CHECKOUT / "docs" / "dbtrun.md").read_text()


class TestArtifacts:
    """One run, so one class."""

    @pytest.fixture
    def nightly(self, runs: Runs) -> Runs:
        """A run that has ended, with a node that a retry has mended and one that it has not."""
        runs.start(
            "nightly",
            *("layer1_05", "layer1_13", "layer1_14", "layer2_01", "layer2_10"),
            settings={"fail_times": {"layer1_13": 1, "layer1_14": 9}},
            retry=QUICK,
            nodes=[{"select": [{"name": "layer1_14"}], "retry": {"limit": 0}}],
        )
        assert runs.end("nightly")["reason"] == "NodesFailed"
        return runs

    def test_each_node_has_the_result_of_its_last_attempt(self, nightly: Runs, tmp_path: Path) -> None:
        artifacts = nightly.status("nightly")["artifacts"]
        assert artifacts == {"configMap": "nightly-artifacts", "runResults": True, "manifest": True}
        told = _told(nightly, tmp_path, "run_results.json")
        assert [result["unique_id"] for result in told["results"] if result["unique_id"].startswith("test.")]
        results = {result["unique_id"]: result for result in told["results"]}
        assert len(results) == len(told["results"])
        models = {one: result["status"] for one, result in results.items() if one.startswith("model.")}
        assert models == {
            "model.chaos.layer1_05": "success",
            "model.chaos.layer1_13": "success",
            "model.chaos.layer1_14": "error",
            "model.chaos.layer2_01": "skipped",
            "model.chaos.layer2_10": "success",
        }
        assert "layer1_14 fails the first 9 times" in results["model.chaos.layer1_14"]["message"]
        # Of the first attempt, of a retry, and of none.
        coded = {one: bool(results[one]["compiled_code"]) for one in models}
        assert coded == {one: status != "skipped" for one, status in models.items()}
        assert told["metadata"]["dbt_schema_version"].endswith("/run-results/v6.json")
        manifest = _told(nightly, tmp_path, "manifest.json")
        assert set(results) <= set(manifest["nodes"])
        assert manifest["metadata"]["project_name"] == "chaos"
        self._check_alike(nightly, tmp_path)

    def _check_alike(self, nightly: Runs, folder: Path) -> None:
        """Without a cluster the nodes end as they do on it, with as many attempts."""
        project, chaos = folder / "project", CHECKOUT / "tests" / "projects" / "chaos"
        shutil.copytree(chaos / "project", project)
        subprocess.run([sys.executable, chaos / "generate.py", project], check=True)
        with warehouse() as environ:
            execute_sql(FRESH, environ)
            here = of_profiles(environ)
            assert_alike(nightly.cluster, "nightly", folder=folder, project=project, elsewhere=here)
