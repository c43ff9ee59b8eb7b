"""Size, the long form: ``python -m tests.torture size [--case NAME]``.

Cases: ``attachments`` (500 on one message), ``nested`` (mail in mail in mail), ``guests`` (31 of
them beside 8 mailboxes), ``budget`` (150 MB in 50 mailboxes at once), ``million`` (messages in one
mailbox), ``rows`` (what of 100,000 messages is held, counted). Memory is measured for ``budget`` and ``million``, the engine being a process of its own,
and compared with a bound that is printed.
"""

from __future__ import annotations

import argparse
import email
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.message import EmailMessage
from email.policy import default as modern
from pathlib import Path
from typing import Final

import anyio

from atlas_async.config.settings import Limits
from atlas_async.config.sources import load_settings
from atlas_async.emulator import CorpusOptions
from atlas_async.emulator.blobs import StoredBlob, SyntheticBlob
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.mime import message_mime
from atlas_async.emulator.parts import Part, PartKind, graph_time
from atlas_async.model.record import attachment_key
from atlas_async.model.report import Outcome
from atlas_async.pipeline import journal
from atlas_async.pipeline.attachments import INLINE_LIMIT
from atlas_async.pipeline.batch import SettledPage
from atlas_async.pipeline.budget import Budgets
from atlas_async.pipeline.journal import Journal
from atlas_async.sdk import Atlas
from benchmarks import million
from benchmarks.comparison import Workload
from benchmarks.programs import PASSPHRASE, program
from benchmarks.report import Options
from benchmarks.servers import Microsoft, microsoft
from tests.fakes.clock import FakeClock
from tests.fakes.graph_probe import GraphProbe
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.fakes.world import World
from tests.torture.instruments import CONTENT, Figures, metered, run_parts, watching

MIB: Final = 1 << 20
BEYOND_BUDGET_MIB: Final = 64
"""What a run may take beside its program and the byte budget: connections, pieces being sealed."""

MILLION_MIB: Final = 256
"""What the backup of a mailbox of a million messages may take, all in all."""

LITTLE: Final = replace(
    SMALL, messages=4, folders=0, attachment_share=0.0, inline_share=0.0, smime_share=0.0
)


# -- many attachments -----------------------------------------------------------------------------


async def many_attachments(count: int, size: int) -> Figures:
    """Back up one message with many attachments, then touch it, flag it, and attach one more.

    Raises:
        AssertionError: One is missing or not itself, or what was stored is asked for again.
    """
    clock = FakeClock(autojump=True)
    figures = Figures(f"One message with {count} attachments of {size:,} bytes")
    async with open_rig(LITTLE, clock=clock, service_clock=clock) as rig:
        meter = metered(rig)
        files = [{"name": f"{n % 50}.bin", "size": size, "seed": 7 * n} for n in range(count)]
        made = rig.mutate(op="create", folder="inbox", subject="many", attachments=files)
        message = made["immutableId"]
        with watching(rig.emulator) as watch:
            result = await rig.back_up_user()
            assert result.outcome is Outcome.COMPLETE, result
            assert result.attachments_stored == count
            await rig.assert_exact(await rig.view(), rig.truth())
            record = await (await rig.view()).find(message)
            assert record is not None
            wanted = next(m for m in rig.truth()["messages"] if m["immutableId"] == message)
            order = [a["attachment_id"] for a in record["attachments"]]
            assert order == [a["id"] for a in wanted["attachments"]]
            singly = len(watch.to("/attachments/"))
            assert singly in (0, count)
            assert (singly > 0) == (count * size > INLINE_LIMIT)
            figures.add("stored, each exact and in order", result.attachments_stored)
            figures.add("requests for their list", len(watch.to("/attachments")) - singly)
            figures.add("requests for their content singly", singly)
            for name, change, lists, stored in (
                ("flagged", _flag, 0, 0),
                ("touched without a visible change", _touch, 1, 0),
                ("one more attached", _attach, 1, 1),
            ):
                clock.jump(60)
                change(rig, message)
                watch.calls.clear()
                meter.forget()
                assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
                asked = len(watch.to("/attachments"))
                put = len(meter.puts(*CONTENT))
                # A file that is new is asked for by itself.
                assert (asked, put) == (lists + stored, stored), (name, asked, put)
                figures.add(f"{name}: requests about attachments", asked)
                figures.add(f"{name}: PUTs of content", put)
                await rig.assert_exact(await rig.view(), rig.truth())
    return figures


