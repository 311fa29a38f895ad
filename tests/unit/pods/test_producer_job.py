"""The Job of the producer: one pod, dbt's own arguments, and what tells the runner which values are secret."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from dbt_operator.api.commands import Stage
from dbt_operator.api.names import GATE
from dbt_operator.api.phases import AttemptKind
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods.dbt_arguments import dbt_arguments
from dbt_operator.pods.job import attempt_job
from dbt_operator.pods.run import RunRef
from dbt_operator.pods.runner_files import runner_config_map
from tests.unit.pods.test_pod_template import IMAGES, PRODUCER, RUN, pod_of, spec

QUEUE = "kueue.x-k8s.io/queue-name"
RETRY = Decision(
    index=3, kind=AttemptKind.RETRY, name="nightly-retry-1a2b3c4d-2", nodes=frozenset({"model.shop.orders"})
)


def arguments_of(**fields: Any) -> list[str]:
    arguments: list[str] = pod_of(**fields)["spec"]["containers"][0]["args"]
    return arguments


def test_every_field_of_the_spec_becomes_an_argument_of_dbt() -> None:
    arguments = dbt_arguments(
        spec(
            select=["a", "tag:b"],
            exclude=["c"],
            vars={"z": 1, "a": "x y"},
            fullRefresh=True,
            failFast=True,
            threads=3,
            profile={"inProject": True, "profile": "shop", "target": "prod"},
        )
    )
    assert arguments == [
        *("build", "--select=a", "--select=tag:b", "--exclude=c", '--vars={"a": "x y", "z": 1}'),
        *("--full-refresh", "--fail-fast", "--threads=3", "--profile=shop", "--target=prod"),
    ]


def test_an_empty_spec_is_a_plain_build() -> None:
    assert dbt_arguments(spec()) == ["build"]


def test_an_attempt_at_certain_nodes_has_the_same_arguments_but_for_the_selection() -> None:
    fields: dict[str, Any] = {
        "select": ["a"],
        "exclude": ["b"],
        "resourceTypes": ["model", "test"],
        "excludeResourceTypes": ["unit_test"],
        "indirectSelection": "cautious",
        "warnErrorOptions": {"error": ["all"], "silence": ["NoNodesForSelectionCriteria"]},
        "sample": "3 days",
        "empty": True,
        "eventTimeStart": "2026-11-01",
        "eventTimeEnd": "2026-11-02",
        "state": {"runRef": {"name": "prod"}},
        "defer": True,
        "storeFailures": True,
        "args": ["--no-introspect"],
    }
    selection = [
        *("--select=a", "--exclude=b", "--resource-type=model", "--resource-type=test"),
        *("--exclude-resource-type=unit_test", "--indirect-selection=cautious"),
    ]
    others = [
        '--warn-error-options={"error": "all", "silence": ["NoNodesForSelectionCriteria"]}',
        *("--sample=3 days", "--empty", "--event-time-start=2026-11-01", "--event-time-end=2026-11-02"),
        *("--defer", "--store-failures", "--no-introspect"),
    ]
    assert dbt_arguments(spec(**fields)) == ["build", *selection, *others]
    assert dbt_arguments(spec(**fields), selection=False) == ["build", *others]
    assert dbt_arguments(spec(warnError=True)) == ["build", "--warn-error"]


def test_an_attempt_at_certain_nodes_is_told_what_the_run_selects_where_others_are_preferred() -> None:
    fields: dict[str, Any] = {"select": ["a"], "state": {"runRef": {"name": "prod"}}, "defer": True}
    for favored in (False, True):
        job = attempt_job(run=RUN, spec=spec(**fields, favorState=favored), decision=RETRY, images=IMAGES)
        arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
        assert ("--select=a" in arguments) is favored
        assert "--state-dir=/dbt-operator/state" in arguments


def test_the_runner_is_told_what_to_do_about_stale_sources_where_the_command_looks_at_them() -> None:
    def told(**spec: Any) -> list[str]:
        return [each for each in arguments_of(**spec) if each.startswith(("--source-freshness", "--stale-parents"))]

    assert told() == told(sourceFreshness="Ignore") == []
    assert told(sourceFreshness="Warn") == ["--source-freshness=Warn", "--stale-parents=Any"]
    given = {"sourceFreshness": "SkipStale", "staleParents": "All"}
    assert told(command="snapshot", **given) == ["--source-freshness=SkipStale", "--stale-parents=All"]
    assert told(command="test", **given) == []  # as a default of the namespace would have it


def test_a_macro_is_called_with_its_arguments() -> None:
    operation = {"macro": "shop.grant_select", "args": {"role": "reader", "tables": ["a", 1.0]}}
    arguments = dbt_arguments(spec(command="run-operation", runOperation=operation))
    assert arguments == ["run-operation", "shop.grant_select", '--args={"role": "reader", "tables": ["a", 1.0]}']


def test_what_can_be_executed_without_dbt_is_so_with_the_mode_async() -> None:
    def told(**spec: Any) -> list[str]:
        return [each for each in arguments_of(**spec) if each.startswith(("--executor", "--async-settings"))]

    assert told() == []
    assert told(mode="Async") == ["--executor=Async", "--async-settings={}"]
    settings = '--async-settings={"maxInFlight":300}'
    assert told(mode="Async", **{"async": {"maxInFlight": 300}}) == ["--executor=Async", settings]
    assert told(mode="Async", command="docs") == []


def test_a_budget_counts_over_all_attempts() -> None:
    decision = replace(RETRY, billed=7)
    for budget, told in (({"maximumBytesBilled": 9}, ["--billed-before=7"]), ({}, [])):
        given = spec(mode="Async", **{"async": budget})
        job = attempt_job(run=RUN, spec=given, decision=decision, images=IMAGES)
        arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
        assert [each for each in arguments if each.startswith("--billed-before")] == told


@pytest.mark.parametrize(("command", "words"), [("source-freshness", ["source", "freshness"]), ("ls", ["ls"])])
def test_a_command_is_said_in_dbts_words(command: str, words: list[str]) -> None:
    assert dbt_arguments(spec(command=command)) == words


def test_a_selector_is_passed_by_name() -> None:
    assert dbt_arguments(spec(selector="nightly")) == ["build", "--selector=nightly"]


def test_a_job_is_one_attempt_owned_by_its_run() -> None:
    job = attempt_job(run=RUN, spec=spec(), decision=PRODUCER, images=IMAGES)
    assert job["metadata"]["name"] == "nightly-producer-1"
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    pod = job["spec"]["template"]["spec"]
    assert (pod["restartPolicy"], pod["schedulingGates"]) == ("Never", [{"name": GATE}])
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (RUN.uid, True)


def test_a_queue_name_on_the_run_reaches_the_job() -> None:
    queued = RunRef(namespace="data", name="nightly", uid=RUN.uid, labels={QUEUE: "team"})
    assert attempt_job(run=queued, spec=spec(), decision=PRODUCER, images=IMAGES)["metadata"]["labels"][QUEUE] == "team"


def test_names_of_variables_from_secrets_are_given_to_the_runner_to_mask() -> None:
    env = [
        {"name": "PLAIN", "value": "x"},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "warehouse", "key": "password"}}},
    ]
    arguments = arguments_of(podTemplate={"spec": {"containers": [{"name": "dbt", "env": env}]}})
    assert arguments[arguments.index("--secret-env") + 1] == "PASSWORD"
    assert "PLAIN" not in arguments


def test_a_whole_secret_in_the_environment_is_mounted_so_that_its_values_are_known() -> None:
    env_from = [{"secretRef": {"name": "warehouse", "optional": True}}, {"configMapRef": {"name": "plain"}}]
    pod = pod_of(podTemplate={"spec": {"containers": [{"name": "dbt", "envFrom": env_from}]}})["spec"]
    volume = next(v for v in pod["volumes"] if v["name"] == "dbt-operator-secret-0")
    mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "dbt-operator-secret-0")
    assert volume["secret"] == {"secretName": "warehouse", "optional": True}
    arguments = pod["containers"][0]["args"]
    assert arguments[arguments.index("--secret-file") + 1] == mount["mountPath"]
    assert not any(v["name"] == "dbt-operator-secret-1" for v in pod["volumes"])


def secrets_of(*containers: dict[str, Any], volumes: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What the runner is told of secrets: names of variables, and places of files with the volume if it is its own."""
    template = {"spec": {"containers": [{"name": "dbt", **one} for one in containers], "volumes": volumes or []}}
    pod = pod_of(podTemplate=template)["spec"]
    (container,) = pod["containers"]
    arguments = container["args"][: container["args"].index("--")]
    told: dict[str, list[Any]] = {"--secret-env": [], "--secret-file": []}
    own = {volume["name"]: volume for volume in pod["volumes"] if volume["name"].startswith("dbt-operator-secret-")}
    places = {mount["mountPath"]: own.get(mount["name"]) for mount in container["volumeMounts"]}
    for option, value in itertools.pairwise(arguments):
        if option in told:
            volume = places.get(value)
            content = {key: item for key, item in (volume or {}).items() if key != "name"}
            told[option].append(content or value)
    assert len(places) == len(container["volumeMounts"])
    return told


