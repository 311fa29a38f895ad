"""What holds of every run that a wrong input has ended."""

from collections.abc import Iterable, Mapping
from typing import Any

ENDED = {"Succeeded", "Failed", "Skipped", "Cancelled"}
Objects = Mapping[tuple[str, str, str], dict[str, Any]]


def assert_one_sentence(message: str) -> None:
    """It can be read in a column of kubectl, and says nothing of the insides of anything."""
    assert "\n" not in message
    assert len(message.encode()) <= 1024
    assert message[-1] in ".!?…"
    assert "Traceback" not in message
    assert "s3cret" not in message


def assert_nothing_is_left(objects: Iterable[tuple[tuple[str, str, str], dict[str, Any]]]) -> None:
    """What has ended needs nothing any more, and none of its nodes waits for anything."""
    for (plural, _, name), found in objects:
        text = str(found)
        assert "Traceback (most recent call last)" not in text
        if plural != "dbtruns":  # whose spec is the user's own
            assert "s3cret" not in text
        if plural == "dbtmodels":
            assert found["status"]["phase"] in ENDED
        if plural == "configmaps":
            assert "-runner-" not in name
            assert not name.endswith("-parse-cache")
