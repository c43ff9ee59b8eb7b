"""What a code in the ledger means, and what an administrator can do about it.

The codes of Outlook items are those of Exchange: "ResponseCode" in the reference of Exchange Web
Services (learn.microsoft.com/exchange/client-developer/web-service-reference/responsecode). Those
of Graph itself are in "Microsoft Graph error responses and resource types"
(learn.microsoft.com/graph/errors). Where neither says more than the name, the table says what
other programs' users found. Names that begin with Graph, and ``ConsentError``, are this program's
own, for answers that carried no code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Explanation:
    """A code in sentences.

    Args:
        meaning: What happened.
        advice: What an administrator can do.
    """

    meaning: str
    advice: str


_WAIT: Final = "Nothing needs to be done: every run tries again, and 'atlas ledger retry' does now."
_OPEN_IT: Final = (
    "Open it in Outlook. If that works, save a copy into the mailbox, which is backed up as new, "
    "and delete the original; if not, nobody can read it any more: delete it, or give it up with "
    "'atlas ledger forget'."
)
_SUPPORT: Final = (
    "If it stays, open a case with Microsoft support and name the request id; a mailbox repair "
    "(New-MailboxRepairRequest, or a move of the mailbox by Microsoft) has helped others."
)
_DAMAGED: Final = f"{_OPEN_IT} {_SUPPORT}"
_NO_MIME: Final = Explanation(
    "Exchange cannot write this item as MIME. That is usual for encrypted or damaged mail inside "
    "of other mail.",
    f"The message itself is backed up. {_OPEN_IT}",
)
_BUSY: Final = Explanation(
    "Exchange could not answer in time, or its store was not available for a moment.",
    f"{_WAIT} If it has failed for days, check the service health of Exchange Online.",
)
_GONE: Final = Explanation(
    "The folder still shows this item, but asking for it by its id finds nothing. Deleted items "
    "leave the ledger by themselves once the folder stops showing them.",
    f"Every run tries again. If it stays, look for it in Outlook. {_SUPPORT}",
)
_FOLDER: Final = Explanation(
    "The folder is listed, but Graph does not find it when it is read.", f"{_WAIT} {_SUPPORT}"
)
_REFUSED: Final = Explanation(
    "The application may read the mailbox, but not this item or folder.",
    "Rights-managed mail and folders with permissions of their own can be refused one by one. "
    "Check the item's protection, and that no policy limits the application within this mailbox.",
)

_EXPLANATIONS: Final = {
    "errorcorruptdata": Explanation(
        "Exchange says that the data of this item is corrupt and cannot be read.", _DAMAGED
    ),
    "erroritemcorrupt": Explanation(
        "Exchange says that this item is corrupt and cannot be read.", _DAMAGED
    ),
    "errorinvalidrecipients": Explanation(
        "An address in this item is not valid, so Exchange lists the item but does not give it "
        "out. Seen with items that are older than the mailbox or came with a migration.",
        _OPEN_IT,
    ),
    "errorpropertyrequestfailed": Explanation(
        "Exchange could not read one of the item's properties, which mostly means damage.", _DAMAGED
    ),
    "errormimecontentconversionfailed": _NO_MIME,
    "errorcontentconversionfailed": _NO_MIME,
    "errorunsupportedmimeconversion": _NO_MIME,
    "errormimecontentinvalid": _NO_MIME,
    "errorcannotopenfileattachment": Explanation(
        "Exchange cannot open this attachment. Seen with embedded (OLE) objects that it cannot "
        "convert.",
        f"The message itself is backed up. {_OPEN_IT}",
    ),
    "errormessagesizeexceeded": Explanation(
        "The item is larger than what Exchange gives out in one piece.",
        "Save its large attachments elsewhere, or give it up with 'atlas ledger forget'.",
    ),
    "errorinvalididmalformed": Explanation(
        "Exchange does not take the id that it gave for this item itself.", _SUPPORT
    ),
    "errorinvalididnotanitemattachmentid": Explanation(
        "Exchange listed this attachment as an item and does not open it as one.",
        f"The message itself is backed up. {_OPEN_IT}",
    ),
    "erroritemnotfound": _GONE,
    "itemnotfound": _GONE,
    "graphnotfound": _GONE,
    "errorfoldernotfound": _FOLDER,
    "errorparentfoldernotfound": _FOLDER,
    "erroraccessdenied": _REFUSED,
    "consenterror": _REFUSED,
    "errorquotaexceeded": Explanation(
        "The mailbox is over its quota, and Exchange refused to read it this way.",
        "Free space in the mailbox or raise its quota. The folder is read in another way meanwhile "
        "where that works.",
    ),
    "errorinternalservererror": Explanation(
        "Exchange failed over this item without saying why. The same answer every time mostly "
        "means that the item is damaged.",
        f"{_WAIT} {_DAMAGED}",
    ),
    "errorinternalservertransienterror": _BUSY,
    "errorinternalserverfailed": _BUSY,
    "errormailboxstoreunavailable": _BUSY,
    "errortimeoutexpired": _BUSY,
    "errortoomanyobjectsopened": _BUSY,
    "errorserverbusy": _BUSY,
    "servicenotavailable": _BUSY,
    "serviceunavailable": _BUSY,
    "mailboxinfostale": _BUSY,
    "graphtransient": _BUSY,
    "errormailboxmoveinprogress": Explanation(
        "The mailbox is being moved to another database.", f"Wait for the move to end. {_WAIT}"
    ),
    "invalidcontent": Explanation(
        "Graph gave the attachment's content in a form that is not base64.", f"{_WAIT} {_SUPPORT}"
    ),
    "emptycontent": Explanation(
        "Graph answered with nothing at all where a message's MIME was asked for.",
        f"The message itself is backed up. {_WAIT} {_SUPPORT}",
    ),
    "missingid": Explanation(
        "Graph gave a message without an id, so it can be neither stored nor asked for.", _SUPPORT
    ),
    "graphprotocolerror": Explanation(
        "The answer made no sense: it was cut short, not JSON, or led elsewhere.",
        f"Something between here and Microsoft may answer in its place: check the proxy. {_WAIT}",
    ),
    "graphitemerror": Explanation(
        "This kind of item has no content that Graph gives out.", _OPEN_IT
    ),
    "grapherror": Explanation("Graph refused the request without a code.", f"{_WAIT} {_SUPPORT}"),
}

_UNKNOWN: Final = Explanation(
    "This program knows no more of this code than Graph's own words.",
    f"Every run tries again. {_SUPPORT}",
)


def explain_code(code: str) -> Explanation:
    """Return what a code of the ledger means; codes are told apart without regard to case."""
    return _EXPLANATIONS.get(code.lower(), _UNKNOWN)


def known_codes() -> frozenset[str]:
    """Return the codes that have an explanation of their own, in lower case."""
    return frozenset(_EXPLANATIONS)
