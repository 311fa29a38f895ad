"""What processes need: those of one program with all that they have started.

Processor time is exact, not sampled: in Linux a process has its own and that of all children whose end it has noticed.
So the sum over a tree is right as long as its root is there, even as a zombie that nobody has waited for yet.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAUSE = 0.5
_PATIENCE = 20

Processes = Mapping[int, "Process"]


@dataclass(frozen=True, slots=True)
class Process:
    """One at a moment. `began`: in the kernel's ticks; with the pid it names the process for good."""

    parent: int
    began: int
    seconds: float


def processes() -> dict[int, Process]:
    """All of this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name, which may have blanks and brackets.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        seconds = sum(int(field) for field in fields[11:15]) / _TICKS
        found[int(path.parent.name)] = Process(parent=int(fields[1]), began=int(fields[19]), seconds=seconds)
    return found


def busy() -> float:
    """Processor seconds of the whole machine since its start."""
    user, nice, system, _idle, _waiting, *interrupts = Path("/proc/stat").read_text().split()[1:8]
    return sum(int(ticks) for ticks in (user, nice, system, *interrupts)) / _TICKS


def below(seen: Processes, root: int) -> set[int]:
    """A process with all that descend from it."""
    children: dict[int, list[int]] = {}
    for pid, process in seen.items():
        children.setdefault(process.parent, []).append(pid)
    found, waiting = set[int](), [root] if root in seen else []
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += [child for child in children.get(pid, ()) if child not in found]
    return found


def of_pods(seen: Processes, uids: Collection[str]) -> list[int]:
    """The first processes of the containers of these pods."""
    within = set()
    for pid in seen:
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            continue
        if "kubepods" in groups and any(f"pod{uid}" in groups for uid in uids):
            within.add(pid)
    return [pid for pid in within if seen[pid].parent not in within]


def named(seen: Processes, programs: Collection[str]) -> list[int]:
    """Processes of these programs, and not what they have started: pods descend from such."""
    return [pid for pid in seen if Path(_program(pid)).name in programs]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode()
    except OSError:
        return ""


def memory(pids: Iterable[int]) -> float:
    """MiB that they have in memory; what several share counts once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended meanwhile, or is a thread of the kernel
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


class Spent:
    """Processor seconds of trees, of which some begin later and some end sooner."""

    def __init__(self) -> None:
        self._began: dict[tuple[int, int], float] = {}
        self._last: dict[tuple[int, int], float] = {}
        self._first = True

    def note(self, seen: Processes, roots: Iterable[int], *, whole: bool = True) -> set[int]:
        """Look at all trees at a moment, or at their roots alone. Returns these processes."""
        everything = set[int]()
        for root in roots:
            pids = below(seen, root) if whole else {root} & seen.keys()
            everything |= pids
            if pids:
                key, now = (root, seen[root].began), sum(seen[pid].seconds for pid in pids)
                # What was not there at the first look had used nothing then.
                self._began.setdefault(key, now if self._first else 0)
                self._last[key] = max(now, self._last.get(key, 0))
        self._first = False
        return everything

    @property
    def seconds(self) -> float:
        """Between the first look and the last one."""
        return sum(last - self._began[key] for key, last in self._last.items())


class Sampler:
    """Looks at some trees of processes again and again, for as long as the context lasts."""

    def __init__(self, roots: Callable[[Processes], Iterable[int]], *, whole: bool = True) -> None:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._roots, self._whole = roots, whole
        self._over = threading.Event()
        self._spent = Spent()
        self.idle = self._look()
        self.memory = self.idle

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(_PAUSE):
            self.memory = max(self.memory, self._look())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    @property
    def seconds(self) -> float:
        """Processor time since the first look."""
        return self._spent.seconds

    def _look(self) -> float:
        seen = processes()
        return memory(self._spent.note(seen, self._roots(seen), whole=self._whole))


@contextmanager
def started(
    command: Sequence[str | Path], *, cwd: Path, environ: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is there for as long as the context lasts, with all that it starts."""
    with log.open("wb") as output:
        line = [str(word) for word in command]
        process = subprocess.Popen(
            line, cwd=cwd, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        _end(process)


def ended(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit code once it has ended. It stays as a zombie, so that what it has used can still be read."""
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if found is None else found.si_status


def _end(process: subprocess.Popen[bytes]) -> None:
    seen = processes()
    ours = {(pid, seen[pid].began) for pid in below(seen, process.pid)}
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    time.sleep(1)  # what it has started may still be ending
    for pid, now in processes().items():
        if (pid, now.began) in ours:
            os.kill(pid, signal.SIGKILL)
