"""A client of BigQuery with the credentials that dbt's profile gives."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Callable

import google.auth
from google.api_core.client_options import ClientOptions
from google.auth import impersonated_credentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import bigquery
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from requests.adapters import HTTPAdapter

from dbt_operator.runner.output import Line

_ENDPOINT = "https://bigquery.googleapis.com"


def client_of(connection: Line, *, location: str | None, threads: int) -> Any:
    """The client. Raises: what Google's libraries do."""
    credentials = METHODS[connection["method"]](connection)
    if connection["impersonate_service_account"]:
        credentials = impersonated_credentials.Credentials(
            source_credentials=credentials,
            target_principal=connection["impersonate_service_account"],
            target_scopes=list(connection["scopes"]),
        )
    session = AuthorizedSession(credentials)
    for scheme in ("https://", "http://"):
        # It keeps ten connections by itself, and each thread has need of one.
        session.mount(scheme, HTTPAdapter(pool_connections=threads, pool_maxsize=threads))
    _look_once(session, str(connection["api_endpoint"] or _ENDPOINT))
    options = {"quota_project_id": connection["quota_project"], "api_endpoint": connection["api_endpoint"]}
    return bigquery.Client(
        project=connection["execution_project"],
        credentials=credentials,
        location=location or connection["location"],
        client_options=ClientOptions(**options),
        _http=session,
    )


def _look_once(session: Any, url: str) -> None:
    """Have the session take proxies and certificates from the environment now, and not before each request.

    Else each one also looks for ~/.netrc, whose passwords are for nobody who has a token.
    """
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify, session.trust_env = found["proxies"], found["verify"], False


def _default(connection: Line) -> Any:
    credentials, _ = google.auth.default(scopes=connection["scopes"])
    return credentials


def _from_file(connection: Line) -> Any:
    return service_account.Credentials.from_service_account_file(connection["keyfile"], scopes=connection["scopes"])


def _from_text(connection: Line) -> Any:
    info = connection["keyfile_json"]
    if isinstance(info, str):
        info = json.loads(base64.b64decode(info))
    return service_account.Credentials.from_service_account_info(info, scopes=connection["scopes"])


def _from_token(connection: Line) -> Any:
    names = ("token", "refresh_token", "client_id", "client_secret", "token_uri", "scopes")
    return Credentials(**{name: connection[name] for name in names})


# By dbt's `method`.
METHODS: Mapping[str, Callable[[Line], Any]] = {
    "oauth": _default,
    "service-account": _from_file,
    "service-account-json": _from_text,
    "oauth-secrets": _from_token,
}
