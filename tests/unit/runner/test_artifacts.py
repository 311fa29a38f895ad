"""dbt's files come out of the pod whole, or not at all."""

import gzip
import json
import os
import random
from pathlib import Path

from dbt_operator.runner.artifacts import LIMIT, Artifacts
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.output import Output
from tests.unit.runner.conftest import Project, Run


def test_files_are_those_of_the_parse(green: Run) -> None:
    cache = gzip.decompress(green.artifacts["partial_parse.msgpack"])
    assert cache == (green.target / "partial_parse.msgpack").read_bytes()
    # dbt writes the manifest again at the end, with the compiled texts.
    manifest = json.loads(gzip.decompress(green.artifacts["manifest.json"]))
    written = json.loads((green.target / "manifest.json").read_text())
    assert manifest["metadata"]["dbt_schema_version"] == written["metadata"]["dbt_schema_version"]
    assert manifest["nodes"].keys() == written["nodes"].keys()
    assert manifest["child_map"] == written["child_map"]


def test_file_with_a_secret_in_it_is_not_printed(torture: Run) -> None:
    # The text of a model has one in it, and so has all that dbt makes of it.
    assert torture.parsed == {}
    assert torture.named("ArtifactOmitted") == [
        {"name": "partial_parse.msgpack", "reason": "Secret"},
        {"name": "manifest.json", "reason": "Secret"},
    ]


def test_a_retry_of_a_corrected_project_prints_what_it_has_parsed_for_those_after_it(project: Project) -> None:
    users = ["seed.torture.s_users"]
    producer = project.run("seed", "--select", "s_users")
    (project.path / "models" / "added.sql").write_text("select 1 as id")
    corrected = project.again(producer, users, "seed")
    assert set(corrected.parsed) == {"partial_parse.msgpack", "manifest.json"}
    nodes = [json.loads(gzip.decompress(run.artifacts["manifest.json"]))["nodes"] for run in (producer, corrected)]
    assert nodes[1].keys() - nodes[0].keys() == {"model.torture.added"}
    assert project.again(corrected, users, "seed").parsed == {}


def test_a_retry_that_is_given_no_parse_cache_prints_its_files(project: Project) -> None:
    # The image may bring one of its own, which is of use to this attempt alone.
    nothing = Run(lines=(), code=0, target=project.path)
    retry = project.again(nothing, ["seed.torture.s_users"], "seed")
    assert set(retry.parsed) == {"partial_parse.msgpack", "manifest.json"}


def _print(file: Path, *, masker: Masker) -> Run:
    log = file.with_suffix(".log")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    output = Output(fd=descriptor, masker=masker, translate=lambda _: ())
    output.start()
    artifacts = Artifacts(output=output, masker=masker)
    artifacts.start(files=[file.with_name("missing"), file])
    artifacts.finish(timeout=60.0)
    output.finish("RunFinished", {}, timeout=60.0)
    os.close(descriptor)
    return Run(lines=tuple(log.read_bytes().splitlines(keepends=True)), code=0, target=file.parent)


def test_largest_file_fits_into_its_lines_and_a_larger_one_is_only_mentioned(tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - not for secrets: what cannot be compressed
    file = tmp_path / "partial_parse.msgpack"
    file.write_bytes(chance.randbytes(LIMIT - 1024))
    run = _print(file, masker=Masker(values=[]))
    assert gzip.decompress(run.artifacts[file.name]) == file.read_bytes()
    assert max(len(line) for line in run.lines) <= 8192
    file.write_bytes(chance.randbytes(LIMIT))
    (omitted,) = _print(file, masker=Masker(values=[])).named("ArtifactOmitted")
    assert (omitted["name"], omitted["reason"], omitted["limit"]) == (file.name, "TooLarge", LIMIT)
    assert omitted["size"] > LIMIT


def test_chance_resemblance_to_a_secret_does_not_damage_a_file(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_bytes(random.Random(2).randbytes(100_000))  # noqa: S311 - not for secrets: what cannot be compressed
    letters = _print(file, masker=Masker(values=[])).named("Artifact")[0]["data"]
    run = _print(file, masker=Masker(values=[letters[100:104]]))
    assert gzip.decompress(run.artifacts[file.name]) == file.read_bytes()


def test_secret_is_found_in_each_of_its_written_forms() -> None:
    masker = Masker(values=['quoted " and €'])
    for text in ('a quoted " and € b', json.dumps({"x": 'quoted " and €'}), "quoted+%22+and+%E2%82%AC"):
        assert masker.occurs_in(text.encode())
    assert not masker.occurs_in(b"quoted and")
