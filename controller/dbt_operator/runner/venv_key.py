"""What makes two wishes for an environment the same one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import sysconfig
import urllib.parse
from collections.abc import Iterable

from dbt_operator.runner.installers import INDEX_VARIABLES, PIP, Order

_LENGTH = 20


def key_of(order: Order, *, by: str) -> str:
    """The name of an environment that is made of this order by this installer, for this Python on this system."""
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    said = {
        # An environment leads to the Python that it was made for.
        "python": [base, sysconfig.get_config_var("SOABI"), platform.python_implementation()],
        "platform": [sysconfig.get_platform(), *platform.libc_ver()],
        "installer": by,
        "requirements": [line.strip() for line in order.requirements.splitlines() if line.strip()],
        "constraints": order.constraints.splitlines(),
        "options": order.options,
        "find_links": order.find_links,
        "indexes": [without_user(url) for url in order.indexes] or _of_the_image(),
        "system": _system(by) if order.system_site_packages else None,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:_LENGTH]


def pinned_by_hashes(order: Order) -> bool:
    """Whether an installer accepts nothing else but what the requirements name by their hashes."""
    return "--hash=" in order.requirements or "--require-hashes" in order.options


def without_user(url: str) -> str:
    """A URL without what is secret in it: a password may change, and the packages are the same."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def secrets_of(urls: Iterable[str]) -> list[str]:
    """What has to be masked of URLs that come from a Secret."""
    found: list[str] = []
    for url in urls:
        user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
        name, _, password = user.partition(":")
        # Where there is no password, the name is a token.
        found += [url, password or name, urllib.parse.unquote(password or name)]
    return [text for text in found if text]


def _of_the_image() -> list[str]:
    return [f"{name}={without_user(os.environ[name])}" for name in INDEX_VARIABLES if os.environ.get(name)]


def _system(by: str) -> list[str] | None:
    """What pip finds installed already it does not install; uv does not look there."""
    if by != PIP.name:
        return []
    return sorted(f"{found.metadata['Name']}=={found.version}" for found in importlib.metadata.distributions())
