"""Texts in a bucket, written by the client for it that dbt's environment has, with the credentials of the pod."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple

_THREADS = 32
_SECONDS = 60.0  # for one request; the clients ask again for two minutes, or five times
_TYPE = "text/plain; charset=utf-8"
_ERROR_LENGTH = 300

Write = Callable[[str, bytes], None]


class StorageError(Exception):
    """Something is not kept; the text says what, and why."""


class Storage(NamedTuple):
    """A service. module, package: the client, as Python and as pip call it. opened: what writes into a bucket."""

    module: str
    package: str
    opened: Callable[[str], Write]


def _of_google(bucket: str) -> Write:
    storage = importlib.import_module("google.cloud.storage")
    retry = importlib.import_module("google.cloud.storage.retry").DEFAULT_RETRY
    adapter = importlib.import_module("requests.adapters").HTTPAdapter
    client = storage.Client(project=None)  # which a bucket has no need of
    for scheme in ("https://", "http://"):
        # It keeps ten connections by itself, and each thread has need of one.
        client._http.mount(scheme, adapter(pool_connections=_THREADS, pool_maxsize=_THREADS))  # noqa: SLF001 - its own
    place = client.bucket(bucket)

    def write(key: str, content: bytes) -> None:
        # The same content under the same name may be written twice, so each request may be made again.
        place.blob(key).upload_from_string(content, content_type=_TYPE, timeout=_SECONDS, retry=retry)

    return write


def _of_amazon(bucket: str) -> Write:
    config = importlib.import_module("botocore.config").Config(
        max_pool_connections=_THREADS,
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 5},
    )
    client = importlib.import_module("boto3").client("s3", config=config)

    def write(key: str, content: bytes) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=content, ContentType=_TYPE)

    return write


# By the scheme of the URL. The API knows the same ones (`api.spec`), which a test compares.
STORAGES: Mapping[str, Storage] = {
    "gs": Storage("google.cloud.storage", "google-cloud-storage", _of_google),
    "s3": Storage("boto3", "boto3", _of_amazon),
}


def unusable(url: str) -> str:
    """Why nothing can be written there, by what is installed; "" where something can."""
    scheme = url.partition("://")[0]
    if scheme not in STORAGES:
        return f"there is no way to write to {scheme}://, but to {' and '.join(f'{one}://' for one in STORAGES)}"
    storage = STORAGES[scheme]
    try:
        found = importlib.util.find_spec(storage.module) is not None
    except ModuleNotFoundError:  # of a package above it
        found = False
    return "" if found else f"for {scheme}:// the Python package {storage.package} has to be installed beside dbt"


def write(texts: Mapping[str, str], *, url: str, stopped: Callable[[], bool]) -> None:
    """Write each text under its name below the URL, many at once. Raises: StorageError.

    stopped: whether what is not written yet is not wanted any more.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    above = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def one(name: str, text: str) -> None:
        if stopped():
            return
        try:
            put(above + name, text.encode("utf-8", "replace"))
        except Exception as error:  # each client has its own kinds, and all mean the same here
            raise StorageError(f"{scheme}://{bucket}/{above}{name} could not be written: {_said(error)}") from error

    try:
        put = STORAGES[scheme].opened(bucket)
    except Exception as error:  # as above, such as of credentials that are not there
        raise StorageError(f"{scheme}://{bucket} cannot be written to: {_said(error)}") from error
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="storage") as pool:
        # The first one that fails is told of here, and what has not begun by then does not begin.
        for _ in pool.map(one, texts, texts.values()):
            pass


def _said(error: Exception) -> str:
    """What the service says, in one line."""
    try:
        text: Any = error.response.json()["error"]["message"]  # type: ignore[attr-defined]  # of Google's errors
    except (AttributeError, ValueError, KeyError, TypeError):
        text = error
    line = " ".join(str(text).split()).rstrip(".") or type(error).__name__
    return line if len(line) <= _ERROR_LENGTH else f"{line[: _ERROR_LENGTH - 1]}…"
