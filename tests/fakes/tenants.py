"""A tenant over a bucket in memory that is open already, so that no key has to be derived."""

from __future__ import annotations

from pathlib import Path

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.operations.tenant import Tenant
from atlas_async.store.base import ObjectStore
from tests.fakes.clock import FakeClock
from tests.fakes.vaults import DEK


def open_tenant(store: ObjectStore) -> Tenant:
    """Return a tenant under the fixed key of ``tests.fakes.vaults``."""
    settings = Settings(None, DirectorySettings(Path("unused")), "tenant", Secret("unused"))
    tenant = Tenant(settings, store, FakeClock())
    tenant._sealer = Sealer(DEK)
    return tenant
