"""What becomes of the figures of a measurement: the goal that is met or missed, the table, the plot, the report."""

from __future__ import annotations

import importlib.util
import io
import re
import tarfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import parts, report, results
from benchmarks.__main__ import LENGTHS, SCENARIOS
from benchmarks.charts import COLOURS, HEIGHT, INK, TOP, WIDTH, Chart, Kind, number, svg, ticks
from benchmarks.observing import Change
from benchmarks.overhead import evenly
from benchmarks.project import archive, files, leaves, with_file
from benchmarks.results import Result, Row
from benchmarks.start import sizes
from dev.images import stable_reference

PAGES = ("#ffffff", "#0d1117")  # of GitHub, light and dark
MACHINE: dict[str, object] = {"processors": 2, "load": 0.4}


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", PAGES)
def test_plots_can_be_read_on_a_light_and_on_a_dark_page(page: str) -> None:
    # What WCAG asks of graphics is 3, of text 4.5; no colour has that on both pages.
    assert all(_contrast(colour, page) >= 3 for colour in COLOURS)
    assert _contrast(INK, page) >= 4


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.037, [0, 0.01, 0.02, 0.03, 0.04]),
        (103, [0, 25, 50, 75, 100, 125]),
        (0, [0, 1]),
    ],
)
def test_an_axis_has_round_numbers_up_to_the_largest_value(most: float, marks: list[float]) -> None:
    assert ticks(most) == marks


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0412, "0.0412"),
        (12.346, "12.3"),
        (999.6, "999.6"),
        (37_986.4, "37,986"),
        (0.00002, "0"),
        (5, "5"),
        (-0.12, "-0.12"),
    ],
)
def test_a_figure_has_as_many_digits_as_anybody_reads(value: float, text: str) -> None:
    assert number(value) == text


def _chart(kind: Kind) -> Chart:
    series: dict[str, tuple[float | None, ...]] = {"plain <pod>": (12.0, 7.5, None), "DbtRun": (11.0, 8.0, 9.0)}
    if kind == "steps":
        series = {"plain <pod>": (12.0, None, 3.0), "DbtRun": (None, 0.0, None)}
    return Chart("dbt & more", kind, ("1", "4", "16"), series, unit="s", along="threads", goal=20)


@pytest.mark.parametrize("kind", ["lines", "bars", "steps"])
def test_a_plot_shows_all_names_and_stays_within_its_picture(kind: Kind) -> None:
    drawn = ET.fromstring(svg(_chart(kind)))  # noqa: S314 - our own
    size = [float(number) for number in drawn.attrib["viewBox"].split()]
    assert size[:3] == [0, 0, WIDTH]
    texts = {each.text for each in drawn.findall(".//{*}text")}
    assert {"1", "4", "16"} <= texts
    assert {"plain <pod>", "DbtRun", "threads"} <= texts
    assert kind == "steps" or "goal 20 s" in texts
    for bar in drawn.findall(".//{*}rect"):
        at = {name: float(bar.attrib[name]) for name in ("x", "y", "width", "height")}
        assert 0 <= at["x"] <= at["x"] + at["width"] <= WIDTH
        assert TOP - 30 <= at["y"] <= at["y"] + at["height"] <= size[3]


def test_a_larger_value_is_drawn_higher_and_a_missing_one_not_at_all() -> None:
    drawn = ET.fromstring(svg(_chart("lines")))  # noqa: S314 - our own
    lines = [each.attrib["points"].split() for each in drawn.findall(".//{*}polyline")]
    plain, ours = lines[2:]  # the first two are those of the legend
    assert len(plain) == 2
    first, second, third = (HEIGHT - float(point.partition(",")[2]) for point in ours)
    assert first > third > second


def _row(*values: float, **more: Any) -> Row:
    return Row("wall", values, **more)


def test_a_goal_is_about_the_median() -> None:
    assert _row(0.9, 0.99, 2.0, at_most=1).met
    assert not _row(0.9, 1.01, 1.02, at_most=1).met
    assert not _row(19_999, at_least=20_000).met
    assert _row(3).met is None


