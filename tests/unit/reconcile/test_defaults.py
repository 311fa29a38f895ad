"""What a run is given where its spec is silent: by which rule, with which words where it is wrong, and for how long."""

from typing import Any

import pytest

from dbt_operator.api.problems import InvalidSpec
from dbt_operator.reconcile.defaults import merged, spec_of, taken
from tests.unit.plan import lines
from tests.unit.reconcile.cluster import NAMESPACE, RUN, Given

IMAGE = {"image": "shop:1", "project": {"image": {"path": "/dbt"}}, "profile": {"inProject": True}}


def config_map(text: str | None) -> dict[str, Any]:
    data = {"other": "x"} if text is None else {"defaults.yaml": text}
    return {"metadata": {"name": "dbt-operator-defaults", "namespace": NAMESPACE}, "data": data}


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        ({"image": "a", "threads": 4}, {"threads": 8}, {"image": "a", "threads": 8}),
        (
            {"retry": {"limit": 3, "backoff": {"max": "1h", "factor": 3}}},
            {"retry": {"backoff": {"max": "1m"}}},
            {"retry": {"limit": 3, "backoff": {"max": "1m", "factor": 3}}},
        ),
        # lists, and each variable of dbt, are one value
        ({"retry": {"reasons": ["Error"]}}, {"retry": {"reasons": []}}, {"retry": {"reasons": []}}),
        ({"vars": {"a": {"x": 1}, "b": 1}}, {"vars": {"a": {"y": 2}}}, {"vars": {"a": {"y": 2}, "b": 1}}),
        # one source takes the place of another, and of the same one as a whole
        (
            {"profile": {"secretRef": {"name": "a", "key": "k"}, "target": "prod"}},
            {"profile": {"inProject": True}},
            {"profile": {"inProject": True, "target": "prod"}},
        ),
        (
            {"profile": {"secretRef": {"name": "a", "key": "k"}}},
            {"profile": {"secretRef": {"name": "b"}, "target": "dev"}},
            {"profile": {"secretRef": {"name": "b"}, "target": "dev"}},
        ),
        (
            {"profile": {"secretRef": {"name": "a"}, "target": "prod"}},
            {"profile": {"target": "dev"}},
            {"profile": {"secretRef": {"name": "a"}, "target": "dev"}},
        ),
        # an empty mapping takes away
        (
            {"podTemplate": {"metadata": {}}, "vars": {"a": 1}},
            {"podTemplate": {}},
            {"podTemplate": {}, "vars": {"a": 1}},
        ),
        ({"retry": {"limit": 3}}, {"retry": {}}, {"retry": {}}),
        # a pod template is merged as with the operator's own pod
        (
            {"podTemplate": {"spec": {"volumes": [{"name": "a", "emptyDir": {}}], "tolerations": [{"key": "a"}]}}},
            {"podTemplate": {"spec": {"volumes": [{"name": "b", "emptyDir": {}}], "tolerations": [{"key": "b"}]}}},
            {
                "podTemplate": {
                    "spec": {
                        "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
                        "tolerations": [{"key": "b"}],
                    }
                }
            },
        ),
        (
            {"retry": {"podTemplate": {"spec": {"volumes": [{"name": "a", "emptyDir": {}}]}}}},
            {"retry": {"podTemplate": {"spec": {"volumes": [{"name": "b", "emptyDir": {}}]}}}},
            {
                "retry": {
                    "podTemplate": {"spec": {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}]}}
                }
            },
        ),
        (
            {"podTemplate": {"spec": {"hostAliases": ["nonsense"]}}},
            {"podTemplate": {"spec": {"hostAliases": [{"ip": "::1"}]}}},
            {"podTemplate": {"spec": {"hostAliases": [{"ip": "::1"}]}}},
        ),
    ],
)
def test_what_is_above_is_laid_on_what_is_below(below: Any, above: Any, result: Any) -> None:
    assert merged(below, above) == result


def test_the_run_has_precedence_over_its_namespace_and_that_over_the_operator() -> None:
    operator = IMAGE | {"threads": 1, "producer": {"maxRestarts": 1, "startDeadlineSeconds": 10}, "failFast": True}
    defaults = taken(operator, config_map("threads: 2\nproducer: {maxRestarts: 2}\nimage:\n"))
    spec = spec_of({"threads": 3}, defaults=defaults)
    assert (spec.image, spec.threads, spec.fail_fast) == ("shop:1", 3, True)
    assert (spec.producer.max_restarts, spec.producer.start_deadline_seconds) == (2, 10)


def test_a_run_may_have_an_empty_spec() -> None:
    text = "image: shop:1\nproject: {image: {path: /dbt}}\nprofile: {secretRef: {name: dwh}}\nvars: {day: 2026-11-20}"
    spec = spec_of({}, defaults=taken({}, config_map(text)))
    assert spec.profile.secret_ref is not None
    assert (spec.profile.secret_ref.key, spec.vars) == ("profiles.yml", {"day": "2026-11-20"})


