"""Which runs of examples and end-to-end tests are compared with themselves without a cluster, and why others are not.

A file of tests compares by `tests.e2e.alike`. What brings no feature that another comparison has not is left out: each
costs as much as the run itself.
"""

from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
E2E = CHECKOUT / "tests" / "e2e"
EXAMPLES = CHECKOUT / "examples"

# Of a file of tests: why none of its runs is compared.
APART = {
    "alone/test_chaos.py": "Pods are lost on purpose; `python -m dev.local_chaos` does that without a cluster.",
    "alone/test_costs.py": "It measures the operator of a cluster.",
    "alone/test_operator_faults.py": "The operator of the cluster is killed while its runs are at work.",
    "alone/test_repair.py": "As above.",
    "alone/test_upgrade.py": "Two versions of the operator follow each other.",
    "test_after_all.py": "A pod is lost; stages are compared by the run `tested` of test_local.py.",
    "test_ask_for_retry.py": "Images and Secrets change between attempts, when a person wants it.",
    "test_cannot_start.py": "Nothing of it starts, for reasons that only a cluster has.",
    "test_connections.py": "Connections change, and pods are entered; connections are compared by test_slim_ci.py.",
    "test_control.py": "The runs are cancelled at some moment, or deleted.",
    "test_database_file.py": "Another end is right without a cluster: the database outlives each attempt there.",
    "test_deletion_and_loss.py": "Pods, Jobs and records are deleted.",
    "test_embedding.py": "Its subject is who creates the runs; they are small parts of the jaffle shop.",
    "test_environment.py": "Its dbt comes from an index in the cluster; tests/local/test_sources.py has one without.",
    "test_git_postgres.py": "A pod is lost; git, packages and a dbt of one's own are in tests/local, one by one.",
    "test_one_pod.py": "Jobs are deleted and made anew, and gates are opened by hand.",
    "test_postgres.py": "Queries are locked out or broken off; whole runs on Postgres are compared by test_slim_ci.py.",
    "test_project_sources.py": "Servers and volumes of the cluster; tests/local/test_sources.py has git without one.",
    "test_resume.py": "Pods are lost in every way.",
    "test_retry.py": "Its nodes wait for locks, so that attempts overlap; retries are compared by test_artifacts.py.",
    "test_suspend.py": "The runs are suspended at some moment.",
    "test_tenancy.py": "Its subject is who may do what in the API.",
}
# Of an example: the file of tests that compares it, or why nothing does.
COMPARED = {
    "jaffle-shop/broken.yaml": "test_local.py",
    "jaffle-shop/defaults.yaml": "test_defaults.py",
    "jaffle-shop/pod-template.yaml": "test_pod_template.py",
    "jaffle-shop/run.yaml": "test_green_run.py",
    "jaffle-shop/select.yaml": "test_green_run.py",
    "slim-ci/production.yaml": "test_slim_ci.py",
    "slim-ci/pull-request.yaml": "test_slim_ci.py",
}
EXAMPLES_APART = {
    "bigquery/run.yaml": "It needs an account.",
    "connections/bigquery.yaml": "It needs an account.",
    "connections/postgres.yaml": "tests/local/test_connections.py executes it.",
    "connections/redshift.yaml": "It needs an account.",
    "connections/snowflake.yaml": "It needs an account.",
    "embedding/argo-cd/hook.yaml": "The run is created by a Job.",
    "embedding/argo-workflows/workflow.yaml": "The run is created by a workflow.",
    "embedding/cronjob.yaml": "The run is created by a CronJob.",
    "embedding/tekton/task.yaml": "The run is created by a task.",
    "git-postgres/run.yaml": "tests/local/test_git_postgres.py executes it.",
    "postgres/per-node.yaml": "As postgres/run.yaml; tests/simulation/test_per_node.py compares the modes.",
    "postgres/run.yaml": "The same project as slim-ci/production.yaml.",
    "projects/archive.yaml": "Its addresses are made up; archives are compared by test_local.py.",
    "projects/git.yaml": "Its addresses are made up; tests/local/test_sources.py has a project in git.",
    "projects/packages.yaml": "Its addresses are made up; tests/local/test_packages.py has packages.",
    "projects/ssh.yaml": "Its addresses are made up; fetching is the same step of the runner.",
    "projects/volume.yaml": "Its volume is one of a cluster.",
    "slim-ci/clean-up.yaml": "It builds nothing; tests/local/test_slim_ci.py executes it.",
    "virtualenv/cached.yaml": "See test_environment.py.",
    "virtualenv/run.yaml": "See test_environment.py.",
}

FILES = sorted(str(path.relative_to(E2E)) for path in E2E.rglob("test_*.py"))
MANIFESTS = sorted(
    str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.yaml") if "kind: DbtRun" in path.read_text()
)


def compares(file: str) -> bool:
    """Whether runs of a file of tests are compared."""
    return "assert_alike(" in (E2E / file).read_text()


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_tests_compares_a_run_or_says_why_not(file: str) -> None:
    assert compares(file) != (file in APART)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_an_example_is_compared_or_it_is_said_why_not(manifest: str) -> None:
    assert (manifest in COMPARED) != (manifest in EXAMPLES_APART)
    if manifest in COMPARED:
        assert compares(COMPARED[manifest])


def test_nothing_is_listed_that_is_not_there() -> None:
    assert APART.keys() <= set(FILES)
    assert COMPARED.keys() | EXAMPLES_APART.keys() <= set(MANIFESTS)
