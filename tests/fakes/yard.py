"""A rig whose bucket is a directory that worker processes share, and a watch over the workers."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from atlas_async.catalog.vault import Vault
from atlas_async.clock import SystemClock
from atlas_async.config.settings import DirectorySettings, Limits, S3Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import unwrap_dek
from atlas_async.emulator import CorpusOptions
from atlas_async.model.events import Event
from atlas_async.model.report import RunReport
from atlas_async.sdk import Atlas
from atlas_async.shards import shard
from atlas_async.store.directory import DirectoryStore
from tests.fakes.rig import PASSPHRASE, SMALL, Rig, open_rig

FOUR = replace(SMALL, mailboxes=4)
LONG = replace(SMALL, mailboxes=4, messages=60, attachment_share=0.0, inline_share=0.0)
SLOW = replace(Limits(), mailboxes=2, page_size=5, retries=2)
"""Two mailboxes at once in small pages: with some latency a run that can be interfered with."""


@dataclass
class Yard(Rig):
    """A rig over a directory. ``on_event`` is called for each event of ``spread``."""

    on_event: Callable[[Event], None] = field(default=lambda event: None)

    @property
    def place(self) -> Path:
        """The bucket's directory."""
        assert isinstance(self.settings.storage, DirectorySettings)
        return self.settings.storage.path / self.settings.bucket

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Atlas]:
        """Open an engine by settings alone, as several processes need it."""
        async with Atlas(self.settings) as atlas:
            yield atlas

    async def spread(self, mailboxes: list[str] | None = None, **options: Any) -> RunReport:
        """Back up over two processes, or as ``options`` say; events are kept and passed on."""
        self.events = []
        async with self.engine() as atlas:
            atlas._listeners.append(self._take)
            return await atlas.backup(mailboxes, **({"processes": 2} | options))

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def vault(self, mailbox: str = "") -> Vault:
        """Return a vault over the bucket."""
        blob = (self.place / "_meta" / "dek.enc").read_bytes()
        dek = unwrap_dek(blob, PASSPHRASE, self.settings.tenant_id)
        return Vault(self.store, Sealer(dek), mailbox)

    async def assert_all_exact(self, *, content: bool = False) -> None:
        """Assert that every mailbox is stored as the emulator has it, and that verify is clean."""
        async with self.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0
        for number in range(self.emulator.corpus.options.mailboxes):
            mailbox = f"user{number:04}@contoso.com"
            view = await self.view(mailbox=mailbox)
            await self.assert_exact(view, self.truth(mailbox), content=content)


@asynccontextmanager
async def open_yard(
    path: Path,
    options: CorpusOptions = FOUR,
    *,
    limits: Limits | None = None,
    storage: S3Settings | None = None,
) -> AsyncIterator[Yard]:
    """Start an emulator and return a yard over ``path``, or over an S3 server's bucket."""
    async with open_rig(options, limits=limits) as rig:
        settings = replace(rig.settings, storage=storage or DirectorySettings(path))
        store = DirectoryStore(DirectorySettings(path), settings.bucket, clock=SystemClock())
        try:
            values = {item.name: getattr(rig, item.name) for item in fields(rig)}
            yield Yard(**(values | {"settings": settings, "store": store}))
        finally:
            await store.aclose()


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def children(pid: int) -> list[int]:
    """Return the running processes that ``pid`` has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid and alive(int(path.parent.name)):
            found.append(int(path.parent.name))
    return sorted(found)


async def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something outside this process is so; the test's time limit bounds it."""
    while not await anyio.to_thread.run_sync(holds):
        await anyio.sleep(0.02)


class Watch:
    """The workers that were started while a test ran."""

    def __init__(self) -> None:
        self.processes: list[Process] = []

    @property
    def pids(self) -> list[int]:
        """Their process ids, in the order in which they were started."""
        return [process.pid for process in self.processes]

    def kill(self, index: int = 0) -> None:
        """End one as the system does when memory runs out."""
        os.kill(self.pids[index], signal.SIGKILL)

    def kill_all(self) -> None:
        """End all of them so."""
        for index in range(len(self.processes)):
            self.kill(index)

    def assert_gone(self) -> None:
        """Assert that none of them is left."""
        assert not [pid for pid in self.pids if alive(pid)]


def watch_workers(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return a watch over all workers that are started from now on."""
    watch = Watch()
    start = shard._start

    async def started(*arguments: Any) -> Process:
        process = await start(*arguments)
        watch.processes.append(process)
        return process

    monkeypatch.setattr(shard, "_start", started)
    return watch
