"""The cost simulation: its requests are those of real runs, its arithmetic is exact."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from atlas_async.catalog.state import Run, write_run
from atlas_async.catalog.vault import HEADS_PER_PAGE, Vault
from atlas_async.config.settings import Limits
from atlas_async.model.record import Row
from atlas_async.pipeline import journal
from atlas_async.store.base import ObjectReader
from atlas_async.store.intercepted import InterceptedStore, Op, Request, enter_through
from atlas_async.store.memory import MemoryBucket, MemoryStore
from benchmarks.cost import measure
from benchmarks.cost_assumptions import PACKING, PROVIDERS, Provider
from benchmarks.cost_cases import cases
from benchmarks.cost_model import (
    LIST_PAGE,
    QUIET,
    TENANT_FIRST,
    TENANT_NIGHT,
    LogNormal,
    Mailbox,
    Requests,
    Work,
    backup,
    questions,
)
from benchmarks.report import Options
from tests.fakes.rig import SMALL, Rig, open_rig

T = TypeVar("T")


class RequestLog:
    """Remembers what a store is asked; looks for the bucket itself are not the simulation's."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Note the request and pass it on."""
        if request.op is not Op.OPEN_BUCKET:
            self.requests.append(request)
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Note opening."""
        return enter_through(self, request, enter)

    def taken(self) -> Requests:
        """Return the requests since the last call, by price class."""
        found = Counter(request.op for request in self.requests)
        self.requests.clear()
        assert set(found) <= {Op.PUT, Op.LIST, Op.GET, Op.HEAD, Op.DELETE}
        return Requests(found[Op.PUT], found[Op.LIST], found[Op.GET], found[Op.HEAD])

    def heads_written(self) -> int:
        """Return how often a mailbox's head was replaced."""
        return sum(r.op is Op.PUT and r.key.endswith("/head") for r in self.requests)


def logged_store() -> tuple[RequestLog, InterceptedStore]:
    """Return an empty store and the log of what it is asked."""
    log = RequestLog()
    return log, InterceptedStore(MemoryStore(MemoryBucket()), log)


async def first_backup(rig: Rig) -> Work:
    """Back the user up and return what that stored."""
    result = await rig.back_up_user()
    assert not result.not_stored
    assert not result.deduplicated  # so that messages, rows and objects are one number
    return Work(result.stored, result.attachments_stored)


async def test_a_first_backup_asks_what_the_simulation_says() -> None:
    """Every request of a first backup is in the formula, and none else."""
    log, store = logged_store()
    async with open_rig(store=store) as rig:
        work = await first_backup(rig)
        assert work.attachments
        assert log.taken() == backup(Mailbox(), work) + TENANT_FIRST


