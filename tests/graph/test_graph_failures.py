"""The taxonomy: which answer becomes which error, and what may help."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from atlas_async.errors import (
    AuthError,
    ConsentError,
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
    GraphTransient,
    MailboxOverQuota,
    NoMailbox,
    SyncStateGone,
)
from atlas_async.graph.failures import (
    Area,
    Failure,
    Remedy,
    classify,
    read_refusal,
    retry_after_seconds,
)

NOW = datetime(2026, 4, 20, 12, 0, 0, tzinfo=UTC)


def judge(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None, area: Area = Area.MAIL
) -> Failure:
    """Read and classify an answer."""
    found = CIMultiDict(headers or {})
    refusal = read_refusal(status, found, body, area=area, where="mailbox ada@example.test")
    return classify(refusal, found, empty=not body, now=NOW)


def graph_error(code: str, message: str = "told", inner: Any = None) -> bytes:
    """Return an error body in Graph's shape."""
    error = {"code": code, "message": message}
    if inner is not None:
        error["innerError"] = inner
    return json.dumps({"error": error}).encode()


CASES: list[tuple[int, str, type[Exception], Remedy]] = [
    (410, "", SyncStateGone, Remedy.NONE),
    (410, "SyncStateNotFound", SyncStateGone, Remedy.NONE),
    (400, "syncStateInvalid", SyncStateGone, Remedy.NONE),
    (400, "ResyncRequired", SyncStateGone, Remedy.NONE),
    (404, "resyncrequired", SyncStateGone, Remedy.NONE),
    (400, "ErrorInvalidSyncStateData", SyncStateGone, Remedy.NONE),
    (507, "ErrorQuotaExceeded", MailboxOverQuota, Remedy.NONE),
    (403, "errorquotaexceeded", MailboxOverQuota, Remedy.NONE),
    (429, "ApplicationThrottled", GraphThrottled, Remedy.WAIT),
    (429, "", GraphThrottled, Remedy.WAIT),
    (509, "", GraphThrottled, Remedy.WAIT),
    (503, "ErrorServerBusy", GraphThrottled, Remedy.WAIT),
    (403, "activityLimitReached", GraphThrottled, Remedy.WAIT),
    (401, "InvalidAuthenticationToken", AuthError, Remedy.NEW_TOKEN),
    (500, "ErrorCorruptData", GraphItemError, Remedy.NONE),
    (400, "ErrorInvalidRecipients", GraphItemError, Remedy.NONE),
    (500, "ErrorMimeContentConversionFailed", GraphItemError, Remedy.NONE),
    (400, "ErrorCannotOpenFileAttachment", GraphItemError, Remedy.NONE),
    (405, "", GraphItemError, Remedy.NONE),
    (500, "", GraphTransient, Remedy.BACK_OFF),
    (502, "UnknownError", GraphTransient, Remedy.BACK_OFF),
    (503, "", GraphTransient, Remedy.BACK_OFF),
    (504, "", GraphTransient, Remedy.BACK_OFF),
    (400, "ErrorTooManyObjectsOpened", GraphTransient, Remedy.BACK_OFF),
    (404, "ErrorItemNotFound", GraphNotFound, Remedy.NONE),
    (404, "ErrorFolderNotFound", GraphNotFound, Remedy.NONE),
    (404, "", GraphNotFound, Remedy.REPEAT),
    (404, "MailboxNotEnabledForRESTAPI", NoMailbox, Remedy.NONE),
    (404, "ErrorInvalidUser", NoMailbox, Remedy.NONE),
    (404, "ResourceNotFound", NoMailbox, Remedy.NONE),
    (404, "Request_ResourceNotFound", NoMailbox, Remedy.NONE),
    (403, "ErrorAccessDenied", ConsentError, Remedy.NONE),
    (302, "", GraphProtocolError, Remedy.BACK_OFF),
    (400, "invalidRequest", GraphError, Remedy.REPEAT),
    (400, "RequestBroker--ParseUri", GraphError, Remedy.NONE),
    (418, "", GraphError, Remedy.NONE),
]


@pytest.mark.parametrize(("status", "code", "kind", "remedy"), CASES)
def test_each_answer_has_its_error_and_remedy(
    status: int, code: str, kind: type[Exception], remedy: Remedy
) -> None:
    """Status and code decide the error's class and what may help."""
    failure = judge(status, graph_error(code) if code else b"")

    assert (type(failure.error), failure.remedy) == (kind, remedy)


def test_the_innermost_known_code_decides() -> None:
    """A chain of inner errors is walked in either spelling; the innermost code is kept."""
    inner = {"code": "x", "innererror": {"code": "SYNCSTATENOTFOUND"}}
    failure = judge(400, graph_error("badRequest", inner=inner), {"Request-Id": "r-7"})

    assert isinstance(failure.error, SyncStateGone)
    assert (failure.error.code, failure.error.request_id) == ("SYNCSTATENOTFOUND", "r-7")


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"error":"invalid"}', b'{"error":[1]}', b"[1]", b"{"]
)
def test_an_error_body_of_any_shape_is_survived(body: bytes) -> None:
    """What is no Graph error is judged by its status alone."""
    assert isinstance(judge(502, body).error, GraphTransient)


def test_only_backend_timeouts_ask_for_less() -> None:
    """503 and 504 shrink a page, 500 and 502 do not."""
    assert [judge(status).heavy for status in (500, 502, 503, 504)] == [False, False, True, True]


def test_a_concurrency_limit_is_recognised() -> None:
    """Only the concurrency limit of a mailbox lowers how many requests fly."""
    body = graph_error("ApplicationThrottled", "Application is over its MailboxConcurrency limit.")

    assert judge(429, body).crowded
    assert not judge(429, graph_error("ApplicationThrottled", "RequestCount")).crowded


def test_consent_errors_name_the_permission() -> None:
    """The hint names Mail.Read for mail and User.Read.All for the directory."""
    mail = judge(403, graph_error("ErrorAccessDenied")).error
    directory = judge(403, graph_error("Authorization_RequestDenied"), area=Area.DIRECTORY).error

    assert "Mail.Read" in mail.hint
    assert "User.Read.All" in directory.hint


def test_an_unknown_user_is_not_found_in_the_directory() -> None:
    """The code that means no mailbox in mail means no user in the directory."""
    failure = judge(404, graph_error("Request_ResourceNotFound"), area=Area.DIRECTORY)

    assert type(failure.error) is GraphNotFound


def test_a_claims_challenge_is_final() -> None:
    """A token with further claims cannot be had by asking again."""
    challenge = 'Bearer error="insufficient_claims", claims="eyJ9"'
    failure = judge(401, b"", {"WWW-Authenticate": challenge})

    assert failure.remedy is Remedy.NONE
    assert "Conditional Access" in failure.error.hint


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "17"}, 17.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "Mon, 20 Apr 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Mon, 20 Apr 2026 11:00:00 GMT"}, 0.0),
        (
            {
                "Retry-After": "Mon, 20 Apr 2026 15:00:30 GMT",
                "Date": "Mon, 20 Apr 2026 15:00:00 GMT",
            },
            30.0,
        ),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """A date counts from the answer's own date, which a wrong clock here cannot spoil."""
    assert retry_after_seconds(CIMultiDict(headers), NOW) == seconds
