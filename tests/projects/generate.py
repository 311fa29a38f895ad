"""Writes a dbt project of many light models in layers, for measuring throughput: `generate.py FOLDER`.

Deterministic: the same arguments give the same files. Each model reads one to three models of the layer above it, and
every tenth one has a data test.
"""

import argparse
import random
from pathlib import Path

PROJECT = """\
name: many
version: "1.0"
config-version: 2
profile: many
flags:
  send_anonymous_usage_stats: false
models:
  many:
    +materialized: table
"""
PROFILES = """\
many:
  target: dev
  outputs:
    dev: {type: duckdb, path: /tmp/many.duckdb, threads: 4}
"""
PARENT = "select id from {{ ref('PARENT') }}"


def sql(*, parents: list[str], number: int) -> str:
    """A model that returns one row, whatever its parents hold."""
    if not parents:
        return f"select {number} as id\n"
    unions = "\n    union all ".join(PARENT.replace("PARENT", parent) for parent in parents)
    return f"select max(id) as id from (\n    {unions}\n)\n"  # noqa: S608 - names of our own making


def tests(*, names: list[str]) -> str:
    """A schema file with a not_null test on the column of each model."""
    entries = [f"  - name: {name}\n    columns: [{{name: id, data_tests: [not_null]}}]\n" for name in names]
    return "models:\n" + "".join(entries)


def generate(*, folder: Path, models: int, layers: int) -> None:
    """Write the project into the folder."""
    chance = random.Random(models * 1000 + layers)  # noqa: S311 - not for secrets: the same project every time
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "profiles.yml").write_text(PROFILES)
    above: list[str] = []
    everything: list[str] = []
    for layer in range(layers):
        names = [f"layer{layer + 1}_{number:04}" for number in range(layer, models, layers)]
        for number, name in enumerate(names):
            parents = chance.sample(above, k=min(len(above), chance.randint(1, 3))) if above else []
            (folder / "models" / f"{name}.sql").write_text(sql(parents=sorted(parents), number=number))
        above = names
        everything += names
    (folder / "models" / "schema.yml").write_text(tests(names=everything[::10]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a dbt project of many light models.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    generate(folder=arguments.folder, models=arguments.models, layers=arguments.layers)


if __name__ == "__main__":
    main()