def _result(*rows: Row, **more: Any) -> Result:
    return Result(
        "overhead", "A run", rows, machine=MACHINE, at="2026-11-28T20:00:00+00:00", arguments="--pairs 3", **more
    )


def test_a_table_says_how_where_and_whether_the_goal_is_met() -> None:
    rows = (_row(2, 1, 4, unit="s", at_most=3), Row("events", (10_000,), at_least=20_000), Row("nodes", (7,)))
    assert _result(*rows, notes="Three pairs.").table() == [
        "### A run",
        "",
        "`python -m benchmarks.overhead --pairs 3`, 2026-11-28, on: processors 2, load 0.4.",
        "",
        "| what | measured | goal | met |",
        "|---|---|---|---|",
        "| wall | 2 s (1 to 4) | ≤ 3 s | yes |",
        "| events | 10,000 | ≥ 20,000 | **no** |",
        "| nodes | 7 |  |  |",
        "",
        "Three pairs.",
        "",
    ]


def test_a_table_with_columns_says_in_which_of_them_a_goal_is_missed() -> None:
    ratios = [_row(0.9, at_most=1, column="1 thread"), _row(1.2, at_most=1, column="4 threads")]
    lags = [Row("lag", (0.1,), "s", column="1 thread"), Row("lag", (0.2,), "s", at_most=0.5, column="4 threads")]
    table = _result(*ratios, *lags, Row("sizes", (3,), column="1 thread")).table()
    assert table[4:9] == [
        "| what | 1 thread | 4 threads | goal | met |",
        "|---|---|---|---|---|",
        "| wall | 0.9 | 1.2 | ≤ 1 | **no**: 4 threads |",
        "| lag | 0.1 s | 0.2 s | ≤ 0.5 s with 4 threads | yes |",
        "| sizes | 3 | - |  |  |",
    ]


def test_a_stored_result_is_read_as_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    measured = _result(_row(2, 1), _row(3, column="x"), variant="postgres", charts=(_chart("lines"), _chart("steps")))
    measured.save()
    assert Result.load(tmp_path / "overhead-postgres.json") == measured


def test_the_report_replaces_tables_and_plots_and_leaves_the_words_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    readme = tmp_path / "README.md"
    readme.write_text(f"# Words\n\n{report.MARK}\n\nold\n")
    for variant in ("duckdb", "postgres"):
        _result(_row(1), variant=variant, charts=(_chart("lines"), _chart("bars"))).save()
    (tmp_path / "results" / "gone-1.svg").write_text("<svg/>")
    report.write(readme=readme, folder=tmp_path / "results")
    text = readme.read_text()
    assert text.startswith(f"# Words\n\n{report.MARK}\n\n### A run\n")
    assert "old" not in text
    links = re.findall(r"\]\((results/[^)]*)\)", text)
    assert links == [f"results/overhead-{which}-{at}.svg" for which in ("duckdb", "postgres") for at in (1, 2)]
    assert sorted(each.name for each in (tmp_path / "results").glob("*.svg")) == sorted(Path(one).name for one in links)


def test_the_readme_shows_what_is_stored() -> None:
    stored = [Result.load(path) for path in sorted(results.FOLDER.glob("*.json"))]
    shown = report.README.read_text().partition(report.MARK)[2]
    assert shown.strip() == "\n".join(line for each in stored for line in report.section(each)).strip()


def test_every_scenario_of_make_bench_is_there() -> None:
    for scenario in SCENARIOS:
        assert importlib.util.find_spec(f"benchmarks.{scenario.module}"), scenario.module
        commands = [scenario.command(length) for length in LENGTHS]
        assert all(command[1:3] == ["-m", f"benchmarks.{scenario.module}"] for command in commands)


def _pod(at: float, *, gated: bool = False, node: str = "", initialized: bool | None = None) -> Change:
    spec: dict[str, Any] = {"nodeName": node} | ({"schedulingGates": [{"name": "g"}]} if gated else {})
    spec |= {"initContainers": [{}]} if initialized is not None else {}
    conditions = [{"type": "Initialized", "status": "True" if initialized else "False"}]
    metadata = {"name": "p", "labels": {"job-name": "run-retry-1"}}
    return Change(at, {"metadata": metadata, "spec": spec, "status": {"conditions": conditions}})


