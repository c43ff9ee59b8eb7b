"""A tenant's bucket, opened: its store, its key, and vaults for its mailboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from atlas_async.catalog.layout import (
    ATTACHMENTS_PREFIX,
    CATALOG_PREFIX,
    DATA_PREFIX,
    MANIFESTS_PREFIX,
    LeasePlace,
    check_mailbox_id,
    is_mailbox_id,
)
from atlas_async.catalog.lease import Lease, kept
from atlas_async.catalog.tenant_key import make_tenant_key, open_tenant_key
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock
from atlas_async.config.settings import ObjectMetadata, Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.errors import BucketNotFound, SnapshotNotFound
from atlas_async.store.bare import BareStore
from atlas_async.store.base import ObjectStore
from atlas_async.store.counting import CountingStore


class Tenant:
    """What operations work on.

    Args:
        settings: The tenant's settings.
        store: Its bucket, not opened yet.
        clock: Time.
        sealer: The key, when somebody has opened it already.
    """

    def __init__(
        self, settings: Settings, store: ObjectStore, clock: Clock, sealer: Sealer | None = None
    ) -> None:
        self.settings = settings
        # Here everything passes that is written, by whatever process of a run.
        plain = settings.object_metadata is ObjectMetadata.NONE
        self.store = BareStore(store) if plain else store
        self.clock = clock
        self._sealer = sealer

    async def open_for_writing(self) -> None:
        """Open the bucket and the key, making either when it is absent.

        Nothing is written before the passphrase has proved right for an existing key.

        Raises:
            StoreError: The store cannot be reached or used.
            KeyMaterialError: The key cannot be opened.
        """
        if self._sealer is not None:
            return
        await self.store.open_bucket(create=True)
        self._sealer = await make_tenant_key(
            self.store,
            self.settings.passphrase,
            self.settings.tenant_id,
            version=self.settings.dek_version,
            clock=self.clock,
        )

    async def find_bucket(self) -> bool:
        """Tell whether the bucket exists.

        Raises:
            StoreError: The store cannot be reached or used.
        """
        try:
            await self.store.open_bucket(create=False)
        except BucketNotFound:
            return False
        return True

    async def open_existing(self) -> bool:
        """Open the bucket and the key where both exist; make neither. Return whether they do.

        Raises:
            StoreError: The store cannot be reached or used.
            KeyMaterialError: The key cannot be opened.
        """
        if self._sealer is None and await self.find_bucket():
            self._sealer = await open_tenant_key(
                self.store, self.settings.passphrase, self.settings.tenant_id
            )
        return self._sealer is not None

    async def open_for_reading(self) -> None:
        """Open the bucket and the key; make neither.

        Raises:
            BucketNotFound: There is no bucket.
            SnapshotNotFound: There is a bucket and nothing was ever backed up into it.
            KeyMaterialError: The key cannot be opened.
        """
        if self._sealer is not None:
            return
        await self.store.open_bucket(create=False)
        sealer = await open_tenant_key(
            self.store, self.settings.passphrase, self.settings.tenant_id
        )
        if sealer is None:
            msg = "nothing was backed up into this bucket yet"
            raise SnapshotNotFound(msg, where=self.store.name, hint="run `atlas backup` first")
        self._sealer = sealer

    @property
    def sealer(self) -> Sealer:
        """The tenant's sealer; only after opening."""
        if self._sealer is None:
            msg = "the tenant is not opened"
            raise RuntimeError(msg)
        return self._sealer

    def vault(self, mailbox_id: str) -> tuple[Vault, CountingStore]:
        """Return a mailbox's vault and the counter of its requests."""
        counted = CountingStore(self.store, owned=False)
        return Vault(counted, self.sealer, check_mailbox_id(mailbox_id)), counted

    @asynccontextmanager
    async def writing(
        self,
        mailbox_id: str,
        *,
        wait: float,
        notice: Callable[[str], None] = lambda _: None,
        give_up: Callable[[], bool] = lambda: False,
        place: LeasePlace = LeasePlace.BACKUP,
    ) -> AsyncIterator[tuple[Vault, CountingStore]]:
        """Give a mailbox's vault whose first write takes the mailbox's lease.

        Args:
            mailbox_id: Whose.
            wait: Seconds to wait for another run that holds the mailbox and is alive.
            notice: Told when somebody else holds it.
            give_up: Tells whether to stop waiting at once.
            place: What it is for. What is not a backup has nothing to be confirmed beforehand.

        Raises:
            LockedError: The lease was lost while the body ran, which is cancelled then.
        """
        counted = CountingStore(self.store, owned=False)
        lease = Lease(
            counted,
            self.sealer,
            check_mailbox_id(mailbox_id),
            clock=self.clock,
            wait=wait,
            notice=notice,
            give_up=give_up,
            place=place,
        )
        if place is not LeasePlace.BACKUP:
            lease.begin(None, _nothing_to_confirm)
        async with kept(lease):
            yield Vault(counted, self.sealer, mailbox_id, lease), counted

    async def mailbox_ids(self) -> list[str]:
        """Return the mailboxes that have at least one manifest, sorted."""
        return [name for name in await self._children(MANIFESTS_PREFIX) if is_mailbox_id(name)]

    async def strange_names(self) -> list[str]:
        """Return what stands in a mailbox's place among the manifests and can be none's name."""
        names = await self._children(MANIFESTS_PREFIX)
        return [name for name in names if not is_mailbox_id(name)]

    async def mailbox_ids_of_objects(self) -> list[str]:
        """Return the mailboxes that have any object, committed or not, sorted."""
        found: set[str] = set()
        for prefix in (DATA_PREFIX, ATTACHMENTS_PREFIX, MANIFESTS_PREFIX, CATALOG_PREFIX):
            found.update(await self._children(prefix))
        return sorted(filter(is_mailbox_id, found))

    async def _children(self, prefix: str) -> list[str]:
        found: list[str] = []
        token: str | None = None
        while True:
            page = await self.store.list_page(prefix, delimiter="/", token=token)
            found.extend(child[len(prefix) : -1] for child in page.prefixes)
            token = page.token
            if token is None:
                return sorted(found)


async def _nothing_to_confirm() -> bool:
    return True
