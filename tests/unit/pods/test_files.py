"""Which files stand in a ConfigMap after one more was put into it."""

import base64
import random
from typing import Any

import pytest

from dbt_operator.dbt.compiled import Code, packed
from dbt_operator.pods.files import (
    CACHE_FILE,
    COMPILED_FILE,
    MANIFEST_FILE,
    RESULTS_FILE,
    File,
    compiled_file,
    file_config_map,
    file_patch,
    kept_codes,
)
from tests.unit.pods.test_pod_template import RUN

KIB = 1024


def manifest(attempt: int, *, size: int = 9) -> File:
    return File(key=MANIFEST_FILE, content=bytes([attempt]) * size, parsed_by=attempt)


def results(*, size: int = 5) -> File:
    return File(key=RESULTS_FILE, content=b"r" * size)


def stored(*files: File) -> dict[str, Any]:
    """The ConfigMap after all of these came, in this order."""
    config_map = file_config_map(run=RUN, name="nightly-artifacts", file=files[0])
    for version, file in enumerate(files[1:], start=1):
        config_map["metadata"]["resourceVersion"] = str(version)
        patch = file_patch(config_map, file=file)
        if patch is None:
            continue
        assert patch["metadata"].pop("resourceVersion") == str(version)  # another controller may write meanwhile
        annotations = config_map["metadata"].get("annotations", {}) | patch["metadata"].get("annotations", {})
        config_map["metadata"]["annotations"] = annotations
        contents = config_map["binaryData"] | patch["binaryData"]
        config_map["binaryData"] = {key: data for key, data in contents.items() if data is not None}
    return config_map


def contents(*files: File) -> dict[str, bytes]:
    return {key: base64.b64decode(data) for key, data in stored(*files)["binaryData"].items()}


def test_what_a_later_attempt_has_parsed_stands_whatever_comes_first() -> None:
    first, later = manifest(1), manifest(12)
    assert contents(first, later) == contents(later, first) == {MANIFEST_FILE: later.content}
    assert contents(later, first, later, first) == {MANIFEST_FILE: later.content}


def test_files_of_the_run_and_of_its_attempts_stand_beside_each_other() -> None:
    both = {MANIFEST_FILE: manifest(2).content, RESULTS_FILE: results().content}
    assert contents(manifest(1), results(), manifest(2)) == both
    assert contents(results(), manifest(1), manifest(2), manifest(1)) == both
    assert contents(manifest(2), results(size=7), results()) == both


def test_where_a_later_attempt_leaves_its_file_out_an_earlier_one_does_not_stand_for_it() -> None:
    left_out = File(key=MANIFEST_FILE, content=None, parsed_by=2)
    assert contents(manifest(1), results(), left_out) == {RESULTS_FILE: results().content}
    assert contents(manifest(1), left_out, manifest(1)) == {}
    assert contents(manifest(1), left_out, manifest(3)) == {MANIFEST_FILE: manifest(3).content}


def test_all_files_of_an_attempt_stand_beside_each_other_and_not_those_of_one_before_it() -> None:
    def file(key: str, attempt: int, *, size: int = 3) -> File:
        return File(key=key, content=bytes([attempt]) * size, parsed_by=attempt)

    catalog, index = file("catalog.json.gz", 2), file("index.html.gz", 2)
    assert contents(file("catalog.json.gz", 1), catalog, index) == {each.key: each.content for each in (catalog, index)}
    assert contents(catalog, index, catalog, file("index.html.gz", 1)) == {
        each.key: each.content for each in (catalog, index)
    }
    large = file("catalog.json.gz", 2, size=700 * KIB)
    assert contents(large, file("index.html.gz", 2, size=500 * KIB)).keys() == {"catalog.json.gz"}


def test_results_are_kept_and_a_manifest_beside_them_if_there_is_room() -> None:
    largest, fits = 960 * KIB, 64 * KIB
    assert contents(manifest(1, size=largest), results(size=fits)).keys() == {MANIFEST_FILE, RESULTS_FILE}
    assert contents(manifest(1, size=largest), results(size=fits + 1)).keys() == {RESULTS_FILE}
    assert contents(results(size=fits), manifest(1, size=largest)).keys() == {MANIFEST_FILE, RESULTS_FILE}
    assert contents(results(size=fits + 1), manifest(1, size=largest)).keys() == {RESULTS_FILE}


def test_a_manifest_that_does_not_fit_does_not_leave_an_older_one_behind() -> None:
    large = manifest(2, size=960 * KIB)
    assert contents(manifest(1), results(size=100 * KIB), large).keys() == {RESULTS_FILE}
    assert contents(manifest(1), results(size=100 * KIB), large, manifest(1)).keys() == {RESULTS_FILE}


def test_compiled_code_has_what_room_the_parse_cache_leaves() -> None:
    chance = random.Random(1)  # noqa: S311 - not for secrets: what cannot be compressed
    codes = [Code(unique_id="model.a.bad", code="no", failed=True)]
    codes += [Code(unique_id=f"model.a.n{at}", code=chance.randbytes(5 * KIB).hex()) for at in range(40)]
    came = packed(codes, limit=960 * KIB)

    def cache(size: int) -> File:
        return File(key=CACHE_FILE, content=chance.randbytes(size), parsed_by=1)

    for size, room in ((10 * KIB, 256 * KIB), (900 * KIB, 124 * KIB), (1023 * KIB, KIB)):
        config_map = stored(cache(size))
        file = compiled_file(config_map, came=came, attempt=1)
        assert len(file.content or b"") <= room
        config_map["metadata"]["resourceVersion"] = "1"
        assert file_patch(config_map, file=file) is not None
        both = contents(cache(size), file)
        assert both.keys() == {CACHE_FILE, COMPILED_FILE}
        assert next(iter(kept_codes({"binaryData": {COMPILED_FILE: encoded(both[COMPILED_FILE])}}))).code == "no"
    assert compiled_file(None, came=came, attempt=1) == compiled_file({}, came=came, attempt=1)
    # What is parsed anew is of more use than that.
    assert contents(compiled_file(None, came=came, attempt=1), cache(960 * KIB)).keys() == {CACHE_FILE}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("said", ["", "many", "-1", "1.5"])
def test_what_somebody_has_written_over_the_index_of_the_attempt_counts_as_none(said: str) -> None:
    config_map = file_config_map(run=RUN, name="nightly-parse-cache", file=File(key=CACHE_FILE, content=b"c"))
    config_map["metadata"] |= {"resourceVersion": "7", "annotations": {"dbt-operator.io/parsed-by": said}}
    assert file_patch(config_map, file=File(key=CACHE_FILE, content=b"d", parsed_by=1)) is not None
