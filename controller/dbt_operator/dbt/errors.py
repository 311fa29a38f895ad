"""What kind of error ended an invocation, from its text: dbt's exit code and class of exception do not tell."""

import re

_KINDS: tuple[tuple[str, str], ...] = (
    ("interrupted", r"^KeyboardInterrupt\b"),
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
        "selector",
        r"Could not find selector|selectors? (?:named|definition)|selectors\.yml|"
        r"not a valid (?:method|selector|selection)|"
        r"(?:Invalid|Unknown|No) (?:selector|selection|node selection|method)|is not a valid \S* ?method",
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
        r"Compilation Error|Parsing Error|YAML|depends on a (?:node|source) named|Error reading|Syntax error near line|"
        r"Duplicate (?:resource|canonical)|dbt found two|schema\.yml|Jinja|\bparse\b|dbt_project\.yml",
    ),
    (
        "connection",
        r"Database Error|IO Error|Could not (?:connect|set lock|translate host)|"
        r"[Cc]onnection (?:refused|reset|timed out|failed)|"
        r"[Ff]ailed to connect|Cannot (?:open|connect)|authentication|[Cc]redentials|password|timed? ?out|"
        r"Name or service not known|[Uu]nable to (?:connect|open)|SSL|Access Denied|permission denied for database|"
        r"OperationalError|getaddrinfo|no route to host",
    ),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)


def classify(message: str) -> str:
    """One of usage, selector, profile, project, parse, dependencies, connection, interrupted, other."""
    head = message[:4096]
    return next((kind for kind, pattern in _PATTERNS if pattern.search(head)), "other")


THE_CONNECTION = "the connection to the warehouse"
_LOST_CONNECTION = re.compile(
    r"[Cc]onnection (?:to server .{0,200}failed|refused|reset|timed out|already closed|is closed|failed)|"
    r"[Cc]ould not (?:connect|translate host)|[Ff]ailed to connect|[Uu]nable to connect|Cannot connect|"
    r"server closed the connection|terminating connection|the database system is (?:shutting down|starting up)|"
    r"Name or service not known|getaddrinfo|[Nn]o route to host|Network is unreachable|SSL connection has been closed",
    re.DOTALL,
)


def cause_of(message: str) -> str:
    """What a node failed for, in words that are the same for all nodes that failed for that; "" where nothing tells.

    dbt names the node in the first line of an error and its file in the last one; what is between comes from the
    warehouse. For a connection that was lost there are too many words: it is one cause, whatever the driver says.
    """
    head = message.strip()[:4096]
    if _LOST_CONNECTION.search(head):
        return THE_CONNECTION
    lines = (line.strip() for line in head.splitlines()[1:])
    return "\n".join(line for line in lines if line and not line.startswith("compiled code at "))