def _flag(rig: Rig, message: str) -> None:
    rig.mutate(op="update", message=message, patch={"flag": {"flagStatus": "flagged"}})


def _touch(rig: Rig, message: str) -> None:
    mailbox, key = mailbox_of(rig, message)
    mailbox.set_parts(key, mailbox.parts(key))


def _attach(rig: Rig, message: str) -> None:
    mailbox, key = mailbox_of(rig, message)
    parts = mailbox.parts(key)
    file = Part(PartKind.FILE, "new.bin", "application/zip", mailbox.now(), SyntheticBlob(5, 999))
    mailbox.set_parts(key, [*parts, (parts[-1][0] + 1, file)])


def mailbox_of(rig: Rig, message: str) -> tuple[Mailbox, int]:
    """Return the emulated mailbox itself and a message's key in it."""
    running = rig.emulator._parts
    assert running is not None
    mailbox = running.world.mailbox(USER)
    return mailbox, mailbox.message(message)


# -- mail in mail in mail -------------------------------------------------------------------------

INNERMOST: Final = b"\x00the file in the innermost mail\r\n\xff" * 40


def _nested(depth: int, moment: datetime) -> Part:
    """Return a mail as an attachment, with another one in it, and so on; in the last is a file."""
    file = Part(PartKind.FILE, "in.bin", "application/zip", moment, StoredBlob(INNERMOST))
    inner = (_nested(depth - 1, moment) if depth > 1 else file,)
    person = {"emailAddress": {"name": "Jörg", "address": "joerg@partner.example"}}
    item = {
        "@odata.type": "#microsoft.graph.message",
        "subject": f"Größe, level {depth}",
        "internetMessageId": f"<level-{depth}@partner.example>",
        "sentDateTime": graph_time(moment),
        "body": {"contentType": "html", "content": f"<p>level {depth} \U0001f600</p>"},
        "from": person,
        "toRecipients": [person],
    }
    blob = StoredBlob(b"".join(message_mime(item, inner)))
    return Part(PartKind.ITEM, str(item["subject"]), None, moment, blob, item=item)


async def nested_mail(depth: int) -> Figures:
    """Back up mail in mail: what is stored is what ``$value`` gives, to the innermost file.

    Raises:
        AssertionError: It is not.
    """
    figures = Figures(f"Mail in mail, {depth} levels deep")
    async with open_rig(LITTLE) as rig:
        made = rig.mutate(op="create", folder="inbox", subject="forwarded")
        mailbox, key = mailbox_of(rig, made["immutableId"])
        mailbox.set_parts(key, list(enumerate(_nested(d, mailbox.now()) for d in (1, 2, depth))))
        assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        view = await rig.view()
        await rig.assert_exact(view, rig.truth())
        record = await view.find(made["immutableId"])
        assert record is not None
        levels = []
        async with GraphProbe(rig.emulator) as graph:
            for attachment in record["attachments"]:
                stored = await _content(rig, attachment["checksum"])
                path = f"messages/{record['object_id']}/attachments/{attachment['attachment_id']}"
                answer = await graph.get(f"users/{USER}/{path}/$value")
                assert stored == answer.raw
                assert attachment["type"] == "item"
                levels.append(_levels(_parsed(stored)))
        assert levels == [1, 2, depth]
    figures.add("levels found in the stored bytes", str(levels))
    return figures


def _parsed(stored: bytes) -> EmailMessage:
    mail = email.message_from_bytes(stored, policy=modern)
    assert isinstance(mail, EmailMessage)
    return mail


def _levels(mail: EmailMessage) -> int:
    """Return how many mails lie in each other; the last one must hold the file."""
    mails = [part for part in mail.walk() if part.get_content_type() == "message/rfc822"]
    (file,) = [p for p in mail.walk() if p.get_content_disposition() == "attachment"]
    assert file.get_payload(decode=True) == INNERMOST
    return 1 + len(mails)


