"""A whole engine against the emulator, on a memory store: what most engine tests start from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from atlas_async.catalog.reader import SnapshotView
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock, SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, GraphSettings, Limits, Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import unwrap_dek
from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.model.events import Event
from atlas_async.model.record import attachment_key, message_key
from atlas_async.model.report import MailboxResult, RunReport
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectStore
from atlas_async.store.memory import MemoryBucket, MemoryStore

USER = "user0000@contoso.com"
PASSPHRASE = Secret("rig passphrase")

SMALL = CorpusOptions(
    mailboxes=1,
    shared=0,
    rooms=0,
    guests=0,
    unlicensed=0,
    messages=40,
    folders=5,
    body_median=800,
    attachment_median=2_000,
    attachment_top=20_000,
)


@dataclass
class Rig:
    """An emulator, a bucket and settings; engines are opened over them as often as needed."""

    emulator: Emulator
    settings: Settings
    bucket: MemoryBucket
    store: ObjectStore
    clock: Clock
    events: list[Event] = field(default_factory=list)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Atlas]:
        """Open an engine over the rig's store."""
        async with Atlas(self.settings, store=self.store, clock=self.clock) as atlas:
            yield atlas

    async def backup(self, mailboxes: list[str] | None = None, **options: Any) -> RunReport:
        """Run one backup and return its report; the events are kept in ``events``."""
        self.events = []
        async with self.engine() as atlas, atlas.events() as stream:
            report = await atlas.backup(mailboxes, **options)
            while stream.statistics().current_buffer_used:  # type: ignore[attr-defined]
                self.events.append(await anext(stream))
        return report

    async def back_up_user(self, **options: Any) -> MailboxResult:
        """Back the rig's user up and return the one result."""
        report = await self.backup([USER], **options)
        (result,) = report.mailboxes
        return result

    async def view(self, snapshot: str | None = None, mailbox: str = USER) -> SnapshotView:
        """Open a snapshot, the newest by default."""
        async with self.engine() as atlas:
            return await atlas.open_snapshot(snapshot, mailbox)

    def truth(self, mailbox: str = USER) -> dict[str, Any]:
        """Return what the emulator holds now."""
        return self.emulator.control.mailbox_truth(mailbox)

    def mutate(self, **change: Any) -> dict[str, Any]:
        """Change the user's mailbox."""
        return self.emulator.control.mutate(USER, change)

    def messages_in(self, folder: str, mailbox: str = USER) -> list[dict[str, Any]]:
        """Return the truth of the messages in a well-known folder."""
        truth = self.truth(mailbox)
        folder_id = next(f["id"] for f in truth["folders"] if f["wellKnownName"] == folder)
        return [m for m in truth["messages"] if m["folderId"] == folder_id]

    def reachable(self, mailbox: str = USER) -> set[str]:
        """Return the ids of the messages a default backup holds."""
        truth = self.truth(mailbox)
        folders = {f["id"] for f in truth["folders"] if f["belowRoot"] and not f["search"]}
        return {m["immutableId"] for m in truth["messages"] if m["folderId"] in folders}

    def folder_id(self, folder: str, mailbox: str = USER) -> str:
        """Return the id of a well-known folder."""
        found: str = next(
            f["id"] for f in self.truth(mailbox)["folders"] if f["wellKnownName"] == folder
        )
        return found

    def keys(self, prefix: str) -> list[str]:
        """Return the keys in the bucket below a prefix."""
        return sorted(key for key in self.bucket.objects if key.startswith(prefix))

    def vault(self, mailbox: str = USER) -> Vault:
        """Return a vault over the bucket."""
        blob = self.bucket.objects["_meta/dek.enc"].body
        dek = unwrap_dek(blob, PASSPHRASE, self.settings.tenant_id)
        return Vault(self.store, Sealer(dek), mailbox)

    async def assert_exact(
        self, view: SnapshotView, truth: dict[str, Any], *, content: bool = True
    ) -> None:
        """Assert that a snapshot shows exactly what the mailbox held."""
        records = {r["object_id"]: r async for r in view.messages()}
        reachable = {f["id"] for f in truth["folders"] if f["belowRoot"] and not f["search"]}
        wanted = {m["immutableId"]: m for m in truth["messages"] if m["folderId"] in reachable}
        assert set(records) == set(wanted)
        paths = {f.folder.id: list(f.folder.path) for f in view.folders}
        assert paths == {
            f["id"]: f["path"]
            for f in truth["folders"]
            if f["id"] in reachable and f["id"] != truth["rootId"]
        }
        names = {f.folder.id: f.folder.well_known_name for f in view.folders}
        assert names == {f["id"]: f["wellKnownName"] for f in truth["folders"] if f["id"] in paths}
        counts = {f.folder.id: f.message_count for f in view.folders if f.message_count}
        found: dict[str, int] = {}
        for record in records.values():
            found[record["folder_id"]] = found.get(record["folder_id"], 0) + 1
        assert counts == found
        assert view.summary.messages == len(records)
        vault = self.vault(view.summary.mailbox_id)
        for object_id, message in wanted.items():
            record = records[object_id]
            assert record["folder_id"] == message["folderId"]
            assert record["is_read"] == message["isRead"]
            assert record["flag"] == message["flag"]["flagStatus"]
            assert record["categories"] == message["categories"]
            assert record["subject"] == (message["subject"] or "")
            if content:
                await self._assert_content(vault, record, message)

    async def _assert_content(self, vault: Vault, record: Any, message: dict[str, Any]) -> None:
        key = message_key(vault.mailbox_id, record["checksum"])
        resource = json.loads(await vault.read_content(key, record["checksum"]))
        body = (resource.get("body") or {}).get("content") or ""
        digest = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
        assert digest == message["bodySha"]
        found = {a["attachment_id"]: a for a in record.get("attachments", [])}
        assert set(found) == {a["id"] for a in message["attachments"]}
        for wanted in message["attachments"]:
            attachment = found[wanted["id"]]
            assert wanted["type"].lower() == f"#microsoft.graph.{attachment['type']}attachment"
            assert attachment["name"] == wanted["name"]
            assert attachment["is_inline"] == wanted["isInline"]
            assert attachment.get("content_id") == wanted["contentId"]
            content = await vault.read_content(
                attachment_key(vault.mailbox_id, attachment["checksum"]), attachment["checksum"]
            )
            if wanted["sha256"] is not None:
                assert hashlib.sha256(content).hexdigest() == wanted["sha256"]


