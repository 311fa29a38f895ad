"""The order in which nodes are executed without dbt, and in batches by it."""

from dbt_operator.runner.schedule import Schedule
from dbt_operator.runner.waits import waits
from tests.unit.runner.conftest import Event


def known(**reads: str) -> dict[str, Event]:
    """Nodes by the names that they read; tests begin with t_."""
    return {
        one: {"resource_type": "test" if one.startswith("t_") else "model", "depends_on": names.split()}
        for one, names in reads.items()
    }


def test_a_node_waits_for_what_it_reads_and_for_the_tests_of_that() -> None:
    nodes = known(a="", b="a", c="b", t_a="a", t_ab="a b", beside="")
    found = waits(known=nodes, chosen=nodes, tests_first=True)
    assert found["b"] == {"a", "t_a"}
    assert found["c"] == {"a", "b", "t_a", "t_ab"}
    assert found["t_ab"] == {"a", "b"}  # a test waits for no test
    assert found["beside"] == frozenset()


def test_without_a_build_no_test_holds_anything_back() -> None:
    nodes = known(a="", b="a", t_a="a")
    assert waits(known=nodes, chosen=nodes, tests_first=False)["b"] == {"a"}


def test_what_is_not_chosen_connects() -> None:
    nodes = known(a="", between="a", b="between", t_between="between")
    found = waits(known=nodes, chosen=["a", "b", "t_between"], tests_first=True)
    assert found["b"] == {"a", "t_between"}


def test_a_chain_may_be_longer_than_the_stack_of_python() -> None:
    nodes = known(n0="", **{f"n{at}": f"n{at - 1}" for at in range(1, 3000)})
    assert len(waits(known=nodes, chosen=nodes, tests_first=True)["n2999"]) == 2999


def test_all_that_waits_for_nothing_begins_as_far_as_there_is_room() -> None:
    schedule = Schedule(waits={"a": [], "b": [], "c": ["a", "b"]}, by_dbt=[])
    assert schedule.ready(most=1) == ["a"]
    assert schedule.ready(most=0) == []
    assert schedule.ready(most=5) == ["b"]
    assert schedule.ended("a", "success") == []
    assert schedule.ready(most=5) == []
    schedule.ended("b", "warn")
    assert schedule.ready(most=5) == ["c"]


def test_one_dbt_executes_all_that_waits_for_nothing_else() -> None:
    order = {"seed": [], "table": [], "inc": ["seed"], "snap": ["inc"], "late": ["table"]}
    schedule = Schedule(waits=order, by_dbt=["seed", "inc", "snap", "late"])
    assert schedule.batch() == ["seed", "inc", "snap"]
    assert schedule.ready(most=9) == ["table"]
    assert schedule.batch() == []
    schedule.ended("table", "success")
    assert schedule.batch() == ["late"]


def test_a_failure_takes_with_it_what_waits_for_it_and_nothing_else() -> None:
    order = {"a": [], "b": [], "c": ["a"], "d": ["c", "b"], "e": ["b"]}
    schedule = Schedule(waits=order, by_dbt=["d"])
    schedule.ready(most=9)
    assert sorted(schedule.ended("a", "error")) == ["c", "d"]
    assert schedule.ended("b", "success") == []
    assert schedule.ready(most=9) == ["e"]
    schedule.ended("e", "success")
    assert (schedule.left, schedule.batch()) == ([], [])


def test_what_dbt_skips_in_its_batch_is_said_by_dbt() -> None:
    schedule = Schedule(waits={"a": [], "b": ["a"], "c": ["b"]}, by_dbt=["a", "b"])
    assert schedule.batch() == ["a", "b"]
    assert schedule.ended("a", "error") == ["c"]
    assert schedule.ended("b", "skipped") == []


def test_a_node_can_be_given_to_dbt_when_it_has_begun() -> None:
    schedule = Schedule(waits={"a": [], "b": ["a"]}, by_dbt=[])
    schedule.ready(most=1)
    schedule.give_to_dbt("a")
    assert schedule.ready(most=1) == []
    assert schedule.batch() == ["a"]
    schedule.ended("a", "success")
    assert schedule.ready(most=1) == ["b"]
