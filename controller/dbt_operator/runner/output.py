"""The one way out: a queue, and a thread that turns what is in it into numbered lines on the original stdout."""

from __future__ import annotations

import datetime as dt
import json
import os
import queue
import re
import select
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from dbt_operator.runner.masking import Masker, shortened

LARGEST_LINE = 8192
_ONE_WRITE = 4 * LARGEST_LINE
# How long a thread of Python may keep the others waiting. With Python's own 5 ms the lines of a build with 16 threads
# came 30 ms after what they tell, with 1 ms they come after 12 and the build takes a tenth longer.
_TURN_SECONDS = 0.002
_UTC = dt.timezone(dt.timedelta(0))
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
# What JSON allows inside a text but a terminal or a strict decoder does not take well.
_AWKWARD = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# A text is shortened to the first of these lengths that makes its line fit.
_LENGTHS = (4096, 2048, 1024, 512, 256, 128, 64)

if TYPE_CHECKING:
    Line = dict[str, Any]
else:
    # Python 3.8 cannot say that at run time; the python3 of an old image need only get as far as to dbt's own Python.
    Line = dict


def now() -> str:
    """The present in dbt's format of time."""
    return dt.datetime.now(_UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def plain(text: str) -> str:
    """A text without terminal colours."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def encode(line: Line) -> bytes:
    """One line of valid JSON of at most LARGEST_LINE bytes with its end; texts are shortened where they have to be."""
    encoded = _encoded(line)
    if len(encoded) <= LARGEST_LINE:
        return encoded
    for length in _LENGTHS:
        encoded = _encoded(_with_texts_up_to(line, length))
        if len(encoded) <= LARGEST_LINE:
            return encoded
    # Many short values rather than few long ones: no event of ours, and nothing a reader of this one would rely on.
    data = {key: value for key, value in line["data"].items() if not isinstance(value, (dict, list))}
    node = line["data"].get("node_info")
    if isinstance(node, dict):
        data["node_info"] = {key: value for key, value in node.items() if isinstance(value, str)}
    encoded = _encoded(_with_texts_up_to({**line, "data": {**data, "truncated": True}}, 64))
    if len(encoded) <= LARGEST_LINE:
        return encoded
    return _encoded(_with_texts_up_to({**line, "data": {"truncated": True}}, 64))


def size(value: Any) -> int:
    """How many bytes a value takes in a line."""
    return len(_encoded(value))


def _encoded(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return _AWKWARD.sub(_escape, text).encode("utf-8") + b"\n"


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return "\ufffd" if "\ud800" <= character <= "\udfff" else f"\\u{ord(character):04x}"


def _with_texts_up_to(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return shortened(value, limit=length)
    if isinstance(value, dict):
        return {key: _with_texts_up_to(item, length) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_texts_up_to(item, length) for item in value]
    return value


class _Verbatim:
    """A line that is printed as it is: masking would damage what is encoded or counted in it."""

    def __init__(self, line: Line) -> None:
        self.line = line


class Output:
    """Lines in the order they were put, each with the next number. Putting never blocks, not even a signal handler."""

    def __init__(self, *, fd: int, masker: Masker, translate: Callable[[Any], Iterable[Line]]) -> None:
        self.invocation_id = ""
        self.dropped = 0
        self._fd = fd
        self._masker = masker
        self._translate = translate
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._seq = 0
        self._unwritten = bytearray()
        self._broken = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="runner-output", daemon=True)

    def start(self) -> None:
        """Begin to print."""
        sys.setswitchinterval(_TURN_SECONDS)
        self._thread.start()

    def event(self, name: str, data: Line, *, level: str = "info", msg: str = "", masked: bool = True) -> None:
        """Print an event of our own, in dbt's envelope; not masked is what is masked already, or cannot be."""
        info = {
            "name": name,
            "level": level,
            "ts": now(),
            "invocation_id": self.invocation_id,
            "code": "",
            "msg": msg,
            "thread": threading.current_thread().name,
        }
        line = {"info": info, "data": data}
        self._queue.put(line if masked else _Verbatim(line))

    def line(self, line: Line) -> None:
        """Print a line that another process has made and masked, with the next number."""
        self._queue.put(_Verbatim(line))

    def message(self, message: Any) -> None:
        """Print what becomes of a message of dbt. Conversion costs more than a callback may, so the thread does it."""
        self._queue.put((message,))

    def drain(self, *, timeout: float) -> bool:
        """Wait until everything put so far is printed."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout)

    def finish(self, name: str, data: Line, *, timeout: float, msg: str = "") -> bool:
        """Print the last line; whatever is put afterwards is not printed."""
        self.event(name, data, msg=msg)
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            # Each write lets another thread of Python run, and dbt has many: what is there already is one write.
            if self._queue.empty() or len(self._unwritten) > _ONE_WRITE:
                self._write()
            item = self._queue.get()
            if item is None:
                self._write()
                return
            if isinstance(item, threading.Event):
                self._write()
                item.set()
                continue
            # Nothing may end this thread: without it the run would look dead although dbt goes on.
            try:
                for line in self._translate(item[0]) if isinstance(item, tuple) else (item,):
                    self._print(line)
            except Exception as error:  # noqa: BLE001 - see above
                self.dropped += 1
                if self.dropped <= 10:
                    self.event("RunnerWarning", {"message": f"an event could not be printed: {error!r}"}, level="warn")

    def _print(self, line: Line | _Verbatim) -> None:
        if isinstance(line, _Verbatim):
            self._number(line.line)
            return
        line = {"info": line["info"], "data": self._masker.value(line["data"])}
        # dbt repeats whole error texts here; the data carries them too.
        line["info"]["msg"] = self._masker.cut(plain(line["info"].get("msg") or ""), limit=2048)
        self._number(line)

    def _number(self, line: Line) -> None:
        self._seq += 1
        self._unwritten += encode({"seq": self._seq, **line})

    def _write(self) -> None:
        while self._unwritten and not self._broken:
            try:
                del self._unwritten[: os.write(self._fd, self._unwritten)]
            except BlockingIOError:  # noqa: PERF203 - each write may fail by itself
                select.select([], [self._fd], [], 1.0)
            except OSError:
                # Nobody reads any more (EPIPE): the build must not suffer from that.
                self._broken = True
        self._unwritten.clear()
