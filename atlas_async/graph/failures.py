"""From an answer that is not what was asked for to an error and what to do about it.

Pure: nothing here waits or sends. Codes are compared without regard to case: Graph varies it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from atlas_async.errors import (
    AuthError,
    ConsentError,
    GraphConflict,
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
    GraphTooLarge,
    GraphTransient,
    MailboxOverQuota,
    NoMailbox,
    SyncStateGone,
)
from atlas_async.graph.codes import (
    CONFLICT_CODES,
    CONFLICT_STATUSES,
    CROWDED,
    GONE_CODES,
    HEAVY_STATUSES,
    ITEM_CODES,
    NO_MAILBOX_CODES,
    PASSING_CODES,
    PASSING_STATUSES,
    SYNC_CODES,
    THROTTLE_CODES,
    THROTTLE_STATUSES,
    TOO_LARGE_CODES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_CHARS: Final = 300
LONGEST_WAIT: Final = 366 * 86_400.0
"""Nobody means more seconds than this, nor could they be reckoned with."""


class Remedy(Enum):
    """What to do about a failed request."""

    NONE = "none"
    NEW_TOKEN = "new token"  # noqa: S105 - a word, not a password
    WAIT = "wait"
    BACK_OFF = "back off"
    REPEAT = "repeat"


class Area(Enum):
    """Which part of Graph was asked; a permission or a missing thing is named after it."""

    MAIL = "mail"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request, judged.

    Args:
        error: What to raise once nothing helps any more.
        remedy: What may help.
        retry_after: Seconds Graph asked to wait, when it did.
        heavy: Whether asking for less may help.
        crowded: Whether Graph counted too many requests of this mailbox at once.
    """

    error: AuthError | GraphError
    remedy: Remedy = Remedy.NONE
    retry_after: float | None = None
    heavy: bool = False
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer, read: its codes from the outermost to the innermost, all lower case."""

    status: int
    codes: tuple[str, ...]
    code: str
    message: str
    request_id: str
    where: str
    area: Area
    writing: bool = False

    def has(self, codes: frozenset[str]) -> bool:
        """Tell whether any code of the chain is one of ``codes``."""
        return not codes.isdisjoint(self.codes)

    def error(self, kind: type[GraphError], what: str, hint: str = "") -> GraphError:
        """Return an error of ``kind`` that says ``what`` and carries Graph's own words."""
        told = ": ".join(part for part in (self.code, self.message) if part)
        return kind(
            f"{what} [{told}]" if told else f"{what} [HTTP {self.status}]",
            status=self.status,
            code=self.code,
            request_id=self.request_id,
            hint=hint,
            where=self.where,
        )


def read_refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    area: Area,
    where: str,
    writing: bool = False,
) -> Refusal:
    """Read an error answer of any shape; ``headers`` must ignore case.

    ``writing`` tells whether the request was to change something.
    """
    codes, message = _error_chain(body)
    return Refusal(
        status=status,
        codes=tuple(code.lower() for code in codes),
        code=codes[-1] if codes else "",
        message=message[:MESSAGE_CHARS],
        request_id=headers.get("request-id", ""),
        where=where,
        area=area,
        writing=writing,
    )


def classify(
    refusal: Refusal, headers: Mapping[str, str], *, empty: bool, now: datetime
) -> Failure:
    """Judge an error answer.

    Args:
        refusal: The answer, read.
        headers: Its headers; must ignore case.
        empty: Whether the answer had no body at all.
        now: Wall time, for a ``Retry-After`` that is a date.
    """
    wait = retry_after_seconds(headers, now)
    status = refusal.status
    if refusal.has(SYNC_CODES) or status == 410:  # noqa: PLR2004 - 410 Gone
        return Failure(refusal.error(SyncStateGone, "The delta link is no longer honoured"))
    if "errorquotaexceeded" in refusal.codes or status == 507:  # noqa: PLR2004 - 507 Insufficient Storage
        hint = "Free space in the mailbox or raise its quota; running again continues."
        return Failure(refusal.error(MailboxOverQuota, "The mailbox is over its quota", hint))
    if status in THROTTLE_STATUSES or refusal.has(THROTTLE_CODES):
        return _throttled(refusal, wait)
    if status == 401:  # noqa: PLR2004 - 401 Unauthorized
        return _unauthorized(refusal, headers.get("www-authenticate", ""))
    if refusal.has(ITEM_CODES):
        return Failure(refusal.error(GraphItemError, "Microsoft Graph cannot read this item"))
    if refusal.has(PASSING_CODES) or status in PASSING_STATUSES:
        hint = "Run again later: what is stored stays stored, and the next run continues."
        error = refusal.error(GraphTransient, "Microsoft Graph could not answer", hint)
        heavy = status in HEAVY_STATUSES or "errortimeoutexpired" in refusal.codes
        return Failure(error, Remedy.BACK_OFF, wait, heavy=heavy)
    return _unwritable(refusal) or _refused(refusal, empty=empty)


def _unwritable(refusal: Refusal) -> Failure | None:
    """Judge what only writes meet."""
    if refusal.has(TOO_LARGE_CODES) or refusal.status == 413:  # noqa: PLR2004 - 413 Content Too Large
        return Failure(refusal.error(GraphTooLarge, "It is larger than Microsoft Graph takes"))
    if refusal.status in CONFLICT_STATUSES or refusal.has(CONFLICT_CODES):
        return Failure(refusal.error(GraphConflict, "Microsoft Graph has it in another state"))
    return None