@pytest.mark.parametrize("every", [4, 10])
async def test_checkpoints_ask_what_the_simulation_says(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints, the merges of their runs and the walk at the commit are in the formula."""
    written: list[int] = []

    async def write(vault: Vault, rows: Iterable[Row]) -> Run:
        known = list(rows)
        written.append(len(known))
        return await write_run(vault, known)

    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", every)
    monkeypatch.setattr(journal, "write_run", write)
    log, store = logged_store()
    limits = replace(Limits(), page_size=3)
    async with open_rig(replace(SMALL, messages=60), store=store, limits=limits) as rig:
        work = await first_backup(rig)
        heads = log.heads_written()
        assert heads > 4
        # When a page settles decides how many rows a checkpoint finds; the commit has the rest.
        wanted = replace(work, checkpoints=tuple(written[: heads - 1]))
        assert sum(written) == work.rows
        assert log.taken() == backup(Mailbox(), wanted) + TENANT_FIRST


async def test_nights_ask_what_the_simulation_says() -> None:
    """A quiet night costs one GET, a night with mail what the formula says of it."""
    log, store = logged_store()
    async with open_rig(store=store) as rig:
        mailbox = Mailbox().after(await first_backup(rig))
        log.taken()
        await rig.back_up_user()
        assert log.taken() == QUIET + TENANT_NIGHT
        for number in range(3):
            rig.mutate(op="create", folder="inbox", subject=f"News {number}", body="<p>New.</p>")
        result = await rig.back_up_user()
        assert result.stored == 3
        work = Work(3, 0)
        assert log.taken() == backup(mailbox, work) + TENANT_NIGHT


def test_names_are_asked_for_as_the_vault_does() -> None:
    """Within the first page nothing is asked; beyond it, HEADs and, after some, further pages."""
    assert questions(0, 5_000) == Requests()
    assert questions(40, 0) == questions(40, LIST_PAGE) == Requests(lists=1)
    few = questions(5, 1_000_000)
    assert (few.lists, few.head) == (1, 5)
    many = questions(400, 4_000)
    assert many.lists == 4
    assert many.head == 3 * HEADS_PER_PAGE


def test_a_mailbox_keeps_one_row_a_message() -> None:
    """Changes of old messages do not make the state grow."""
    mailbox = Mailbox().after(Work(100, 0))
    for _ in range(50):
        mailbox = mailbox.after(Work(0, 0, changed=40))
    assert sum(mailbox.runs) <= 2 * 100
    assert mailbox.messages == 100


def test_sizes_are_those_of_a_log_normal_distribution() -> None:
    """The closed forms agree with a large sample."""
    sizes = LogNormal(60_000, 1.2)
    dice = random.Random(7)
    drawn = [dice.lognormvariate(0, 1.2) * 60_000 for _ in range(200_000)]
    least = 128 * 1024
    assert sizes.mean == pytest.approx(sum(drawn) / len(drawn), rel=0.02)
    below = [size for size in drawn if size < least]
    assert sizes.share_below(least) == pytest.approx(len(below) / len(drawn), rel=0.02)
    assert sizes.mean_below(least) == pytest.approx(sum(below) / len(drawn), rel=0.02)
    billed = sum(max(size, least) for size in drawn) / len(drawn)
    assert sizes.mean_billed(least) == pytest.approx(billed, rel=0.02)
    assert sizes.mean_billed(0) == sizes.mean


def test_packs_that_decay_hold_what_is_gone() -> None:
    """The overhead is the inverse of the part in use, averaged over a pack's life."""
    months = PACKING.months_between_rewrites(0.02)
    assert 0.98**months == pytest.approx(PACKING.rewritten_at)
    steps = 10_000
    used = sum(0.98 ** (months * (n + 0.5) / steps) for n in range(steps)) / steps
    assert PACKING.overhead == pytest.approx(1 / used, rel=1e-4)


def test_prices_apply_to_their_requests() -> None:
    """A million of each kind costs what the price list says; reading is priced by the byte."""
    provider = Provider("Any", 5.0, 4.0, 0.4, 0.02, gigabyte=1e9)
    assert provider.requests(Requests(put=1e6)) == 5.0
    assert provider.requests(Requests(lists=1e6)) == 4.0
    assert provider.requests(Requests(get=1e6, head=1e6)) == 0.8
    assert provider.storing(3e9) == pytest.approx(0.06)


def test_the_table_is_the_same_every_time() -> None:
    """The simulation depends on nothing but its constants, and shows every case."""
    table = measure(Options())
    assert table.text() == measure(Options()).text()
    assert len(table.rows) == len(cases())
    assert len(table.columns) == len(table.rows[0])
    assert [p["name"] for p in table.data["prices"]] == [p.name for p in PROVIDERS]


def test_packs_save_requests_and_never_bytes() -> None:
    """What packs are for, and what they cost, shows in the cases."""
    first = {case.layout: case.asked for case in cases() if case.what.startswith("first")}
    assert first["packs"].put < first["objects"].put / 20
    names = [provider.name for provider in PROVIDERS]
    month = {
        case.layout.partition(",")[0]: dict(zip(names, case.dollars(), strict=True))
        for case in cases()
        if case.what.startswith("a month of") and "nothing" not in case.layout
    }
    assert month["packs"]["Wasabi"] > month["objects"]["Wasabi"]
    assert month["packs"]["Glacier IR"] < month["objects"]["Glacier IR"]


def test_the_page_shows_what_the_program_says() -> None:
    """Every table of the page is the program's, row by row, and every row is in one of them."""
    table = measure(Options())
    page = (Path(__file__).parents[2] / "docs/cost.md").read_text(encoding="utf-8")
    shown = set()
    columns: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = []
        elif cells[0] == "what":
            columns = cells
        elif columns and not cells[0].startswith("---"):
            rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            wanted = dict(zip(columns, cells, strict=True))
            assert any(wanted.items() <= row.items() for row in rows), line
            shown.add((cells[0], cells[1]))
    assert shown == {(row[0], row[1]) for row in table.rows}
    prose = page.partition("## Assumptions")[0]
    cells_of_all = {cell for row in table.rows for cell in row}
    assert set(re.findall(r"\b\d+\.\d\d\b", prose)) <= cells_of_all
