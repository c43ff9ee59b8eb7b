"""The bucket that Atlas 1.3.0 wrote, restored into an emulated mailbox as far as it goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import Any

from atlas_async.config.secret import Secret
from atlas_async.config.settings import GraphSettings
from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.model.record import MessageRecord
from atlas_async.model.restoring import RestoreOptions, RestoreReport, Step
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from atlas_async.sdk import Atlas
from tests.fakes.golden import golden_settings, golden_store
from tests.restore.scene import OTHER, ROOT, mark_of

ANN = "user0000@contoso.com"
EMPTY = CorpusOptions(
    mailboxes=2, shared=0, rooms=0, guests=0, unlicensed=0, messages=0, folders=0, seed=3
)


def graph_of(emulator: Emulator) -> GraphSettings:
    """Return how to reach the emulated tenant."""
    return GraphSettings(
        tenant_id=str(emulator.tenant.id),
        client_id=emulator.tenant.client_id,
        credential=Secret(emulator.tenant.client_secret),
        authority_url=emulator.authority_url,
        graph_url=emulator.graph_url,
    )


async def restored(
    emulator: Emulator, selection: Selection, store: Any, **options: Any
) -> RestoreReport:
    """Restore from the golden bucket into the other tenant."""
    settings = golden_settings(graph=graph_of(emulator))
    async with Atlas(settings, store=store) as atlas:
        wish = RestoreWish(selection, OTHER)
        (report,) = await atlas.restore([wish], RestoreOptions(**options), target=settings.graph)
    return report


async def stored(store: Any) -> list[MessageRecord]:
    """Return what the newest of Atlas's snapshots holds."""
    async with Atlas(golden_settings(), store=store) as atlas:
        view = await atlas.open_snapshot(None, ANN)
        return [record async for record in view.messages()]


async def test_what_atlas_stored_comes_back_twice_the_same() -> None:
    """Every message and file of the snapshot, in a folder for each of Atlas's; links are told."""
    async with Emulator(Corpus(EMPTY)) as emulator:
        store = golden_store()
        report = await restored(emulator, Selection(mailbox=ANN), store, root=ROOT)
        assert not report.error, report.error
        assert {f.code for f in report.failures} <= {"NotStored"}
        truth = emulator.control.mailbox_truth(OTHER)
        made = [m for m in truth["messages"] if mark_of(m)]
        entries = await stored(store)
        assert len(made) == report.total(Step.CREATE) == len(entries)
        assert Counter(m["subject"] for m in made) == Counter(e["subject"] for e in entries)
        paths = {f["id"]: f["path"] for f in truth["folders"]}
        below = {tuple(paths[m["folderId"]]) for m in made}
        assert len(below) == len({e["folder_id"] for e in entries})
        assert all(path[0] == ROOT and path[1].startswith("Folder ") for path in below)
        files = {a["sha256"] for m in made for a in m["attachments"]}
        kept = {
            a["checksum"] for e in entries for a in e.get("attachments", ()) if a.get("checksum")
        }
        assert kept <= files
        again = await restored(emulator, Selection(mailbox=ANN), store, root=ROOT)
        assert again.total(Step.CREATE) == 0
        assert len(emulator.control.mailbox_truth(OTHER)["messages"]) == len(truth["messages"])
        settings = golden_settings(graph=graph_of(emulator))
        async with Atlas(settings, store=store) as atlas:
            undone = await atlas.undo_restore(ANN, "latest", target=settings.graph)
        assert undone.exit_code == 0
        assert not [
            f for f in emulator.control.mailbox_truth(OTHER)["folders"] if f["path"][:1] == [ROOT]
        ]


async def test_a_time_of_reception_is_told_by_the_message_itself() -> None:
    """Atlas's manifests name no dates: the messages are asked."""
    async with Emulator(Corpus(replace(EMPTY, seed=4))) as emulator:
        store = golden_store()
        every = await restored(emulator, Selection(mailbox=ANN), store, dry_run=True)
        report = await restored(emulator, Selection(mailbox=ANN), store, root=ROOT)
        times = sorted(
            m["receivedDateTime"]
            for m in emulator.control.mailbox_truth(OTHER)["messages"]
            if mark_of(m)
        )
        middle = times[len(times) // 2]
        early = Selection(mailbox=ANN, received_before=datetime.fromisoformat(middle))
        part = await restored(emulator, early, store, dry_run=True, root=ROOT)
        assert part.total(Step.ALREADY) == len([t for t in times if t < middle])
        assert every.total(Step.CREATE) == report.total(Step.CREATE)
