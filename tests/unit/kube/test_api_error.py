"""What the refusals of a real API server (1.34) mean."""

import pytest

from dbt_operator.kube.api_error import NETWORK, ApiError, from_response

MEANINGS = (
    "not_found",
    "already_exists",
    "conflict",
    "expired",
    "unauthorized",
    "quota_exceeded",
    "namespace_terminating",
    "forbidden",
    "denied",
    "invalid",
    "too_large",
    "transient",
)

NEEDS_ANOTHER_LOOK = ("not_found", "already_exists", "conflict", "expired", "unauthorized")


def meanings(error: ApiError) -> set[str]:
    return {name for name in MEANINGS if getattr(error, name)}


@pytest.mark.parametrize(
    ("status", "reason", "message", "meaning"),
    [
        (401, "Unauthorized", "Unauthorized", "unauthorized"),
        (404, "NotFound", 'pods "x" not found', "not_found"),
        (409, "AlreadyExists", 'jobs.batch "x" already exists', "already_exists"),
        (409, "Conflict", "the object has been modified; please apply your changes to the latest version", "conflict"),
        (409, "Conflict", 'Operation cannot be fulfilled on resourcequotas "q": the object has been', "transient"),
        (410, "Expired", "The provided continue parameter is too old", "expired"),
        (
            403,
            "Forbidden",
            'jobs.batch is forbidden: User "system:serviceaccount:a:b" cannot create resource "jobs" in API group '
            '"batch" in the namespace "a"',
            "forbidden",
        ),
        (403, "Forbidden", 'configmaps "y" is forbidden: exceeded quota: q, requested: count=1', "quota_exceeded"),
        (
            403,
            "Forbidden",
            'configmaps "z" is forbidden: unable to create new content in namespace a because it is being terminated',
            "namespace_terminating",
        ),
        (403, "Forbidden", 'pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', "denied"),
        (403, "Forbidden", 'pods "p" is forbidden: maximum cpu usage per Container is 1, but limit is 2', "denied"),
        (400, "", 'admission webhook "w.example" denied the request: no', "denied"),
        (
            422,
            "Invalid",
            'jobs.batch "j" is forbidden: ValidatingAdmissionPolicy "p" with binding "b" denied request: no',
            "denied",
        ),
        (422, "Invalid", 'Job.batch "j" is invalid: spec.template.spec.restartPolicy: Required value', "invalid"),
        (400, "BadRequest", 'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal', "invalid"),
        (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", "too_large"),
        (500, "InternalError", "etcdserver: request is too large", "too_large"),
        (500, "InternalError", "etcdserver: leader changed", "transient"),
        (503, "ServiceUnavailable", "the server is currently unable to handle the request", "transient"),
        (429, "TooManyRequests", "too many requests, please try again later", "transient"),
        (NETWORK, "Timeout", "GET /api timed out", "transient"),
    ],
)
def test_a_refusal_has_one_meaning(status: int, reason: str, message: str, meaning: str) -> None:
    error = ApiError(status=status, reason=reason, message=message)
    assert meanings(error) == {meaning}
    assert error.may_pass == (meaning not in NEEDS_ANOTHER_LOOK)


def test_what_is_too_large_for_a_config_map_is_also_invalid() -> None:
    message = 'ConfigMap "big" is invalid: []: Too long: may not be more than 1048576 bytes'
    assert meanings(ApiError(status=422, reason="Invalid", message=message)) == {"too_large", "invalid"}


def test_the_servers_patience_is_taken_from_the_header_or_the_body() -> None:
    body = b'{"kind": "Status", "message": "wait", "reason": "TooManyRequests", "details": {"retryAfterSeconds": 3}}'
    assert from_response(status=429, phrase="", headers={}, body=body).retry_after == 3
    assert from_response(status=429, phrase="", headers={"Retry-After": "7"}, body=body).retry_after == 7
    date = {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert from_response(status=429, phrase="", headers=date, body=b"").retry_after is None


def test_an_answer_that_is_not_the_servers_is_quoted_as_it_is() -> None:
    error = from_response(status=502, phrase="Bad Gateway", headers={}, body=b"<html>\xff proxy")
    assert str(error) == "502 Bad Gateway: <html>\N{REPLACEMENT CHARACTER} proxy"
    assert error.transient


@pytest.mark.parametrize("body", [b"[]", b"null", b'{"details": null}', b'{"details": {"causes": null}}', b"\x00"])
def test_no_body_breaks_the_reading_of_an_error(body: bytes) -> None:
    assert from_response(status=500, phrase="Internal", headers={}, body=body).status == 500
