"""The operator goes by the API server's clock, whatever its own one says."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from dbt_operator.kube.clock import ServerClock


@pytest.mark.parametrize("wrong", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=400)])
def test_a_clock_that_is_wrong_is_put_right_by_the_servers(wrong: timedelta) -> None:
    clock = ServerClock()
    own = datetime.now(UTC)
    clock.heard(format_datetime(own + wrong, usegmt=True), local=own)
    assert abs(clock.now() - datetime.now(UTC) - wrong) < timedelta(minutes=1)


@pytest.mark.parametrize("seconds", [-4, 0, 4])
def test_a_difference_within_the_precision_of_the_header_is_none(seconds: int) -> None:
    clock = ServerClock()
    own = datetime.now(UTC)
    clock.heard(format_datetime(own + timedelta(seconds=seconds), usegmt=True), local=own)
    assert clock.offset == timedelta()


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 20 Nov 2026 03:00:00"])
def test_a_header_that_cannot_be_read_changes_nothing(date: str) -> None:
    clock = ServerClock(offset=timedelta(hours=1))
    clock.heard(date, local=datetime.now(UTC))
    assert clock.offset == timedelta(hours=1)


def test_a_clock_that_was_put_right_again_is_believed() -> None:
    clock = ServerClock(offset=timedelta(hours=1))
    own = datetime.now(UTC)
    clock.heard(format_datetime(own, usegmt=True), local=own)
    assert clock.offset == timedelta()