def from_secret(name: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "warehouse", "key": "password"}}}


def test_secrets_of_a_second_entry_for_the_container_of_dbt_are_masked_too() -> None:
    told = secrets_of(
        {"env": [from_secret("A"), {"name": "B", "value": "plain"}], "volumeMounts": [mount("keys", "/keys")]},
        {"env": [from_secret("B")], "envFrom": [{"secretRef": {"name": "all"}}]},
        {"env": [from_secret("C")], "volumeMounts": [mount("more", "/more")]},
        volumes=[{"name": one, "secret": {"secretName": one}} for one in ("keys", "more", "unused")],
    )
    whole = {"secret": {"secretName": "all", "optional": False}}
    assert told == {"--secret-env": ["A", "B", "C"], "--secret-file": [whole, "/keys", "/more"]}


def mount(name: str, path: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "mountPath": path, **fields}


@pytest.mark.parametrize("kind", ["persistentVolumeClaim", "hostPath", "nfs", "flexVolume"])
def test_the_runner_is_told_what_outlives_the_pod(kind: str) -> None:
    assert mounts_of({"name": "data", kind: {}}) == ["--kept-path", "/data", "--lost-path", "/tmp"]  # noqa: S108 - in a pod


@pytest.mark.parametrize("kind", ["emptyDir", "ephemeral", "configMap", "secret", "projected", "downwardAPI", "csi"])
def test_and_what_is_gone_with_it(kind: str) -> None:
    assert mounts_of({"name": "data", kind: {}}) == ["--lost-path", "/data", "--lost-path", "/tmp"]  # noqa: S108 - in a pod
    assert mounts_of({"name": "data"})[0] == "--lost-path"  # which is an emptyDir


