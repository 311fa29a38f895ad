"""A fake of the interfaces of Google's and Amazon's object storage, as far as a client needs them that only writes."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote

_UPLOAD = re.compile(r"^/upload/storage/v1/b/([^/]+)/o\?")


@dataclass
class Buckets:
    """What was written, by bucket and name. There are no other buckets than these.

    refusals: with which status the next requests are answered.
    """

    objects: dict[str, dict[str, str]] = field(default_factory=lambda: {"audit": {}})
    refusals: list[int] = field(default_factory=list)
    url: str = ""
    requests: int = 0

    @property
    def audit(self) -> dict[str, str]:
        """The objects of the bucket `audit`."""
        return self.objects["audit"]

    def put(self, bucket: str, name: str, content: bytes) -> int:
        """Write an object; returns the status of the answer."""
        self.requests += 1
        if self.refusals:
            return self.refusals.pop(0)
        if bucket not in self.objects:
            return 404
        self.objects[bucket][name] = content.decode()
        return 200


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as those of the services are
    buckets: Buckets

    def do_POST(self) -> None:
        """Google's upload of an object in one request."""
        content, upload = self._content(), _UPLOAD.match(self.path)
        boundary = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])
        assert upload is not None, self.path
        assert boundary is not None, self.path  # there is one where metadata and content are sent together
        _, head, body, *_ = content.split(b"--" + boundary[1].encode())
        resource = json.loads(head.split(b"\r\n\r\n", 1)[1])
        text = body.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        status = self.buckets.put(upload[1], resource["name"], text)
        said = "The specified bucket does not exist." if status == 404 else "Not now."
        error = {"error": {"code": status, "message": said}}
        self._answer(status, json.dumps(resource if status == 200 else error), kind="application/json")

    def do_PUT(self) -> None:
        """Amazon's PutObject."""
        _, bucket, *name = PurePosixPath(unquote(self.path.partition("?")[0])).parts
        status = self.buckets.put(bucket, "/".join(name), _unchunked(self._content(), dict(self.headers)))
        code = "NoSuchBucket" if status == 404 else "SlowDown"
        error = f"<Error><Code>{code}</Code><Message>The specified bucket does not exist</Message></Error>"
        self._answer(status, "" if status == 200 else error, kind="application/xml")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the class calls it
        """Nothing is logged."""

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, text: str, *, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def _unchunked(content: bytes, headers: dict[str, str]) -> bytes:
    """The content without the lengths that Amazon's client writes around it when it adds a checksum at its end."""
    if "aws-chunked" not in headers.get("Content-Encoding", ""):
        return content
    length, _, rest = content.partition(b"\r\n")
    return rest[: int(length.partition(b";")[0], 16)]


@contextmanager
def serve() -> Iterator[Buckets]:
    """The fake on loopback, with one bucket, `audit`."""
    buckets = Buckets()

    class Handler(_Handler):
        pass

    Handler.buckets = buckets
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        buckets.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield buckets
        finally:
            server.shutdown()
            thread.join(10)
