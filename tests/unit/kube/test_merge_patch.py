"""A merge patch makes the wanted status of the stored one, whatever became of the patch before it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.kube.merge_patch import difference, uncertain, without_nulls

scalars = st.none() | st.integers(2, 4) | st.sampled_from(["", "x"])
keys = st.sampled_from("abc")
leaves = scalars | st.lists(scalars, max_size=2)
nested = st.dictionaries(keys, leaves | st.dictionaries(keys, leaves, max_size=2), max_size=2)
objects = st.dictionaries(keys, leaves | nested, max_size=3).map(without_nulls)


def applied(target: Any, patch: Any) -> Any:
    """RFC 7386, literally."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = applied(result.get(key), value)
    return result


@given(old=objects, new=objects)
def test_the_patch_makes_the_new_state_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert applied(old, difference(old=old, new=new)) == new


@given(state=objects)
def test_an_unchanged_state_has_no_patch(state: dict[str, Any]) -> None:
    assert difference(old=state, new=without_nulls(state)) == {}


@given(old=objects, lost=objects, new=objects)
def test_after_a_patch_of_unknown_outcome_the_next_one_is_right_in_both_cases(
    old: dict[str, Any], lost: dict[str, Any], new: dict[str, Any]
) -> None:
    patch = difference(old=old, new=lost)
    following = difference(old=uncertain(old=old, patch=patch), new=new)
    assert applied(old, following) == new
    assert applied(lost, following) == new


def test_a_patch_holds_only_what_changed() -> None:
    old = {"phase": "Running", "tests": {"passed": 1, "failed": 0}, "startedAt": "then"}
    new = {"phase": "Failed", "tests": {"passed": 1, "failed": 1}, "message": None}
    assert difference(old=old, new=without_nulls(new)) == {
        "phase": "Failed",
        "tests": {"failed": 1},
        "startedAt": None,
    }