async def _content(rig: Rig, checksum: str) -> bytes:
    return await rig.vault().read_content(attachment_key(USER, checksum), checksum)


# -- guests ---------------------------------------------------------------------------------------


async def guests_among_users(guests: int, mailboxes: int) -> Figures:
    """Back up a directory in which most people have no mailbox; each is asked for one once.

    Raises:
        AssertionError: Somebody was asked twice, or left out, or the run did not end with 0.
    """
    figures = Figures(f"{guests} guests and {mailboxes} mailboxes")
    options = replace(LITTLE, guests=guests, mailboxes=mailboxes)
    async with open_rig(options) as rig:
        for run, outcome in (("first", Outcome.COMPLETE), ("second", Outcome.UNCHANGED)):
            with watching(rig.emulator) as watch:
                report = await rig.backup()
            counts = Counter(result.outcome for result in report.mailboxes)
            assert counts == {outcome: mailboxes, Outcome.NO_MAILBOX: guests}
            assert len({result.mailbox_id for result in report.mailboxes}) == guests + mailboxes
            assert report.exit_code == 0, report
            absent = [r for r in report.mailboxes if r.outcome is Outcome.NO_MAILBOX]
            assert {(r.graph_requests, r.throttled, r.exit_code) for r in absent} == {(1, 0, 0)}
            people = {p.upn: str(p.id) for p in rig.emulator.corpus.people}
            asked = Counter(
                upn for upn, key in people.items() for call in watch.calls if key in call.path
            )
            assert {asked[upn] for upn in people if "#ext#" in upn.lower()} == {1}
            figures.add(f"{run} run: backed up, without a mailbox", str((mailboxes, len(absent))))
            figures.add(
                f"{run} run: requests to those without", sum(r.graph_requests for r in absent)
            )
            figures.add(f"{run} run: exit code", report.exit_code)
        for number in range(mailboxes):
            mailbox = f"user{number:04}@contoso.com"
            await rig.assert_exact(await rig.view(mailbox=mailbox), rig.truth(mailbox))
    return figures


# -- large attachments in many mailboxes at once --------------------------------------------------


def large_mail(mailboxes: int, size: int) -> CorpusOptions:
    """Return mailboxes with one attachment of ``size`` bytes each, and little else."""
    return replace(LITTLE, mailboxes=mailboxes, messages=6, huge_attachments=1, huge_bytes=size)


@dataclass(slots=True)
class Leased:
    """The budgets of runs, as they are made, for their counters."""

    budgets: list[Budgets] = field(default_factory=list)

    def peaks(self) -> dict[str, tuple[int, int]]:
        """Return the most bytes held at once, and the capacity, by pool of the last run."""
        last = self.budgets[-1]
        pools = {"pages": last.pages, "singles": last.singles, "content": last.content}
        return {
            name: (pool.statistics.peak, pool.statistics.capacity) for name, pool in pools.items()
        }

    def left(self) -> int:
        """Return the bytes still held; a run that ended holds none."""
        last = self.budgets[-1]
        return sum(p.statistics.used for p in (last.pages, last.singles, last.content))


@contextmanager
def leasing() -> Iterator[Leased]:
    """Note the budgets that runs make while the block lasts."""
    leased = Leased()
    make = Budgets.of

    def of(total: int) -> Budgets:
        leased.budgets.append(make(total))
        return leased.budgets[-1]

    Budgets.of = of  # type: ignore[method-assign]  # the one place that makes them
    try:
        yield leased
    finally:
        Budgets.of = make  # type: ignore[method-assign]


