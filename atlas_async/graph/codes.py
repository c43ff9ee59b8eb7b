"""Error codes and statuses of Microsoft Graph by what they mean; codes in lower case."""

from __future__ import annotations

from typing import Final

ITEM_CODES: Final = frozenset(
    {
        "errorcannotopenfileattachment",
        "errorcontentconversionfailed",
        "errorcorruptdata",
        "erroritemcorrupt",
        "errorinvalididmalformed",
        "errorinvalididnotanitemattachmentid",
        "errorinvalidrecipients",
        "errormimecontentconversionfailed",
        "errormimecontentinvalid",
        "errorunsupportedmimeconversion",
        "errorpropertyrequestfailed",
    }
)
"""The item itself cannot be read; its neighbours can."""

TOO_LARGE_CODES: Final = frozenset(
    {
        "errorattachmentsizelimitexceeded",
        "errormessagesizeexceeded",
        "errorrequestbodytoolarge",
        "requestentitytoolarge",
        "requesttoolarge",
    }
)
"""More than a request, an attachment or a message may have."""
CONFLICT_CODES: Final = frozenset(
    {
        "errorfolderexists",
        "errorirresolvableconflict",
        "errorfoldernameconflict",
        "namealreadyexists",
    }
)
CONFLICT_STATUSES: Final = frozenset({409, 412})

GONE_CODES: Final = frozenset(
    {"erroritemnotfound", "errorfoldernotfound", "errorparentfoldernotfound", "itemnotfound"}
)
SYNC_CODES: Final = frozenset(
    {
        "errorinvalidsyncstatedata",
        "resyncchangesapplydifferences",
        "resyncchangesuploaddifferences",
        "resyncrequired",
        "syncstateinvalid",
        "syncstatenotfound",
    }
)
NO_MAILBOX_CODES: Final = frozenset(
    {
        "errorinvaliduser",
        "errornonexistentmailbox",
        "mailboxnotenabledforrestapi",
        "mailboxnothostedinexchangeonline",
        "request_resourcenotfound",
        "resourcenotfound",
    }
)
THROTTLE_CODES: Final = frozenset(
    {
        "activitylimitreached",
        "applicationthrottled",
        "errorexceededconnectioncount",
        "errorserverbusy",
        "throttledrequest",
        "toomanyrequests",
    }
)
PASSING_CODES: Final = frozenset(
    {
        "errorinternalservertransienterror",
        "errorinternalserverfailed",
        "errormailboxmoveinprogress",
        "errormailboxstoreunavailable",
        "errortimeoutexpired",
        "errortoomanyobjectsopened",
        "mailboxinfostale",
        "servicenotavailable",
        "serviceunavailable",
    }
)
PASSING_STATUSES: Final = frozenset({408, 500, 502, 503, 504})
HEAVY_STATUSES: Final = frozenset({503, 504})
"""Statuses of a backend that ran out of time: a smaller page may do."""
THROTTLE_STATUSES: Final = frozenset({429, 509})
CROWDED: Final = "mailboxconcurrency"
"""What the message of a refusal holds where too many requests were in flight; in lower case."""
