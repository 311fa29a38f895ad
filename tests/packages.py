"""A project that needs packages, and a hub on this machine that has them, with each version that was put there."""

import gzip
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

PROFILES = "shop: {target: dev, outputs: {dev: {type: duckdb, path: /tmp/never.duckdb, threads: 1}}}\n"


def package_files(name: str, says: str, *, needs: Sequence[Any] = ()) -> dict[str, str]:
    """A package with a macro of its own name, which says something."""
    files = {
        "dbt_project.yml": f"name: {name}\nversion: '1.0'\nconfig-version: 2\n",
        f"macros/{name}.sql": f"{{% macro {name}() %}}'{says}'{{% endmacro %}}\n",
        # What no package is read for: a project that tests it.
        "integration_tests/dbt_project.yml": "name: tests\nversion: '1.0'\n",
        "integration_tests/models/large.sql": "select 1",
    }
    return files | ({"packages.yml": yaml.safe_dump({"packages": [*needs]})} if needs else {})


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write these files below the folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def shop(folder: Path, packages: Sequence[Any], *, calls: str) -> Path:
    """A project that names packages, with a model that calls a macro of one."""
    return write(
        folder,
        {
            "dbt_project.yml": "name: shop\nversion: '1.0'\nconfig-version: 2\nprofile: shop\nflags: {}\n",
            "profiles.yml": PROFILES.replace("/tmp", str(folder.parent)),  # noqa: S108 - a word that is replaced
            "packages.yml": yaml.safe_dump({"packages": [*packages]}),
            "models/greeting.sql": f"{{{{ config(materialized='table') }}}} select {{{{ {calls}() }}}} as said",
        },
    )


def tarball(name: str, files: dict[str, str]) -> bytes:
    """An archive as a forge makes it of a release."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


@dataclass
class Hub:
    """What it has, and which paths it was asked for. `broken`: it answers 503 to everything."""

    url: str = ""
    index: dict[str, dict[str, Any]] = field(default_factory=dict)  # versions by the name of the package
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: bool = False

    def put(self, name: str, version: str, says: str, *, needs: Sequence[Any] = ()) -> None:
        """A version of a package."""
        file = f"/files/{name}-{version}.tar.gz"
        self.files[file] = tarball(name, package_files(name, says, needs=needs))
        self.index.setdefault(f"acme/{name}", {})[version] = {
            "id": f"acme/{name}/{version}",
            "name": name,
            "version": version,
            "packages": [*needs],
            "downloads": {"tarball": f"{self.url.rstrip('/')}{file}", "format": "tgz", "sha1": ""},
        }

    def answer(self, path: str) -> tuple[int, bytes]:
        """The answer to a request."""
        self.asked.append(path)
        if self.broken:
            return 503, b""
        if path == "/api/v1/index.json":
            return 200, json.dumps([*self.index]).encode()
        if path in self.files:
            return 200, self.files[path]
        name = path.removeprefix("/api/v1/").removesuffix(".json")
        if name in self.index:
            return 200, json.dumps({"name": name, "namespace": "acme", "versions": self.index[name]}).encode()
        return 404, b""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, while it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = hub.answer(self.path)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def files_in(archive: bytes) -> dict[str, bytes]:
    """The files of an archive that the runner has printed."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as opened:
        members = [member for member in opened if member.isfile()]
        return {member.name: opened.extractfile(member).read() for member in members}  # type: ignore[union-attr]  # they are files
