"""What a mailbox held at a moment, as the emulator tells it and as a snapshot shows it, compared.

Both sides become a ``Moment``: messages with their folder, state, body and attachments, and the
folders with their paths. A snapshot made while nothing changed shows one moment exactly. One made
beside changes shows every message as it was at some moment of its run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from atlas_async.catalog.reader import SnapshotView
from atlas_async.catalog.vault import Vault
from atlas_async.emulator.control import Control
from atlas_async.emulator.truth import _message
from atlas_async.model.record import message_key

Folder = tuple[tuple[str, ...], str | None]
"""Path and well-known name."""


class Print(NamedTuple):
    """All of a message that a backup must show."""

    folder: str
    is_read: bool | None
    flag: str | None
    categories: tuple[str, ...]
    subject: str
    body: str
    attachments: tuple[tuple[str, str, str, bool, str | None, str], ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """What one mailbox held: prints by immutable id, folders below the root by id."""

    messages: dict[str, Print]
    folders: dict[str, Folder]

    def digest(self) -> str:
        """Return one text for all of it."""
        whole = [sorted(self.messages.items()), sorted(self.folders.items())]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


@dataclass(slots=True)
class Bodies:
    """What is known of contents: SHA-256 of bodies by checksum, and attachments without bytes.

    ``hashless`` are ids of attachments whose stored form the emulator does not foretell.
    """

    by_checksum: dict[str, str] = field(default_factory=dict)
    hashless: set[str] = field(default_factory=set)


class Truths:
    """The emulator's truth, told often: a message that did not change is not made anew.

    Args:
        control: Of the emulator.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._told: dict[tuple[str, int, int], dict[str, Any]] = {}

    def of(self, name: str) -> dict[str, Any]:
        """Return what ``Control.mailbox_truth`` returns; only on the emulator's thread."""
        mailbox = self._control._mailbox(name)
        truth = self._control.mailbox_truth(name, content=False)
        messages = []
        for brief in truth["messages"]:
            key = mailbox.message(brief["immutableId"])
            entry = mailbox.entries.get(key)
            version = (name, key, entry.version if entry else 0)
            if version not in self._told:
                state = mailbox.folders[mailbox.place(key)[0]]
                self._told[version] = _message(mailbox, state, key, content=True)
            messages.append(self._told[version])
        return {**truth, "messages": messages}


def moment_of_truth(truth: dict[str, Any], bodies: Bodies) -> Moment:
    """Return what a default backup of the mailbox must show; notes attachments without bytes."""
    below = {f["id"]: f for f in truth["folders"] if f["belowRoot"] and not f["search"]}
    messages: dict[str, Print] = {}
    for message in truth["messages"]:
        if message["folderId"] not in below:
            continue
        for part in message["attachments"]:
            if part["sha256"] is None:
                bodies.hashless.add(part["id"])
        messages[message["immutableId"]] = Print(
            message["folderId"],
            message["isRead"],
            message["flag"]["flagStatus"],
            tuple(message["categories"]),
            message["subject"] or "",
            message["bodySha"],
            tuple(
                sorted(
                    (
                        part["id"],
                        part["type"].lower().removeprefix("#microsoft.graph."),
                        part["name"],
                        part["isInline"],
                        part["contentId"],
                        part["sha256"] or "",
                    )
                    for part in message["attachments"]
                )
            ),
        )
    folders = {
        folder["id"]: (tuple(folder["path"]), folder["wellKnownName"])
        for folder in below.values()
        if folder["id"] != truth["rootId"]
    }
    return Moment(messages, folders)


