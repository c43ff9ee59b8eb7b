"""Poisoned mail: a few items of many that Graph shows and never gives.

``python -m tests.torture poison --messages 50000 --seed 1``. A mailbox holds one poisoned item of
every kind. A first backup must hold everything else exactly and name each of them; a second one,
which has nothing else to do, must ask for each again; once they are cured, a third must have them.
Then a run meets ``--errors`` passing errors and is killed; the next one must not fetch again what
the checkpoint holds.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from random import Random
from time import monotonic
from typing import Any, Final, TypeVar
from unittest.mock import patch

import anyio

from atlas_async.catalog.head import read_head
from atlas_async.catalog.ledger import read_ledger
from atlas_async.catalog.state import StateReader
from atlas_async.emulator import CorpusOptions, FaultRule
from atlas_async.model.report import MailboxResult, NotStored
from atlas_async.pipeline import journal
from atlas_async.store.base import ObjectReader
from atlas_async.store.intercepted import InterceptedStore, Op, Request
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER, Rig, open_rig

T = TypeVar("T")

INLINE: Final = 20_000
"""Files up to so many bytes come with the list of attachments; larger ones by ``$value``."""
PAGE_FOLDER: Final = "Poisoned page"
PAGE_MESSAGES: Final = 12

Key = tuple[str, str, str]
"""Kind, message and attachment of an entry."""


@dataclass(frozen=True, slots=True)
class Poison:
    """A kind of poisoned item. ``kind`` is what its ledger entry is about."""

    name: str
    kind: str
    code: str
    status: int = 500


GHOST: Final = Poison("answers 404 to everything", "message", "ErrorItemNotFound", 404)
CORRUPT: Final = Poison("answers 500 ErrorCorruptData", "message", "ErrorCorruptData")
RECIPIENTS: Final = Poison(
    "answers 400 ErrorInvalidRecipients", "message", "ErrorInvalidRecipients", 400
)
PAGE: Final = Poison("takes its page with it", "message", "ErrorInternalServerError")
LIST: Final = Poison("list of attachments fails", "attachment", "ErrorCorruptData")
VALUE: Final = Poison("bytes of an attachment fail", "attachment", "ErrorCannotOpenFileAttachment")
ITEM: Final = Poison(
    "conversion of an attached item fails", "attachment", "ErrorMimeContentConversionFailed"
)
POISONS: Final = (GHOST, CORRUPT, RECIPIENTS, PAGE, LIST, VALUE, ITEM)


def corpus(messages: int, seed: int = 1) -> CorpusOptions:
    """Return a mailbox of so many messages, a few of them with attachments of every kind."""
    return replace(
        SMALL,
        seed=seed,
        messages=messages,
        attachment_share=max(0.02, 12 / messages),
        item_share=0.4,
        inline_share=0.0,
        smime_share=0.0,
    )


@dataclass
class Dose:
    """What was poisoned: entries by their keys, and what the snapshot lacks because of them."""

    entries: dict[Key, Poison] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)
    attachments: set[str] = field(default_factory=set)

    def without(self, truth: dict[str, Any]) -> dict[str, Any]:
        """Return the truth without what is poisoned: what a snapshot must be exactly."""
        kept = [
            message
            | {
                "attachments": [
                    part for part in message["attachments"] if part["id"] not in self.attachments
                ]
            }
            for message in truth["messages"]
            if message["immutableId"] not in self.messages
        ]
        return truth | {"messages": kept}

    def asked_for(self, rig: Rig) -> Counter[str]:
        """Return how often each poisoned item was asked for, by the emulator's log."""
        asked: Counter[str] = Counter()
        for key in self.entries:
            wanted = "/messages/" + key[1] + ("/attachments" if key[0] == "attachment" else "")
            asked[key[1]] = sum(wanted in served.path for served in rig.emulator.log)
        return asked


def poison(rig: Rig, seed: int, kinds: tuple[Poison, ...] = POISONS) -> Dose:
    """Poison one item of every kind, drawn by ``seed``."""
    control = rig.emulator.control
    control.configure(inline_limit=INLINE)
    draw = Random(seed)
    below = {f["id"] for f in rig.truth()["folders"] if f["belowRoot"] and not f["search"]}
    mail = [m for m in rig.truth()["messages"] if m["folderId"] in below]
    draw.shuffle(mail)
    dose = Dose()
    for kind in kinds:
        if kind is PAGE:
            rig.mutate(op="folder-create", parent="inbox", name=PAGE_FOLDER)
            made = rig.mutate(op="bulk-create", folder=["Inbox", PAGE_FOLDER], count=PAGE_MESSAGES)
            message = draw.choice(made["messages"])["immutableId"]
            control.trouble(USER, message, kind.status, kind.code, pages=True)
            dose.entries["message", message, ""] = kind
            dose.messages.add(message)
        elif kind.kind == "message":
            message = mail.pop()["immutableId"]
            control.trouble(USER, message, kind.status, kind.code)
            dose.entries["message", message, ""] = kind
            dose.messages.add(message)
        else:
            _poison_attachment(rig, kind, mail, dose)
    return dose


