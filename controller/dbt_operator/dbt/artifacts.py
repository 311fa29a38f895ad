"""Putting together the files that the runner prints in pieces, so that they outlive the pod they were made in."""

import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dbt_operator.dbt import compiled
from dbt_operator.dbt.bodies import ArtifactOmitted, ArtifactPart
from dbt_operator.dbt.decoding import decode

MANIFEST = "manifest.json"
RESULTS = "run_results.json"
SOURCES = "sources.json"
# What a command writes or prints that is asked for just that.
ASKED_FOR = frozenset({"catalog.json", "index.html", "static_index.html", "output.txt"})
FOR_USER = ASKED_FOR | {MANIFEST, RESULTS, SOURCES}
PACKAGES = "packages.tar"
NAMES = FOR_USER | {"partial_parse.msgpack", PACKAGES, compiled.FILE}
LARGEST = 960 * 1024  # bytes of a gzip'd file; the runner prints no larger one

_MARK = b'"Artifact'  # a piece of one, or that one is left out
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_ROOM = 2 * LARGEST  # they come one after the other
_MOST_PARTS = 1024  # in lines of 8 KiB a file of the largest size has fewer than 200
_MOST_VERSIONS = 8  # that are incomplete, or that were handed out; the runner prints one of each file


@dataclass(frozen=True, slots=True)
class Artifact:
    """A complete file. `content` is gzip'd, as it was printed; None: the runner leaves it out."""

    name: str
    content: bytes | None


class _Version(NamedTuple):
    """What the pieces of one content of a file agree on."""

    name: str
    sha256: str
    parts: int
    size: int

    @classmethod
    def of(cls, part: ArtifactPart) -> "_Version | None":
        known = part.name in NAMES and _SHA256.match(part.sha256)
        if not known or not 0 < part.size <= LARGEST or part.parts > _MOST_PARTS:
            return None
        return cls(name=part.name, sha256=part.sha256, parts=part.parts, size=part.size)


@dataclass(slots=True)
class _Pieces:
    """The pieces of a version that have arrived."""

    pieces: dict[int, bytes] = field(default_factory=dict)
    held: int = 0  # bytes

    def put(self, number: int, piece: bytes) -> None:
        self.held += len(piece) - len(self.pieces.get(number, b""))
        self.pieces[number] = piece

    def whole(self, version: _Version) -> bytes | None:
        """The content once every piece is there and it is the one that was announced."""
        if self.held != version.size or len(self.pieces) != version.parts:
            return None
        content = b"".join(self.pieces[number] for number in range(version.parts))
        return content if hashlib.sha256(content).hexdigest() == version.sha256 else None


class Collector:
    """Collects the files in the log of one attempt.

    Lines may come in any order, repeatedly, or damaged. A file is handed out once: when it is whole and its checksum is
    right, or when the runner says that it leaves it out. A piece that comes again replaces the one that is held, so a
    damaged piece is mended when its line is read again. At most two files of the largest size are held, and nothing of
    a complete one. If that is not enough, the file that grew last stays.
    """

    def __init__(self) -> None:
        self._open: dict[_Version, _Pieces] = {}  # the one that grew last is the last
        self._done: set[_Version] = set()

    @property
    def held(self) -> int:
        """How many bytes of incomplete files are held."""
        return sum(pieces.held for pieces in self._open.values())

    def take(self, lines: Iterable[bytes]) -> list[Artifact]:
        """The files that these lines complete."""
        # Looking for the name costs a hundredth of decoding the line, and almost all lines are about something else.
        found = (self._take(line) for line in lines if _MARK in line)
        return [artifact for artifact in found if artifact is not None]

    def _take(self, line: bytes) -> Artifact | None:
        event = decode(line)
        # Only the runner can write a line with a sequence number; one without was printed by somebody else.
        if event is None or event.seq is None:
            return None
        match event.body:
            case ArtifactPart():
                return self._put(event.body)
            case ArtifactOmitted():
                return self._leave_out(event.body.name)
        return None

    def _leave_out(self, name: str) -> Artifact | None:
        version = _Version(name=name, sha256="", parts=0, size=0)
        if name not in NAMES or not self._wanted(version):
            return None
        self._done.add(version)
        return Artifact(name=name, content=None)

    def _put(self, part: ArtifactPart) -> Artifact | None:
        version, piece = _Version.of(part), _decoded(part.data)
        if version is None or not piece or not self._wanted(version):
            return None
        pieces = self._open.pop(version, None) or _Pieces()
        self._open[version] = pieces
        if pieces.pieces.get(part.part) == piece:
            return None
        pieces.put(part.part, piece)
        content = pieces.whole(version)
        if content is None:
            self._make_room()
            return None
        del self._open[version]
        self._done.add(version)
        return Artifact(name=version.name, content=content)

    def _wanted(self, version: _Version) -> bool:
        return version not in self._done and len(self._done) < _MOST_VERSIONS

    def _make_room(self) -> None:
        while self._open and (self.held > _ROOM or len(self._open) > _MOST_VERSIONS):
            del self._open[next(iter(self._open))]


def _decoded(data: str) -> bytes:
    """The bytes of a piece; none when it is damaged."""
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except ValueError:  # binascii.Error, or a character that is not ASCII
        return b""
