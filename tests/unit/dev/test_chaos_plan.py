"""The plan of disturbed runs: the same for the same seed, every kind of fault as often as any other."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

from dev.chaos.faults import FAULTS
from dev.chaos.plan import BROKEN_EVERY, Plan, make_plan
from dev.chaos.project import LAYERS, MODELS, NODES, SEEDS, TESTED, TESTED_EVERY

GENERATOR = Path(__file__).parents[2] / "projects" / "chaos" / "generate.py"


def _plan(seed: int, number: int, *, faults: int = 4) -> Plan:
    return make_plan(
        seed=seed, number=number, faults=faults, kinds=tuple(FAULTS), nodes=NODES, models=MODELS, tested=TESTED
    )


def test_a_seed_plans_the_same_again_and_another_seed_something_else() -> None:
    assert _plan(3, 5) == _plan(3, 5)
    assert _plan(3, 5) != _plan(4, 5)
    assert _plan(3, 5) != _plan(3, 6)


def test_every_kind_comes_equally_often() -> None:
    planned = Counter(moment.fault for number in range(len(FAULTS)) for moment in _plan(3, number).moments)
    assert planned == dict.fromkeys(FAULTS, 4)


def test_a_node_fails_in_one_way_only() -> None:
    for number in range(20):
        plan = _plan(3, number)
        failing = [*plan.flaky, *plan.nulls, *([plan.broken] if plan.broken else [])]
        assert len(set(failing)) == len(failing)
        assert (plan.broken is not None) == (number % BROKEN_EVERY == BROKEN_EVERY - 1)


def test_the_moments_are_in_their_order() -> None:
    moments = _plan(3, 5, faults=20).moments
    assert list(moments) == sorted(moments, key=lambda moment: (moment.after, moment.delay))


def test_the_nodes_are_those_of_the_project(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.generate(folder=tmp_path)
    assert {path.stem for path in (tmp_path / "models").glob("*.sql")} == set(MODELS)
    assert (generate.SEEDS, generate.LAYERS, generate.TESTED_EVERY) == (SEEDS, LAYERS, TESTED_EVERY)
