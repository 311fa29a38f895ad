"""Authenticated HTTP to the API server: one request, one stream, errors as ApiError.

Built on `kubernetes.aio`'s ApiClient, Configuration and config loaders, one level below its DynamicClient. That one
asks the server for all of its resources first and keeps them, wraps every object in attribute proxies, gives no
control over single time outs and hides the response that a log stream is read from. The generated API classes build a
pydantic model of everything they get. Below them the package does what is worth not writing anew (kubeconfig in all of
its forms, exec plugins, service account tokens, TLS, proxies) and leaves JSON as it is.

Tokens: in a pod kubernetes.aio reads the token file again once a minute, which is enough for Kubernetes' rotation. A
401 in between (or one with a kubeconfig, whose exec plugins it runs only once) makes us load the credentials anew and
ask once more.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from dbt_operator import __version__
from dbt_operator.kube.api_error import NETWORK, ApiError, from_response
from dbt_operator.kube.clock import ServerClock

# aiohttp holds up to twice this much of a stream before it stops reading from the socket. The 2 MiB that kubernetes.aio
# asks for (for watches that are read by lines) would be 4 MiB per followed log behind a slow sink.
_READ_BUFFER = 64 * 1024
_CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to the API server."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"
    accept: str = "application/json"


class Session:
    """The connection pool and the credentials."""

    def __init__(self, *, kubeconfig: str | None) -> None:
        self.clock = ServerClock()
        self._kubeconfig = kubeconfig
        self._configuration: Configuration | None = None
        self._api: ApiClient | None = None
        self._authentication = asyncio.Lock()
        self._authenticated = 0  # how often the credentials were loaded

    async def open(self) -> None:
        """Load the credentials. Raises kubernetes' ConfigException when there are none."""
        self._configuration = Configuration(
            # Every followed log holds a connection for as long as its pod runs: a limit would let logs starve the rest.
            connection_pool_maxsize=0,
            client_session_kwargs={"read_bufsize": _READ_BUFFER, "trust_env": False},
        )
        await self._authenticate(seen=0)
        self._configuration.proxy = self._configuration.proxy or proxy_for(self._configuration.host)
        self._api = ApiClient(configuration=self._configuration)
        self._api.user_agent = f"dbt-operator/{__version__}"

    async def close(self) -> None:
        """Close all connections."""
        if self._api is not None:
            await self._api.close()  # type: ignore[no-untyped-call]  # the package is typed in part only
            self._api = None

    async def send(self, request: Request, *, seconds: float) -> bytes:
        """The body of the answer, within so many seconds."""
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_TIMEOUT))
        response = await self._open(request, limits)
        with _network(request):
            return await response.read()

    @asynccontextmanager
    async def stream(self, request: Request, *, read_timeout: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of the answer in pieces as they arrive; it may last for ever, silent for `read_timeout` at most."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=read_timeout)
        response = await self._open(request, limits)
        try:
            yield _pieces(request, response)
        finally:
            # Not release(): to use the connection again it would have to read a stream that has no end.
            response.close()

    async def _open(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        seen = self._authenticated
        with _network(request):
            response = await self._ask(request, limits)
            if response.status == 401:
                response.close()
                await self._authenticate(seen=seen)
                response = await self._ask(request, limits)
            if response.status < 400:
                return response
            body = await response.read()
        raise from_response(
            status=response.status,
            phrase=response.reason or "",
            headers=response.headers,
            body=body,
            request=_described(request),
        )

    async def _ask(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        if self._api is None or self._configuration is None:
            raise RuntimeError("the session is not open")
        headers = {"Accept": request.accept, "User-Agent": self._api.user_agent}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if token := await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization"):
            headers["Authorization"] = token
        url = self._configuration.host + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        answer = await self._api.call_api(
            request.method, url, header_params=headers, body=request.body, _request_timeout=limits
        )
        response: aiohttp.ClientResponse = answer.response
        self.clock.heard(response.headers.get("Date", ""), local=datetime.now(UTC))
        return response

    async def _authenticate(self, *, seen: int) -> None:
        async with self._authentication:
            if self._authenticated != seen:
                return  # many requests get their 401 at the same moment; one of them has done it already
            await load_credentials(self._configuration, kubeconfig=self._kubeconfig)
            self._authenticated += 1


async def load_credentials(configuration: Configuration | None, *, kubeconfig: str | None) -> None:
    """The pod's own, else those of a kubeconfig. Raises kubernetes' ConfigException when there are none."""
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # as above
    else:
        await load_kube_config(  # type: ignore[no-untyped-call]  # as above
            config_file=kubeconfig, client_configuration=configuration, persist_config=False
        )


def proxy_for(host: str) -> str | None:
    """The proxy that the environment names for the API server (HTTPS_PROXY, NO_PROXY).

    Looked up once: aiohttp's own way (trust_env) reads all of the environment and the netrc file for each request, in
    two threads, which was two thirds of the operator's CPU time.
    """
    address = urlsplit(host)
    return None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)


@contextmanager
def _network(request: Request) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        message = f"{_described(request)} timed out"
        raise ApiError(status=NETWORK, reason="Timeout", message=message, request=_described(request)) from error
    except (aiohttp.ClientError, OSError) as error:
        message = f"{_described(request)}: {error!r}"
        raise ApiError(status=NETWORK, reason="Connection", message=message, request=_described(request)) from error


def _described(request: Request) -> str:
    return f"{request.method} {request.path}"


async def _pieces(request: Request, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while True:
        with _network(request):
            piece = await response.content.readany()
        if not piece:
            return
        yield piece
