"""A tenant in memory with a key and something sealed with it, for what concerns the key alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import new_dek, wrap_dek
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectStore
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes.bodies import md5_of
from tests.fakes.protection import FakeProtection, state

PASSPHRASE = Secret("keyed passphrase")
TENANT = "11111111-2222-3333-4444-555555555555"
MANIFEST = "manifests/ann@contoso.com/s1.json"


def wrapped(dek: bytes, passphrase: Secret = PASSPHRASE) -> bytes:
    """Return a wrapped key; version 0, whose derivation costs a quarter."""
    return wrap_dek(dek, passphrase, TENANT, version=0)


@dataclass
class Keyed:
    """A bucket, what protects it, and the key in clear."""

    dek: bytes = field(default_factory=new_dek)
    bucket: MemoryBucket = field(default_factory=MemoryBucket)
    protection: FakeProtection = field(default_factory=lambda: FakeProtection(state()))
    passphrase: Secret = PASSPHRASE

    @property
    def store(self) -> ObjectStore:
        """The bucket as a store."""
        return MemoryStore(self.bucket)

    def engine(self) -> Atlas:
        """Return an engine over it."""
        settings = Settings(
            graph=None,
            storage=DirectorySettings(Path("unused")),
            tenant_id=TENANT,
            passphrase=self.passphrase,
        )
        return Atlas(settings, store=self.store, protection=self.protection, clock=SystemClock())

    async def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        await self.store.put(key, body, md5=md5_of(body))

    async def put_sealed(self, key: str, dek: bytes | None = None) -> None:
        """Store an object sealed with the key, or with another."""
        await self.put(key, Sealer(dek or self.dek).seal(b"{}").body)

    async def take_key(self) -> bytes:
        """Remove the wrapped key from the bucket and return it."""
        blob = (await self.store.get(DEK_KEY)).body
        await self.store.delete(DEK_KEY)
        return blob


async def keyed() -> Keyed:
    """Return a tenant whose bucket holds the key and a sealed manifest."""
    made = Keyed()
    await made.store.open_bucket(create=True)
    await made.put(DEK_KEY, wrapped(made.dek))
    await made.put_sealed(MANIFEST)
    return made
