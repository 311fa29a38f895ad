"""What kind of error ended a whole invocation: what dbt says, where in dbt it arose, and its exception classes."""

from __future__ import annotations

import re
import traceback

USAGE, SELECTOR, PROFILE, PROJECT, PARSE = "usage", "selector", "profile", "project", "parse"
DEPENDENCIES, CONNECTION, NOT_FOUND = "dependencies", "connection", "dbt_not_found"
INTERRUPTED, OTHER = "interrupted", "other"

MESSAGE_LENGTH = 4096

# The first that fits decides. Texts come first, because a dbt exception is often only a DbtRuntimeError.
# Written against the texts of dbt-core 1.8 to 1.12.
_TEXTS = (
    (r"package\(s\) specified in|packages? specified in packages\.yml", DEPENDENCIES),
    (r"Could not find profile|profiles\.yml|Credentials in profile|have a target named", PROFILE),
    # The directory where dbt looks for profiles.yml when nobody told it where to look.
    (r"^Path '.*\.dbt' does not exist", PROFILE),
    (r"dbt_project\.yml", PROJECT),
    (r"Could not find selector|[Nn]o such selector|not a valid method name|[Ii]nvalid selector", SELECTOR),
)
# Where an exception arose tells a broken profile from a broken model when both only say "Syntax error near line 3".
_PLACES = (
    (re.compile(r"/dbt/config/(profile|renderer_profile)\.py$"), PROFILE),
    (re.compile(r"/dbt/config/project\.py$"), PROJECT),
    (re.compile(r"/dbt/config/selectors\.py$"), SELECTOR),
)
_CLASSES = (
    ("UsageError", USAGE),
    ("DbtUsageException", USAGE),
    ("DbtSelectorsError", SELECTOR),
    ("InvalidSelectorError", SELECTOR),
    ("DbtProfileError", PROFILE),
    ("DbtProjectError", PROJECT),
    ("DbtDatabaseError", CONNECTION),
    ("FailedToConnectError", CONNECTION),
    # What drivers raise before dbt wraps it; DuckDB's own word for a file that another process has locked.
    ("OperationalError", CONNECTION),
    ("IOException", CONNECTION),
    ("CompilationError", PARSE),
    ("ParsingError", PARSE),
    ("YamlParseError", PARSE),
    ("SchemaConfigError", PARSE),
    ("ValidationError", PARSE),
)


def kind_of(*, error: BaseException, phase: str) -> str:
    """The kind of an exception that dbt ended with, for RunFinished."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    text = str(error)
    for pattern, kind in _TEXTS:
        if re.search(pattern, text):
            return kind
    if phase == "parse":
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        for place, kind in _PLACES:
            if any(place.search(file) for file in files):
                return kind
    classes = [base.__name__ for base in type(error).__mro__]
    for name, kind in _CLASSES:
        if name in classes:
            return kind
    # What is left of dbt's own exceptions while it parses is something in the project's files.
    of_dbt = type(error).__module__.startswith(("dbt.", "dbt_common."))
    return PARSE if (phase == "parse" and of_dbt) or "Compilation Error" in text else OTHER


def message_of(error: BaseException) -> str:
    """The text of an exception, or its class where it has none."""
    text = str(error).strip() or type(error).__name__
    if re.search(_TEXTS[2][0], text):
        return f"no profiles.yml was found, neither in the project's directory nor in the default place: {text}"
    return text
