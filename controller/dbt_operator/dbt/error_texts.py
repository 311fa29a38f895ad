"""What kind of error ended an invocation, by its text: neither dbt's exit code nor its class of exception says it."""

import re

_LOST_CONNECTION = re.compile(
    r"[Cc]onnection (?:to server .{0,200}failed|refused|reset|timed out|already closed|is closed|failed)|"
    r"[Cc]ould not (?:connect|translate host)|[Ff]ailed to connect|[Uu]nable to connect|Cannot connect|"
    r"server closed the connection|terminating connection|the database system is (?:shutting down|starting up)|"
    r"Name or service not known|getaddrinfo|[Nn]o route to host|Network is unreachable|SSL connection has been closed",
    re.DOTALL,
)
# How warehouses say that a right is missing. At the login the text is that of a lost connection as well.
_NOT_GRANTED = re.compile(
    r"permission denied (?:for|to|on)\b|permission was denied|\w+ permission denied in|must be owner of|"
    r"[Ii]nsufficient privileges?|not authorized to|does not have (?:\S+ )?(?:permission|privilege)|"
    r"Access Denied: |PERMISSION_DENIED|INSUFFICIENT_PERMISSIONS",
)
_DATABASE_ERROR = re.compile(r"^Database Error\b")
# Adapters have one class of exceptions for most errors of the warehouse, and of the connection to it.
_OF_WAREHOUSE = (("database", _NOT_GRANTED), ("connection", _LOST_CONNECTION))
# The first that fits decides.
_KINDS: tuple[tuple[str, str], ...] = (
    ("interrupted", r"^KeyboardInterrupt\b"),
    ("nothing_selected", r"does not match any (?:enabled )?nodes|Nothing to do\. Try checking your model"),
    (
        "dependencies",
        r"dbt deps|package\(s\) (?:specified|installed)|packages? (?:is|are) not installed|dbt_packages|"
        r"External connection exception occurred|hub\.getdbt\.com|package hub",
    ),
    (
        "profile",
        r"Could not find profile named|profiles\.yml|does not have a target named|Invalid target|"
        r"Credentials in profile|profile \S+ (?:is invalid|not found)|"
        r"(?:Could not|Cannot) (?:find|load) (?:the )?profile|"
        r"Could not find adapter type|no (?:such )?profile|DbtProfileError",
    ),
    (
        "state",
        r"no comparison manifest|No comparison run_results|state comparison freshness results|"
        r"Could not find manifest in --state path|are required for deferral",
    ),
    (
        "selector",
        r"Could not find selector|selectors? (?:named|definition)|selectors\.yml|"
        r"not a valid (?:method|selector|selection)|"
        r"(?:Invalid|Unknown|No) (?:selector|selection|node selection|node spec|method|\S+ selector)|"
        r"Invalid test type selector|is not a valid \S* ?method|invalid selector",
    ),
    (
        "project",
        r"No dbt_project\.yml|dbt_project\.yml.{0,80}(?:not found|does not exist|no such file)|not a dbt project|"
        r"no project (?:was )?found|DbtProjectError",
    ),
    (
        "usage",
        r"^(?:Usage|Error: (?:No such|Missing|Invalid))|Usage Error|No such (?:option|command)|"
        r"Invalid value for|Missing (?:argument|option|parameter)|unexpected argument|unrecognized arguments",
    ),
    (
        "parse",
        r"Found a cycle|"
        r"Compilation Error|Parsing Error|YAML|depends on a (?:node|source) named|Error reading|Syntax error near line|"
        r"Duplicate (?:resource|canonical)|dbt found two|schema\.yml|Jinja|\bparse\b|dbt_project\.yml",
    ),
    (
        "connection",
        r"IO Error|Could not set lock|Cannot open|authentication|[Cc]redentials|password|timed? ?out|"
        r"[Uu]nable to open|SSL|OperationalError",
    ),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)


def kind_of(message: str, *, reported: str = "") -> str:
    """The kind of an error that ended an invocation. `reported`: what the runner says, from the class of the exception.

    One of nothing_selected, usage, state, selector, profile, project, parse, dependencies, connection, database,
    interrupted, other; or one of the runner's own that is not known here.
    """
    head = message[:4096]
    if reported in ("connection", "database") or _DATABASE_ERROR.match(head):
        return next((kind for kind, pattern in _OF_WAREHOUSE if pattern.search(head)), reported or "database")
    if reported not in ("", "other"):
        return reported
    patterns = (*_PATTERNS, *_OF_WAREHOUSE)
    return next((kind for kind, pattern in patterns if pattern.search(head)), "other")


def not_granted(message: str) -> bool:
    """Whether the warehouse says that a right is missing."""
    return _NOT_GRANTED.search(message[:4096]) is not None


# dbt names a hook by its package, its kind and its number. An error while it is compiled has no result of its own.
_HOOK = re.compile(r"\boperation ((\S+)-on-run-(?:start|end)-\d+)\b")
_SOME_HOOK = re.compile(r"\bon-run-(?:start|end)(?: hooks?)? failed\b|while running on-run-(?:start|end)\b")


def failed_hook(message: str) -> str | None:
    """The unique id of the hook that an error names, "" where it is about a hook and does not name it."""
    named = _HOOK.search(message[:4096])
    if named is not None:
        return f"operation.{named[2]}.{named[1]}"
    return "" if _SOME_HOOK.search(message[:4096]) else None


# Texts that only refer to an error that was printed before.
_POINTS_BACK = re.compile(r"Semantic Manifest validation failed")


def points_back(message: str) -> bool:
    """Whether an error only refers to others: the events before it say what is wrong."""
    return not message.strip() or _POINTS_BACK.search(message[:4096]) is not None


THE_CONNECTION = "the connection to the warehouse"


def cause_of(message: str) -> str:
    """What a node failed for: the same text for all nodes that failed for the same cause; "" where it is not known.

    dbt names the node in the first line of an error and its file in the last one. The lines between are the
    warehouse's. A lost connection is one cause, whatever text the driver has for it.
    """
    head = message.strip()[:4096]
    if _LOST_CONNECTION.search(head):
        return THE_CONNECTION
    lines = (line.strip() for line in head.splitlines()[1:])
    return "\n".join(line for line in lines if line and not line.startswith("compiled code at "))