@asynccontextmanager
async def open_rig(
    options: CorpusOptions = SMALL,
    *,
    limits: Limits | None = None,
    store: ObjectStore | None = None,
    clock: Clock | None = None,
    service_clock: Clock | None = None,
    spool: Path | None = None,
) -> AsyncIterator[Rig]:
    """Start an emulator (plain HTTP) and return a rig over it and a memory store.

    ``clock`` is the engine's, ``service_clock`` the emulator's.
    """
    bucket = MemoryBucket()
    async with Emulator(Corpus(options), clock=service_clock) as emulator:
        tenant_id = str(emulator.tenant.id)
        settings = Settings(
            graph=GraphSettings(
                tenant_id=tenant_id,
                client_id=emulator.tenant.client_id,
                credential=Secret(emulator.tenant.client_secret),
                authority_url=emulator.authority_url,
                graph_url=emulator.graph_url,
            ),
            storage=DirectorySettings(Path("unused")),
            tenant_id=tenant_id,
            passphrase=PASSPHRASE,
            limits=limits or replace(Limits(), retries=3),
            dek_version=0,  # its scrypt costs a quarter
            spool_directory=spool,
        )
        yield Rig(
            emulator=emulator,
            settings=settings,
            bucket=bucket,
            store=store or MemoryStore(bucket),
            clock=clock or SystemClock(),
        )
