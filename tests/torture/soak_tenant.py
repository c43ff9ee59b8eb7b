"""The tenant's side of the long run: its days, its troubles, and what is true in it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from random import Random
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import anyio.to_thread

from atlas_async.emulator import CorpusOptions

CORPUS: Final = CorpusOptions(
    shared=0,
    rooms=0,
    guests=0,
    unlicensed=0,
    folders=5,
    recoverable_messages=0,
    body_median=1_500,
    attachment_share=0.15,
    attachment_median=3_000,
    attachment_top=60_000,
    item_share=0.2,
    reference_share=0.1,
    inline_share=0.1,
)
CHURN: Final = 0.04
"""Share of a mailbox's messages that come, and of those that go, on a usual day."""
MOST_FOLDERS: Final = 3
"""Folders that come and go; at more than these the oldest goes."""
MOST_DRAFTS: Final = 6
SPOOLED: Final = 1_200_000
"""Bytes of an attachment that is large enough for a spool."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The control interface of an emulated tenant, which may live in another process.

    Args:
        origin: Where it listens.
    """

    origin: str

    async def call(self, method: str, verb: str, body: Any = None) -> Any:
        """Ask the control interface. Raises ``AssertionError`` when it refuses."""
        return await anyio.to_thread.run_sync(self._call, method, verb, body)

    def _call(self, method: str, verb: str, body: Any) -> Any:
        connection = HTTPConnection(urlsplit(self.origin).netloc, timeout=120)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, f"/_emulator/{verb}", content)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text)
        finally:
            connection.close()

    async def truth(self, mailbox: str, *, content: bool) -> dict[str, Any]:
        """Return what a mailbox holds."""
        query = urlencode({"mailbox": mailbox, "content": str(content).lower()})
        answer = await self.call("GET", f"truth?{query}")
        found: dict[str, Any] = answer["mailboxes"][0]
        return found

    async def fail(self, rules: list[dict[str, Any]]) -> None:
        """Put fault rules in force in place of those that are."""
        await self.call("DELETE", "faults")
        if rules:
            await self.call("POST", "faults", rules)

    async def served(self) -> int:
        """Return how many requests Graph has served since this was asked last."""
        log = await self.call("GET", "log")
        await self.call("DELETE", "log")
        return int(log["requests"])


def address(number: int) -> str:
    """Return the address of a mailbox of the corpus."""
    return f"user{number:04}@contoso.com"


def graph_faults(rate: float, random: Random) -> list[dict[str, Any]]:
    """Return rules of every kind that together break so large a share of Graph's answers.

    All but ``control``: that one changes what a message says, and the truth does not know it.
    """
    gone = {"status": 410, "code": "syncStateNotFound", "path": "/delta"}
    kinds: list[tuple[float, dict[str, Any]]] = [
        (2.0, {"status": 429, "code": "TooManyRequests", "retry_after": "3"}),
        (1.0, {"status": 429, "code": "ApplicationThrottled", "retry_after": ""}),
        (1.0, {"status": 503, "code": "serviceNotAvailable", "retry_after": "2"}),
        (0.5, {"status": 503, "code": "", "retry_after": "date"}),
        (1.0, {"status": 500, "code": "InternalServerError"}),
        (1.0, {"status": 502, "code": ""}),
        (1.0, {"status": 504, "code": "UnknownError"}),
        (0.5, {"status": 401, "code": "InvalidAuthenticationToken"}),
        (0.3, gone),
        (1.0, {"action": "reset"}),
        (1.0, {"action": "reset-mid"}),
        (1.0, {"action": "truncate"}),
        (1.0, {"action": "garbage"}),
        (0.5, {"action": "stall", "delay": 0.05}),
    ]
    whole = sum(weight for weight, _ in kinds)
    return [
        {"count": -1, "probability": rate * weight / whole, "seed": random.randrange(1 << 30)}
        | rule
        for weight, rule in kinds
    ]


def trouble(mailbox: str, random: Random) -> list[dict[str, Any]]:
    """Return rules that refuse some of a mailbox's items for as long as they are in force."""
    refused = {"mailbox": mailbox, "count": -1, "probability": 0.3}
    return [
        refused | {"path": "/attachments", "status": 403, "code": "ErrorAccessDenied"},
        refused | {"path": "/messages/[^/]+$", "status": 500, "code": "ErrorInternalServerError"},
        refused | {"path": "/delta", "status": 504, "code": "", "probability": 0.5},
    ][: random.randint(1, 3)]


