"""Values of secrets never reach a log: they are replaced in every message before it is printed."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPLACEMENT = "*****"
# Shorter values are left alone: replacing every "1" or "dev" in a log would make it unreadable, and would tell the
# value to whoever compares the masked text with the code of dbt.
SHORTEST = 4
# Of a secret with several lines (a private key, a service account) each line is masked by itself too, because logs
# cut texts at line ends; short ones ("{", "-----") are no secret.
SHORTEST_LINE = 8
_LARGEST_FILE = 1 << 20

# Who a node is, and what became of it: a password that happens to be "orders" must not break the identity of a node.
# No value of these fields is free text.
IDENTITY = frozenset(
    [
        "seq",
        "name",
        "unique_id",
        "node_name",
        "node_unique_id",
        "resource_type",
        "status",
        "node_status",
        "depends_on",
        "attached_node",
        "fqn",
        "package",
        "materialized",
        "severity",
        "level",
        "ts",
        "code",
        "thread",
        "invocation_id",
        "kind",
        "phase",
        "digest",
        "attempt",
        "run_uid",
        "stream",
        "signal",
    ]
)

_ASSIGNMENT = re.compile(r"""^\s*(?:-\s+)?["']?(?P<key>[A-Za-z_][\w-]*)["']?\s*:(?:\s+(?P<value>.*?))?\s*$""")
_SECRET_KEY = re.compile(
    r"pass(word|phrase)?$|^pwd$|token|secret|private_key|keyfile_json|api_?key|access_key|credential|^key$|^auth$"
    r"|connection_string|^dsn$|motherduck",
    re.IGNORECASE,
)


def secret_values(*, names: Iterable[str], files: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """The values to mask: of named variables, of dbt's own DBT_ENV_SECRET…, and of files and directories of Secrets."""
    wanted = set(names)
    values: list[str | _Variable] = [
        value for name, value in environ.items() if name in wanted or name.startswith("DBT_ENV_SECRET")
    ]
    for path in files:
        values.extend(_of_path(Path(path)))
    # A profile may say only where its secret comes from: then it is the value of that variable.
    texts = [environ.get(value.name, "") if isinstance(value, _Variable) else value for value in values]
    return [*texts, *(inner for text in texts for inner in _inside(text))]


@dataclass(frozen=True)
class _Variable:
    name: str


def _inside(text: str) -> Iterable[str]:
    """What is the real secret inside a value: the key of a service account, the password of a URL."""
    try:
        if text.lstrip().startswith("{"):
            account = json.loads(text)
            yield from (item for key, item in account.items() if isinstance(item, str) and _SECRET_KEY.search(key))
        elif "://" in text:
            yield urllib.parse.unquote(urllib.parse.urlsplit(text.strip()).password or "")
    except ValueError:
        return


def _of_path(path: Path) -> list[str | _Variable]:
    try:
        if path.is_dir():
            # A mounted Secret: one file per key. Its ..data directory holds the same files again.
            return [_read(entry) for entry in sorted(path.iterdir()) if not entry.name.startswith("..")]
        return list(_of_profile(_read(path)))
    except OSError:
        # What cannot be read here cannot be read by dbt either.
        return []


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE).decode("utf-8", "replace")
    except OSError:
        return ""


def _of_profile(text: str) -> Iterable[str | _Variable]:
    """Values of the secret-looking keys of a YAML file, line by line: there is no YAML library to rely on here."""
    block_indent: int | None = None
    block: list[str] = []
    for line in [*text.splitlines(), "end:"]:
        indent = len(line) - len(line.lstrip())
        match = _ASSIGNMENT.match(line)
        named = match is not None and _SECRET_KEY.search(match.group("key")) is not None
        if block_indent is not None and (not line.strip() or indent > block_indent):
            block.append(line.strip())
        elif block:
            yield "\n".join(block)
            block_indent, block = None, []
        if match is None or not named:
            continue
        if re.fullmatch(r"([|>][+-]?\d?[+-]?)?", match.group("value") or ""):
            # A text over several lines, or a mapping (keyfile_json) whose own secret keys count by themselves.
            block_indent = indent if block_indent is None else block_indent
        else:
            yield _secret(match.group("value") or "")


def _secret(value: str) -> str | _Variable:
    text = _unquoted(value.strip().rstrip(","))
    if text.startswith(("{{", "{%")):
        variable = re.search(r"""env_var\(\s*["']([^"']+)["']""", text)
        return _Variable(name=variable.group(1)) if variable else ""
    return text


def _unquoted(value: str) -> str:
    double = re.match(r'"((?:[^"\\]|\\.)*)"', value)
    if double:
        try:
            return str(json.loads(double.group(0)))
        except ValueError:
            return double.group(1)
    single = re.match(r"'((?:[^']|'')*)'", value)
    if single:
        return single.group(1).replace("''", "'")
    return re.split(r"\s#", value, maxsplit=1)[0].strip()


def _forms(value: str) -> Iterable[str]:
    """A value as it may turn up in a message: itself, and escaped or encoded on its way into a URL, header or JSON."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield value.replace("'", "''")
    yield urllib.parse.quote(value)
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote_plus(value)
    raw = value.encode("utf-8", "replace")
    for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        yield encoded.decode("ascii").rstrip("=")


class Masker:
    """Replaces secret values in texts and in the texts of JSON-like values. Built once, used for every line."""

    def __init__(self, *, values: Iterable[str]) -> None:
        forms: set[str] = set()
        for value in values:
            for text in {value, value.strip()}:
                if len(text.strip()) >= SHORTEST:
                    forms.update(_forms(text))
            lines = value.splitlines()
            if len(lines) > 1:
                for line in lines:
                    if len(line.strip()) >= SHORTEST_LINE:
                        forms.update(_forms(line.strip()))
        # Longest first: of two secrets where one begins with the other, the whole of the longer one has to go.
        ordered = sorted((form for form in forms if len(form.strip()) >= SHORTEST), key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(form) for form in ordered)) if ordered else None
        self._encoded = [form.encode("utf-8", "replace") for form in ordered]

    def occurs_in(self, content: bytes) -> bool:
        """Whether a secret is in the content of a file, in any of its written forms."""
        # One search after another: for megabytes that is far faster than one regular expression for all.
        return any(form in content for form in self._encoded)

    def text(self, text: str) -> str:
        """The text without secrets."""
        return self._pattern.sub(REPLACEMENT, text) if self._pattern is not None else text

    def value(self, value: Any) -> Any:
        """The JSON-like value without secrets in its texts; fields that identify are kept as they are."""
        return value if self._pattern is None else self._masked(value)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: item if key in IDENTITY else self._masked(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._masked(item) for item in value]
        return value