async def large_at_once(mailboxes: int, size: int, budget: int, spool: Path) -> Figures:
    """Back large attachments up, all at once, and count the bytes leased for them.

    Raises:
        AssertionError: More was leased than the budget, or not given back, or mail is not exact.
    """
    title = f"{size / 1e6:,.0f} MB in {mailboxes} mailboxes at once, budget {budget // MIB} MiB"
    figures = Figures(title)
    limits = replace(Limits(), byte_budget=budget, mailboxes=mailboxes)
    async with open_rig(large_mail(mailboxes, size), limits=limits, spool=spool) as rig:
        with leasing() as leased:
            report = await rig.backup()
        assert report.exit_code == 0, report
        for name, (peak, capacity) in leased.peaks().items():
            assert peak <= capacity, (name, peak, capacity)
            figures.add(f"{name}: most bytes leased, of", f"{peak:,} of {capacity:,}")
        assert leased.left() == 0
        assert not list(spool.iterdir())
        for result in report.mailboxes:
            view = await rig.view(mailbox=result.mailbox_id)
            await rig.assert_exact(view, rig.truth(result.mailbox_id))
    figures.add("mailboxes, each exact", len(report.mailboxes))
    return figures


async def large_in_a_process(mailboxes: int, size: int, budget_mib: int) -> Figures:
    """The same with the engine as a process of its own: its memory, against a bound.

    Raises:
        AssertionError: It took more, or a checksum is not the attachment's.
    """
    mail = Workload("size", large_mail(mailboxes, size), attachments=True)
    settings = {"ATLAS_BYTE_BUDGET": f"{budget_mib}MiB", "ATLAS_CONCURRENCY": str(mailboxes)}
    figures = Figures(
        f"{size / 1e6:,.0f} MB in {mailboxes} mailboxes at once, budget {budget_mib} MiB, a process"
    )
    with (
        tempfile.TemporaryDirectory(prefix="atlas-torture-") as place,
        microsoft(mail.corpus) as graph,
    ):
        storage = {"ATLAS_STORAGE_URL": Path(place).as_uri()}
        with program("engine", {**graph.settings, **storage, **settings}, mail.mailboxes()) as it:
            run = it.run("backup", expected={"attachments": mailboxes, "failed": 0})
            bound = it.idle_mib + budget_mib + BEYOND_BUDGET_MIB
            figures.add("peak RSS, MiB", f"{run.peak_mib:.0f}")
            figures.add(
                "bound, MiB",
                f"{bound:.0f} = idle {it.idle_mib:.0f} + budget {budget_mib} + {BEYOND_BUDGET_MIB}",
            )
            figures.add("seconds", f"{run.wall:.0f}")
            figures.add("MB stored", f"{run.done['bytes'] / 1e6:,.0f}")
            verified = it.run("verify")
        assert verified.done["attachments"] == mailboxes
        await _compare(graph, mail, {**graph.settings, **storage})
        figures.add("attachments, each with the SHA-256 of what the mailbox holds", mailboxes)
    assert run.peak_mib <= bound, str(figures)
    return figures


