"""What of the CRDs is generated: the rules about changes of a DbtRun, and the chart's copies.

What the API server makes of the rules is in tests/contract/test_crd_changes.py.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import crds

SOURCE = (crds.SOURCE / "dbtruns.yaml").read_text()


def schema(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def with_field(field: str) -> str:
    """The CRD with another field at the end of the spec, given as YAML."""
    before, status, after = SOURCE.partition("            status:\n              type: object\n")
    assert status
    return before + " " * 16 + f"further: {field}\n" + status + after


def rule_for(text: str) -> dict[str, str]:
    """The rule about the field of `with_field`, as it stands in the generated text."""
    rules = schema(crds.with_rules(text))["x-kubernetes-validations"]
    [found] = [rule for rule in rules if rule["fieldPath"] == ".spec.further"]
    return dict(found)


def test_the_rules_and_the_copies_are_up_to_date() -> None:
    stale = [str(path.relative_to(crds.CHECKOUT)) for path in crds.stale()]
    assert not stale, "run python -m dev.crds"


def test_the_columns_of_the_command_line_are_those_of_kubectl() -> None:
    assert crds.COLUMNS.read_text() == crds.columns(), "run python -m dev.crds"


def test_what_is_written_is_what_was_meant() -> None:
    found = schema(crds.with_rules(SOURCE))
    assert found["x-kubernetes-validations"] == list(crds.rules(found["properties"]["spec"]))


def test_a_field_that_the_table_does_not_have_cannot_change_after_the_start() -> None:
    rule = rule_for(with_field("{type: string}"))
    assert rule["message"] == "this can no longer change, as the run has started"
    assert rule["rule"] == (
        "!has(oldSelf.status) || !has(oldSelf.status.startTime) || "
        "(has(self.spec.further) == has(oldSelf.spec.further) && "
        "(!has(self.spec.further) || self.spec.further == oldSelf.spec.further))"
    )


def test_a_field_that_always_has_a_value_is_only_compared() -> None:
    rule = rule_for(with_field("{type: object, default: {}}"))["rule"]
    assert rule.endswith(" || self.spec.further == oldSelf.spec.further")


def test_values_of_any_type_are_compared_without_their_type_and_never_in_an_update_of_the_status() -> None:
    field = "{type: object, additionalProperties: {x-kubernetes-preserve-unknown-fields: true}}"
    rule = rule_for(with_field(field))["rule"]
    assert " || self.spec == oldSelf.spec || (has(dyn(self.spec).further) == has(dyn(oldSelf.spec).further)" in rule


@pytest.mark.parametrize("when", [crds.When.ENDED, crds.When.ALWAYS])
def test_a_field_of_the_table_is_named_in_the_message_and_free_when_the_table_says(
    when: crds.When, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crds, "CHANGES", {**crds.CHANGES, "further": when})
    whole, *others = schema(crds.with_rules(with_field("{type: string}")))["x-kubernetes-validations"]
    assert "has(self.spec.further) != has(oldSelf.spec.further) || " in whole["rule"]
    own = [rule["message"] for rule in others if rule["fieldPath"] == ".spec.further"]
    if when is crds.When.ENDED:
        assert "once it has ended, image, imagePullPolicy and further; create" in whole["message"]
        assert own == [rule["message"] for rule in others if rule["fieldPath"] == ".spec.image"]
    else:
        assert "except suspend, cancel, ttlSecondsAfterFinished and further, and," in whole["message"]
        assert not own


def test_a_field_of_the_table_that_the_crd_does_not_have_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crds, "CHANGES", {**crds.CHANGES, "gone": crds.When.ALWAYS})
    with pytest.raises(ValueError, match="CHANGES has fields that the CRD does not have: gone"):
        crds.with_rules(SOURCE)


def test_what_is_out_of_date_is_found_and_written(tmp_path: Path) -> None:
    source, copy = tmp_path / "crds", tmp_path / "chart"
    for folder in (source, copy):
        folder.mkdir()
    (source / "dbtruns.yaml").write_text(with_field("{type: string}"))
    (source / "dbtmodels.yaml").write_text("a: 1\n")
    (copy / "dbtmodels.yaml").write_text("a: 2\n")
    (copy / "dropped.yaml").write_text("a: 1\n")
    files = crds.stale(source=source, copy=copy)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "chart/dbtmodels.yaml",
        "chart/dbtruns.yaml",
        "chart/dropped.yaml",
        "crds/dbtruns.yaml",
    ]
    crds.write(source=source, copy=copy)
    assert crds.stale(source=source, copy=copy) == ()
    assert rule_for((copy / "dbtruns.yaml").read_text())
