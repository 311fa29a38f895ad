"""What the operator writes into dbt's arguments, as the real dbt reads it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.pods.dbt_arguments import dbt_arguments
from tests.unit.runner.conftest import Project

READER = """
import json, sys
from dbt.cli.main import cli
for line in sys.stdin:
    command, *arguments = json.loads(line)
    print(json.dumps(cli.commands[command].make_context(command, arguments).params, default=str), flush=True)
"""
Read = Callable[..., dict[str, Any]]
SPEC = {"project": {"image": {"path": "/dbt"}}, "image": "dbt"}


@pytest.fixture(scope="module")
def read(warm_python: Path) -> Iterator[Read]:
    """What dbt takes the arguments of a spec with these fields for."""
    with subprocess.Popen(
        [warm_python, "-c", READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        env={"DBT_PROFILES_DIR": "/"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(**fields: Any) -> dict[str, Any]:
            # Without its checks: here is seen that nothing depends on them.
            arguments = dbt_arguments(_unchecked(**fields))
            process.stdin.write(json.dumps(arguments).encode() + b"\n")  # type: ignore[union-attr]  # asserted above
            process.stdin.flush()  # type: ignore[union-attr]  # as above
            answer: dict[str, Any] = json.loads(process.stdout.readline())  # type: ignore[union-attr]  # as above
            return answer

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def plain(read: Read) -> dict[str, Any]:
    """What dbt takes a spec for in which nothing is strange."""
    return read(select=["a"], exclude=["b"], selector="c", profile={"profile": "d", "target": "e"})


def _unchecked(*, profile: dict[str, str] | None = None, **fields: Any) -> DbtRunSpec:
    spec = DbtRunSpec.model_validate(SPEC | {"profile": {"inProject": True}})
    return spec.model_copy(update={**fields, "profile": spec.profile.model_copy(update=profile or {})})


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
like_options = st.sampled_from(
    ["-h", "--help", "--full-refresh", "--empty", "--", "-", "--select", "-x", "--vars", "--defer", " -h"]
)
words = texts | like_options


@given(st.lists(words, max_size=3), st.lists(words, max_size=3), words, words, words)
def test_whatever_a_spec_holds_dbt_takes_no_option_from_it(
    read: Read,
    plain: dict[str, Any],
    select: list[str],
    exclude: list[str],
    selector: str,
    profile: str,
    target: str,
) -> None:
    given_ = read(select=select, exclude=exclude, selector=selector, profile={"profile": profile, "target": target})
    # dbt takes what is between blanks for selections of their own, in any form of its arguments.
    expected = {
        "select": [part for one in select for part in one.split(" ")],
        "exclude": [part for one in exclude for part in one.split(" ")],
        "selector": selector,
        "profile": profile,
        "target": target,
    }
    assert given_ == plain | expected


scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
keys = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(keys, values, min_size=1, max_size=5))
@example({"greeting": "hello 👋", "é": "ü\u2028\x7f\ufeff\0\x85"})
@example({"tolerance": 0.00001, "many": 1e16, "tiny": -5e-324, "none": -0.0, "whole": 2.0})
@example({"on": "yes", "<<": {"=": "~"}, "1:30": "1:30", "0o7": "0o7", "date": "2026-11-28", "": "", "? ": "- #"})
@example({"k" * 2000: {"é" * 600: 1}})
@example({"a": ["{{ x }}", "'", '"', "\\", "\n ", "%", "*", "&", "!"], "b": {}, "c": []})
def test_any_variable_arrives_in_dbt_as_what_it_is(read: Read, given: dict[str, Any]) -> None:
    # As texts, since to Python 1, 1.0 and True are equal.
    assert json.dumps(read(vars=given)["vars"], sort_keys=True) == json.dumps(given, sort_keys=True)


@pytest.mark.parametrize("help_", ["-h", "--help"])
def test_a_command_that_dbt_did_not_execute_is_no_success(project: Project, help_: str) -> None:
    run = project.run("build", "--select", "ok_model", help_)
    assert (run.code, run.finished["success"]) == (2, False)
    assert run.finished["error"] == {"kind": "usage", "message": "dbt ended without having executed the command"}


BROKEN = """
import sys
sys.path.insert(0, {archive!r})
from dbt.task.list import ListTask
from dbt_operator.runner import main
ListTask.run = lambda self: ["no json"]
main.main()
"""


def test_success_without_knowing_what_was_asked_for_is_no_success(project: Project) -> None:
    # As after a change of dbt's that the runner does not know of: the list cannot be read.
    broken = project.scratch / "broken.py"
    broken.write_text(BROKEN.format(archive=str(project.archive)))
    project.archive = broken
    run = project.run("build", "--select", "s_users")
    assert run.results["seed.torture.s_users"]["status"] == "success"
    assert (run.code, run.finished["success"], run.finished["error"]["kind"]) == (2, False, "other")
    assert "the nodes that it was asked for are not known" in run.finished["error"]["message"]
