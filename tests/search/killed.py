"""A program that indexes a mailbox until it is killed: ``python -m tests.search.killed DIR``."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from atlas_async.config.settings import DirectorySettings
from atlas_async.model.events import Event, SearchProgress
from atlas_async.operations.finding import update_index
from atlas_async.search import draft
from atlas_async.store.directory import DirectoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import open_tenant

SAVED_EVERY = 10
ENOUGH = 35


def directory_store(path: Path) -> DirectoryStore:
    """Return the bucket that the program and its test share."""
    return DirectoryStore(DirectorySettings(path), "atlas-t", clock=FakeClock())


def _wait_to_be_killed(event: Event) -> None:
    if isinstance(event, SearchProgress) and event.indexed >= ENOUGH:
        sys.stdout.write("now\n")
        sys.stdout.flush()
        time.sleep(600)


if __name__ == "__main__":
    draft.MOST_DOCUMENTS = SAVED_EVERY  # type: ignore[misc]  # small, for the test
    tenant = open_tenant(directory_store(Path(sys.argv[1])))
    asyncio.run(update_index(tenant, _wait_to_be_killed))
