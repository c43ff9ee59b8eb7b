"""One mailbox's part of a bucket: everything goes in sealed and comes out checked.

The vault knows keys, seals and checksums; it knows nothing of snapshots. Objects named by their
content are written at most once per run: a set of known keys, primed by one listing, saves a HEAD
for nearly every PUT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import anyio
from anyio import to_thread

from atlas_async.catalog.document import pack, unpack
from atlas_async.catalog.lease import Lease
from atlas_async.crypto.envelope import OVERHEAD_BYTES, Sealed, Sealer, sha256_hex
from atlas_async.crypto.spool import Spool, StreamOpener
from atlas_async.errors import ForeignObject, ObjectTooLarge, StoreTransient
from atlas_async.model.source import JsonObject
from atlas_async.store.base import ListPage, ObjectReader, ObjectStore

THREAD_BYTES: Final = 64 << 10
"""From this size on, hashing and encrypting go to a worker thread: a hop costs about 60 us."""

WHOLE_BYTES: Final = 256 << 10
"""Objects up to this size are checked in one piece."""

CUT_STREAMS: Final = 4
"""So often an object whose stream breaks off is read again from its beginning."""

HEADS_PER_PAGE: Final = 10
"""After so many HEADs below one prefix, another page of its listing (1,000 keys) is read."""

MAX_LISTED: Final = 20_000
"""Keys remembered from listing one prefix; beyond them, objects are asked for one by one."""

MAX_KNOWN: Final = 50_000
"""Keys per generation: of one prefix, at least so many of the last ones put are remembered."""


class Put(Enum):
    """What storing an object came to."""

    STORED = auto()
    DEDUPLICATED = auto()


@dataclass(slots=True)
class _Known:
    """What is known to exist below one prefix.

    ``sizes`` maps 128 bits of an object's SHA-256 to its sealed size; ``older`` is the generation
    before it. What is forgotten is put again, which is harmless. Every key up to ``listed_to`` has
    been listed; ``token`` continues the listing; ``heads`` counts HEADs since the last page.
    """

    sizes: dict[int, int] = field(default_factory=dict)
    older: dict[int, int] = field(default_factory=dict)
    listed_to: str = ""
    token: str | None = None
    complete: bool = False
    heads: int = 0

    def remember(self, key: str, size: int) -> None:
        """Note an object that was put."""
        if len(self.sizes) >= MAX_KNOWN:
            self.older, self.sizes = self.sizes, {}
        self.sizes[_digest(key)] = size

    def find(self, key: str) -> int | None:
        """Return the sealed size of an object that is known to exist."""
        digest = _digest(key)
        return self.sizes.get(digest) or self.older.get(digest)

    def covers(self, key: str) -> bool:
        """Tell whether absence from ``sizes`` means absence from the store."""
        return self.complete or key <= self.listed_to

    def wants_listing(self) -> bool:
        """Tell whether another page would pay."""
        return not self.complete and self.heads >= HEADS_PER_PAGE and len(self.sizes) < MAX_LISTED

    def take(self, page: ListPage) -> None:
        """Add a page of the listing."""
        self.heads = 0
        self.sizes.update((_digest(info.key), info.size) for info in page.objects)
        self.token = page.token
        self.complete = page.token is None
        if page.objects:
            self.listed_to = page.objects[-1].key


class Vault:
    """Reads and writes one mailbox's sealed objects.

    Args:
        store: The tenant's bucket.
        sealer: Holds the tenant's DEK.
        mailbox_id: Lower-case address, checked by ``layout.check_mailbox_id``.
        lease: Taken before the first write; None for reading, and for who is alone.

    All methods may be cancelled at any await and raise the ``StoreError`` subclasses. Those that
    write raise ``LockedError`` when another run holds the mailbox.
    """

    def __init__(
        self, store: ObjectStore, sealer: Sealer, mailbox_id: str, lease: Lease | None = None
    ) -> None:
        self.store = store
        self.sealer = sealer
        self.mailbox_id = mailbox_id
        self.lease = lease
        self.bytes_uploaded = 0
        self._known: dict[str, _Known] = {}
        self._listing = anyio.Lock()
        self._in_flight: dict[str, anyio.Event | None] = {}

    async def put_plaintext(
        self, key: str, plaintext: bytes, *, metadata: dict[str, str] | None = None
    ) -> Put:
        """Seal and store ``plaintext`` below a key that ends in its SHA-256, once."""
        return await self._put_once(key, len(plaintext), plaintext, metadata)

    async def put_spool(self, key: str, spool: Spool) -> Put:
        """Store a spooled sealed object below a key that ends in its plaintext's SHA-256, once."""
        return await self._put_once(key, spool.plaintext_size, spool, None)

    async def seal(self, plaintext: bytes) -> Sealed:
        """Seal ``plaintext``, in a worker thread when it is large."""
        if len(plaintext) < THREAD_BYTES:
            return self.sealer.seal(plaintext)
        return await to_thread.run_sync(self.sealer.seal, plaintext)

    async def put_document(self, key: str, document: JsonObject) -> int:
        """Seal and store a catalog document, replacing what is there; return its sealed size."""
        plaintext = await to_thread.run_sync(pack, document)
        return await self.put_raw(key, plaintext)

    async def put_raw(self, key: str, plaintext: bytes) -> int:
        """Seal and store ``plaintext`` below ``key``; return its sealed size."""
        sealed = await self.seal(plaintext)
        await self._ready()
        await self.store.put(key, sealed.body, md5=sealed.md5)
        self.bytes_uploaded += len(sealed.body)
        return len(sealed.body)

    async def replace_spool(self, key: str, spool: Spool) -> None:
        """Store a spooled sealed object below ``key``, replacing what is there."""
        await self._ready()
        await self.store.put(key, spool, md5=spool.md5)
        self.bytes_uploaded += spool.size

    async def before_commit(self) -> None:
        """Make sure that this run may still commit. Raises ``LockedError``."""
        if self.lease is not None:
            await self.lease.check()

    async def _ready(self) -> None:
        """Take the lease before the first write."""
        if self.lease is not None and not self.lease.held:
            await self.lease.take()

    async def read_document(self, key: str, *, kind: str) -> JsonObject:
        """Read a catalog document and check that it is this mailbox's.

        Raises:
            ObjectNotFound: There is none.
            IntegrityError: It is damaged, of another kind, or of another mailbox.
        """
        document = unpack(await self.read_raw(key), kind=kind, where=key)
        if document.get("mailbox_id") != self.mailbox_id:
            msg = f"this {kind} belongs to another mailbox"
            raise ForeignObject(msg, where=key)
        return document

    async def read_raw(self, key: str, *, most: int | None = None) -> bytes:
        """Read and open an object whose name says nothing of its content.

        Raises ``ObjectTooLarge`` for a sealed object of more than ``most`` bytes.
        """
        stored = await self.store.get(key, most=most)
        if len(stored.body) < THREAD_BYTES:
            return self.sealer.open(stored.body, where=key)
        return await to_thread.run_sync(lambda: self.sealer.open(stored.body, where=key))

    async def read_content(self, key: str, checksum: str, *, most: int | None = None) -> bytes:
        """Read an object named by its content and check its SHA-256 before handing it on.

        Raises:
            ObjectNotFound: There is none.
            IntegrityError: It is damaged, or another object lies below its name.
            ObjectTooLarge: It has more than ``most`` bytes.
        """
        plaintext = await self.read_raw(key, most=most)
        if len(plaintext) < THREAD_BYTES:
            actual = sha256_hex(plaintext)
        else:
            actual = await to_thread.run_sync(sha256_hex, plaintext)
        if actual != checksum:
            msg = "another object lies below this name: its SHA-256 is not the expected one"
            raise ForeignObject(msg, where=key)
        return plaintext

    async def check_content(self, key: str, checksum: str, *, size: int | None = None) -> int:
        """Check an object's tag and SHA-256 in constant memory; return its plaintext size.

        One that is known to be small is read in one piece, which takes half the time.

        Args:
            key: Which object.
            checksum: What its plaintext's SHA-256 must be.
            size: The plaintext's length in bytes as it was recorded, where that is known.

        Raises: as ``read_content``.
        """
        if size is not None and size <= WHOLE_BYTES:
            try:
                return len(await self.read_content(key, checksum, most=size + OVERHEAD_BYTES))
            except ObjectTooLarge:
                pass  # not what was recorded: what it is, reading it piece by piece will tell
        opener = await self._read_stream(key)
        if opener.finish() != checksum:
            msg = "another object lies below this name: its SHA-256 is not the expected one"
            raise ForeignObject(msg, where=key)
        return opener.plaintext_size

    async def _read_stream(self, key: str) -> StreamOpener:
        """Read an object piece by piece. Opening it has its own tries; a break starts over."""
        left = CUT_STREAMS
        while True:
            opener = StreamOpener(self.sealer, where=key)
            async with self.store.open(key) as reader:
                try:
                    await _feed(opener, reader)
                except StoreTransient:
                    if not left:
                        raise
                    left -= 1
                    continue
            return opener

    async def _put_once(
        self, key: str, size: int, content: bytes | Spool, metadata: dict[str, str] | None
    ) -> Put:
        """Store unless it is there already; concurrent calls for one key store it once."""
        await self._ready()
        while key in self._in_flight:
            await self._settled(key)
        self._in_flight[key] = None
        try:
            if await self._is_stored(key, size + OVERHEAD_BYTES):
                return Put.DEDUPLICATED
            if isinstance(content, Spool):
                await self.store.put(key, content, md5=content.md5, metadata=metadata)
            else:
                sealed = await self.seal(content)
                await self.store.put(key, sealed.body, md5=sealed.md5, metadata=metadata)
            self.bytes_uploaded += size + OVERHEAD_BYTES
            self._known[_prefix(key)].remember(key, size + OVERHEAD_BYTES)
            return Put.STORED
        finally:
            event = self._in_flight.pop(key)
            if event is not None:
                event.set()

    async def _settled(self, key: str) -> None:
        """Wait until a put of ``key`` in flight has ended."""
        event = self._in_flight[key]
        if event is None:
            # Made here: hardly any put has somebody waiting for it.
            event = self._in_flight[key] = anyio.Event()
        await event.wait()

    async def _is_stored(self, key: str, size: int) -> bool:
        """Tell whether an object of the right size is there; one of another size is damaged."""
        prefix = _prefix(key)
        known = self._known.get(prefix)
        if known is None or known.wants_listing():
            known = await self._list_more(prefix)
        found = known.find(key)
        if found is None and not known.covers(key):
            known.heads += 1
            info = await self.store.head(key)
            found = None if info is None else info.size
        return found == size

    async def _list_more(self, prefix: str) -> _Known:
        """Read the first, or the next, page of what a prefix holds."""
        async with self._listing:
            known = self._known.get(prefix)
            if known is None:
                known = _Known()
                known.take(await self.store.list_page(prefix))
                self._known[prefix] = known
            elif known.wants_listing():
                known.take(await self.store.list_page(prefix, token=known.token))
            return known

    async def is_whole(self, key: str, size: int) -> bool:
        """Tell whether an object is there in the size of ``size`` plaintext bytes, sealed."""
        info = await self.store.head(key)
        return info is not None and info.size == size + OVERHEAD_BYTES

    async def has(self, key: str) -> bool:
        """Tell whether an object is there at all."""
        return await self.store.head(key) is not None


async def _feed(opener: StreamOpener, reader: ObjectReader) -> None:
    async for piece in reader:
        if len(piece) < THREAD_BYTES:
            opener.update(piece)
        else:
            await to_thread.run_sync(opener.update, piece)


def _prefix(key: str) -> str:
    return key[: key.rindex("/") + 1]


def _digest(key: str) -> int:
    """Return 128 bits of the SHA-256 that names an object; other names get bits of their own."""
    name = key[key.rindex("/") + 1 :]
    try:
        return int(name[:32], 16)
    except ValueError:
        return int(sha256_hex(name.encode("utf-8", "surrogatepass"))[:32], 16)
