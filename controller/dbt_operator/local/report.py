"""How runs have ended, in the forms that CI systems read. Pure."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree as ET

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.kube.resources import Object

_GOOD = frozenset({"success", "pass", "warn", "no-op", "partial success"})
_HASH = re.compile(r"\.[0-9a-f]{10}$")  # dbt's own, at the end of the unique id of a test
# What XML cannot hold, in whatever form.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that has ended. `results`: of its run_results.json; `project`: its folder, if it is on this machine."""

    name: str
    status: DbtRunStatus
    models: Sequence[Object]
    results: Sequence[Mapping[str, Any]]
    project: str | None


# JUnit


def junit(runs: Sequence[Ended]) -> str:
    """A report as JUnit writes it: a suite for each run, a case for each node and each test of dbt."""
    root = ET.Element("testsuites", name="dbt-operator")
    for run in runs:
        cases = list(_cases(run))
        suite = ET.SubElement(root, "testsuite", {"name": run.name, **_counts(cases)})
        suite.extend(cases)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _counts(cases: Sequence[ET.Element]) -> dict[str, str]:
    seconds = sum(float(case.get("time", "0")) for case in cases)
    counted = {f"{kind}s" if kind != "skipped" else kind: 0 for kind in ("failure", "error", "skipped")}
    for case in cases:
        for each in case:
            counted[f"{each.tag}s" if each.tag != "skipped" else each.tag] += 1
    return {"tests": str(len(cases)), "time": f"{seconds:.3f}", **{key: str(count) for key, count in counted.items()}}


def _cases(run: Ended) -> Iterator[ET.Element]:
    for result in run.results:
        kind, package, name = _parts(str(result["unique_id"]))
        seconds = f"{float(result.get('execution_time') or 0):.3f}"
        case = ET.Element("testcase", classname=f"{run.name}.{package}.{kind}", name=name, time=seconds)
        status, message = str(result["status"]), _xml(str(result.get("message") or ""))
        if status not in _GOOD:
            tag = {"fail": "failure", "skipped": "skipped"}.get(status, "error")
            element = ET.SubElement(case, tag, message=message.partition("\n")[0])
            element.text = message
        yield case
    if run.status.phase != RunPhase.SUCCEEDED and all(str(one["status"]) in _GOOD for one in run.results):
        # It has not failed by one of them: dbt did not begin, or was stopped.
        case = ET.Element("testcase", classname=run.name, name="run")
        message = _xml(run.status.message or "")
        ET.SubElement(case, "error", message=message, type=str(run.status.reason)).text = message
        yield case


def _parts(unique_id: str) -> tuple[str, str, str]:
    kind, _, rest = _HASH.sub("", unique_id).partition(".")
    package, _, name = rest.partition(".")
    return kind, package, name


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)


# what has failed, at its file


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should see beside a file. `path`: relative to the folder of the command, or ""."""

    error: bool
    title: str
    message: str
    path: str


def findings(run: Ended, *, folder: str) -> Iterator[Finding]:
    """Nodes that have failed, tests that have failed or warned, and a run that has failed by itself."""
    failed = False
    for model in run.models:
        spec, status = model["spec"], model.get("status") or {}
        path = _path(run.project, spec.get("path"), folder=folder)
        tests = (status.get("tests") or {}).get("failing") or ()
        severe = status.get("phase") == "Failed"
        failed = failed or severe
        for test in tests:
            yield Finding(severe, f"Test {test['name']} of {spec['name']}", str(test.get("message") or ""), path)
        if severe and not tests:
            title = f"{spec['resourceType'].capitalize()} {spec['name']} failed"
            yield Finding(True, title, str(status.get("message") or ""), path)
    if run.status.phase == RunPhase.FAILED and not failed:
        yield Finding(True, f"Run {run.name} failed", run.status.message or "", "")


def _path(project: str | None, path: str | None, *, folder: str) -> str:
    if project is None or not path:
        return ""
    whole = PurePosixPath(project, path)
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)


def github(finding: Finding) -> str:
    """A line that GitHub Actions shows beside the file."""
    properties = {"file": finding.path, "title": finding.title}
    shown = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    return f"::{'error' if finding.error else 'warning'} {shown}::{_data(finding.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def gitlab(found: Sequence[Finding]) -> str:
    """A report of code quality, which GitLab shows in merge requests."""
    return json.dumps([_quality(one) for one in found], indent=1) + "\n"


def _quality(finding: Finding) -> dict[str, Any]:
    text = "\n".join((finding.path, finding.title))
    return {
        "description": f"{finding.title}: {finding.message}".rstrip(": "),
        "check_name": "dbt",
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
        "severity": "major" if finding.error else "minor",
        "location": {"path": finding.path or ".", "lines": {"begin": 1}},
    }
