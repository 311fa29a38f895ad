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

from dbt_operator.runner import decided

REPLACEMENT = "*****"
_PUT_IN = frozenset(REPLACEMENT)
# Shorter values are left alone: replacing every "1" or "dev" in a log would make it unreadable, and would tell the
# value to whoever compares the masked text with the code of dbt.
SHORTEST = 4
# Of a secret with several lines (a private key, a service account) each line is masked by itself too, because logs
# cut texts at line ends; short ones ("{", "-----") are no secret.
SHORTEST_LINE = 8
# A part of a secret at the end of a text counts as one from this length on.
SHORTEST_PART = 8
_LARGEST_FILE = 1 << 20

# How deep the keys of a mounted Secret may lie: `items` may give them paths.
_DEEPEST = 8

_ASSIGNMENT = re.compile(r"""^\s*(?:-\s+)?["']?(?P<key>[A-Za-z_][\w-]*)["']?\s*:(?:\s+(?P<value>.*?))?\s*$""")
_SECRET_KEY = re.compile(
    r"pass(word|phrase)?$|^pwd$|token|secret|private_key|keyfile_json|api_?key|access_key|credential|^key$|^auth$"
    r"|connection_string|^dsn$|motherduck",
    re.IGNORECASE,
)
# In the query of a URL, and in the texts of libpq, ODBC and .env files.
_PAIR = re.compile(r"""(?:^|[\s;&?,])(?P<key>[A-Za-z_][\w.-]*)=(?P<value>"[^"]*"|'[^']*'|[^\s;&]+)""")
# In a mapping of YAML or JSON that stands in one line.
_IN_BRACES = re.compile(
    r"""[{,]\s*["']?(?P<key>[A-Za-z_][\w-]*)["']?\s*:\s*(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,}\n]+)"""
)
# Everybody may know a certificate, and a bundle of them has thousands of lines.
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def secret_values(*, names: Iterable[str], files: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """The values that are secret: of named variables, of dbt's own DBT_ENV_SECRET…, and in files of Secrets.

    Of a directory each file counts. Of a file in YAML, such as profiles.yml, the values of keys that name a secret
    count, of any other one the whole text. Those that are not worth masking are left out.
    """
    wanted = set(names)
    values: list[str | _Variable] = [
        value for name, value in environ.items() if name in wanted or name.startswith("DBT_ENV_SECRET")
    ]
    for path in files:
        values.extend(_of_path(Path(path)))
    # A profile may say only where its secret comes from: then it is the value of that variable.
    texts = [environ.get(value.name, "") if isinstance(value, _Variable) else value for value in values]
    texts = [_CERTIFICATE.sub("", text) for text in texts]
    values_found = [*texts, *(inner for text in texts for inner in _inside(text))]
    return [text for text in values_found if worth_masking(text)]


@dataclass(frozen=True)
class _Variable:
    name: str


def _inside(text: str) -> Iterable[str]:
    """What is the real secret inside a value: the key of a service account, the password of a URL or of a DSN."""
    for pair in _PAIR.finditer(text):
        if _SECRET_KEY.search(pair.group("key")):
            yield urllib.parse.unquote(_unquoted(pair.group("value")))
            yield _unquoted(pair.group("value"))
    if "\n" in text:
        yield from (value for value in _of_profile(text) if isinstance(value, str))
    try:
        if text.lstrip().startswith("{"):
            yield from _of_json(json.loads(text))
        elif "://" in text:
            yield urllib.parse.unquote(urllib.parse.urlsplit(text.strip()).password or "")
    except (ValueError, RecursionError):
        return


def _of_json(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and _SECRET_KEY.search(key):
                yield item
            else:
                yield from _of_json(item)
    elif isinstance(value, list):
        for item in value:
            yield from _of_json(item)


def _of_path(path: Path, *, depth: int = _DEEPEST) -> list[str | _Variable]:
    try:
        if path.is_dir():
            # Of a mounted Secret ..data has the same files again.
            entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("..")) if depth else []
            return [value for entry in entries for value in _of_path(entry, depth=depth - 1)]
        text = _read(path)
    except (OSError, ValueError):
        # What cannot be read here cannot be read by dbt either.
        return []
    inner = list(_of_profile(text)) if path.suffix in (".yml", ".yaml") else []
    return inner or [text]


def _read(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_LARGEST_FILE).decode("utf-8", "surrogateescape")


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
            for pair in _IN_BRACES.finditer(line):
                if _SECRET_KEY.search(pair.group("key")):
                    yield _secret(pair.group("value"))
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
    # How it is quoted depends on the whole text that it is a part of: with both kinds of quotes in it, like this.
    yield repr(value + "'\"")[1:-4]
    yield value.replace("'", "''")
    raw = _bytes(value)
    yield urllib.parse.quote(raw)
    yield urllib.parse.quote(raw, safe="")
    yield urllib.parse.quote_plus(raw)
    yield raw.decode("utf-8", "replace")
    for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        yield encoded.decode("ascii").rstrip("=")


def _bytes(value: str) -> bytes:
    try:
        # As it stands in the environment, where it need not be UTF-8.
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace")


def worth_masking(text: str) -> bool:
    """Whether a value is a secret that can be kept: neither very short, nor a word that stands in every log."""
    text = text.strip()
    return len(text) >= SHORTEST and text.lower() not in decided.WORDS and not _PUT_IN.issuperset(text)


class Masker:
    """Replaces secret values in texts and in the texts of JSON-like values. Built once, used for every line."""

    def __init__(self, *, values: Iterable[str]) -> None:
        forms: set[str] = set()
        for value in values:
            for text in {value, value.strip()}:
                if len(text.strip()) >= SHORTEST:
                    forms.update(_forms(text))
            lines = value.splitlines()
            for line in lines if len(lines) > 1 else ():
                if len(line.strip()) >= SHORTEST_LINE and not line.rstrip().endswith(":"):
                    forms.update(_forms(line.strip()))
        self._forms = sorted((form for form in forms if len(form.strip()) >= SHORTEST), key=len, reverse=True)
        # By how they begin: a private key alone has dozens of lines, which are not to be compared one by one. Of those
        # that begin in the same way the longest is the first.
        self._heads: dict[str, list[str]] = {}
        for form in self._forms:
            self._heads.setdefault(form[:SHORTEST], []).append(form)
        # Looks fast for where one might begin, however many there are.
        letters = ("".join(sorted({head[place] for head in self._heads})) for place in range(SHORTEST))
        maybe = "".join(f"[{re.escape(any_of)}]" for any_of in letters) if self._heads else "(?!)"
        self._maybe = re.compile(f"(?={maybe})", re.DOTALL)

    def occurs_in(self, content: bytes) -> bool:
        """Whether a secret is in the content of a file, in any of its written forms."""
        return any(_bytes(form) in content for form in self._forms)

    def text(self, text: str) -> str:
        """The text without secrets."""
        return _replaced(text, self.places(text))

    def lines(self, text: str) -> list[str]:
        """The lines of the text without secrets; they are as many as without masking."""
        return _replaced(text, self.places(text), keep_lines=True).split("\n")

    def cut(self, text: str, *, limit: int) -> str:
        """The text without secrets, of at most this many characters.

        Whoever cuts a text that is not masked yet takes this: of a secret that is cut in two neither half is found.
        """
        return shortened(self.text(text), limit=limit)

    def value(self, value: Any) -> Any:
        """The JSON-like value without secrets in its texts; fields by which something is decided are kept."""
        return self._masked(value) if self._forms else value

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where secrets stand, as slices in their order. Those that overlap are one: none shows what another leaves."""
        found: list[tuple[int, int]] = []
        for match in self._maybe.finditer(text):
            at = match.start()
            forms = self._heads.get(text[at : at + SHORTEST], ())
            end = at + next((len(form) for form in forms if text.startswith(form, at)), 0)
            if found and at < found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], end))
            elif end > at:
                found.append((at, end))
        return found

    def unfinished(self, text: str) -> int:
        """From where on the end of the text may be the beginning of a secret; its length where it is none."""
        first = len(text)
        for form in self._forms:
            at = text.find(form[0], max(len(text) - len(form) + 1, 0), first)
            while at != -1 and not form.startswith(text[at:]):
                at = text.find(form[0], at + 1, first)
            first = at if at != -1 else first
        return first

    def _masked(self, value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            kept = key in decided.STATUS_FIELDS and value.strip().lower() in decided.STATUSES
            return value if kept else self.text(value)
        if isinstance(value, dict):
            return {
                name: item if name in decided.FIELDS else self._masked(item, key=name) for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._masked(item) for item in value]
        return value


class MaskedStream:
    """A text that comes in pieces, masked as if it had come in one: what may become a secret is held back."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = ""

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def feed(self, text: str) -> str:
        """What can be said after this piece."""
        text = self._held + text
        places = self._masker.places(text)
        safe = self._masker.unfinished(text)
        if places and places[-1][1] > safe:
            # The beginning of a secret lies within others: with what follows it is one place with them.
            safe = min([safe, *(start for start, end in places if end > safe)])
        self._held = text[safe:]
        return _replaced(text[:safe], [place for place in places if place[1] <= safe])

    def end(self) -> str:
        """What was held back. Whoever wrote the text may have been stopped in the middle of a secret."""
        text, self._held = self._held, ""
        # What is held back begins with a secret, or with the beginning of one.
        stopped = len(text) - self._masker.unfinished(text) >= SHORTEST_PART
        return REPLACEMENT if stopped else self._masker.text(text)


def _replaced(text: str, places: list[tuple[int, int]], *, keep_lines: bool = False) -> str:
    if not places:
        return text
    parts, at = [], 0
    for start, end in places:
        parts += [text[at:start], REPLACEMENT, "\n" * text.count("\n", start, end) if keep_lines else ""]
        at = end
    return "".join([*parts, text[at:]])


def shortened(text: str, *, limit: int) -> str:
    """A text of at most this many characters, saying so when something is missing."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"
