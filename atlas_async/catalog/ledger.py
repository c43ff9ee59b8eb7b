"""The ledger: what Graph showed and the snapshot lacks, carried from run to run (I3).

An entry leaves the ledger only by being stored or by being seen gone from the mailbox. One that the
operator gave up stays in it, marked as forgotten: it is not tried of its own and does not count as
missing. It is tried when Graph shows it again, and stays forgotten when that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import asdict, replace
from typing import Final

from anyio import to_thread

from atlas_async.catalog.document import FORMAT, pack, unpack
from atlas_async.catalog.fields import flag, number, text
from atlas_async.catalog.layout import ledger_key
from atlas_async.catalog.snapshot import LedgerRef
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.errors import FormatError
from atlas_async.model.report import NotStored
from atlas_async.model.source import JsonObject

LedgerKey = tuple[str, str, str]
"""Kind, object id, attachment id: what makes two entries the same."""

MAX_TEXT: Final = 500

_CHECKS: Final = {"str": text, "bool": flag, "int": number}
"""What checks a value, by the annotation of its field."""


def key_of(entry: NotStored) -> LedgerKey:
    """Return what identifies an entry."""
    return entry.kind, entry.object_id, entry.attachment_id


class Ledger:
    """What is missing, in the order it was first met.

    Args:
        before: The entries when the run began, forgotten ones included.
        run: Snapshot id of this run.
    """

    def __init__(self, before: Iterable[NotStored], run: str) -> None:
        self._run = run
        self._before = {key_of(entry): entry for entry in before}
        self._open = dict(self._before)

    @property
    def entries(self) -> tuple[NotStored, ...]:
        """All entries, forgotten ones included: what is written."""
        return tuple(self._open.values())

    @property
    def open(self) -> tuple[NotStored, ...]:
        """The entries that count as missing."""
        return open_entries(self._open.values())

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
            forgotten=known.forgotten if known else "",
        )

    def give_up(self, ids: Container[str], moment: str) -> None:
        """Mark entries as forgotten, by their ids; those that are already keep their moment."""
        self._mark(ids, lambda entry: replace(entry, forgotten=entry.forgotten or moment))

    def reopen(self, ids: Container[str]) -> None:
        """Take entries for missing again, by their ids."""
        self._mark(ids, lambda entry: replace(entry, forgotten=""))

    def _mark(self, ids: Container[str], change: Callable[[NotStored], NotStored]) -> None:
        for key, entry in self._open.items():
            if entry.id in ids:
                self._open[key] = changed = change(entry)
                if key in self._before:
                    self._before[key] = replace(self._before[key], forgotten=changed.forgotten)

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


def open_entries(entries: Iterable[NotStored]) -> tuple[NotStored, ...]:
    """Return those that count as missing: nobody gave them up."""
    return tuple(entry for entry in entries if not entry.forgotten)


def same_entries(one: Iterable[NotStored], other: Iterable[NotStored]) -> bool:
    """Tell whether two ledgers say the same, apart from how often and when it was tried."""

    def content(entries: Iterable[NotStored]) -> set[tuple[LedgerKey, str, bool, bool]]:
        return {(key_of(e), e.code, e.permanent, bool(e.forgotten)) for e in entries}

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
    return LedgerRef(checksum, len(open_entries(entries)))


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
        return tuple(_entry(entry) for entry in document["entries"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"ledger cannot be parsed: {error}"
        raise FormatError(msg, where=key) from None


def _entry(value: JsonObject) -> NotStored:
    known = {name: value[name] for name in NotStored.__slots__ if name in value}
    for name, given in known.items():
        _CHECKS[NotStored.__annotations__[name]](given)
    return NotStored(**known)