def mounts_of(volume: dict[str, Any]) -> list[str]:
    """What the runner is told of this volume, mounted at /data, and of the pod's own."""
    container = {"name": "dbt", "volumeMounts": [mount("data", "/data")]}
    arguments = arguments_of(podTemplate={"spec": {"containers": [container], "volumes": [volume]}})
    told = [pair for pair in itertools.pairwise(arguments) if pair[0] in ("--kept-path", "--lost-path")]
    return [word for pair in sorted(told, key=lambda pair: pair[1]) for word in pair]


def test_a_variable_that_a_later_entry_takes_from_elsewhere_is_no_secret() -> None:
    # Kubernetes knows either the one or the other.
    later = {"name": "A", "valueFrom": {"secretKeyRef": None, "configMapKeyRef": {"name": "plain", "key": "a"}}}
    assert secrets_of({"env": [from_secret("A")]}, {"env": [later]})["--secret-env"] == []


def test_files_of_mounted_secrets_are_masked_wherever_they_are_mounted() -> None:
    volumes = [
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "a", "path": "deep/er"}]}},
        {"name": "vault", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": True}},
        {"name": "disk", "csi": {"driver": "ebs.csi.aws.com"}},
        {"name": "plain", "configMap": {"name": "plain"}},
    ]
    mounts = [
        mount("keys", "/keys"),
        mount("keys", "/etc/one", subPath="deep/er"),
        mount("keys", "/etc/two", subPathExpr="$(PART)"),
        mount("vault", "/vault"),
        *(mount(name, f"/{name}") for name in ("disk", "plain", "missing")),
    ]
    told = secrets_of({"volumeMounts": mounts}, volumes=volumes)
    assert told["--secret-file"] == ["/keys", "/etc/one", "/etc/two", "/vault"]