async def moment_of_snapshot(view: SnapshotView, vault: Vault, bodies: Bodies) -> Moment:
    """Return what a snapshot shows. Bodies that are not known yet are read; ``verify`` reads all.

    Raises:
        AtlasError: Something that the snapshot names is missing or damaged.
        AssertionError: Its counts are not those of its rows.
    """
    messages: dict[str, Print] = {}
    counts: dict[str, int] = {}
    async for record in view.messages():
        checksum = record["checksum"]
        if checksum not in bodies.by_checksum:
            key = message_key(vault.mailbox_id, checksum)
            resource = json.loads(await vault.read_content(key, checksum))
            body = (resource.get("body") or {}).get("content") or ""
            digest = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
            bodies.by_checksum[checksum] = digest
        counts[record["folder_id"]] = counts.get(record["folder_id"], 0) + 1
        messages[record["object_id"]] = Print(
            record["folder_id"],
            record["is_read"],
            record["flag"],
            tuple(record["categories"]),
            record["subject"],
            bodies.by_checksum[checksum],
            tuple(
                sorted(
                    (
                        part["attachment_id"],
                        f"{part['type']}attachment",
                        part["name"],
                        part["is_inline"],
                        part.get("content_id"),
                        "" if part["attachment_id"] in bodies.hashless else part["checksum"],
                    )
                    for part in record.get("attachments", ())
                )
            ),
        )
    assert view.summary.messages == len(messages), "the count of messages is not that of the rows"
    assert view.snapshot is not None, "a snapshot without a descriptor"
    assert view.snapshot.folder_counts == counts, "the counts of folders are not those of the rows"
    if view.summary.complete:
        shown = {f.folder.id for f in view.folders}
        assert counts.keys() <= shown, "a message lies in a folder that is not shown"
    folders = {
        f.folder.id: (tuple(f.folder.path), f.folder.well_known_name)
        for f in view.folders
        if f.folder.path  # the root is shown where mail lies in it
    }
    return Moment(messages, folders)


def differences(shown: Moment, held: Moment) -> list[str]:
    """Return what a snapshot shows otherwise than the mailbox held it; none when it is exact."""
    return [
        *_unlike("message", shown.messages, held.messages),
        *_unlike("folder", shown.folders, held.folders),
    ]


def _unlike(kind: str, shown: dict[str, Any], held: dict[str, Any]) -> list[str]:
    found = [f"{kind} {key} is missing: {held[key]}" for key in held.keys() - shown.keys()]
    found += [f"{kind} {key} was not there: {shown[key]}" for key in shown.keys() - held.keys()]
    both = held.keys() & shown.keys()
    found += [
        f"{kind} {key} is {shown[key]}, was {held[key]}" for key in both if shown[key] != held[key]
    ]
    return found


def unexplained(shown: Moment, window: Sequence[Moment]) -> list[str]:
    """Return what a complete snapshot of a run beside changes shows, or lacks, without reason.

    Args:
        shown: The snapshot.
        window: What the mailbox held when the run began, after each change, and at its end.

    Every message and folder shown was so at some moment of the run. What stayed in one place
    during the run is there; what moved meanwhile may wait for the next run.
    """
    found: list[str] = []
    for key, seen in shown.messages.items():
        if all(moment.messages.get(key) != seen for moment in window):
            found.append(f"message {key} never was {seen} during the run")
    for key, place in shown.folders.items():
        if all(moment.folders.get(key) != place for moment in window):
            found.append(f"folder {key} never was {place} during the run")
    for key, first in window[0].messages.items():
        places = {m.messages[key].folder if key in m.messages else "" for m in window}
        if places == {first.folder} and key not in shown.messages:
            found.append(f"message {key} was there all the time and is missing: {first}")
    for key, held in window[0].folders.items():
        if all(m.folders.get(key) == held for m in window) and shown.folders.get(key) != held:
            found.append(f"folder {key} was {held} all the time, shown {shown.folders.get(key)}")
    return found


def lost(
    shown: Moment,
    previous: Moment | None,
    window: Sequence[Moment],
    ever: dict[str, set[Print]],
    open_ids: frozenset[str],
) -> list[str]:
    """Return what an incomplete snapshot (an interrupted run) lacks or invents.

    What the snapshot before it had, and the mailbox still has, is there; whatever is shown was so
    at some moment of the mailbox's life. Attachments of ``open_ids`` are in its ledger.
    """
    found = [
        f"message {key} never was {seen}"
        for key, seen in shown.messages.items()
        if seen not in ever.get(key, ())
        and (key not in open_ids or not any(_alike(seen, other) for other in ever.get(key, ())))
    ]
    found += [
        f"message {key} was in the snapshot before, is there, and is missing"
        for key in (previous.messages if previous else ())
        if key not in shown.messages and all(key in moment.messages for moment in window)
    ]
    return found


def _alike(one: Print, other: Print) -> bool:
    return one._replace(attachments=()) == other._replace(attachments=())
