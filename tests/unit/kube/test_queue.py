"""The policy of the status writer: what is sent when. Time is a number that the tests turn."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_operator.kube.queue import Creation, Key, Seen, StatusQueue, Work
from dbt_operator.kube.resources import DBT_MODELS
from tests.unit.kube.test_merge_patch import applied

RUN = "uid-1"


def key(name: str, run: str = RUN) -> Key:
    return Key(run, DBT_MODELS, "ns", name)


def queue(*, rate: float = 1000.0, burst: int = 1000, settle: float = 0.0) -> StatusQueue:
    return StatusQueue(rate=rate, burst=burst, settle_interval=settle, quiet_interval=0.5, lazy_interval=2.0)


def want(
    q: StatusQueue, name: str, now: float, *, terminal: bool = False, lazy: bool = False, run: str = RUN, **status: Any
) -> None:
    q.submit(key=key(name, run), status=status, terminal=terminal, lazy=lazy, now=now)


def sent(q: StatusQueue, now: float) -> dict[str, Any] | None:
    """Send one thing and say that it went well."""
    work = q.next(now=now)
    if work is None:
        return None
    q.done(work=work, version=None, now=now)
    return work.patch


def test_an_object_that_was_quiet_is_written_at_once() -> None:
    q = queue()
    want(q, "a", 10.0, phase="Running")
    assert sent(q, 10.0) == {"phase": "Running"}


def test_what_ends_as_soon_as_it_has_begun_is_written_once_and_not_later_for_it() -> None:
    q = queue(settle=0.05)
    want(q, "a", 10.0, phase="Running")
    want(q, "b", 10.0, phase="Running")
    assert sent(q, 10.04) is None
    want(q, "a", 10.04, phase="Succeeded", terminal=True)
    assert sent(q, 10.04) == {"phase": "Succeeded"}
    assert q.wake_at(now=10.04) == 10.05
    assert sent(q, 10.05) == {"phase": "Running"}
    assert q.pending(run=None) == 0


def test_changes_in_quick_succession_are_merged_into_one_write_half_a_second_later() -> None:
    q = queue()
    want(q, "a", 10.0, rows=0)
    assert sent(q, 10.0) == {"rows": 0}
    for step in range(1, 5):
        want(q, "a", 10.0 + step / 10, rows=step)
        assert sent(q, 10.0 + step / 10) is None
    assert q.wake_at(now=10.4) == 10.5
    assert sent(q, 10.5) == {"rows": 4}


def test_a_terminal_state_does_not_wait_for_the_quiet_interval() -> None:
    q = queue()
    want(q, "a", 10.0, phase="Running")
    sent(q, 10.0)
    want(q, "a", 10.01, phase="Succeeded", terminal=True)
    assert sent(q, 10.01) == {"phase": "Succeeded"}


def test_changes_of_an_object_that_is_terminal_already_wait_like_all_others() -> None:
    q = queue()
    want(q, "a", 10.0, phase="Succeeded", tests=1, terminal=True)
    sent(q, 10.0)
    want(q, "a", 10.1, phase="Succeeded", tests=2, terminal=True)
    assert sent(q, 10.1) is None
    assert sent(q, 10.5) == {"tests": 2}


def test_terminal_states_jump_the_queue() -> None:
    q = queue(rate=1.0, burst=1)
    want(q, "first", 0.0, phase="Running")
    want(q, "second", 0.0, phase="Running")
    want(q, "last", 0.0, phase="Failed", terminal=True)
    assert sent(q, 0.0) == {"phase": "Failed"}
    assert sent(q, 0.0) is None
    assert q.wake_at(now=0.0) == pytest.approx(1.0)


def test_lazy_changes_wait_and_go_along_with_urgent_ones() -> None:
    q = queue()
    want(q, "a", 0.0, tests=1, lazy=True)
    want(q, "a", 1.9, tests=2, lazy=True)
    assert sent(q, 1.9) is None
    assert sent(q, 2.0) == {"tests": 2}
    want(q, "a", 5.0, tests=3, lazy=True)
    want(q, "a", 5.1, tests=3, phase="Running")
    want(q, "a", 5.1, tests=4, phase="Running", lazy=True)
    assert sent(q, 5.1) == {"tests": 4, "phase": "Running"}


def test_a_lazy_change_during_a_write_stays_lazy() -> None:
    q = queue()
    want(q, "a", 0.0, phase="Running")
    work = q.next(now=0.0)
    assert work is not None
    want(q, "a", 0.1, phase="Running", tests=1, lazy=True)
    q.done(work=work, version=None, now=0.2)
    assert q.wake_at(now=0.2) == pytest.approx(2.1)


def test_an_unchanged_status_is_not_written_even_after_a_restart() -> None:
    q = queue()
    stored = {"phase": "Running", "tests": {"passed": 2}}
    q.known(key=key("a"), seen=Seen("u", "1", stored), now=0.0)
    want(q, "a", 0.0, phase="Running", tests={"passed": 2}, message=None)
    assert q.next(now=100.0) is None
    assert q.wake_at(now=100.0) is None
    assert q.pending(run=RUN) == 0


def test_a_status_that_returns_to_what_is_stored_is_not_written() -> None:
    q = queue(rate=1.0, burst=1)
    want(q, "a", 0.0, rows=1)
    sent(q, 0.0)
    want(q, "a", 0.1, rows=2)
    want(q, "a", 0.2, rows=1)
    assert q.next(now=100.0) is None
    assert q.pending(run=RUN) == 0


def test_a_status_waits_for_the_creation_of_its_object_and_hurries_it() -> None:
    q = queue(rate=1.0, burst=1)
    for name in ("a", "b"):
        q.submit_creation(key=key(name), creation=Creation({}, RUN), now=0.0)
    want(q, "b", 0.0, phase="Running")
    work = q.next(now=0.0)
    assert work is not None
    assert (work.key.name, work.creation is not None) == ("b", True)
    q.created(work=work, seen=Seen("u", "1", {}), now=0.1)
    work = q.next(now=1.1)
    assert work is not None
    assert (work.key.name, work.patch, work.version) == ("b", {"phase": "Running"}, "1")


def test_an_adopted_object_is_written_only_where_it_differs() -> None:
    q = queue()
    q.submit_creation(key=key("a"), creation=Creation({}, RUN), now=0.0)
    want(q, "a", 0.0, phase="Succeeded", rows=3, terminal=True)
    work = q.next(now=0.0)
    assert work is not None
    q.created(work=work, seen=Seen("u", "1", {"phase": "Succeeded", "rows": 2}), now=0.0)
    assert sent(q, 0.0) == {"rows": 3}


def test_what_another_controller_has_ended_is_not_opened_again() -> None:
    q = queue()
    want(q, "a", 0.0, phase="Running")
    work = q.next(now=0.0)
    assert work is not None
    q.resync(work=work, seen=Seen("u", "2", {"phase": "Succeeded"}), delay=0.0, now=0.0)
    assert q.next(now=100.0) is None
    assert q.pending(run=RUN) == 0


def test_a_conflict_about_something_else_than_the_status_is_written_over() -> None:
    q = queue()
    q.known(key=key("a"), seen=Seen("u", "1", {"phase": "Failed"}), now=0.0)
    want(q, "a", 0.0, phase="Running")  # the node is tried again
    work = q.next(now=0.0)
    assert work is not None
    q.resync(work=work, seen=Seen("u", "2", {"phase": "Failed"}), delay=0.0, now=0.0)
    assert sent(q, 1.0) == {"phase": "Running"}


def test_what_the_server_refused_is_never_sent_again_but_something_else_is() -> None:
    q = queue()
    want(q, "a", 0.0, message="too long")
    work = q.next(now=0.0)
    assert work is not None
    q.reject(work=work, now=0.0)
    want(q, "a", 5.0, message="too long")
    assert q.next(now=100.0) is None
    assert q.pending(run=RUN) == 0
    want(q, "a", 101.0, message="short")
    assert sent(q, 101.0) == {"message": "short"}


def test_nothing_is_sent_for_an_object_that_is_gone() -> None:
    q = queue()
    want(q, "a", 0.0, rows=1)
    work = q.next(now=0.0)
    assert work is not None
    want(q, "a", 0.1, rows=2)
    q.gone(work=work, now=0.2)
    want(q, "a", 0.3, rows=3)
    assert q.next(now=100.0) is None
    assert q.pending(run=None) == 0


def test_a_forgotten_run_leaves_nothing_behind_and_touches_no_other() -> None:
    q = queue()
    want(q, "a", 0.0, rows=1)
    work = q.next(now=0.0)
    want(q, "b", 0.0, rows=1)
    want(q, "a", 0.0, rows=9, run="uid-2")
    q.forget(run=RUN)
    assert work is not None
    q.done(work=work, version=None, now=0.1)
    rest = q.next(now=1.0)
    assert rest is not None
    assert rest.key.run == "uid-2"
    assert q.next(now=1.0) is None
    assert q.pending(run=RUN) == 0


def test_everybody_waits_when_the_server_says_so() -> None:
    q = queue()
    want(q, "a", 0.0, phase="Failed", terminal=True)
    q.pause(until=7.0)
    assert q.next(now=6.9) is None
    assert q.wake_at(now=0.0) == 7.0
    assert sent(q, 7.0) == {"phase": "Failed"}


def test_hurry_makes_what_waits_due() -> None:
    q = queue()
    want(q, "a", 0.0, rows=1)
    sent(q, 0.0)
    want(q, "a", 0.1, rows=2, lazy=True)
    q.hurry(run=RUN, now=0.1)
    assert sent(q, 0.1) == {"rows": 2}


class Server:
    """Stores what the queue sends, with every kind of outcome; checks the rules of the window on the way."""

    def __init__(self, q: StatusQueue) -> None:
        self.queue = q
        self.stored: dict[Key, dict[str, Any]] = {}
        self.writes: list[tuple[float, Key, bool]] = []

    def answer(self, work: Work, outcome: str, now: float) -> None:
        self.writes.append((now, work.key, work.terminal))
        if outcome in ("ok", "lost answer"):
            self.stored[work.key] = applied(self.stored.get(work.key, {}), work.patch)
        match outcome:
            case "ok":
                self.queue.done(work=work, version=None, now=now)
            case "lost answer" | "lost request":
                self.queue.retry(work=work, delay=0.3, unknown=True, now=now)
            case "conflict":
                seen = Seen("u", "1", self.stored.get(work.key, {}))
                self.queue.resync(work=work, seen=seen, delay=0.1, now=now)
            case "overload":
                self.queue.pause(until=now + 1.0)
                self.queue.retry(work=work, delay=0.0, unknown=False, now=now)

    def run(self, now: float, until: float, outcomes: list[str]) -> float:
        """Let the time pass; requests get these outcomes, and all further ones succeed."""
        while True:
            while (work := self.queue.next(now=now)) is not None:
                assert work.patch, "an empty patch is a wasted write"
                self.answer(work, outcomes.pop(0) if outcomes else "ok", now)
            at = self.queue.wake_at(now=now)
            if at is None or at > until:
                return until
            now = max(at, now + 1e-3)


statuses: st.SearchStrategy[Mapping[str, Any]] = st.fixed_dictionaries(
    {"phase": st.sampled_from("PRSF")},
    optional={"rows": st.integers(0, 3), "tests": st.dictionaries(st.sampled_from("pf"), st.integers(0, 2))},
)
steps = st.tuples(
    st.sampled_from("abc"),
    statuses,
    st.booleans(),
    st.booleans(),
    st.floats(0, 1.5),
    st.lists(st.sampled_from(["ok", "lost answer", "lost request", "conflict", "overload"]), max_size=3),
)


@settings(max_examples=300)
@given(steps=st.lists(steps, max_size=25), rate=st.sampled_from([1.0, 4.0, 50.0]), burst=st.sampled_from([1, 3, 50]))
def test_the_newest_state_arrives_last_whatever_happens_and_within_the_limit(
    steps: list[tuple[str, dict[str, Any], bool, bool, float, list[str]]], rate: float, burst: int
) -> None:
    q = queue(rate=rate, burst=burst)
    server = Server(q)
    newest: dict[Key, dict[str, Any]] = {}
    now = 0.0
    for name, status, terminal, lazy, pause, outcomes in steps:
        newest[key(name)] = status
        q.submit(key=key(name), status=status, terminal=terminal, lazy=lazy, now=now)
        now = server.run(now, now + pause, outcomes)
    server.run(now, now + 1000, [])
    assert server.stored == newest
    assert q.pending(run=None) == 0
    times = [at for at, _, _ in server.writes]
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + rate * (times[last] - start) + 1e-3


@given(
    gaps=st.lists(st.floats(0, 0.6), min_size=1, max_size=40),
)
def test_an_object_that_never_rests_is_written_at_most_twice_a_second(gaps: list[float]) -> None:
    q = queue()
    server = Server(q)
    now = 0.0
    for count, gap in enumerate(gaps):
        want(q, "a", now, rows=count)
        now = server.run(now, now + gap, [])
    server.run(now, now + 10, [])
    times = [at for at, _, _ in server.writes]
    assert all(later - earlier >= 0.5 - 1e-6 for earlier, later in itertools.pairwise(times))
    assert server.stored[key("a")] == {"rows": len(gaps) - 1}


def test_a_part_that_was_written_beside_the_queue_is_not_taken_back_by_what_is_wanted() -> None:
    q = queue()
    want(q, "a", 0.0, phase="Failed", terminal=True)
    assert sent(q, 0.0) == {"phase": "Failed"}
    seen = Seen(uid="u", version="2", status={"phase": "Failed", "handledRetry": "again"})
    q.written(key=key("a"), patch={"handledRetry": "again"}, seen=seen, now=1.0)
    assert sent(q, 10.0) is None
    want(q, "a", 11.0, phase="Retrying", handledRetry="again")
    assert sent(q, 20.0) == {"phase": "Retrying"}


def test_many_new_objects_leave_room_for_what_is_said_meanwhile() -> None:
    q = queue(rate=10.0, burst=10)
    for number in range(20):
        q.submit_creation(key=key(f"new-{number}"), creation=Creation({}, "uid"), now=0.0)
    made = list(itertools.takewhile(lambda work: work is not None, iter(lambda: q.next(now=0.0), ...)))
    assert len(made) == 5
    want(q, "old", 0.0, phase="Succeeded", terminal=True)
    assert sent(q, 0.0) == {"phase": "Succeeded"}
    at = q.wake_at(now=0.0)
    assert at is not None
    assert at == pytest.approx(0.2)
    assert q.next(now=at) is not None


def in_order(q: StatusQueue, count: int) -> list[Key]:
    """What the next requests are about, one a second; all go well."""
    found = []
    for now in range(10, 10 + count):
        work = q.next(now=float(now))
        assert work is not None
        found.append(work.key)
        if work.creation is not None:
            q.created(work=work, seen=Seen("u", "1", {}), now=float(now))
        else:
            q.done(work=work, version=None, now=float(now))
    return found


def test_runs_take_turns() -> None:
    q = queue(rate=1.0, burst=1)
    for number in range(1000):
        want(q, f"node-{number}", 0.0, run="large", phase="Running")
    for number in range(3):
        want(q, f"node-{number}", 0.1, run="small", phase="Running")
    found = in_order(q, 7)
    assert [each.name for each in found if each.run == "small"] == ["node-0", "node-1", "node-2"]
    assert [each.name for each in found if each.run == "large"] == ["node-0", "node-1", "node-2", "node-3"]


def test_the_new_objects_of_a_run_do_not_wait_for_those_of_a_larger_one() -> None:
    q = queue(rate=1.0, burst=1)
    for number in range(1000):
        q.submit_creation(key=key(f"node-{number}", "large"), creation=Creation({}, "large"), now=0.0)
    q.submit_creation(key=key("node", "small"), creation=Creation({}, "small"), now=0.1)
    assert key("node", "small") in in_order(q, 2)


def test_what_ends_in_a_run_goes_before_what_begins_in_another() -> None:
    q = queue(rate=1.0, burst=1)
    want(q, "begins", 0.0, run="one", phase="Running")
    want(q, "ends", 0.0, run="other", phase="Succeeded", terminal=True)
    want(q, "fails", 0.0, run="third", phase="Failed", terminal=True)
    assert [each.name for each in in_order(q, 3)] == ["ends", "fails", "begins"]
