"""Where a value of a Secret can be read that should not be: in objects, Events and logs.

It looks for the values by itself, not by what the runner holds for secret.
"""

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

import yaml

from dev.install import NAMESPACE as SYSTEM
from tests.api import Api
from tests.conftest import Kubectl

# What everybody with the right to look at runs may read. A Secret itself is not among it, and what tests bring besides
# runs (a server, which has the password too) is none of the operator's.
OF_ANYBODY = ("configmaps", "dbtconnections", "dbtmodels", "dbtruns", "events")
OF_RUNS = ("jobs", "pods")
OF_A_RUN = "dbt-operator.io/run-uid"
SHORTEST = 8
"""Shorter values, a port perhaps, stand everywhere for other reasons."""
_SECRET_KEYS = ("password", "pass", "token", "private_key", "key")


def readable_secrets(*, api: Api, kubectl: Kubectl, namespace: str) -> list[str]:
    """Which keys of Secrets of the namespace can be read where; empty is how it should be."""
    values = dict(_values(api, namespace))
    if not values:
        return []
    places = dict(_texts(api, kubectl, namespace))
    return [f"{key} in {place}" for key, value in values.items() for place, text in places.items() if value in text]


def _values(api: Api, namespace: str) -> Iterator[tuple[str, str]]:
    for secret in api.objects("secrets", namespace=namespace):
        for key, data in (secret.get("data") or {}).items():
            text = base64.b64decode(data).decode(errors="replace")
            whole = not key.endswith((".yml", ".yaml"))
            for value in (text,) if whole else _inside(yaml.safe_load(text)):
                if len(value.strip()) >= SHORTEST:
                    yield f"{secret['metadata']['name']}/{key}", value.strip()


def _inside(value: Any) -> Iterator[str]:
    """The values of the secret keys of a profiles.yml, without those that only say where it comes from."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key in _SECRET_KEYS and isinstance(item, str) and "{{" not in item:
            yield item
        yield from _inside(item)


def _texts(api: Api, kubectl: Kubectl, namespace: str) -> Iterator[tuple[str, str]]:
    for resource in OF_ANYBODY + OF_RUNS:
        labels = OF_A_RUN if resource in OF_RUNS else ""
        for found in api.objects(resource, namespace=namespace, labels=labels):
            name = f"{resource}/{found['metadata']['name']}"
            yield name, json.dumps(found, ensure_ascii=False)
            for key, data in (found.get("binaryData") or {}).items():
                yield f"{name} ({key})", _unpacked(base64.b64decode(data))
            if resource == "pods":
                yield (
                    f"the log of {name}",
                    _log(kubectl, found["metadata"]["name"], "-n", namespace, "--all-containers"),
                )
    yield "the operator's log", _log(kubectl, "deployment/dbt-operator", "-n", SYSTEM, "--since=10m")


def _unpacked(data: bytes) -> str:
    return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode(errors="replace")


def _log(kubectl: Kubectl, *arguments: str) -> str:
    # Of a pod that is about to go, or that has not started, there is none.
    return kubectl.run("logs", *arguments).stdout
