"""The chart: what it renders, what a cluster says to that, and which values it refuses."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import dbt_operator
from dbt_operator.settings import Settings, load_settings
from tests.conftest import CHECKOUT, CLUSTER, Kubectl
from tests.contract.test_documents import chart_values

CHART = CHECKOUT / "charts" / "dbt-operator"
KUBE_VERSION = ("--kube-version", "1.34.4")
EVERYTHING = (
    "metrics.service.enabled=true",
    "priorityClassName=high",
    "podLabels.team=data",
    "tolerations[0].operator=Exists",
)
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """helm on the chart. Nothing is ever installed."""

    program: str
    kubeconfig: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.program, "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        if done.returncode != 0:
            pytest.fail(f"helm {' '.join(arguments)}: {done.stderr}", pytrace=False)
        return done.stdout

    def render(self, *values: str, namespace: str = "ops") -> list[Manifest]:
        """The objects of a release called `shop` with these values."""
        text = self("template", "shop", str(CHART), "-n", namespace, *KUBE_VERSION, *setting(*values))
        return [document for document in yaml.safe_load_all(text) if document]


def setting(*values: str) -> list[str]:
    """Arguments that set values."""
    return [argument for value in values for argument in ("--set", value)]


@pytest.fixture(scope="session")
def helm(kubeconfig: Path) -> Helm:
    own = CLUSTER / "bin" / "helm"
    program = str(own) if own.exists() else shutil.which("helm")
    if program is None:
        pytest.fail("helm is neither in .cluster/bin nor on PATH: `make cluster` builds it.", pytrace=False)
    return Helm(program=program, kubeconfig=kubeconfig)


@pytest.fixture
def restricted(kubectl: Kubectl, namespace: str) -> str:
    """A namespace that admits only what the strictest pod security standard allows."""
    kubectl(
        "label",
        "namespace",
        namespace,
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/warn=restricted",
    )
    return namespace


def of_kind(documents: list[Manifest], *kinds: str) -> list[Manifest]:
    return [document for document in documents if document["kind"] in kinds]


def names(documents: list[Manifest]) -> set[tuple[str, str]]:
    return {(document["kind"], document["metadata"]["name"]) for document in documents}


def operator_rules(documents: list[Manifest]) -> list[Manifest]:
    """The rules of the role that is bound to the operator."""
    roles = of_kind(documents, "Role", "ClusterRole")
    return [rule for role in roles if role["metadata"]["name"] == "shop-dbt-operator" for rule in role["rules"]]


def test_helm_finds_nothing_wrong(helm: Helm) -> None:
    for values in ((), ("crds.install=false",), ("watchNamespaces={a,b}",), EVERYTHING):
        assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), *KUBE_VERSION, *setting(*values))


def test_the_chart_is_of_the_operators_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == dbt_operator.__version__


def test_the_chart_has_the_crds_of_this_checkout(helm: Helm) -> None:
    rendered = {crd["metadata"]["name"]: crd["spec"] for crd in of_kind(helm.render(), "CustomResourceDefinition")}
    files = (yaml.safe_load(path.read_text()) for path in (CHECKOUT / "crds").glob("*.yaml"))
    assert rendered == {crd["metadata"]["name"]: crd["spec"] for crd in files}


def test_crds_survive_the_release_unless_told_otherwise(helm: Helm) -> None:
    kept = of_kind(helm.render(), "CustomResourceDefinition")
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in kept} == {"keep"}
    for crd in of_kind(helm.render("crds.keep=false"), "CustomResourceDefinition"):
        assert "annotations" not in crd["metadata"]
    assert not of_kind(helm.render("crds.install=false"), "CustomResourceDefinition")


def test_watching_everything_takes_a_cluster_role(helm: Helm) -> None:
    documents = helm.render()
    assert not of_kind(documents, "Role", "RoleBinding")
    (binding,) = of_kind(documents, "ClusterRoleBinding")
    account = {"kind": "ServiceAccount", "name": "shop-dbt-operator", "namespace": "ops"}
    assert binding["subjects"] == [account]


def test_watching_some_namespaces_takes_rights_in_these_only(helm: Helm) -> None:
    documents = helm.render("watchNamespaces={a,b}")
    assert not of_kind(documents, "ClusterRoleBinding")
    assert {role["metadata"]["namespace"] for role in of_kind(documents, "Role")} == {"a", "b"}
    assert {role["metadata"]["namespace"] for role in of_kind(documents, "RoleBinding")} == {"a", "b"}
    everything = [document["metadata"]["name"] for document in of_kind(documents, "ClusterRole")]
    assert sorted(everything) == ["shop-dbt-operator-edit", "shop-dbt-operator-view"]
    assert operator_rules(documents) == operator_rules(helm.render()) * 2


@pytest.mark.parametrize("values", [(), ("watchNamespaces={a,b}",)])
def test_no_role_touches_secrets_or_is_open_ended(helm: Helm, values: tuple[str, ...]) -> None:
    for role in of_kind(helm.render(*values), "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "secrets" not in rule["resources"]
            assert "*" not in (*rule["resources"], *rule["verbs"], *rule["apiGroups"])


def test_the_operator_starts_pods_only_through_jobs_and_writes_little_else(helm: Helm) -> None:
    rights = {
        (resource, verb)
        for rule in operator_rules(helm.render())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    reading = {"get", "list", "watch"}
    assert {(resource, verb) for resource, verb in rights if verb not in reading} == {
        ("dbtmodels", "create"),
        ("dbtmodels", "deletecollection"),
        ("dbtruns", "delete"),
        ("dbtruns/status", "patch"),
        ("dbtmodels/status", "patch"),
        ("jobs", "create"),
        ("jobs", "delete"),
        ("configmaps", "create"),
        ("configmaps", "patch"),
        ("configmaps", "delete"),  # the parse cache and the runner of a run that has ended
        ("pods", "patch"),  # to remove the gate that keeps a pod from being scheduled
        ("events", "create"),
    }
    assert not {("configmaps", "list"), ("configmaps", "watch")} & rights


def test_users_with_view_or_edit_get_the_new_kinds(helm: Helm) -> None:
    roles = {role["metadata"]["name"]: role for role in of_kind(helm.render(), "ClusterRole")}
    label = "rbac.authorization.k8s.io/aggregate-to-"
    view, edit = roles["shop-dbt-operator-view"], roles["shop-dbt-operator-edit"]
    assert {key for key in view["metadata"]["labels"] if key.startswith(label)} == {
        f"{label}view",
        f"{label}edit",
        f"{label}admin",
    }
    assert {key for key in edit["metadata"]["labels"] if key.startswith(label)} == {f"{label}edit", f"{label}admin"}
    assert len(of_kind(helm.render("rbac.aggregate=false"), "ClusterRole")) == 1


def test_the_settings_of_the_chart_arrive_in_the_operator(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    values = (
        "watchNamespaces={a,b}",
        "defaults.ttlSecondsAfterFinished=1000000",
        "defaults.image=$(DBT_OPERATOR_LOG_LEVEL)/dbt",
        "settings.historyLimit.label=example.com/schedule",
        "settings.historyLimit.succeeded=0",
        "settings.historyLimit.failed=5",
        "settings.maxWritesPerSecond=20",
        "settings.maxModelsPerRun=1000000",
        "image.tag=v7",
        "settings.logLevel=debug",
        "settings.logFormat=text",
    )
    (deployment,) = of_kind(helm.render(*values), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"].replace("$$", "$"))  # as Kubernetes does
    assert load_settings() == Settings(
        watch_namespaces=("a", "b"),
        defaults={"ttlSecondsAfterFinished": 1_000_000, "image": "$(DBT_OPERATOR_LOG_LEVEL)/dbt"},
        history_limit_label="example.com/schedule",
        history_limit_succeeded=0,
        history_limit_failed=5,
        max_writes_per_second=20,
        max_models_per_run=1_000_000,
        tools_image="localhost/dbt-operator-tools:v7",
        log_level="debug",
        log_format="text",
    )
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"probes": load_settings().probe_port, "metrics": load_settings().metrics_port}


def test_the_defaults_of_chart_and_operator_are_the_same(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = load_settings()
    (deployment,) = of_kind(helm.render(), "Deployment")
    for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    # Of the image the chart knows the version, and the operator in a checkout only what was built there.
    assert load_settings().model_copy(update={"tools_image": defaults.tools_image}) == defaults


@pytest.mark.parametrize("values", [(), EVERYTHING])
def test_the_operator_is_admitted_where_pods_are_restricted(
    helm: Helm, kubectl: Kubectl, restricted: str, values: tuple[str, ...]
) -> None:
    (deployment,) = of_kind(helm.render(*values, namespace=restricted), "Deployment")
    # Of a Deployment the standard only warns; what it enforces shows in a pod of the same template.
    create = ("create", "-n", restricted, "--dry-run=server", "-f", "-")
    assert kubectl.run(*create, stdin=json.dumps(deployment)).stderr == ""
    spec = deployment["spec"]["template"]["spec"] | {"serviceAccountName": "default"}
    spec.pop("priorityClassName", None)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": spec}
    assert kubectl.run(*create, stdin=json.dumps(pod)).stderr == ""


def test_a_cluster_accepts_all_that_is_rendered(helm: Helm, kubectl: Kubectl, namespace: str) -> None:
    values = ("metrics.service.enabled=true", f"watchNamespaces={{{namespace}}}", "crds.install=false")
    for documents in (helm.render(*values, namespace=namespace), helm.render(namespace=namespace)):
        text = yaml.safe_dump_all(documents)
        kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
            stdin=text,
        )


def test_an_operator_can_bring_its_own_account_and_roles(helm: Helm) -> None:
    documents = helm.render(
        "serviceAccount.create=false", "serviceAccount.name=mine", "rbac.create=false", "rbac.aggregate=false"
    )
    assert not of_kind(documents, "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    assert of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]["serviceAccountName"] == "mine"


def test_metrics_objects_are_there_on_request_only(helm: Helm) -> None:
    assert not of_kind(helm.render(), "Service", "PodMonitor")
    documents = helm.render(
        "metrics.service.enabled=true", "metrics.podMonitor.enabled=true", "metrics.podMonitor.labels.a=b"
    )
    assert names(of_kind(documents, "Service", "PodMonitor")) == {
        ("Service", "shop-dbt-operator-metrics"),
        ("PodMonitor", "shop-dbt-operator"),
    }


@pytest.mark.parametrize(
    "value",
    [
        "replicas=2",
        "defaults=none",
        "defaults.ttlSecondsAfterFinished=-1",
        "settings.historyLimit.label=a schedule",
        "settings.historyLimit.failed=-1",
        "settings.historyLimit.cancelled=1",
        "settings.maxWritesPerSecond=0",
        "settings.maxModelsPerRun=many",
        "settings.logLevel=loud",
        "settings.retries=3",
        "watchNamespaces=analytics",
        "watchNamespaces={Analytics}",
        "watchNamespaces={a,a}",
        "image.repository=",
        "image.pullPolicy=Sometimes",
        "crds.install=maybe",
        "metrics.podMonitor.interval=often",
    ],
)
def test_nonsense_in_the_values_is_refused(helm: Helm, value: str) -> None:
    answer = helm.run("template", "shop", str(CHART), *KUBE_VERSION, "--set", value)
    assert answer.returncode != 0
    assert "values don't meet the specifications of the schema" in answer.stderr


def test_the_notes_say_what_to_do_next(helm: Helm, namespace: str) -> None:
    values = setting("crds.install=false", "fullnameOverride=notes-" + namespace)
    shown = helm("install", "notes", str(CHART), "--dry-run=server", "-n", namespace, *values)
    notes = shown.partition("NOTES:")[2]
    assert "kubectl apply -n default -f - <<END" in notes
    assert "kubectl get dbtmodels -n default -w" in notes
    assert f"rollout status deployment/notes-{namespace}" in notes


@pytest.mark.parametrize("text", [pytest.param(text, id=where) for where, text in chart_values()])
def test_values_of_the_documents_are_values_of_the_chart(helm: Helm, text: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text)
    assert "kind: Deployment" in helm("template", "documented", str(CHART), *KUBE_VERSION, "--values", str(file))
