"""What the API server's refusals mean.

One exception with named questions instead of a tree of classes: the same HTTP status says quite different things (a
403 is a missing right, a full quota, a policy's refusal or a namespace on its way out), and callers ask for meanings.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

NETWORK = 0  # the status of an error without an answer: no connection, connection lost, time out
_RBAC = re.compile(r'User ".*" cannot \w+ resource')
_DENIED = ("denied the request", "denied request", "violates PodSecurity")
_TOO_LARGE = ("request is too large", "Request entity too large", "larger than the maximum", "more than 1048576 bytes")
_MESSAGE_LIMIT = 2000


class ApiError(Exception):
    """The API server refused, or could not be asked."""

    def __init__(
        self,
        *,
        status: int,
        reason: str = "",
        message: str = "",
        retry_after: float | None = None,
        causes: frozenset[str] = frozenset(),
        request: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.causes = causes
        self.request = request  # what was refused: the method and the path

    def __str__(self) -> str:
        """The server's own words, with the number in front."""
        return f"{self.status or 'no answer'} {self.reason}: {self.message}".strip(": ")

    @property
    def not_found(self) -> bool:
        """There is no such object (or no such resource: the CRD is missing)."""
        return self.status == 404

    @property
    def already_exists(self) -> bool:
        """An object of this name exists."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """The object is not the one, or not in the version, that the request was for."""
        return self.status == 409 and not self.already_exists and not self._quota_conflict

    @property
    def expired(self) -> bool:
        """The continuation of a list, or a resource version, is too old."""
        return self.status == 410

    @property
    def unauthorized(self) -> bool:
        """The server does not accept the credentials."""
        return self.status == 401

    @property
    def quota_exceeded(self) -> bool:
        """A ResourceQuota has no room; it may have some later."""
        return self.status == 403 and "exceeded quota" in self.message

    @property
    def namespace_terminating(self) -> bool:
        """The namespace is being deleted: nothing can be created there any more."""
        said = "NamespaceTerminating" in self.causes or "it is being terminated" in self.message
        return self.status == 403 and said

    @property
    def forbidden(self) -> bool:
        """The operator's own rights do not suffice."""
        return self.status == 403 and bool(_RBAC.search(self.message))

    @property
    def denied(self) -> bool:
        """A policy refused the object: an admission webhook, PodSecurity, a LimitRange."""
        if self.status in (400, 403, 422) and any(words in self.message for words in _DENIED):
            return True
        return self.status == 403 and not (self.forbidden or self.quota_exceeded or self.namespace_terminating)

    @property
    def invalid(self) -> bool:
        """The object does not fit its schema or its kind's rules: the same request will never succeed."""
        return self.status in (400, 422) and not self.denied

    @property
    def too_large(self) -> bool:
        """The object is larger than the server or etcd stores: etcd says so with a 500, gRPC with one of its own."""
        said = any(words in self.message for words in _TOO_LARGE)
        return self.status == 413 or (self.status in (400, 422, 500) and said)

    @property
    def transient(self) -> bool:
        """The same request may succeed in a while: overload, restart, network, a new etcd leader, a raced quota."""
        if self.too_large:
            return False
        return self.status in (NETWORK, 408, 429) or self.status >= 500 or self._quota_conflict

    @property
    def may_pass(self) -> bool:
        """To wait is an answer: for the server, for what a person can change, or for the owner to be gone.

        A person can give a right or room, and mend a policy or a webhook that refuses the request or spoils it. What is
        deleted with its namespace goes in any order: a run may still be there when nothing can be created.
        """
        passing = self.transient or self.forbidden or self.quota_exceeded or self.namespace_terminating
        return passing or self.denied or self.invalid or self.too_large

    @property
    def _quota_conflict(self) -> bool:
        # Two creations that count against the same quota race for its status; the loser gets a 409 about the *quota*.
        return self.status == 409 and "Operation cannot be fulfilled on resourcequota" in self.message


class NameConflictError(Exception):
    """An object of the needed name belongs to somebody else.

    `stale`: to an owner of our owner's kind and name but another uid. That one was deleted and created anew, and the
    garbage collector, which works in the background, has not got to this object yet: trying again helps.
    """

    def __init__(self, message: str, *, stale: bool) -> None:
        super().__init__(message)
        self.stale = stale


def from_response(*, status: int, phrase: str, headers: Mapping[str, str], body: bytes, request: str = "") -> ApiError:
    """The error in an answer: the server sends a `Status` object; a proxy in between sends whatever it likes."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decoded = None
    content: Mapping[str, Any] = decoded if isinstance(decoded, dict) else {}
    message = str(content.get("message") or body[:_MESSAGE_LIMIT].decode(errors="replace").strip())
    retry_after = _seconds(headers.get("Retry-After"))
    return _error(content, status=status, phrase=phrase, message=message, retry_after=retry_after, request=request)


def from_status(content: Mapping[str, Any]) -> ApiError:
    """The error in a `Status` object that a watch has sent instead of an event."""
    code = content.get("code")
    return _error(content, status=code if isinstance(code, int) else 500, message=str(content.get("message") or ""))


def _error(
    content: Mapping[str, Any],
    *,
    status: int,
    message: str,
    phrase: str = "",
    retry_after: float | None = None,
    request: str = "",
) -> ApiError:
    raw_details = content.get("details")
    details: Mapping[str, Any] = raw_details if isinstance(raw_details, dict) else {}
    return ApiError(
        status=status,
        reason=str(content.get("reason") or phrase),
        message=message[:_MESSAGE_LIMIT],
        retry_after=retry_after or _seconds(details.get("retryAfterSeconds")),
        causes=frozenset(str(cause.get("reason", "")) for cause in details.get("causes") or ()),
        request=request,
    )


def _seconds(value: object) -> float | None:
    # The header may be an HTTP date; the API server sends seconds only, so a date counts as "not said".
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return None
