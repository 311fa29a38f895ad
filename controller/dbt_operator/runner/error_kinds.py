"""What kind of error ended a whole invocation: what dbt says, where in dbt it arose, and its exception classes."""

from __future__ import annotations

import re
import traceback
from typing import Any

from dbt_operator.runner.error_places import with_place

USAGE, SELECTOR, PROFILE, PROJECT, PARSE = "usage", "selector", "profile", "project", "parse"
DEPENDENCIES, CONNECTION, DATABASE, NOT_FOUND = "dependencies", "connection", "database", "dbt_not_found"
NOTHING_SELECTED = "nothing_selected"
STATE = "state"
DEPS, SOURCE, SPEC = "deps", "source", "spec"
INTERRUPTED, OTHER = "interrupted", "other"

MESSAGE_LENGTH = 4096

# The directory where dbt looks for profiles.yml when nobody told it where to look.
_DEFAULT_PROFILES = r"^Path '.*\.dbt' does not exist"
# The first that fits decides. Texts come first, because a dbt exception is often only a DbtRuntimeError.
# Written against the texts of dbt-core 1.8 to 1.12.
_TEXTS = (
    (r"This version of dbt is not supported with", NOT_FOUND),
    # Warnings that `warn_error` makes errors.
    (r"does not match any (enabled )?nodes|Nothing to do\. Try checking your model", NOTHING_SELECTED),
    (r"package\(s\) specified in|packages? specified in packages\.yml", DEPENDENCIES),
    (r"Could not find profile|profiles\.yml|Credentials in profile|have a target named", PROFILE),
    (_DEFAULT_PROFILES, PROFILE),
    (r"Could not find manifest in --state path|are required for deferral", STATE),
    # dbt: "Got a state selector method, but no comparison manifest", "No comparison run_results", and of sources.json.
    (r"no comparison manifest|No comparison run_results|state comparison freshness results", STATE),
    (r"dbt_project\.yml", PROJECT),
    (r"^Found a cycle", PARSE),
    (r"is not a valid dbt error name|could not find a macro with the name", USAGE),
    (r"Could not find selector|[Nn]o such selector|not a valid method name|[Ii]nvalid selector", SELECTOR),
)
# Where an exception arose tells a broken profile from a broken model when both only say "Syntax error near line 3".
_PLACES = (
    (re.compile(r"/dbt/contracts/state\.py$"), STATE),
    # selectors.yml is read while dbt_project.yml is; a method of a selection may have any kind of exception.
    (re.compile(r"/dbt/config/selectors\.py$|/dbt/graph/(cli|selector|selector_methods|selector_spec)\.py$"), SELECTOR),
    (re.compile(r"/dbt/config/(profile|renderer_profile)\.py$"), PROFILE),
    (re.compile(r"/dbt/config/project\.py$"), PROJECT),
)
_HOOKS = re.compile(r"/dbt/task/run\.py$")
_CLASSES = (
    ("UsageError", USAGE),
    ("DbtUsageException", USAGE),
    ("DbtSelectorsError", SELECTOR),
    ("InvalidSelectorError", SELECTOR),
    ("DbtProfileError", PROFILE),
    ("DbtProjectError", PROJECT),
    ("FailedToConnectError", CONNECTION),
    # What drivers raise before dbt wraps it; DuckDB's own word for a file that another process has locked.
    ("OperationalError", CONNECTION),
    ("IOException", CONNECTION),
    # Whatever else the warehouse has answered, a missing right for instance. The reader looks at its text.
    ("DbtDatabaseError", DATABASE),
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
    by_text = kind_of_text(str(error))
    if by_text:
        return by_text
    text = str(error)
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


def kind_of_text(text: str) -> str:
    """The kind that the text of an error tells, "" where it tells none."""
    return next((kind for pattern, kind in _TEXTS if re.search(pattern, text)), "")


def message_of(error: BaseException) -> str:
    """The text of an exception, or its class where it has none."""
    text = with_place(error) or type(error).__name__
    if re.search(_DEFAULT_PROFILES, text):
        return f"no profiles.yml was found, neither in the project's directory nor in the default place: {text}"
    hook = _hook_of(error)
    # dbt itself names the hook only where its text is wrong, not where what it asks of the warehouse is.
    return text if not hook or hook in text else f"{text}\n  > called by operation {hook}"


def _hook_of(error: BaseException) -> str:
    """The name of the on-run-start or on-run-end hook that dbt was about to run when the exception arose."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        hook: Any = frame.f_locals.get("hook")
        if _HOOKS.search(frame.f_code.co_filename) and str(getattr(hook, "unique_id", "")).startswith("operation."):
            return str(hook.name)
    return ""