@dataclass
class Life:
    """One mailbox's days. Its size returns to what it was: who gets mail deletes mail.

    Args:
        mailbox: Its address.
        size: How many messages it has on a usual day.
        random: Decides.
    """

    mailbox: str
    size: int
    random: Random
    made: int = field(default=0, init=False)

    def day(self, truth: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the changes of one day, given what the mailbox holds in the morning."""
        places = [
            f
            for f in truth["folders"]
            if f["belowRoot"] and not f["search"] and f["id"] != truth["rootId"]
        ]
        # Only drafts change their attachments: there the engine promises to notice it whatever
        # else changed since the last night. So drafts stay among themselves.
        drafts = next(f["id"] for f in places if f["wellKnownName"] == "drafts")
        ids = [f["id"] for f in places if f["id"] != drafts]
        inside = set(ids)
        messages = [m["immutableId"] for m in truth["messages"] if m["folderId"] in inside]
        self.random.shuffle(messages)
        usual = max(2, int(self.size * CHURN))
        come = usual * (10 if self.random.random() < 1 / 25 else 1)
        go = max(0, min(len(messages) - 3, len(messages) + usual - self.size))
        changes = [self._new(ids) for _ in range(come)]
        changes += [
            {"op": "delete", "message": messages.pop(), "hard": self.random.random() < 0.5}
            for _ in range(go)
        ]
        changes += [
            {"op": "move", "message": m, "folder": self.random.choice(ids)}
            for m in self._take(messages, usual)
        ]
        changes += [
            {"op": "update", "message": m, "patch": self._patch()}
            for m in self._take(messages, 2 * usual)
        ]
        written = [m["immutableId"] for m in truth["messages"] if m["folderId"] == drafts]
        changes += self._drafts(drafts, written)
        changes += self._folders(places)
        # What users deleted softly lies among the recoverable items, outside of what is read.
        changes.append(
            {
                "op": "bulk-delete",
                "folder": "recoverableitemsdeletions",
                "count": 10_000,
                "hard": True,
            }
        )
        return [change | {"mailbox": self.mailbox} for change in changes]

    def _take(self, messages: list[str], count: int) -> list[str]:
        return [messages.pop() for _ in range(min(count, len(messages)))]

    def _drafts(self, folder: str, written: list[str]) -> list[dict[str, Any]]:
        """Write one draft a day, change the attachments of another, send off the oldest."""
        changes = [self._new([folder]) | {"folder": folder, "isDraft": True}]
        if written:
            changed = self.random.choice(written)
            files = self._files(pictures=False)  # its text refers to none
            changes.append({"op": "update", "message": changed, "patch": {}, "attachments": files})
        changes += [
            {"op": "delete", "message": message, "hard": True} for message in written[MOST_DRAFTS:]
        ]
        return changes

    def _new(self, folders: list[str]) -> dict[str, Any]:
        self.made += 1
        folder = "inbox" if self.random.random() < 0.6 else self.random.choice(folders)
        text = "".join(self.random.choices("abcdefghij \u00e4\u00f6\U0001f600", k=400))
        files = self._files() if self.random.random() < 0.25 else []
        pictures = "".join(f'<img src="cid:{f["contentId"]}">' for f in files if "contentId" in f)
        return {
            "op": "create",
            "folder": folder,
            "subject": f"{self.made} {text[:20]}",
            "body": {"contentType": "html", "content": f"<p>{self.made} {text}</p>{pictures}"},
            "attachments": files,
        }

    def _files(self, *, pictures: bool = True) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = []
        for number in range(self.random.randint(1, 3)):
            name = f"file {number}"
            kind = self.random.random()
            if kind < 0.1:
                files.append({"name": name, "url": "https://contoso.sharepoint.com/x"})
            elif kind < 0.3 and pictures:
                picture = base64.b64encode(self.random.randbytes(500)).decode()
                files.append({"name": name, "bytes": picture, "isInline": True, "contentId": name})
            else:
                size = SPOOLED if kind > 0.98 else self.random.randint(10, 20_000)
                files.append({"name": name, "size": size, "seed": self.random.randrange(1 << 40)})
        return files

    def _patch(self) -> dict[str, Any]:
        status = self.random.choice(["flagged", "complete", "notFlagged"])
        patches: list[dict[str, Any]] = [
            {"isRead": self.random.random() < 0.7},
            {"flag": {"flagStatus": status}},
            {"categories": self.random.sample(["Red", "Blue", "Gr\u00f6\u00dfe"], 2)},
            {"subject": f"changed {self.random.randrange(1 << 30)}"},
            {"body": {"contentType": "text", "content": f"[cid:file 0] {self.random.random()}"}},
        ]
        return self.random.choices(patches, weights=[5, 2, 2, 1, 1])[0]

    def _folders(self, places: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return at most one change of folders a day, so that there are few of ours at a time."""
        ours = [f for f in places if f["displayName"].startswith("Soak")]
        if len(ours) > MOST_FOLDERS:
            return [
                {"op": "folder-delete", "folder": folder["id"], "hard": True}
                for folder in ours[:-MOST_FOLDERS]
            ]
        draw = self.random.random()
        self.made += 1
        name = f"Soak {self.made}"
        if draw < 0.15:
            parent = self.random.choice(["msgfolderroot", "inbox", "archive"])
            return [{"op": "folder-create", "name": name, "parent": parent}]
        if draw < 0.25 and ours:
            return [{"op": "folder-rename", "folder": ours[0]["id"], "name": name}]
        if draw < 0.32 and ours:
            hard = self.random.random() < 0.5
            return [{"op": "folder-delete", "folder": ours[0]["id"], "hard": hard}]
        return []


def corpus(mailboxes: int, messages: int, seed: int) -> CorpusOptions:
    """Return a tenant of so many mailboxes of about this size."""
    return replace(CORPUS, mailboxes=mailboxes, messages=messages, seed=seed)
