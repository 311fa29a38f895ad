"""The compiled code of a run's nodes, from the attempts that had it: `compiled.json`, as the runner prints it."""

import zlib
from collections.abc import Iterable, Mapping

import msgspec

FILE = "compiled.json"
# What is kept of a run, in bytes of gzip'd JSON: as much as the runner prints of an attempt.
LIMIT = 256 * 1024
_LARGEST = 32 * 1024 * 1024  # decompressed: a small file can hold a thousand times its size


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The compiled code of a node. `failed`: it did in the attempt, whose index in the run `attempt` is."""

    unique_id: str
    code: str
    failed: bool = False
    attempt: int = 0


def read(content: bytes | None) -> tuple[Code, ...]:
    """The codes in a file, compressed; none where it is damaged, or there is no file."""
    try:
        stream = zlib.decompressobj(wbits=31)  # with the header and checksum of gzip
        text = stream.decompress(content or b"", _LARGEST)
        return msgspec.json.decode(text, type=tuple[Code, ...]) if stream.eof else ()
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError):
        return ()


def merged(kept: Iterable[Code], came: Iterable[Code], *, attempt: int) -> tuple[Code, ...]:
    """All codes once those of this attempt have come: of each node the code of its newest attempt.

    Failed nodes come first, and newer attempts before older ones: what does not fit is left out from the end.
    """
    codes = [*(msgspec.structs.replace(one, attempt=attempt) for one in came), *kept]
    newest: dict[str, Code] = {}
    for one in sorted(codes, key=lambda code: -code.attempt):
        newest.setdefault(one.unique_id, one)
    return tuple(sorted(newest.values(), key=lambda code: not code.failed))


def packed(codes: Iterable[Code], *, limit: int) -> bytes:
    """The file with as many of the codes as fit into `limit` bytes, the first ones first; none of them is cut."""
    codes = list(codes)
    content = _packed(codes)
    if len(content) <= limit:
        return content
    fitting, room = [], limit - len(_packed([]))
    for one in codes:
        # Compressed together they take less than each by itself.
        cost = len(_packed([one]))
        if cost <= room:
            fitting.append(one)
            room -= cost
    return _packed(fitting)


def by_node(codes: Iterable[Code], *, failed: bool = False) -> Mapping[str, str]:
    """The codes by unique_id; of the nodes that failed only, where that is asked for."""
    return {one.unique_id: one.code for one in codes if one.failed or not failed}


def _packed(codes: list[Code]) -> bytes:
    packer = zlib.compressobj(level=6, wbits=31)
    return packer.compress(msgspec.json.encode(codes)) + packer.flush()
