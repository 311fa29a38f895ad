"""Names: the same for the same node in whatever order, different for different ones, and legal for Kubernetes."""

import re

from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.api import names

OBJECT_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
RUN = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,3}", fullmatch=True)


def test_a_node_is_called_after_its_run_and_its_dbt_name() -> None:
    found = names.model_names("nightly", nodes=[("model.shop.stg_orders", "stg_orders")])
    assert found == {"model.shop.stg_orders": "nightly.stg-orders"}


def test_nodes_that_would_be_called_the_same_all_get_a_hash() -> None:
    nodes = [("model.a.orders", "orders"), ("seed.b.orders", "Orders"), ("model.a.items", "items")]
    found = names.model_names("nightly", nodes=nodes)
    assert found["model.a.items"] == "nightly.items"
    assert len(set(found.values())) == 3
    assert all(re.fullmatch(r"nightly\.orders-[0-9a-f]{8}", found[one]) for one in ("model.a.orders", "seed.b.orders"))
    assert names.model_names("nightly", nodes=reversed(nodes)) == found


@given(run=RUN, nodes=st.dictionaries(st.text(min_size=1), st.text(min_size=1, max_size=400), max_size=8))
def test_names_are_legal_and_unique_whatever_dbt_calls_its_nodes(run: str, nodes: dict[str, str]) -> None:
    found = names.model_names(run, nodes=nodes.items())
    assert found.keys() == nodes.keys()
    assert len(set(found.values())) == len(nodes)
    for name in found.values():
        assert OBJECT_NAME.match(name)
        assert len(name) <= names.OBJECT_NAME_LIMIT


def test_attempts_and_what_they_leave_are_called_after_their_run() -> None:
    assert names.producer_job_name("nightly", number=2) == "nightly-producer-2"
    assert names.retry_job_name("nightly", key="nodes", number=3) == "nightly-retry-nodes-3"
    assert re.fullmatch(r"nightly-retry-[0-9a-f]{8}-1", names.retry_job_name("nightly", key="model.a.b", number=1))
    assert names.resume_job_name("nightly", number=1) == "nightly-resume-1"
    assert names.tests_job_name("nightly", number=1) == "nightly-tests-1"
    assert names.attempt_record_name("nightly", index=7) == "nightly-attempt-7"
    assert names.cache_name("nightly") == "nightly-parse-cache"
    assert names.artifacts_name("nightly") == "nightly-artifacts"


def jobs(run: str) -> list[str]:
    """Names of Jobs that one run may have at once."""
    return [
        names.producer_job_name(run, number=1),
        names.producer_job_name(run, number=101),
        names.resume_job_name(run, number=1),
        names.tests_job_name(run, number=1),
        names.retry_job_name(run, key="nodes", number=1),
        names.retry_job_name(run, key="model.shop.orders", number=1),
        names.retry_job_name(run, key="model.shop.items", number=1),
        names.retry_job_name(run, key="model.shop.items", number=21),
    ]


def config_maps(run: str) -> list[str]:
    """Names of the ConfigMaps that one run has."""
    records = [names.attempt_record_name(run, index=index) for index in (1, 11, 1000)]
    runners = [names.runner_config_map_name(run, content=content) for content in ("one", "another")]
    return [*records, names.cache_name(run), names.artifacts_name(run), *runners]


@given(RUN)
def test_the_jobs_of_a_long_run_leave_room_for_the_pods_suffix(run: str) -> None:
    for name in jobs(run):
        assert OBJECT_NAME.match(name)
        assert len(name) <= names.JOB_NAME_LIMIT


@given(RUN)
def test_the_config_maps_of_a_long_run_have_legal_names(run: str) -> None:
    for name in config_maps(run):
        assert OBJECT_NAME.match(name)
        assert len(name) <= names.OBJECT_NAME_LIMIT


@given(st.text())
def test_every_text_has_a_legal_label_value(text: str) -> None:
    assert LABEL_VALUE.match(names.label_value(text))


@given(RUN, RUN)
def test_different_runs_never_share_an_object(one: str, other: str) -> None:
    for made in (jobs, config_maps):
        assert len(set(made(one))) == len(made(one))
        assert one == other or set(made(one)).isdisjoint(made(other))