def _poison_attachment(rig: Rig, kind: Poison, mail: list[dict[str, Any]], dose: Dose) -> None:
    """Break the attachments of a message as ``kind`` says, and note what is missing then."""
    if kind is ITEM:
        wanted, path = "#microsoft.graph.itemAttachment", r"/attachments/{}/\$value$"
        found = next(m for m in mail if any(_type(p) == wanted for p in m["attachments"]))
    else:
        made = rig.mutate(
            op="create",
            folder="inbox",
            subject=kind.name,
            attachments=[{"name": "a.bin", "size": 3 * INLINE, "seed": 5}],
        )["immutableId"]
        found = next(m for m in rig.truth()["messages"] if m["immutableId"] == made)
        wanted = "#microsoft.graph.fileAttachment"
        path = r"/attachments$" if kind is LIST else r"/attachments/{}/\$value$"
    part = next(part for part in found["attachments"] if _type(part) == wanted)
    message = found["immutableId"]
    rule = f"/messages/{re.escape(message)}" + path.format(re.escape(part["id"]))
    rig.emulator.control.add_fault(
        FaultRule(path=rule, status=kind.status, code=kind.code, message="no", count=-1)
    )
    lost = found["attachments"] if kind is LIST else [part]
    dose.attachments |= {part["id"] for part in lost}
    dose.entries["attachment", message, "" if kind is LIST else part["id"]] = kind


def _type(part: dict[str, Any]) -> str:
    return str(part["type"])


def cure(rig: Rig) -> None:
    """Have Graph give everything again."""
    rig.emulator.control.cure(USER)
    rig.emulator.control.clear_faults()


def keys_of(entries: tuple[NotStored, ...]) -> dict[Key, str]:
    """Return the codes of entries by what they are about."""
    return {(e.kind, e.object_id, e.attachment_id): e.code for e in entries}


def open_poisoned(messages: int, seed: int) -> AbstractAsyncContextManager[Rig]:
    """Return a rig whose engine loses no time between its tries."""
    return open_rig(corpus(messages, seed), clock=FakeClock(autojump=True))


@dataclass(frozen=True, slots=True)
class Figure:
    """One run, for the table."""

    name: str
    result: MailboxResult
    seconds: float
    asked: int


async def measured(rig: Rig, name: str, dose: Dose) -> Figure:
    """Back the mailbox up and return what came of it."""
    rig.emulator.control.clear_log()
    began = monotonic()
    result = await rig.back_up_user()
    asked = sum(count > 0 for count in dose.asked_for(rig).values())
    return Figure(name, result, monotonic() - began, asked)


async def check_poisoned(rig: Rig, dose: Dose) -> list[Figure]:
    """Run the three backups and assert what must hold of each."""
    codes = {key: kind.code for key, kind in dose.entries.items()}
    first = await measured(rig, "first", dose)
    assert (first.result.outcome.value, first.result.exit_code) == ("partial", 3), first.result
    assert keys_of(first.result.not_stored) == codes
    await rig.assert_exact(await rig.view(), dose.without(rig.truth()))
    again = await measured(rig, "again", dose)
    assert again.result.exit_code == 3
    assert keys_of(again.result.not_stored) == codes
    assert again.asked == len(dose.entries), dose.asked_for(rig)
    assert (again.result.stored, again.result.snapshot_id) == (0, None)
    assert all(entry.attempts == 2 for entry in again.result.not_stored)
    cure(rig)
    cured = await measured(rig, "cured", dose)
    assert (cured.result.outcome.value, cured.result.exit_code) == ("complete", 0), cured.result
    assert cured.result.not_stored == ()
    assert cured.result.stored == len(dose.messages)
    await rig.assert_exact(await rig.view(), rig.truth())
    return [first, again, cured]


class Killer:
    """Counts what is put, and ends the run at once after its n-th checkpoint."""

    def __init__(self) -> None:
        self.puts: Counter[str] = Counter()
        self.left = -1
        self.scope: anyio.CancelScope | None = None

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        answer = await call()
        if request.op is Op.PUT:
            self.puts[request.key] += 1
            self.left -= request.key.endswith("/head")
            if self.left == 0 and self.scope is not None:
                self.scope.cancel()
        return answer

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return enter()


@dataclass(frozen=True, slots=True)
class Killed:
    """What a killed run and its successor came to.

    Args:
        errors: Passing errors that were met by all runs.
        kept: Messages that the checkpoint held when the run was killed.
        repeated: Messages that were downloaded twice, which no checkpoint held.
        last: The result of the last run, after the errors have ended.
    """

    errors: int
    kept: int
    repeated: int
    last: MailboxResult