def test_of_a_projected_volume_the_secrets_are_masked_and_nothing_else() -> None:
    secret = {"secret": {"name": "keys", "items": [{"key": "a", "path": "b"}], "optional": True}}
    token = {"serviceAccountToken": {"path": "sts/token", "audience": "sts"}}
    plain = [{"configMap": {"name": "plain"}}, {"downwardAPI": {"items": []}}]
    volumes = [{"name": "all", "projected": {"sources": [secret, *plain, token, {"secret": {"name": "more"}}]}}]
    own = {"projected": {"sources": [secret, {"secret": {"name": "more"}}]}}

    def told(**fields: Any) -> list[Any]:
        files: list[Any] = secrets_of({"volumeMounts": [mount("all", "/all", **fields)]}, volumes=volumes)[
            "--secret-file"
        ]
        return files

    assert told() == [own, "/all/sts/token"]
    assert told(subPath="sts") == [own, "/all/token"]
    assert told(subPath="sts/token") == [own, "/all"]
    assert told(subPath="b") == told(subPathExpr="$(PART)") == [own]


def test_a_projected_volume_without_secrets_needs_no_other_one() -> None:
    volumes = [{"name": "plain", "projected": {"sources": [{"configMap": {"name": "plain"}}]}}]
    assert secrets_of({"volumeMounts": [mount("plain", "/plain")]}, volumes=volumes)["--secret-file"] == []


def test_a_profile_from_a_secret_is_mounted_as_profiles_yml_and_masked() -> None:
    pod = pod_of(profile={"secretRef": {"name": "warehouse", "key": "prod.yml"}})["spec"]
    volume = next(v for v in pod["volumes"] if v["name"] == "dbt-operator-profiles")
    assert volume["secret"]["items"] == [{"key": "prod.yml", "path": "profiles.yml"}]
    arguments = pod["containers"][0]["args"]
    assert arguments[arguments.index("--profiles-dir") + 1] == "/dbt-operator/profiles"
    assert arguments[arguments.index("--secret-file") + 1] == "/dbt-operator/profiles/profiles.yml"


def test_a_profile_in_the_project_is_looked_for_there() -> None:
    arguments = arguments_of()
    assert arguments[arguments.index("--profiles-dir") + 1] == "/dbt/shop"


def test_the_runner_fits_into_a_config_map() -> None:
    manifest = runner_config_map(RUN)
    assert manifest["immutable"] is True
    assert len(manifest["binaryData"]["runner.pyz"]) < 300_000