def _event(second: int, name: str, node: str = "") -> dict[str, Any]:
    stamp = f"1970-01-01T00:00:{second:02}Z"
    return {"info": {"name": name, "ts": stamp}, "data": {"node_info": {"unique_id": node}}}


def test_the_parts_of_a_retry_are_its_whole_time() -> None:
    other = Change(1.0, {"metadata": {"name": "run-producer-1"}})
    jobs = [other, Change(12.0, {"metadata": {"name": "run-retry-1"}})]
    pods = [
        Change(11.0, {"metadata": {"name": "q"}, "spec": {"nodeName": "n"}}),
        _pod(12.5, gated=True, initialized=False),
        _pod(13.0, initialized=False),
        _pod(13.25, node="n", initialized=False),
        _pod(15.0, node="n", initialized=True),
    ]
    names = ("RunnerStarted", "MainReportVersion", "AdapterRegistered", "SelectedNodes")
    events = [_event(16 + at, name) for at, name in enumerate(names)]
    events += [_event(20, "LogStartLine", "seed"), _event(22, "LogStartLine", "wanted"), _event(24, "RunFinished")]
    found = parts.moments(job="run-retry-1", jobs=jobs, pods=pods, events=events, node="wanted")
    lengths = parts.lengths(found, since=10.0)
    assert list(lengths.values()) == [2, 0.5, 0.5, 0.25, 1.75, 1, 1, 1, 1, 3]
    assert list(lengths) == list(parts.PARTS.values())
    assert sum(lengths.values()) == 22 - 10


def test_a_pod_without_init_containers_has_no_part_for_them() -> None:
    pods = [_pod(1.0, gated=True), _pod(2.0), _pod(3.0, node="n")]
    jobs = [Change(0.5, {"metadata": {"name": "run-retry-1"}})]
    found = parts.moments(job="run-retry-1", jobs=jobs, pods=pods, events=[_event(4, "LogStartLine", "any")])
    assert list(parts.lengths(found, since=0.0).values()) == [0.5, 0.5, 1, 1, 1]


def test_the_sizes_of_images_are_those_that_a_machine_of_the_cluster_names() -> None:
    named = {"names": [stable_reference("tools"), "other"], "sizeBytes": 408_026_831}
    assert dict(sizes([{"status": {"images": [{"sizeBytes": 7}, named]}}])) == {"tools": 408}


def test_a_sample_is_spread_over_the_whole_project() -> None:
    assert evenly(["a", "b", "c", "d", "e"], 3) == ["a", "c", "e"]
    assert evenly(["a", "b"], 10) == ["a", "b"]
    assert evenly(["a"], 0) == []


def test_the_parse_of_a_first_run_is_one_file_more() -> None:
    project = archive(100, target="duckdb", threads=4)
    more = with_file(project, name="target/partial_parse.msgpack", content=b"parsed")
    with tarfile.open(fileobj=io.BytesIO(project)) as before, tarfile.open(fileobj=io.BytesIO(more)) as after:
        assert set(after.getnames()) == {*before.getnames(), "target/partial_parse.msgpack"}
        kept = after.extractfile("target/partial_parse.msgpack")
        assert kept is not None
        assert kept.read() == b"parsed"


def test_a_table_without_goals_has_no_columns_for_them() -> None:
    rows = (
        Row("a", (3.5,), "s", column="wall"),
        Row("a", (20,), "MiB", column="memory"),
        Row("b", (9,), "s", column="wall"),
    )
    lines = Result(scenario="peers", title="Peers", rows=rows, machine=MACHINE).table()
    assert [line for line in lines if line.startswith("|")] == [
        "| what | wall | memory |",
        "|---|---|---|",
        "| a | 3.5 s | 20 MiB |",
        "| b | 9 s | - |",
    ]


def test_of_models_that_nothing_reads_none_is_read() -> None:
    text = {name: content for name, content in files(190) if name.startswith("models/m")}
    read = {found for content in text.values() for found in re.findall(r"ref\('(m\d+)'\)", content)}
    assert set(leaves(190)) == {Path(name).stem for name in text} - read
