"""A mailbox of the emulator, its backup, and restores of it: what the restore's tests start from."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from atlas_async.config.settings import GraphSettings, Limits
from atlas_async.emulator import CorpusOptions
from atlas_async.model.restoring import (
    MARK_PROPERTY,
    RestoreOptions,
    RestoreReport,
    Step,
    UndoReport,
)
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from atlas_async.pipeline.stop import StopSignal
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.torture.faults import BriskClock

OTHER: Final = "user0001@contoso.com"
ROOT: Final = "Back"
MARK: Final = MARK_PROPERTY.lower()

RICH: Final = replace(
    SMALL,
    mailboxes=2,
    messages=36,
    attachment_share=0.6,
    item_share=0.25,
    reference_share=0.15,
    inline_share=0.2,
    smime_share=0.05,
    odd_share=0.2,
    unread_every=3,
)
"""Every kind of attachment, and a fifth of odd messages."""
FEW: Final = replace(RICH, messages=6, attachment_share=0.0, odd_share=0.0)

Essence = tuple[Any, ...]
"""All of a message that a restore has to bring back."""

_PEOPLE: Final = ("toRecipients", "ccRecipients", "bccRecipients", "replyTo")


def addresses(holders: Iterable[dict[str, Any]] | None) -> tuple[str, ...]:
    """Return the addresses that Graph would take."""
    given = [str((h.get("emailAddress") or {}).get("address") or "") for h in holders or []]
    return tuple(text for text in given if "@" in text or text.lower().startswith("/o="))


def enclosed(part: dict[str, Any]) -> tuple[Any, ...]:
    """Return what an attachment is, as it can be at best: Graph v1.0 takes no links."""
    kind = str(part["type"]).rpartition(".")[2].lower()
    if kind == "fileattachment":
        return ("file", part["name"], part["sha256"], part["contentId"], part["isInline"])
    if kind == "itemattachment":
        return ("item", part["name"], str((part.get("item") or {}).get("subject") or ""))
    return ("link", part["name"])


def essence(message: dict[str, Any]) -> Essence:
    """Return all of a message that a restore has to bring back, as the emulator knows it."""
    draft = message["isDraft"]
    flag = message["flag"]
    return (
        message["subject"] or "",
        message["internetMessageId"],
        message["bodySha"],
        message["isRead"],
        draft,
        "" if draft else message["receivedDateTime"],
        "" if draft else message["sentDateTime"],
        tuple(sorted((k, str(v)) for k, v in flag.items())),
        tuple(message["categories"]),
        message["importance"],
        addresses([message["from"]] if message["from"] else []),
        tuple(addresses(message[name]) for name in _PEOPLE),
        tuple(sorted(map(repr, map(enclosed, message["attachments"])))),
    )


def shape(truth: dict[str, Any]) -> dict[str, Any]:
    """Return folders and messages of a mailbox but for what users do not see."""
    hidden = {f["id"] for f in truth["folders"] if f["path"][:1] == ["Recoverable Items"]}
    return {
        "folders": {f["id"]: (f["path"], f["hidden"]) for f in truth["folders"]},
        "messages": {
            m["immutableId"]: (m["folderId"], essence(m))
            for m in truth["messages"]
            if m["folderId"] not in hidden
        },
    }


@dataclass
class Scene:
    """A rig with a mailbox that was backed up, and what it held before anything was restored."""

    rig: Rig
    before: dict[str, Any] = field(default_factory=dict)

    async def restore(
        self,
        selection: Selection | None = None,
        *,
        to: str = "",
        target: GraphSettings | None = None,
        stop: StopSignal | None = None,
        **options: Any,
    ) -> RestoreReport:
        """Restore the user's mailbox, below ``ROOT`` unless it is in place."""
        if not options.get("in_place"):
            options.setdefault("root", ROOT)
        wish = RestoreWish(selection or Selection(mailbox=USER), to)
        async with self.rig.engine() as atlas:
            (report,) = await atlas.restore(
                [wish], RestoreOptions(**options), target=target, stop=stop
            )
        return report

    async def undo(self, job: str = "latest", **options: Any) -> UndoReport:
        """Take a restore of the user's mailbox back."""
        async with self.rig.engine() as atlas:
            return await atlas.undo_restore(USER, job, **options)

    def fault(self, **rule: Any) -> None:
        """Let requests fail."""
        from atlas_async.emulator import FaultRule

        self.rig.emulator.control.add_fault(FaultRule(**rule))

    def calm(self) -> None:
        """Let all requests succeed."""
        self.rig.emulator.control.clear_faults()

    def source(self) -> Counter[tuple[tuple[str, ...], Essence]]:
        """Return what was backed up: folder and essence of every message, counted."""
        return held(self.before, ())

    def restored(
        self, mailbox: str = USER, root: str = ROOT
    ) -> Counter[tuple[tuple[str, ...], Essence]]:
        """Return what lies below the root of a restore, as ``source`` has it."""
        return held(self.rig.truth(mailbox), (root,))

    def assert_whole(self, mailbox: str = USER, root: str = ROOT) -> None:
        """Assert that everything is there, once, as it was; links have become files."""
        difference(self.source(), self.restored(mailbox, root))

    def assert_untouched(self, mailbox: str = USER) -> None:
        """Assert that what users see of the mailbox is what it was before any restore."""
        assert shape(self.rig.truth(mailbox)) == shape(self.before)

    def marked(self, mailbox: str = USER) -> list[dict[str, Any]]:
        """Return the messages that carry a mark, those that were deleted left out."""
        truth = self.rig.truth(mailbox)
        gone = {f["id"] for f in truth["folders"] if f["path"][:1] == ["Recoverable Items"]}
        return [m for m in truth["messages"] if mark_of(m) and m["folderId"] not in gone]