HERE = "the ConfigMap dbt-operator-defaults (defaults.yaml)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "spec.project is required, as no defaults give it. Wrong as well: spec.profile."),
        (None, "The ConfigMap dbt-operator-defaults has no key defaults.yaml."),
        ("- image", f"The text in {HERE} has to be a mapping, with the fields of a DbtRun's spec."),
        ("a: b: c", f"The text in {HERE} is no YAML, line 1: mapping values are not allowed here."),
        ("a: \x00", f"The text in {HERE} is no YAML that can be read."),
        ("[" * 5000, f"The text in {HERE} is no YAML that can be read."),
        ("a: &x [1]\nb: *x", f"The text in {HERE} is no YAML, line 2: aliases cannot be used here."),
        ("#" * 70_000, f"The text in {HERE} is too long: it can have 64 KiB at most."),
        ("vars: {on: 1}", f"vars.True in {HERE} has a name that is no text: put it in quotes."),
        ("vars: {a: [.inf]}", f"vars.a[0] in {HERE} has a value that JSON does not have: inf."),
        ("vars: {a: !!binary YQ==}", f"vars.a in {HERE} has a value that JSON does not have: b'a'."),
        ("command: run", f"command in {HERE} cannot have a default: each run says it itself."),
        ("threads: '8'", f"threads in {HERE} is wrong: input should be a valid integer, not '8'."),
        ("treads: 8", f"treads in {HERE} is not a field that this version of the operator knows."),
        (
            "image_pull_policy: Never",
            f"image_pull_policy in {HERE} is not a field that this version of the operator knows.",
        ),
        ("retry: {reasons: [Error, No]}", f"retry.reasons[1] in {HERE} is wrong: input should be"),
        ("profile: {secretRef: {key: a}}", f"profile.secretRef.name in {HERE} is required."),
        (
            "profile: {target: a}",
            f"profile in {HERE}: exactly one of inProject (true), secretRef, connection and connectionRef is required.",
        ),
        (
            "podTemplate: {spec: {nodeName: a}}",
            f"In {HERE}: podTemplate.spec.nodeName may not be set: the pod waits for the operator",
        ),
    ],
)
def test_defaults_that_are_wrong_are_named_with_their_place(text: str | None, sentence: str) -> None:
    operator = IMAGE if text is None or "profile" not in text else {key: IMAGE[key] for key in ("image", "project")}
    defaults = taken(operator if text else {}, config_map(text))
    with pytest.raises(InvalidSpec) as failure:
        spec_of({}, defaults=defaults)
    assert str(failure.value).startswith(sentence)


def test_a_wrong_field_is_named_where_it_was_written() -> None:
    defaults = taken({"retry": {"limit": -1}, "pause": 1}, config_map("threads: 0"))
    with pytest.raises(InvalidSpec) as failure:
        spec_of(IMAGE | {"failFast": 1}, defaults=defaults)
    assert str(failure.value) == (
        "threads in the ConfigMap dbt-operator-defaults (defaults.yaml) is wrong: input should be greater than or equal"
        " to 1, not 0. Wrong as well: spec.failFast, retry.limit in the operator's defaults (defaults in the values of"
        " its chart), pause in the operator's defaults (defaults in the values of its chart)."
    )
    # What the run says itself stands, whatever the defaults have in its place.
    assert spec_of(IMAGE | {"threads": 1}, defaults=taken({}, config_map("threads: 0"))).threads == 1


def without_image(text: str) -> Given:
    """A run that does not say its image, in a namespace with these defaults."""
    given = Given()
    given.server.put("configmaps", config_map(text))
    del given.server.get("dbtruns", RUN)["spec"]["image"]
    return given


async def test_a_run_keeps_the_defaults_of_its_start() -> None:
    """Whatever becomes of them later, and whichever operator makes its attempts."""
    async with without_image("image: first:1\nvars: {a: {}, b: }") as given:
        pod = await given.pod("nightly-producer-1")
        given.server.change("configmaps", "dbt-operator-defaults", data={"defaults.yaml": "image: second:1"})
        await given.die()
        await given.begin()
        given.server.run_pod(pod, *lines.EXECUTING)
        given.server.end_pod(pod, *lines.RED_LOG[len(lines.EXECUTING) :], exit_code=1)
        await given.until(lambda: len(given.server.names("jobs")) == 2)
        pods = [job["spec"]["template"]["spec"] for job in given.server.all("jobs")]
        assert [pod["containers"][0]["image"] for pod in pods] == ["first:1", "first:1"]
        assert given.status()["defaults"] == {"namespace": {"image": "first:1", "vars": {"a": {}}}}


@pytest.mark.parametrize("restart", [False, True])
async def test_a_run_whose_defaults_cannot_be_read_fails_for_that_and_is_never_begun_without_them(
    restart: bool,
) -> None:
    async with without_image("image: {") as given:
        await given.until(lambda: "startTime" in given.status())
        await given.down(restart, lambda: given.server.take("configmaps", "dbt-operator-defaults"))
        await given.until(lambda: given.said()[0] == "Failed")
        phase, reason, message = given.said()
        assert (phase, reason) == ("Failed", "InvalidSpec")
        assert message.startswith(f"The text in {HERE} is no YAML, line 1: expected the node content")
        assert given.status()["defaults"] == {"problem": message}


NO_IMAGE = "spec: image is required, as no defaults give it and there is no environment."


async def test_a_run_without_what_it_needs_says_what_is_missing() -> None:
    async with without_image("threads: 1") as given:
        await given.until(lambda: given.over)
        assert given.said() == ("Failed", "InvalidSpec", NO_IMAGE)