@pytest.mark.parametrize("changed", ["build_archive", "_FILE"])
def test_a_job_mounts_the_runner_that_its_arguments_are_for(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = runner_config_map(RUN)
    other = {"build_archive": lambda: b"of another version", "_FILE": "another.pyz"}
    monkeypatch.setattr(f"dbt_operator.pods.runner_files.{changed}", other[changed])
    after = runner_config_map(RUN)
    assert before["metadata"]["name"] != after["metadata"]["name"]
    pod = attempt_job(run=RUN, spec=spec(), decision=PRODUCER, images=IMAGES)["spec"]["template"]["spec"]
    mounted = [volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "dbt-operator-runner"]
    assert mounted == [after["metadata"]["name"]]


def test_a_retry_has_the_producers_arguments_but_for_the_selection() -> None:
    fields: dict[str, Any] = {"select": ["a"], "vars": {"day": "monday"}, "threads": 3, "profile": {"inProject": True}}
    producer = attempt_job(run=RUN, spec=spec(**fields), decision=PRODUCER, images=IMAGES)
    retry = attempt_job(run=RUN, spec=spec(**fields), decision=RETRY, images=IMAGES)
    ours, theirs = (job["spec"]["template"]["spec"]["containers"][0]["args"] for job in (retry, producer))
    dbts, producers = ours[ours.index("--") + 1 :], theirs[theirs.index("--") + 1 :]
    assert producers == ["build", "--select=a", *dbts[1:]]
    assert ours[ours.index("--attempt-kind") + 1] == "retry"
    assert theirs[theirs.index("--attempt-kind") + 1] == "producer"


@pytest.mark.parametrize(
    ("tests", "stage", "told"),
    [("Build", None, []), ("AfterAll", Stage.BUILD, ["--stage", "build"]), ("None", None, ["--without-tests"])],
)
def test_the_runner_is_told_what_becomes_of_the_tests(tests: str, stage: Stage | None, told: list[str]) -> None:
    job = attempt_job(run=RUN, spec=spec(tests=tests), decision=replace(PRODUCER, stage=stage), images=IMAGES)
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("producer") + 1 :][: len(told)] == told
    assert ("--stage" in arguments or "--without-tests" in arguments) is bool(told)


def test_the_attempt_at_the_tests_has_the_arguments_of_the_run_but_for_the_selection() -> None:
    decision = Decision(
        index=2, kind=AttemptKind.PRODUCER, name="nightly-tests-1", nodes=frozenset({"test.shop.a"}), stage=Stage.TEST
    )
    fields: dict[str, Any] = {"tests": "AfterAll", "select": ["a"], "threads": 3}
    job = attempt_job(run=RUN, spec=spec(**fields), decision=decision, images=IMAGES)
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--stage") + 1] == "test"
    assert arguments[arguments.index("--") + 1 :] == ["build", "--threads=3"]
    assert job["metadata"]["labels"]["dbt-operator.io/attempt"] == "tests-1"


def test_a_retry_mounts_its_nodes_and_the_parse_cache_that_may_be_missing() -> None:
    pod = attempt_job(run=RUN, spec=spec(), decision=RETRY, images=IMAGES)["spec"]["template"]["spec"]
    maps = {volume["configMap"]["name"]: volume["configMap"] for volume in pod["volumes"] if "configMap" in volume}
    assert [item["key"] for item in maps["nightly-attempt-3"]["items"]] == ["nodes.json.gz"]
    assert maps["nightly-parse-cache"]["optional"] is True
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    arguments = pod["containers"][0]["args"]
    assert arguments[arguments.index("--nodes") + 1].startswith(mounted["dbt-operator-nodes"])
    assert arguments[arguments.index("--parse-cache") + 1].startswith(mounted["dbt-operator-cache"])


def test_what_dbt_parses_is_kept_on_a_volume_that_any_attempt_can_write_to() -> None:
    claim = {"claimName": "parses"}
    for decision in (PRODUCER, RETRY):
        given = spec(parseCache={"persistentVolumeClaim": claim})
        pod = attempt_job(run=RUN, spec=given, decision=decision, images=IMAGES)["spec"]["template"]["spec"]
        (volume,) = (each["name"] for each in pod["volumes"] if each.get("persistentVolumeClaim") == claim)
        (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == volume)
        assert "readOnly" not in mount
        arguments = pod["containers"][0]["args"]
        assert arguments[arguments.index("--shared-parse") + 1] == mount["mountPath"]