def _refused(refusal: Refusal, *, empty: bool) -> Failure:
    if refusal.has(GONE_CODES):
        return Failure(refusal.error(GraphNotFound, "It is no longer in the mailbox"))
    if refusal.has(NO_MAILBOX_CODES) and refusal.status in {400, 403, 404}:
        return _without_mailbox(refusal)
    if refusal.status == 403:  # noqa: PLR2004 - 403 Forbidden
        return Failure(_consent_error(refusal))
    if refusal.status == 404:  # noqa: PLR2004 - 404 Not Found
        error = refusal.error(GraphNotFound, "Microsoft Graph does not know it")
        return Failure(error, Remedy.REPEAT if empty else Remedy.NONE)
    if refusal.status == 405:  # noqa: PLR2004 - 405 Method Not Allowed
        return Failure(refusal.error(GraphItemError, "This kind of item has no content to read"))
    if 300 <= refusal.status < 400:  # noqa: PLR2004 - the redirects
        what = "Microsoft Graph answered with a redirect; a token is never sent along"
        # Of a sign-in page of the network, which may be gone the next moment, or of a wrong URL.
        hint = (
            "A proxy or a sign-in page of the network may answer in Microsoft's place: check it, "
            "and the Graph URL."
        )
        return Failure(refusal.error(GraphProtocolError, what, hint), Remedy.BACK_OFF)
    error = refusal.error(GraphError, "Microsoft Graph refused the request")
    odd = refusal.status == 400 and "invalidrequest" in refusal.codes  # noqa: PLR2004 - 400 Bad Request
    return Failure(error, Remedy.REPEAT if odd else Remedy.NONE)


def _throttled(refusal: Refusal, wait: float | None) -> Failure:
    mail = refusal.area is Area.MAIL
    other = "on the same mailbox" if mail else "in this tenant"
    error = refusal.error(
        GraphThrottled,
        f"Microsoft Graph kept throttling {'this mailbox' if mail else 'the directory'}",
        hint="Run again later: what is stored stays stored. Another program may be using the same "
        f"application registration {other}.",
    )
    # The code is the same for every Outlook limit. The wording only tunes our own concurrency.
    return Failure(error, Remedy.WAIT, wait, crowded=CROWDED in refusal.message.lower())


def _without_mailbox(refusal: Refusal) -> Failure:
    if refusal.area is Area.DIRECTORY:
        return Failure(refusal.error(GraphNotFound, "The directory has no such user"))
    what = "There is no mailbox here that Microsoft Graph can read"
    hint = "Guests, unlicensed users and mailboxes kept on premises have none."
    return Failure(refusal.error(NoMailbox, what, hint))


def _unauthorized(refusal: Refusal, challenge: str) -> Failure:
    told = f"{refusal.code or 'HTTP 401'} {refusal.message}".strip()
    if "claims=" in challenge or "insufficient_claims" in challenge:
        error = AuthError(
            f"Microsoft Graph asks for a token with further claims [{told}]",
            hint="A Conditional Access policy or a revocation applies to this application; exclude "
            "the workload identity from the policy, or satisfy it.",
            where=refusal.where,
        )
        return Failure(error)
    error = AuthError(
        f"Microsoft Graph refused the token [{told}] (request-id {refusal.request_id or 'none'})",
        hint="Check that the authority and the Graph URL belong to the same cloud and tenant, and "
        "that nobody has just disabled the application or revoked its sessions.",
        where=refusal.where,
    )
    return Failure(error, Remedy.NEW_TOKEN)


def _consent_error(refusal: Refusal) -> ConsentError:
    mail = "Mail.ReadWrite" if refusal.writing else "Mail.Read"
    permission = mail if refusal.area is Area.MAIL else "User.Read.All"
    role = f", where the role is named Application {mail}" if refusal.writing else ""
    scoped = (
        " If access is limited to some mailboxes (RBAC for Applications, or an application access "
        f"policy), this mailbox is outside the scope{role}; a change takes up to two hours to "
        "apply."
        if refusal.area is Area.MAIL
        else ""
    )
    told = ": ".join(part for part in (refusal.code, refusal.message) if part) or "HTTP 403"
    return ConsentError(
        f"Microsoft Graph denied access [{told}] (request-id {refusal.request_id or 'none'})",
        hint=f"Grant the application permission {permission}: Entra admin center, App "
        f"registrations, API permissions, then Grant admin consent.{scoped}",
        where=refusal.where,
    )


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds ``Retry-After`` asks for, given as a number or a date, or None.

    A date is compared with the answer's own ``Date``, so that a wrong clock here does no harm.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.replace(".", "", 1).isdecimal():
        return min(float(text), LONGEST_WAIT)
    until = _http_date(text)
    if until is None:
        return None
    wait = (until - (_http_date(headers.get("date", "")) or now)).total_seconds()
    return min(max(0.0, wait), LONGEST_WAIT)


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _error_chain(body: bytes) -> tuple[list[str], str]:
    try:
        document = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return [], ""
    node = document.get("error") if isinstance(document, dict) else None
    if isinstance(node, str):
        return [node], str(document.get("error_description", ""))
    codes: list[str] = []
    message = ""
    while isinstance(node, dict):
        if isinstance(node.get("code"), str) and node["code"]:
            codes.append(node["code"])
        message = message or str(node.get("message") or "")
        node = node.get("innerError") or node.get("innererror")
    return codes, message
