"""A small tenant that was backed up twice, with changes in between, and what was true then."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, GraphSettings, Settings
from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.model.report import RunReport
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectStore

PASSPHRASE = "correct horse battery staple"
USERS = ("user0000@contoso.com", "user0001@contoso.com")

OPTIONS = CorpusOptions(
    mailboxes=len(USERS),
    shared=0,
    rooms=0,
    guests=0,
    unlicensed=0,
    messages=60,
    body_median=2_000,
    odd_share=0.2,
    attachment_share=0.4,
    attachment_median=6_000,
    attachment_top=300_000,
    item_share=0.3,
    reference_share=0.2,
    inline_share=0.15,
    smime_share=0.03,
)
"""Few messages, every kind of attachment, many odd texts."""


@dataclass
class History:
    """What was done: settings to open the bucket with, and per run its report and the truth."""

    settings: Settings
    reports: list[RunReport] = field(default_factory=list)
    truths: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    objects_after: list[list[str]] = field(default_factory=list)


def graph_settings(emulator: Emulator) -> GraphSettings:
    """Return how to reach an emulated tenant."""
    tenant = emulator.tenant
    return GraphSettings(
        str(tenant.id),
        tenant.client_id,
        Secret(tenant.client_secret),
        emulator.authority_url,
        emulator.graph_url,
        emulator.ca_file,
    )


def tenant_settings(emulator: Emulator) -> Settings:
    """Return settings of an emulated tenant; its store is always handed in."""
    return Settings(
        graph=graph_settings(emulator),
        storage=DirectorySettings(Path("unused")),
        tenant_id=str(emulator.tenant.id),
        passphrase=Secret(PASSPHRASE),
    )


def history_tenant_id() -> str:
    """Return the id of the tenant that histories are about."""
    return str(Corpus(OPTIONS).tenant_id)


async def write_history(store: ObjectStore) -> History:
    """Back up the tenant with originals, change its mail, and back it up again."""
    async with Emulator(Corpus(OPTIONS), tls=True) as emulator:
        history = History(tenant_settings(emulator))
        async with Atlas(history.settings, store=store) as atlas:
            for run in range(2):
                if run:
                    change_mail(emulator)
                history.truths.append({u: emulator.control.mailbox_truth(u) for u in USERS})
                history.reports.append(await atlas.backup(list(USERS), mime=True))
        return history


def change_mail(emulator: Emulator) -> None:
    """Change the first user's mailbox in every way a snapshot can tell."""
    user = USERS[0]
    control = emulator.control
    inbox = folder_named(control.mailbox_truth(user), "inbox")
    ids = [
        m["immutableId"]
        for m in control.mailbox_truth(user)["messages"]
        if m["folderId"] == inbox["id"]
    ]
    flagged = {"flag": {"flagStatus": "flagged"}, "categories": ["Red", "Größe"]}
    picture = base64.b64encode(b"a picture that is new").decode()
    file = {"name": "new.png", "contentType": "image/png", "bytes": picture}
    body = {"contentType": "text", "content": "changed \u2028 body"}
    changes: list[dict[str, Any]] = [
        {"op": "create", "folder": "inbox", "subject": "brand new", "attachments": [file]},
        {"op": "update", "message": ids[0], "patch": {"subject": "changed", "body": body}},
        {"op": "update", "message": ids[1], "patch": flagged},
        {"op": "bulk-read", "folder": "inbox", "count": 2, "skip": 4},
        {"op": "move", "message": ids[2], "folder": "archive"},
        {"op": "delete", "message": ids[3], "hard": True},
        {"op": "folder-create", "name": "Fresh"},
        {"op": "create", "folder": ["Fresh"], "subject": "in a new folder"},
        {"op": "folder-rename", "folder": nested_folder(control.mailbox_truth(user)), "name": "R"},
    ]
    for change in changes:
        control.mutate(user, change)


def folder_named(truth: dict[str, Any], well_known: str) -> dict[str, Any]:
    """Return a folder by its well-known name."""
    found: dict[str, Any] = next(f for f in truth["folders"] if f["wellKnownName"] == well_known)
    return found


def nested_folder(truth: dict[str, Any]) -> str:
    """Return the id of a folder that has folders below it and mail, and no well-known name."""
    parents = {f["parentId"] for f in truth["folders"]}
    full = {m["folderId"] for m in truth["messages"]}
    return next(
        str(f["id"])
        for f in truth["folders"]
        if f["belowRoot"] and not f["wellKnownName"] and f["id"] in parents & full
    )
