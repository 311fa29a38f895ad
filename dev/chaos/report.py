"""The report: a line for each run as it ends, and the sums at the end. Pure but for the files of wrong runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from dev.chaos.run import Happened, Outcome
from dev.chaos.session import Session

FOLDER = Path("build/chaos")
"""Of the checkout: where what is known of wrong runs is kept."""
KINDS = ("wrong", "lost", "doubled", "overlapped", "repeated", "unread", "renewed")


def line(outcome: Outcome) -> str:
    """One run: how it ended, what happened to it, and what is wrong with it."""
    events = ", ".join(_event(one) for one in outcome.happened) or "undisturbed"
    broken = f", {outcome.plan.broken} cannot work" if outcome.plan.broken else ""
    first = f"run {outcome.plan.number:<3} {outcome.phase:<10} {outcome.seconds:5.0f} s{broken}: {events}"
    return "\n".join((first, *(f"    {sentence}" for sentence in _sentences(outcome))))


def _event(one: Happened) -> str:
    moment = f"{one.moment.fault} at {one.reported} ({one.second:.0f} s)"
    return moment if one.done else f"[{moment}: {one.note or 'nothing there'}]"


def _sentences(outcome: Outcome) -> Iterator[str]:
    for kind in KINDS:
        for sentence in getattr(outcome.findings, kind):
            yield f"{kind}: {sentence}"


def summary(outcomes: Sequence[Outcome], session: Session, *, seconds: float) -> str:
    """The sums over all runs, and how to see a run again."""
    sums = {kind: sum(len(getattr(one.findings, kind)) for one in outcomes) for kind in KINDS}
    faults = Counter(one.moment.fault for outcome in outcomes for one in outcome.happened if one.done)
    executions = sum(len(outcome.evidence.executions) for outcome in outcomes)
    retries = sum(int(outcome.evidence.run.get("status", {}).get("retries", 0)) for outcome in outcomes)
    lines = [
        f"{len(outcomes)} runs in {seconds:.0f} s, {sum(faults.values())} faults, {retries} attempts after the first, "
        f"{executions} executions",
        *(f"    {kind:<24} {faults[kind]:>4}" for kind in session.kinds if session.faults),
        f"wrong states               {sums['wrong']:>4}",
        f"executions lost            {sums['lost']:>4}",
        f"executions doubled         {sums['doubled']:>4}",
        f"executions overlapped      {sums['overlapped']:>4}",
        f"repeated after a loss      {sums['repeated'] + sums['unread'] + sums['renewed']:>4}   as it has to be: "
        f"{sums['repeated']} committed and not reported, {sums['unread']} reported and the report lost with its pod "
        f"or log, {sums['renewed']} below one of these",
        f"seed {session.seed}; again: python -m dev.chaos --seed {session.seed} --per-run {session.per_run} "
        f"--faults {session.faults}" + _selection(session),
    ]
    unclean = [outcome.plan.number for outcome in outcomes if not outcome.findings.clean]
    lines += [f"run {number} alone: … --runs 1 --first {number}" for number in unclean]
    return "\n".join(lines)


def _selection(session: Session) -> str:
    return "" if session.runs is None else f" --runs {session.runs} --first {session.first}"


def told(outcome: Outcome, session: Session, *, folder: Path) -> str:
    """The lines of a run; where something is wrong all that is known of it is written to a file in the folder."""
    if outcome.findings.clean:
        return line(outcome)
    path = folder / str(session.seed) / f"run-{outcome.plan.number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(outcome), default=str, indent=1))
    return f"{line(outcome)}\n    all that is known of it: {path}"
