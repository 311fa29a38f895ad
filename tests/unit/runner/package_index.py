"""A package index of the test's own: wheels that are made when they are added, and a server that can be held up."""

import base64
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class PackageIndex:
    """What the server has. `user`: user:password that it asks for."""

    port: int = 0
    user: str = ""
    wheels: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    holding: str = ""  # a part of the path for which the next request gets no answer until it is free

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple/"

    def add(self, name: str, version: str, *, needs: str = "", leads_to: str = "") -> str:
        """Add a package; returns the hash of its wheel. leads_to: a folder with modules that it brings in reach."""
        module = name.replace("-", "_")
        info = f"{module}-{version}.dist-info"
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        files = {
            f"{module}/__init__.py": f"version = '{version}'\n",
            f"{module}/late.py": f"version = '{version}'\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        if leads_to:
            files[f"{module}_leads.pth"] = f"{leads_to}\n"
        digests = {path: hashlib.sha256(text.encode()).digest() for path, text in files.items()}
        lines = [
            f"{path},sha256={base64.urlsafe_b64encode(one).decode().rstrip('=')}," for path, one in digests.items()
        ]
        files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as wheel:
            for path, text in files.items():
                wheel.writestr(path, text)
        self.wheels[f"{module}-{version}-py3-none-any.whl"] = buffer.getvalue()
        return hashlib.sha256(buffer.getvalue()).hexdigest()

    def hold(self, part: str) -> None:
        """Let the next request for such a path wait until `release`."""
        self.held.clear()
        self.free.clear()
        self.holding = part

    def release(self) -> None:
        """Answer it."""
        self.free.set()

    def page(self, name: str) -> str:
        """The page of a package."""
        wheels = [wheel for wheel in self.wheels if wheel.split("-")[0] == name.replace("-", "_")]
        return "".join(f'<a href="/files/{wheel}">{wheel}</a>\n' for wheel in wheels)


def _basic(user: str) -> str:
    return f"Basic {base64.b64encode(user.encode()).decode()}"


@contextmanager
def serve() -> Iterator[PackageIndex]:
    """The server, on a port of its own."""
    index = PackageIndex()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.requests.append(self.path)
            if index.holding and index.holding in self.path:
                index.holding = ""
                index.held.set()
                index.free.wait()
            self.wfile.write(self._head())

        def do_HEAD(self) -> None:
            self._head()

        def _head(self) -> bytes:
            """Send the beginning of an answer; returns the rest."""
            _, folder, name, *_ = [*self.path.split("/"), ""]
            content = index.wheels.get(name) if folder == "files" else index.page(name).encode()
            allowed = not index.user or self.headers.get("Authorization") == _basic(index.user)
            self.send_response(401 if not allowed else 200 if content else 404)
            self.send_header("Content-Type", "text/html" if folder != "files" else "application/octet-stream")
            body = (content if allowed else None) or b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return body

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    index.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        index.release()
        server.shutdown()
        server.server_close()
