"""How an operator reads the log of a pod."""

from dataclasses import replace
from typing import TYPE_CHECKING

from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.lines import LineSplitter
from dbt_operator.plan.attempt import LogFacts
from tests.simulation.objects import Pod
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.operator import Operator

_PATIENCE = 3  # failures to read the log of a container that has ended


class Follower:
    """Reads the log of a pod, in pieces, some of them twice, until the container has ended and all of it was read."""

    def __init__(self, *, operator: "Operator", pod: Pod) -> None:
        self.pod = pod
        self.facts = LogFacts()
        self.caught_up = False
        self.position = 0  # whole lines read
        self.stopped = False
        self._operator = operator
        self._chance = operator.chance
        self._failures = 0
        self._schedule()

    @property
    def live(self) -> bool:
        """Whether what is known is of the present, as far as it can be."""
        return self.caught_up or self.facts.stalled is not None

    def _schedule(self) -> None:
        delay = self._chance.choice((20, 400, 1500, 4000))
        self._operator.world.later(delay, self._read)

    def _read(self) -> None:
        if self.stopped or self._operator.dead:
            return
        pod = self.pod
        over = pod.terminated is not None
        if pod.removed or pod.process is None:
            self._end(gone=pod.removed)
        elif self._fails():
            self._failures += 1
            if over and self._failures > _PATIENCE:
                self._end(unreadable="the kubelet does not answer")
            else:
                if self._failures > _PATIENCE:
                    self.facts = replace(self.facts, stalled="the kubelet does not answer")
                    self._operator.poke()
                self._schedule()
        elif over:
            self._deliver(pod.process, rest=True)
            self._end()
        else:
            if self.position < len(pod.process.log) or not self.caught_up:
                self._deliver(pod.process, rest=False)
                self._operator.poke()
            self._schedule()

    def _fails(self) -> bool:
        cluster = self._operator.cluster
        return self.pod.unreachable or (not cluster.calm and self._chance.random() < cluster.scenario.api_errors)

    def _deliver(self, process: Process, *, rest: bool) -> None:
        log, chance = process.log, self._chance
        again = chance.choice((0, 0, 0, 1, 5)) if self.position else 0
        since = max(0, self.position - again)
        fresh = len(log) - self.position
        until = len(log) if rest or fresh < 2 or chance.random() < 0.6 else self.position + chance.randint(0, fresh)
        data = b"".join(line + b"\n" for line in log[since:until])
        if until < len(log) and chance.random() < 0.3:  # cut in the middle of a line, or before its end
            data += log[until][: chance.randint(1, len(log[until]))]
            until += data.endswith(log[until])
        if rest:
            data += process.piece
        splitter = LineSplitter()
        cut = chance.randint(0, len(data)) if chance.random() < 0.2 else len(data)
        found = [*splitter.feed(data[:cut]), *splitter.feed(data[cut:])]
        last = splitter.flush()
        if last is not None:
            found.append(last)
        self.position = until
        self.caught_up = True
        self._failures = 0
        self.facts = replace(self.facts, stalled=None, state=fold_lines(state=self.facts.state, lines=found))

    def _end(self, *, gone: bool = False, unreadable: str | None = None) -> None:
        self.caught_up = True
        self.facts = replace(self.facts, ended=True, stalled=None, gone=gone, unreadable=unreadable)
        if self._operator.world.tracing:
            process = self.pod.process
            total = len(process.log) if process is not None else 0
            self._operator.say(f"log of {self.pod.name} ended at line {self.position} of {total}")
        self._operator.poke()