def test_a_claim_that_several_ask_for_is_one_volume_as_no_pod_starts_with_two_of_the_same() -> None:
    claim = {"claimName": "shared"}
    users = {
        "containers": [{"name": "dbt", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "initContainers": [{"name": "own", "image": "own:1", "volumeMounts": [{"name": "data", "mountPath": "/in"}]}],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {**claim, "readOnly": True}},
        ],
    }
    cached = {"virtualenv": {"requirements": ["dbt-core"], "cache": {"persistentVolumeClaim": claim}}}
    given = spec(
        parseCache={"persistentVolumeClaim": claim},
        environment=cached,
        project={"volume": {"source": {"persistentVolumeClaim": claim}, "path": "shop"}},
        podTemplate={"spec": users},
    )
    pod = attempt_job(run=RUN, spec=given, decision=PRODUCER, images=IMAGES)["spec"]["template"]["spec"]
    (volume,) = (each for each in pod["volumes"] if "persistentVolumeClaim" in each)
    assert volume["persistentVolumeClaim"] == claim
    assert {"name": "scratch", "emptyDir": {}} in pod["volumes"]
    mounts = {
        (container["name"], mount["mountPath"]): mount.get("readOnly", False)
        for container in (*pod["containers"], *pod["initContainers"])
        for mount in container["volumeMounts"]
        if mount["name"] == volume["name"]
    }
    assert mounts[("dbt", "/dbt-operator/parses")] is False
    assert mounts[("dbt", "/dbt-operator/environments")] is True
    assert mounts[("dbt-operator-environment", "/dbt-operator/environments")] is False
    # What may not be written to by one of its volumes still may not.
    assert (mounts[("dbt", "/data")], mounts[("own", "/in")]) == (True, True)
    names = {each["name"] for each in pod["volumes"]}
    assert {
        each["name"] for one in (*pod["containers"], *pod["initContainers"]) for each in one["volumeMounts"]
    } <= names


def test_an_attempt_that_decides_on_other_nodes_than_its_own_mounts_these_too() -> None:
    decision = replace(RETRY, decides_on=frozenset({"test.shop.a"}))
    pod = attempt_job(run=RUN, spec=spec(), decision=decision, images=IMAGES)["spec"]["template"]["spec"]
    (files,) = (each["configMap"]["items"] for each in pod["volumes"] if each["name"] == "dbt-operator-nodes")
    assert [item["key"] for item in files] == ["nodes.json.gz", "others.json.gz"]
    assert "--decides-on=/dbt-operator/nodes/others.json.gz" in pod["containers"][0]["args"]


def test_the_labels_of_a_job_name_its_attempt() -> None:
    labels = attempt_job(run=RUN, spec=spec(), decision=RETRY, images=IMAGES)["metadata"]["labels"]
    assert labels["dbt-operator.io/attempt"] == "retry-1a2b3c4d-2"
    assert labels["dbt-operator.io/attempt-index"] == "3"


@pytest.mark.parametrize(("pod", "seconds"), [({}, 60), ({"terminationGracePeriodSeconds": 600}, 600)])
def test_the_runner_is_told_the_grace_period_of_the_pod(pod: dict[str, Any], seconds: int) -> None:
    template = {"spec": {**pod, "containers": [{"name": "dbt"}]}}
    made = pod_of(podTemplate=template)["spec"]
    assert made["terminationGracePeriodSeconds"] == seconds
    assert f"--grace-seconds={seconds}" in made["containers"][0]["args"]


def test_a_later_attempt_is_told_until_when_microbatch_models_are_executed() -> None:
    first, later = (
        attempt_job(run=RUN, spec=spec(), decision=one, images=IMAGES)["spec"]["template"]["spec"]["containers"][0][
            "args"
        ]
        for one in (PRODUCER, replace(RETRY, microbatch_end="2026-11-19T23:59:59+00:00"))
    )
    assert not [argument for argument in first if argument.startswith("--microbatch-end")]
    assert later.index("--microbatch-end=2026-11-19T23:59:59+00:00") < later.index("--")
