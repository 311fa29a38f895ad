"""Writes the seeds and models of the project for fault tests: `generate.py FOLDER`.

Deterministic: the same files every time. Five seeds, and 56 models in four layers, each of which reads one to three
nodes of the layer above it. Every fourth model, a table each time, has a not_null test.
"""

import argparse
import random
from pathlib import Path

SEEDS = 5
LAYERS = (16, 16, 14, 10)
MATERIALIZED = ("table", "view", "table", "incremental")
TESTED_EVERY = 4
MODEL = """\
{{{{ config(materialized='{materialized}'{options}) }}}}

select {{{{ chaos_id('max(id)') }}}} as id, count(*) as parents
from (
    {unions}
) as parents
"""
PARENT = "select id from {{{{ ref('{parent}') }}}}"


def model(*, parents: list[str], materialized: str) -> str:
    """A model of one row."""
    unions = "\n    union all ".join(PARENT.format(parent=parent) for parent in parents)
    options = ", unique_key='id'" if materialized == "incremental" else ""
    return MODEL.format(materialized=materialized, options=options, unions=unions)


def schema(*, names: list[str]) -> str:
    """A schema file with a not_null test on the column of each model."""
    entries = [f"  - name: {name}\n    columns: [{{name: id, data_tests: [not_null]}}]\n" for name in names]
    return "models:\n" + "".join(entries)


def generate(*, folder: Path) -> None:
    """Write the project into the folder."""
    chance = random.Random(61)  # noqa: S311 - not for secrets: the same project every time
    for part in ("seeds", "models"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    above = [f"seed_{number}" for number in range(1, SEEDS + 1)]
    for number, name in enumerate(above):
        (folder / "seeds" / f"{name}.csv").write_text(f"id\n{number + 1}\n")
    names: list[str] = []
    for depth, width in enumerate(LAYERS, start=1):
        layer = [f"layer{depth}_{number:02}" for number in range(1, width + 1)]
        for name in layer:
            parents = sorted(chance.sample(above, k=chance.randint(1, 3)))
            materialized = MATERIALIZED[len(names) % len(MATERIALIZED)]
            (folder / "models" / f"{name}.sql").write_text(model(parents=parents, materialized=materialized))
            names.append(name)
        above = layer
    (folder / "models" / "schema.yml").write_text(schema(names=names[::TESTED_EVERY]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the nodes of the project for fault tests.")
    parser.add_argument("folder", type=Path)
    generate(folder=parser.parse_args().folder)


if __name__ == "__main__":
    main()