async def check_killed(
    messages: int, errors: int, *, seed: int, page_size: int, checkpoint: int
) -> Killed:
    """Meet errors, be killed after the second checkpoint, run again; assert what must hold.

    Half of the requests for attachments fail until there were so many errors, so that some items
    outlast the retries: they are in the ledger, and tried again by the next run.
    """
    options = replace(corpus(messages, seed), attachment_share=0.9, item_share=0.0)
    async with open_rig(options, clock=FakeClock(autojump=True)) as rig:
        killer = Killer()
        rig.store = InterceptedStore(rig.store, killer)
        rig.settings = replace(
            rig.settings, limits=replace(rig.settings.limits, page_size=page_size)
        )
        rule = FaultRule(
            path="/attachments$", status=503, code="ErrorMailboxStoreUnavailable", count=errors
        )
        rig.emulator.control.add_fault(replace(rule, probability=0.5, seed=seed))
        with patch.object(journal, "CHECKPOINT_MESSAGES", checkpoint):
            killer.left = 2
            with anyio.CancelScope() as killer.scope:
                await rig.back_up_user()
            assert killer.scope.cancel_called, "the run ended before it could be killed"
            open_, kept = await _held(rig)
            before = _fetched(rig)
            assert kept, "nothing was in the checkpoint"
            rig.emulator.control.clear_log()
            await rig.back_up_user()
            after = _fetched(rig)
        # Nothing that the checkpoint holds whole is fetched again.
        assert not (kept - open_) & set(after), len((kept - open_) & set(after))
        met = sum(int(rule["fired"]) for rule in rig.emulator.control.faults())
        rig.emulator.control.clear_faults()
        last = await rig.back_up_user()
        assert last.exit_code == 0, last
        assert last.not_stored == ()
        await rig.assert_exact(await rig.view(), rig.truth())
        content = [k for k in killer.puts if k.startswith(("data/", "attachments/"))]
        assert all(killer.puts[key] == 1 for key in content), "an object was stored twice"
        repeated = len((set(before) & set(after)) - open_)
        return Killed(met, len(kept), repeated, last)


async def _held(rig: Rig) -> tuple[set[str], set[str]]:
    """Return the messages in the open checkpoint's ledger, and those it holds."""
    head = await read_head(rig.vault())
    assert head is not None
    assert head.checkpoint is not None
    state = StateReader(rig.vault(), head.checkpoint.runs)
    kept = {row["object_id"] async for rows in state.rows() for row in rows}
    entries = await read_ledger(rig.vault(), head.checkpoint.ledger)
    return {entry.object_id for entry in entries}, kept


def _fetched(rig: Rig) -> Counter[str]:
    """Return how often the attachments of each message were asked for."""
    found: Counter[str] = Counter()
    for served in rig.emulator.log:
        match = re.search(r"/messages/([^/]+)/attachments", served.path)
        if match:
            found[match[1]] += 1
    return found


def main(arguments: list[str]) -> int:
    """Run the long form and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture poison")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--errors", type=int, default=17_866)
    parser.add_argument("--killed-messages", type=int, default=27_000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args(arguments)

    async def run() -> None:
        async with open_poisoned(wanted.messages, wanted.seed) as rig:
            figures = await check_poisoned(rig, poison(rig, wanted.seed))
        sys.stdout.write(
            f"seed {wanted.seed}, {wanted.messages} messages, one item of each kind:\n"
        )
        for kind in POISONS:
            sys.stdout.write(f"  {kind.name}\n")
        title = f"{'run':<8}{'exit':>5}{'in snapshot':>13}{'stored':>8}{'missing':>9}"
        sys.stdout.write(f"{title}{'asked again':>13}{'requests':>10}{'seconds':>9}\n")
        for figure in figures:
            result = figure.result
            sys.stdout.write(
                f"{figure.name:<8}{result.exit_code:>5}{result.messages:>13}{result.stored:>8}"
                f"{len(result.not_stored):>9}{figure.asked:>13}{result.graph_requests:>10}"
                f"{figure.seconds:>9.1f}\n"
            )
        sys.stdout.flush()
        killed = await check_killed(
            wanted.killed_messages,
            wanted.errors,
            seed=wanted.seed,
            page_size=100,
            checkpoint=max(1, wanted.killed_messages // 10),
        )
        sys.stdout.write(
            f"{killed.errors} passing errors, killed with {killed.kept} messages in the checkpoint: "
            f"{killed.repeated} fetched again, none of them from it; then complete with "
            f"{killed.last.messages}\n"
        )

    anyio.run(run)
    return 0