async def _compare(graph: Microsoft, mail: Workload, environ: dict[str, str]) -> None:
    """Compare the checksums of attachments with those of what the mailboxes hold."""
    nowhere = Path("/nonexistent")
    named = environ | {"ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE}
    settings = load_settings(cwd=nowhere, home=nowhere, environ=named, flags={}).settings
    async with Atlas(settings) as atlas:
        for mailbox in mail.mailboxes():
            path = f"/_emulator/truth?mailbox={mailbox}"
            told = await anyio.to_thread.run_sync(graph._ask, path)
            (truth,) = told["mailboxes"]
            view = await atlas.open_snapshot(mailbox=mailbox)
            stored = [
                a["checksum"] async for r in view.messages() for a in r.get("attachments", [])
            ]
            assert stored == [a["sha256"] for m in truth["messages"] for a in m["attachments"]]


# -- a mailbox of a million messages --------------------------------------------------------------


@dataclass(slots=True)
class Held:
    """The most of everything that grew while mailboxes were backed up."""

    rows: int = 0
    slots: int = 0


@contextmanager
def holding() -> Iterator[Held]:
    """Note what journals hold in memory, after each page that they take."""
    held = Held()
    absorb = Journal.absorb

    def absorbing(self: Journal, page: SettledPage, *, shown: bool = True) -> None:
        absorb(self, page, shown=shown)
        held.rows = max(held.rows, len(self._rows))
        held.slots = max(held.slots, len(self._flushed))

    Journal.absorb = absorbing  # type: ignore[method-assign]  # what every settled page goes through
    try:
        yield held
    finally:
        Journal.absorb = absorb  # type: ignore[method-assign]


async def many_messages(messages: int, checkpoint: int) -> Figures:
    """Back a mailbox up twice in this process and count the rows that are held in memory.

    Args:
        messages: In the mailbox.
        checkpoint: Messages after which one is due, instead of what the engine has.

    Raises:
        AssertionError: More rows are held than two checkpoints let be, or messages are missing.
    """
    figures = Figures(f"One mailbox of {messages:,} messages, a checkpoint every {checkpoint:,}")
    world = World()
    for _ in range(messages):
        world.mailbox.add(world.inbox)
    page = checkpoint // 10
    # While one checkpoint is written, pages are settled until the next one is due.
    most = 2 * (checkpoint + page)
    made, journal.CHECKPOINT_MESSAGES = journal.CHECKPOINT_MESSAGES, checkpoint  # type: ignore[misc]
    try:
        with holding() as held:
            result = await world.back_up(page_size=page)
        assert (result.outcome, result.messages) == (Outcome.COMPLETE, messages)
        assert checkpoint / 2 < held.rows <= most < messages, held
        assert held.slots <= messages
        figures.add("messages", result.messages)
        figures.add("most rows held, and how many may be", f"{held.rows:,}, {most:,}")
        figures.add("most slots held, of 12 bytes each", held.slots)
        with holding() as held:
            quiet = await world.back_up(page_size=page)
    finally:
        journal.CHECKPOINT_MESSAGES = made  # type: ignore[misc]
    assert (quiet.outcome, held.rows, held.slots) == (Outcome.UNCHANGED, 0, 0)
    figures.add("rows and slots held by a quiet run", held.rows + held.slots)
    return figures


async def million_in_a_process(*, quick: bool) -> Figures:
    """Run the benchmark of a million messages and compare its memory with the bound.

    Raises:
        AssertionError: It took more.
    """
    table = million.measure(Options(repeat=1, stores=("memory",), quick=quick))
    run = table.data["memory, first"][0]["engine"]
    figures = Figures(table.title)
    figures.add("messages stored", run["stored"])
    figures.add("peak RSS, MiB", f"{run['peak_mib']:.0f}")
    figures.add("bound, MiB", MILLION_MIB)
    figures.add("seconds", f"{run['wall']:.0f}")
    quiet = table.data["memory, quiet"][0]["engine"]
    figures.add(
        "quiet run: requests to Graph, to the store",
        str((quiet["graph_requests"], quiet["store_requests"])),
    )
    assert run["peak_mib"] <= MILLION_MIB, str(figures)
    assert (quiet["graph_requests"], quiet["store_requests"]) == (quiet["folders"] + 1, 1)
    return figures


# -- the command ----------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Run the cases, print their figures, and return 0 when all that must hold did."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture size", description=__doc__)
    cases: dict[str, Callable[[], Awaitable[Figures]]] = {
        "attachments": lambda: many_attachments(500, 3_000),
        "attachments, beyond one answer": lambda: many_attachments(500, 20_000),
        "nested": lambda: nested_mail(12),
        "rows": lambda: many_messages(100_000, 10_000),
        "guests": lambda: guests_among_users(31, 8),
        "budget": lambda: large_in_a_process(given.mailboxes, given.size, 64),
        "million": lambda: million_in_a_process(quick=given.quick),
    }
    parser.add_argument("--case", choices=sorted({name.split(",")[0] for name in cases}))
    parser.add_argument("--mailboxes", type=int, default=50, help="of the case budget")
    parser.add_argument("--size", type=int, default=150_000_000, help="bytes, of the case budget")
    parser.add_argument("--quick", action="store_true", help="2,000 messages for the case million")
    parser.add_argument("--seed", type=int, default=1, help="nothing here is drawn; for the form")
    given = parser.parse_args(arguments)
    return run_parts(
        {name: case for name, case in cases.items() if given.case in (None, name.split(",")[0])}
    )
