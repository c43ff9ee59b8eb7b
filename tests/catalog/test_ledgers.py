"""The ledger: what is missing stays in it until it is stored, gone, or forgotten."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from atlas_async.catalog.document import pack
from atlas_async.catalog.layout import ledger_key
from atlas_async.catalog.ledger import (
    MAX_TEXT,
    Ledger,
    key_of,
    read_ledger,
    same_entries,
    write_ledger,
)
from atlas_async.catalog.snapshot import LedgerRef
from atlas_async.errors import FormatError, ObjectNotFound
from atlas_async.model.report import NotStored
from tests.fakes.json_values import TEXTS, mutations
from tests.fakes.vaults import MAILBOX, existing_store, new_vault, sha256_of

KINDS = st.sampled_from(["message", "attachment", "folder"])
OBJECTS = st.sampled_from(["m1", "m2", "m3"])
ATTACHMENTS = st.sampled_from(["", "a1", "a2"])
ENTRIES = st.builds(
    NotStored,
    kind=KINDS,
    object_id=OBJECTS,
    folder_id=TEXTS,
    code=TEXTS,
    reason=TEXTS,
    permanent=st.booleans(),
    attachment_id=ATTACHMENTS,
    name=TEXTS,
    request_id=TEXTS,
    forgotten=st.sampled_from(["", "2026-04-20T12:00:00.000Z"]),
)


class LedgerMachine(RuleBasedStateMachine):
    """Runs in a row, each beginning with what the one before left open.

    The model is a dict of key -> (entry, first run, tries).
    """

    def __init__(self) -> None:
        super().__init__()
        self.run = 0
        self.model: dict[tuple[str, str, str], tuple[NotStored, str, int]] = {}
        self.at_start: dict[tuple[str, str, str], tuple[NotStored, str, int]] = {}
        self.failed: set[tuple[str, str, str]] = set()
        self.ledger = Ledger((), "run-0")

    @rule(entry=ENTRIES)
    def fail(self, entry: NotStored) -> None:
        """Something fails; within one run the last failure counts, as one try."""
        self.ledger.fail(entry)
        known = self.at_start.get(key_of(entry))
        first, tries = (known[1], known[2] + 1) if known else (f"run-{self.run}", 1)
        entry = replace(entry, forgotten=known[0].forgotten if known else "")
        self.model[key_of(entry)] = (entry, first, tries)
        self.failed.add(key_of(entry))

    @rule(kind=KINDS, object_id=OBJECTS, attachment_id=ATTACHMENTS)
    def resolve(self, kind: str, object_id: str, attachment_id: str) -> None:
        """Something is stored at last, or was never missing."""
        self.ledger.resolve((kind, object_id, attachment_id))
        self.model.pop((kind, object_id, attachment_id), None)

    @rule(object_id=OBJECTS)
    def resolve_attachments(self, object_id: str) -> None:
        """A message's attachments are gone through anew."""
        self.ledger.resolve_attachments(object_id)
        self.model = {
            k: v for k, v in self.model.items() if (k[0], k[1]) != ("attachment", object_id)
        }

    @rule(object_id=OBJECTS)
    def forget(self, object_id: str) -> None:
        """A message or folder is gone from the mailbox."""
        self.ledger.forget_object(object_id)
        self.model = {k: v for k, v in self.model.items() if k[1] != object_id}

    @rule(object_id=OBJECTS)
    def give_up(self, object_id: str) -> None:
        """The operator gives everything of a message up."""
        ids = {entry.id for entry, _, _ in self.model.values() if entry.object_id == object_id}
        self.ledger.give_up(ids, f"at {self.run}")
        for key, (entry, first, tries) in self.model.items():
            if key[1] == object_id and not entry.forgotten:
                self._set(key, replace(entry, forgotten=f"at {self.run}"), first, tries)

    @rule(object_id=OBJECTS)
    def reopen(self, object_id: str) -> None:
        """The operator takes everything of a message up again."""
        ids = {entry.id for entry, _, _ in self.model.values() if entry.object_id == object_id}
        self.ledger.reopen(ids)
        for key, (entry, first, tries) in self.model.items():
            if key[1] == object_id:
                self._set(key, replace(entry, forgotten=""), first, tries)

    def _set(self, key: tuple[str, str, str], entry: NotStored, first: str, tries: int) -> None:
        """Note an entry; what the operator says of one from before this run holds in it."""
        self.model[key] = (entry, first, tries)
        if key in self.at_start:
            before, *rest = self.at_start[key]
            self.at_start[key] = (replace(before, forgotten=entry.forgotten), *rest)  # type: ignore[assignment]  # the rest as it was

    @rule()
    def next_run(self) -> None:
        """Another run begins with the open entries."""
        self.run += 1
        self.ledger = Ledger(self.ledger.entries, f"run-{self.run}")
        self.at_start = dict(self.model)
        self.failed = set()

    @invariant()
    def says_what_the_model_says(self) -> None:
        """The open entries are the model's, with their first run and number of tries."""
        found = {key_of(entry): entry for entry in self.ledger.entries}
        assert found.keys() == self.model.keys()
        assert len(self.ledger.entries) == len(found)
        assert self.ledger.open == tuple(e for e in self.ledger.entries if not e.forgotten)
        for key, (entry, first, tries) in self.model.items():
            told = found[key]
            assert (told.first_run, told.attempts) == (first, tries)
            assert (told.code, told.permanent) == (entry.code, entry.permanent)
            assert told.forgotten == entry.forgotten
            if key in self.failed:
                assert told.last_run == f"run-{self.run}"


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=25)


