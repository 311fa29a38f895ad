"""A git server over http or https for the tests: git's own http-backend behind Python's web server.

/public/… everybody may read, /private/… who knows the password; /slow/… asks for it too, and never answers then;
/old/… speaks an old protocol, /hang/… never answers, /broken/… answers 503; /files/… are plain files.
With the standard library alone, as it runs in an image too: `python3 serve.py FOLDER PORT [CERT KEY]`.
"""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

PASSWORD = "correct-horse-battery"  # noqa: S105 - of a server for tests


class _Handler(BaseHTTPRequestHandler):
    root: Path
    asked: list[tuple[str, str]]  # paths with the credentials that came with them

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def _answer(self, body: bytes) -> None:
        url = urlsplit(self.path)
        kind, _, rest = url.path.lstrip("/").partition("/")
        given = self.headers.get("Authorization", "")
        self.asked.append((url.path, given))
        if kind == "hang":
            threading.Event().wait(60)
        elif kind == "broken":
            self.send_error(503)
        elif kind == "old":  # speaks the first version of the protocol, whatever is asked for
            del self.headers["Git-Protocol"]
            self._git(f"/{rest}", query=url.query, body=body)
        elif kind in ("private", "slow") and not self._allowed(given):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "slow":
            threading.Event().wait(60)
        elif kind == "files":
            self._file(self.root / "files" / Path(rest).name)
        else:
            self._git(f"/{rest}", query=url.query, body=body)

    def _allowed(self, given: str) -> bool:
        kind, _, coded = given.partition(" ")
        return kind == "Basic" and base64.b64decode(coded).decode().partition(":")[2] == PASSWORD

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.end_headers()
        self.wfile.write(file.read_bytes())

    def _git(self, path: str, *, query: str, body: bytes) -> None:
        env = os.environ | {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.decode().split(": ", 1) for line in head.splitlines() if b": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        if os.environ.get("GIT_SERVER_LOG"):
            super().log_message(format, *args)


def make_server(
    root: Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    tls: tuple[str, str] | None = None,
    asked: list[tuple[str, str]] | None = None,
) -> ThreadingHTTPServer:
    """A server of the repositories in this folder, which begins to answer by its serve_forever().

    asked: where it notes which paths it is asked for, with the credentials that come with them.
    """
    handler = type("Handler", (_Handler,), {"root": root, "asked": [] if asked is None else asked})
    server = ThreadingHTTPServer((host, port), handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


if __name__ == "__main__":
    folder, number, *files = sys.argv[1:]
    make_server(Path(folder), port=int(number), host="", tls=(files[0], files[1]) if files else None).serve_forever()
