"""Where in the project an error is, when dbt's own text does not say it: dbt knew, and the exception still has it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

# What dbt's own functions call what they are given to read. A variable of a loop may be left over from another file.
_GIVEN = ("node", "block", "path", "file_path")
# ... but for these, by the function: there it is the one in hand.
_IN_HAND = {"selector_data_from_root": "selector_filepath", "check_valid_snapshot_config": "node"}
_OF_DBT = re.compile(r"/dbt/(?:parser|config|context)\b")
# How dbt prints where a file lies that it has searched for.
_SEARCHED = re.compile(r"FilePath\(searched_path='([^']*)', relative_path='([^']*)'[^)]*\)")
_NAMES_A_FILE = re.compile(r"[\w-]\.(?:ya?ml|sql|py|csv|md)\b")


def with_place(error: BaseException) -> str:
    """The text of an error, with the field and the file that it is about."""
    text = _SEARCHED.sub(r"\1/\2", str(error).strip())
    field, said = next(filter(all, map(_field_of, _causes(error))), ("", ""))
    if field and f"['{field}'" not in text:  # of some dbt itself says where they are
        text = text.replace(said, f"{field}: {said}", 1)
    if "Could not find profile named" in text and _no_profiles(error):
        text = f"no profiles.yml was found: {text}"
    file = "" if _NAMES_A_FILE.search(text) else _file_of(error)
    return f"{text}\nError encountered in {file}" if file else text


def _no_profiles(error: BaseException) -> bool:
    """Whether dbt has found no file with profiles at all; of an empty one it says so itself."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_locals.get("raw_profiles") == {} for frame in frames)


def _field_of(error: BaseException) -> tuple[str, str]:
    """Of a value that does not fit the schema: the path of its field, and what is said of it."""
    return ".".join(str(part) for part in getattr(error, "absolute_path", ())), str(getattr(error, "message", ""))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _file_of(error: BaseException) -> str:
    """The file that dbt was reading; "" where that is not known."""
    frames = (frame for one in _causes(error) for frame, _ in reversed(list(traceback.walk_tb(one.__traceback__))))
    return next(filter(None, map(_read_by, frames)), "")


def _read_by(frame: FrameType) -> str:
    """The file that a function reads; "" where it is none of dbt's, or reads none."""
    code = frame.f_code
    if not _OF_DBT.search(code.co_filename):
        return ""
    given = code.co_varnames[: code.co_argcount]
    names = (*(name for name in _GIVEN if name in given), _IN_HAND.get(code.co_name, ""))
    return next(filter(None, (_path_of(frame.f_locals.get(name)) for name in names)), "")


def _path_of(value: Any) -> str:
    """The path of a node, of a part of a file or of a file."""
    if isinstance(value, (str, Path)):
        path = str(value)
    else:
        path = getattr(value, "original_file_path", "") or getattr(
            getattr(value, "path", None), "original_file_path", ""
        )
    return path if isinstance(path, str) and _NAMES_A_FILE.search(path) else ""