def mark_of(message: dict[str, Any]) -> str:
    """Return the mark that a message carries, or an empty string."""
    found = {str(name).lower(): value for name, value in message["extended"].items()}
    return str(found.get(MARK) or "")


def held(truth: dict[str, Any], below: tuple[str, ...]) -> Counter[tuple[tuple[str, ...], Essence]]:
    """Return the messages of the folders below a path, links as the files they become."""
    paths = {
        f["id"]: tuple(f["path"])
        for f in truth["folders"]
        if f["belowRoot"] and not f["search"] and tuple(f["path"][: len(below)]) == below
    }
    found: Counter[tuple[tuple[str, ...], Essence]] = Counter()
    for message in truth["messages"]:
        path = paths.get(message["folderId"])
        if path is not None:
            found[path[len(below) :], essence(message)] += 1
    return found


def difference(
    wanted: Counter[tuple[tuple[str, ...], Essence]],
    found: Counter[tuple[tuple[str, ...], Essence]],
) -> None:
    """Assert that two mailboxes hold the same, but for links that have become files."""
    assert linkless(wanted) == linkless(found)


def linkless(
    messages: Counter[tuple[tuple[str, ...], Essence]],
) -> Counter[tuple[tuple[str, ...], Essence]]:
    """Return messages with the number of their links in place of links, or of the files they became."""
    changed: Counter[tuple[tuple[str, ...], Essence]] = Counter()
    for (path, essence_), number in messages.items():
        *rest, parts = essence_
        names = tuple(part for part in parts if ".docx" not in part or "'file'" not in part)
        kept = tuple(part for part in names if not part.startswith("('link'"))
        links = len(parts) - len(kept)
        changed[path, (*rest, kept, links)] += number
    return changed


def created(report: RestoreReport) -> int:
    """Return how many messages a restore created."""
    return report.total(Step.CREATE)


@asynccontextmanager
async def open_scene(
    options: CorpusOptions = RICH, *, limits: Limits | None = None, **rig_options: Any
) -> AsyncIterator[Scene]:
    """Start an emulator with one user that is backed up."""
    async with open_rig(options, limits=limits, **rig_options) as rig:
        result = await rig.back_up_user()
        assert result.error == ""
        yield Scene(rig, rig.truth())


@asynccontextmanager
async def brisk_scene(**options: Any) -> AsyncIterator[Scene]:
    """Open a scene in which no pause costs time."""
    corpus = options.pop("corpus", RICH)
    async with open_scene(corpus, limits=Limits(), clock=BriskClock(), **options) as scene:
        yield scene


@asynccontextmanager
async def large_scene() -> AsyncIterator[Scene]:
    """Open one whose mailbox has files of one and of three ranges, all of one name."""
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:
        parts: list[dict[str, Any]] = [
            {"name": "a.bin", "size": 9_000_000, "seed": 1},
            {"name": "a.bin", "size": 3_200_000, "seed": 2},
            {"name": "a.bin", "size": 100, "seed": 3, "contentId": "x@y", "isInline": True},
        ]
        rig.mutate(op="create", folder="inbox", subject="Large", attachments=parts)
        await rig.back_up_user()
        yield Scene(rig, rig.truth())


def assert_once(scene: Scene) -> None:
    """Assert that every message of the source was made exactly once."""
    marks = Counter(map(mark_of, scene.marked()))
    assert set(marks.values()) == {1}
    assert marks.total() == scene.source().total()