@given(st.lists(ENTRIES, max_size=6))
async def test_a_ledger_is_read_as_it_was_written(entries: list[NotStored]) -> None:
    """All fields survive, lone surrogates included; an empty ledger is no object."""
    store = existing_store()
    vault = new_vault(store)
    ref = await write_ledger(vault, tuple(entries))
    assert (ref is None) == (not entries) == (not store.bucket.objects)
    if ref is not None:
        assert ref.count == sum(not entry.forgotten for entry in entries)
    assert await read_ledger(vault, ref) == tuple(entries)


def test_long_texts_are_cut() -> None:
    """A file name or reason of any length does not swell the ledger."""
    ledger = Ledger((), "r")
    ledger.fail(NotStored("message", "m", "f", "c", "x" * 9_000, permanent=False, name="y" * 9_000))
    (entry,) = ledger.entries
    assert (len(entry.name), len(entry.reason)) == (MAX_TEXT, MAX_TEXT)


@given(st.lists(ENTRIES, max_size=5), st.randoms(use_true_random=False))
def test_ledgers_are_the_same_apart_from_when_and_how_often(
    entries: list[NotStored], random: Any
) -> None:
    """Trying in vain once more is no change worth a snapshot; another error code is."""
    again = [replace(e, attempts=e.attempts + 1, last_run="later", reason="new") for e in entries]
    random.shuffle(again)
    unique = {key_of(e) for e in entries}
    if len(unique) == len(entries):
        assert same_entries(entries, again)
        if entries:
            assert not same_entries(entries, again[1:])
            changed = [replace(again[0], code=again[0].code + "!"), *again[1:]]
            assert not same_entries(entries, changed)
            given_up = "" if again[0].forgotten else "now"
            assert not same_entries(entries, [replace(again[0], forgotten=given_up), *again[1:]])


EXAMPLE: dict[str, Any] = {
    "format": 1,
    "kind": "ledger",
    "mailbox_id": MAILBOX,
    "entries": [
        {
            "kind": "message",
            "object_id": "m",
            "folder_id": "f",
            "code": "c",
            "reason": "r",
            "permanent": False,
        }
    ],
}


@given(mutations(EXAMPLE))
async def test_a_malformed_ledger_is_refused_or_read(document: Any) -> None:
    """Whatever JSON the document is, the only error is ``FormatError``."""
    plaintext = pack(document)
    checksum = sha256_of(plaintext)
    vault = new_vault()
    await vault.put_raw(ledger_key(MAILBOX, checksum), plaintext)
    try:
        await read_ledger(vault, LedgerRef(checksum, 1))
    except FormatError:
        return


async def test_fields_that_a_newer_program_added_are_ignored() -> None:
    """An unknown field of an entry does not make the ledger unreadable."""
    entry = EXAMPLE["entries"][0] | {"severity": 3}
    plaintext = pack(EXAMPLE | {"entries": [entry]})
    checksum = sha256_of(plaintext)
    vault = new_vault()
    await vault.put_raw(ledger_key(MAILBOX, checksum), plaintext)
    (read,) = await read_ledger(vault, LedgerRef(checksum, 1))
    assert read.object_id == "m"


def test_what_fails_again_stays_as_the_operator_left_it() -> None:
    """Forgotten stays forgotten, with its moment; what was taken up again counts as missing."""
    entry = NotStored("message", "m1", "f", "c", "r", permanent=False)
    ledger = Ledger([entry], "run-1")
    ledger.give_up({entry.id}, "then")
    ledger.fail(entry)
    ledger.give_up({entry.id}, "later")
    assert [e.forgotten for e in ledger.entries] == ["then"]
    assert set(ledger.open) == set()
    ledger.reopen({entry.id})
    ledger.fail(entry)
    (again,) = ledger.open
    assert (again.forgotten, again.attempts) == ("", 2)


def test_an_entry_keeps_its_id() -> None:
    """What identifies an entry makes its id; what is known of it does not."""
    entry = NotStored("message", "m1", "f", "c", "r", permanent=False)
    again = replace(entry, code="d", reason="s", attempts=3, forgotten="now", folder_id="g")
    assert re.fullmatch(r"[0-9a-f]{16}", entry.id)
    assert again.id == entry.id
    others = (replace(entry, kind="folder"), replace(entry, attachment_id="a"))
    assert len({entry.id, *(other.id for other in others)}) == 3
    assert NotStored("message", "\ud800", "f", "c", "r", permanent=False).id


async def test_a_missing_ledger_is_told() -> None:
    """A ledger that a descriptor names and nobody has is an error, not an empty ledger."""
    with pytest.raises(ObjectNotFound):
        await read_ledger(new_vault(), LedgerRef("ab" * 32, 1))
