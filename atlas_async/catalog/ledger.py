"""The ledger: what Graph showed and the snapshot lacks, carried from run to run (I3).

An entry leaves the ledger only by being stored, by being seen gone from the mailbox, or by being
forgotten on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Final

from anyio import to_thread

from atlas_async.catalog.document import FORMAT, pack, unpack
from atlas_async.catalog.layout import ledger_key
from atlas_async.catalog.snapshot import LedgerRef
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.errors import FormatError
from atlas_async.model.report import NotStored

LedgerKey = tuple[str, str, str]
"""Kind, object id, attachment id: what makes two entries the same."""

MAX_TEXT: Final = 500


def key_of(entry: NotStored) -> LedgerKey:
    """Return what identifies an entry."""
    return entry.kind, entry.object_id, entry.attachment_id


class Ledger:
    """The open entries, in the order they were first met.

    Args:
        before: What was open when the run began.
        run: Snapshot id of this run.
    """

    def __init__(self, before: Iterable[NotStored], run: str) -> None:
        self._run = run
        self._before = {key_of(entry): entry for entry in before}
        self._open = dict(self._before)

    @property
    def entries(self) -> tuple[NotStored, ...]:
        """What is open now."""
        return tuple(self._open.values())

    def fail(self, entry: NotStored) -> None:
        """Note a failure of this run; a later one of the same key replaces it."""
        key = key_of(entry)
        known = self._before.get(key)
        self._open[key] = replace(
            entry,
            name=entry.name[:MAX_TEXT],
            reason=entry.reason[:MAX_TEXT],
            first_run=known.first_run if known else self._run,
            last_run=self._run,
            attempts=known.attempts + 1 if known else 1,
        )

    def resolve(self, key: LedgerKey) -> None:
        """Take an entry out: it was stored. Unknown keys are fine."""
        self._open.pop(key, None)

    def resolve_attachments(self, object_id: str) -> None:
        """Take out all attachments of a message: its list was gone through anew."""
        self._drop(lambda entry: entry.kind == "attachment" and entry.object_id == object_id)

    def forget_object(self, object_id: str) -> None:
        """Take out everything of a message or folder that is gone from the mailbox."""
        self._drop(lambda entry: entry.object_id == object_id)

    def _drop(self, matches: Callable[[NotStored], bool]) -> None:
        if self._open:
            self._open = {k: e for k, e in self._open.items() if not matches(e)}


def same_entries(one: Iterable[NotStored], other: Iterable[NotStored]) -> bool:
    """Tell whether two ledgers say the same, apart from how often and when it was tried."""

    def content(entries: Iterable[NotStored]) -> set[tuple[LedgerKey, str, bool]]:
        return {(key_of(e), e.code, e.permanent) for e in entries}

    return content(one) == content(other)


async def write_ledger(vault: Vault, entries: tuple[NotStored, ...]) -> LedgerRef | None:
    """Store a ledger and return where; None for an empty one, which is not stored."""
    if not entries:
        return None
    plaintext = await to_thread.run_sync(
        pack,
        {
            "format": FORMAT,
            "kind": "ledger",
            "mailbox_id": vault.mailbox_id,
            "entries": [asdict(entry) for entry in entries],
        },
    )
    checksum = sha256_hex(plaintext)
    await vault.put_raw(ledger_key(vault.mailbox_id, checksum), plaintext)
    return LedgerRef(checksum, len(entries))


async def read_ledger(vault: Vault, ref: LedgerRef | None) -> tuple[NotStored, ...]:
    """Return the entries of a ledger.

    Raises:
        ObjectNotFound, IntegrityError: It is missing or damaged.
    """
    if ref is None:
        return ()
    key = ledger_key(vault.mailbox_id, ref.checksum)
    plaintext = await vault.read_content(key, ref.checksum)
    document = unpack(plaintext, kind="ledger", where=key)
    try:
        fields = NotStored.__slots__
        return tuple(
            NotStored(**{name: entry[name] for name in fields if name in entry})
            for entry in document["entries"]
        )
    except (KeyError, TypeError) as error:
        msg = f"ledger cannot be parsed: {error}"
        raise FormatError(msg, where=key) from None
