"""The fake behind HTTP, in a thread of its own: `with serve() as server: … server.url`.

`python -m tests.bigquery --port 9050 --seconds 3` starts one by itself, whose jobs take so long.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.bigquery.catalog import Resource
from tests.bigquery.fake import ApiError, FakeBigQuery, Fault, Request
from tests.bigquery.jobs import DONE

Handler = Callable[[web.Request, bytes], Awaitable[Resource]]
_PROJECT = "/bigquery/v2/projects/{project}"


@dataclass
class Server:
    """A running fake: `url` is what `api_endpoint` of a profile is set to."""

    fake: FakeBigQuery
    url: str = ""
    uploads: dict[str, Resource] = field(default_factory=dict)

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        """Each method of the interface: how it is asked for, what it is called, what it does."""
        dataset, one = f"{_PROJECT}/datasets/{{dataset}}", "/{table}"
        return [
            ("POST", f"{_PROJECT}/jobs", "jobs.insert", self._insert),
            ("GET", f"{_PROJECT}/jobs", "jobs.list", self._list_jobs),
            ("GET", f"{_PROJECT}/jobs/{{job}}", "jobs.get", self._get_job),
            ("POST", f"{_PROJECT}/jobs/{{job}}/cancel", "jobs.cancel", self._cancel),
            ("GET", f"{_PROJECT}/queries/{{job}}", "jobs.getQueryResults", self._results),
            ("POST", "/upload" + f"{_PROJECT}/jobs", "jobs.upload", self._begin_upload),
            ("PUT", "/upload" + f"{_PROJECT}/jobs", "jobs.insert", self._upload),
            ("GET", f"{_PROJECT}/datasets", "datasets.list", self._list_datasets),
            ("POST", f"{_PROJECT}/datasets", "datasets.insert", self._insert_dataset),
            ("GET", dataset, "datasets.get", self._get_dataset),
            ("PATCH", dataset, "datasets.patch", self._patch_dataset),
            ("DELETE", dataset, "datasets.delete", self._delete_dataset),
            ("GET", f"{dataset}/tables", "tables.list", self._list_tables),
            ("GET", f"{dataset}/tables{one}", "tables.get", self._get_table),
            ("PATCH", f"{dataset}/tables{one}", "tables.patch", self._patch_table),
            ("DELETE", f"{dataset}/tables{one}", "tables.delete", self._delete_table),
            ("GET", f"{dataset}/routines", "routines.list", self._list_routines),
        ]

    def application(self) -> web.Application:
        """The routes, each with its journal and its faults."""
        app = web.Application(client_max_size=1 << 28)
        for verb, path, method, handler in self.routes():
            app.router.add_route(verb, path, self._answering(method, handler))
        return app

    def _answering(self, method: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            began, content = time.time(), await request.read()
            fault = self.fake.fault(method, request.path_qs + content.decode(errors="replace"))
            status = 200
            try:
                if fault is not None and fault.status:
                    raise ApiError(fault.reason, f"{fault.reason}, says the fake", status=fault.status)
                found = await handler(request, content)
            except ApiError as error:
                found, status = error.body(), error.status
            lost = fault is not None and (fault.lost or fault.hangs)
            job = _job_of(request, content)
            self.fake.journal.append(Request(began, method, request.path, job=job, status=0 if lost else status))
            if fault is not None and fault.hangs:
                await self._released(fault)
            if lost:
                assert request.transport is not None
                request.transport.abort()
            headers = {"Location": found.pop("@location")} if "@location" in found else {}
            return web.json_response(found, status=status, headers=headers)

        return answer

    @staticmethod
    async def _released(fault: Fault) -> None:
        while fault.hangs:  # noqa: ASYNC110 - it is another thread that says so
            await asyncio.sleep(0.05)

    # Jobs.

    async def _insert(self, request: web.Request, content: bytes) -> Resource:
        return self.fake.insert(request.match_info["project"], json.loads(content))

    async def _begin_upload(self, request: web.Request, content: bytes) -> Resource:
        if request.query.get("uploadType") == "multipart":
            boundary = re.search(r'boundary="?([^";]+)"?', request.headers["Content-Type"])
            assert boundary is not None
            _, head, body, *_ = content.split(b"--" + boundary[1].encode())
            resource = json.loads(head.split(b"\r\n\r\n", 1)[1])
            return self.fake.insert(request.match_info["project"], resource, body.split(b"\r\n\r\n", 1)[1].strip())
        name = str(len(self.uploads) + 1)
        self.uploads[name] = json.loads(content)
        return {"@location": f"{self.url}{request.path}?uploadType=resumable&upload_id={name}"}

    async def _upload(self, request: web.Request, content: bytes) -> Resource:
        return self.fake.insert(request.match_info["project"], self.uploads[request.query["upload_id"]], content)

    async def _get_job(self, request: web.Request, _content: bytes) -> Resource:
        job = self.fake.find(*_job(request))
        return job.resource(self.fake.now())

    async def _cancel(self, request: web.Request, _content: bytes) -> Resource:
        return self.fake.cancel(*_job(request))

    async def _list_jobs(self, request: web.Request, _content: bytes) -> Resource:
        states = [state for value in request.query.getall("stateFilter", []) for state in value.split(",")]
        return self.fake.listed(request.match_info["project"], request.query, states)

    async def _results(self, request: web.Request, _content: bytes) -> Resource:
        job = self.fake.find(*_job(request))
        until = time.monotonic() + min(int(request.query.get("timeoutMs", "10000")) / 1000, self.fake.longest_poll)
        while job.state(self.fake.now()) != DONE and time.monotonic() < until:
            left = (job.ends - self.fake.now()) / 1000
            await asyncio.sleep(max(0.001, min(left, until - time.monotonic(), 0.05 if left > 60 else left)))
        return self.fake.results(job, rows=request.query.get("maxResults") != "0")

    # The catalog.

    async def _list_datasets(self, request: web.Request, _content: bytes) -> Resource:
        project = request.match_info["project"]
        return {"datasets": [body for key, body in self.fake.catalog.datasets.items() if key[0] == project]}

    async def _insert_dataset(self, request: web.Request, content: bytes) -> Resource:
        project, body = request.match_info["project"], json.loads(content)
        name = body["datasetReference"]["datasetId"]
        if (project, name) in self.fake.catalog.datasets:
            raise ApiError("duplicate", f"Already Exists: Dataset {project}:{name}")
        return self.fake.catalog.add_dataset(project, name, body)

    async def _get_dataset(self, request: web.Request, _content: bytes) -> Resource:
        key = (request.match_info["project"], request.match_info["dataset"])
        if key not in self.fake.catalog.datasets:
            raise ApiError("notFound", f"Not found: Dataset {key[0]}:{key[1]}")
        return self.fake.catalog.datasets[key]

    async def _patch_dataset(self, request: web.Request, content: bytes) -> Resource:
        await self._get_dataset(request, content)
        return self.fake.catalog.add_dataset(
            request.match_info["project"], request.match_info["dataset"], json.loads(content)
        )

    async def _delete_dataset(self, request: web.Request, _content: bytes) -> Resource:
        key = (request.match_info["project"], request.match_info["dataset"])
        if not self.fake.catalog.drop_dataset(*key):
            raise ApiError("notFound", f"Not found: Dataset {key[0]}:{key[1]}")
        return {}

    async def _list_tables(self, request: web.Request, content: bytes) -> Resource:
        await self._get_dataset(request, content)
        self.fake.settle()
        found = self.fake.catalog.tables_in(request.match_info["project"], request.match_info["dataset"])
        return {"tables": [table.resource() for table in found]}

    async def _get_table(self, request: web.Request, _content: bytes) -> Resource:
        self.fake.settle()
        key = _table(request)
        if key not in self.fake.catalog.tables:
            raise ApiError("notFound", f"Not found: Table {key[0]}:{key[1]}.{key[2]}")
        return self.fake.catalog.tables[key].resource()

    async def _patch_table(self, request: web.Request, content: bytes) -> Resource:
        await self._get_table(request, content)
        table = self.fake.catalog.tables[_table(request)]
        table.modified = self.fake.now()
        table.body |= {key: value for key, value in json.loads(content).items() if key != "tableReference"}
        return table.resource()

    async def _delete_table(self, request: web.Request, content: bytes) -> Resource:
        await self._get_table(request, content)
        del self.fake.catalog.tables[_table(request)]
        return {}

    async def _list_routines(self, _request: web.Request, _content: bytes) -> Resource:
        return {"routines": []}


def _job(request: web.Request) -> tuple[str, str, str]:
    return request.match_info["project"], request.match_info["job"], request.query.get("location", "")


def _job_of(request: web.Request, content: bytes) -> str:
    if "job" in request.match_info or not content.startswith(b"{"):
        return request.match_info.get("job", "")
    return str((json.loads(content).get("jobReference") or {}).get("jobId", ""))


def _table(request: web.Request) -> tuple[str, str, str]:
    place = request.match_info
    return place["project"], place["dataset"], place["table"].partition("$")[0]


@contextmanager
def serve(fake: FakeBigQuery | None = None, *, port: int = 0) -> Iterator[Server]:
    """A fake on loopback, until the end of the block."""
    server = Server(fake or FakeBigQuery())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake-bigquery", daemon=True)
    thread.start()
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
        await site.start()
        host, own = runner.addresses[0][:2]
        server.url = f"http://{host}:{own}"

    asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
