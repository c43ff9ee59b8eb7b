"""Day after day one snapshot: each day stays restorable, and neither runs nor reading grow dearer.

What is checked, by counting and not by time:

- **Each day**: ids, folders, paths and read state of its snapshot are what was true that evening.
- **Days drawn by the seed**, the first and the last: all of it, contents byte for byte.
- **Opening** any snapshot costs one LIST per thousand snapshots and one GET, on the last day as on
  the fifth; **reading** all its rows one request per segment. They lie in at most
  ``log8(messages) + 1`` runs, and are at most 9/7 times as many as the messages: a run has at least
  8 times as many rows as all newer ones together, so these, and what they replace, are an eighth
  of it each. Bytes read per message therefore stay within 9/7 of the fifth day's.
- **A quiet run** asks Graph once per folder and once for the tree, asks the store for one object,
  and writes none, on the last day as on the fifth. A quiet day now and then rewrites the head
  alone, for links and a tree that are a week old.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil, floor, log
from random import Random
from statistics import mean
from typing import Any, Final

from atlas_async.catalog.layout import head_key, lease_prefix
from atlas_async.catalog.reader import SnapshotView
from atlas_async.emulator import CorpusOptions
from atlas_async.model.report import Outcome
from tests.fakes.clock import FakeClock
from tests.fakes.rig import USER, Rig, open_rig
from tests.torture.instruments import CONTENT, Figures, Meter, metered, steady

DAY: Final = 86_400
BEGIN: Final = datetime(2026, 1, 1, 21, 0, tzinfo=UTC)
SUNDAY: Final = 6
EARLY: Final = 5
"""The day that the last one is compared with."""

HOLIDAYS: Final = 12
"""Days in a row on which nothing happens, in the middle of it all."""

MOST_ROWS: Final = 9 / 7
RUN_RATIO: Final = 8
LIST_PAGE: Final = 1_000
WHERE: Final = ("inbox", "archive", "sentitems", "deleteditems")
MOST_FOLDERS: Final = 6
MAIL: Final = CorpusOptions(
    mailboxes=1,
    shared=0,
    rooms=0,
    guests=0,
    unlicensed=0,
    folders=5,
    body_median=900,
    attachment_share=0.1,
    attachment_median=3_000,
    attachment_top=40_000,
)


@dataclass(frozen=True, slots=True)
class Evening:
    """What was true when a day's run began, and the snapshot that shows it from then on."""

    number: int
    snapshot_id: str
    at: datetime
    lines: bytes
    whole: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What opening a snapshot, and then reading all its rows, took of the store."""

    opening: dict[str, int]
    reading: int
    bytes_read: int
    runs: int
    segments: int
    rows: int
    messages: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """What a run took that found nothing new: for its mailbox, and for the bucket as a whole."""

    graph_beyond_folders: int
    store: int
    bucket: dict[str, int]
    written: tuple[str, ...]


@dataclass(slots=True)
class Years:
    """A mailbox that lives, and a run each evening.

    Args:
        rig: Where.
        meter: Counts the requests of the store.
        clock: Of engine and service.
        dice: Decides what happens.
        changes: About how many changes a day brings.
    """

    rig: Rig
    meter: Meter
    clock: FakeClock
    dice: Random
    changes: int
    evenings: list[Evening] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    quiet: dict[int, Quiet] = field(default_factory=dict)
    costs: dict[int, Cost] = field(default_factory=dict)
    requests: dict[int, tuple[int, int]] = field(default_factory=dict)
    quiet_days: int = 0
    heads: int = 0
    _folders: list[str] = field(default_factory=list)

    async def live(self, days: int, drawn: set[int], tell: Callable[[str], None]) -> None:
        """Let days pass, each with its changes and its run.

        Args:
            days: How many.
            drawn: Days of which everything is remembered.
            tell: Told now and then how far it is.
        """
        holidays = range(days // 2, days // 2 + HOLIDAYS)
        for number in range(1, days + 1):
            if number > 1 and number not in holidays and self.clock.now().weekday() != SUNDAY:
                self._happen()
            await self._evening(number, whole=number in drawn)
            if number in (EARLY, days):
                self.quiet[number] = await self._quiet_run()
            if number % 50 == 0:
                tell(f"day {number}: {sum(self.happened.values()):,} changes")
            self.clock.jump(DAY)

    # -- what happens ---------------------------------------------------------------------------

    def _happen(self) -> None:
        """Change the mailbox as a day does."""
        truth = self.rig.emulator.control.mailbox_truth(USER, content=False)
        folders = _folders_of(truth)
        mail = [m["immutableId"] for m in truth["messages"] if m["folderId"] in folders]
        self.dice.shuffle(mail)
        kinds = list(_CHANGES)
        weights = [weight for weight, _ in _CHANGES.values()]
        for kind in self.dice.choices(
            kinds, weights, k=self.dice.randint(self.changes * 3 // 5, self.changes * 7 // 5)
        ):
            _CHANGES[kind][1](self, mail)
            self.happened[kind] += 1
        if self.dice.random() < 0.2:
            self._change_folders()

    def _arrive(self, _mail: list[str]) -> None:
        number = self.happened.total()
        more = {}
        if self.dice.random() < 0.15:
            size = self.dice.choice((700, 5_000, 30_000))
            more["attachments"] = [{"name": f"{number}.bin", "size": size, "seed": number % 97}]
        body = (
            f"<p>day {self.clock.now():%j}, message {number} {'text ' * self.dice.randint(1, 80)}"
        )
        where = self.dice.choice([*WHERE[:3], "inbox", *self._folders])
        self.rig.mutate(op="create", folder=where, subject=f"mail {number}", body=body, **more)

    def _delete(self, mail: list[str]) -> None:
        self.rig.mutate(op="delete", message=mail.pop(), hard=self.dice.random() < 0.3)

    def _read(self, mail: list[str]) -> None:
        patch = {"isRead": self.dice.random() < 0.8}
        self.rig.mutate(op="update", message=self.dice.choice(mail), patch=patch)

    def _flag(self, mail: list[str]) -> None:
        patch = {
            "flag": {"flagStatus": self.dice.choice(("flagged", "complete", "notFlagged"))},
            "categories": self.dice.sample(("Red", "Blue", "Größe"), self.dice.randint(0, 2)),
        }
        self.rig.mutate(op="update", message=self.dice.choice(mail), patch=patch)

    def _move(self, mail: list[str]) -> None:
        where = self.dice.choice([*WHERE, *self._folders])
        self.rig.mutate(op="move", message=self.dice.choice(mail), folder=where)

    def _edit(self, mail: list[str]) -> None:
        number = self.happened.total()
        patch = {"subject": f"edited {number}", "body": {"contentType": "text", "content": "new"}}
        self.rig.mutate(op="update", message=self.dice.choice(mail), patch=patch)

    def _change_folders(self) -> None:
        """Make, rename, move, delete or swap folders; few, so that their number stays."""
        mine = self._folders
        what = self.dice.choice(("make", "rename", "move", "delete", "erase", "again", "swap"))
        if what == "make" or len(mine) < 2:
            if len(mine) < MOST_FOLDERS:
                parent = self.dice.choice(("msgfolderroot", "inbox"))
                name = f"Folder {self.happened.total()}"
                made = self.rig.mutate(op="folder-create", parent=parent, name=name)["id"]
                self.rig.mutate(op="bulk-move", folder="inbox", to=made, count=3)
                mine.append(made)
        elif what == "rename":
            name = f"Renamed {self.happened.total()}"
            self.rig.mutate(op="folder-rename", folder=self.dice.choice(mine), name=name)
        elif what == "move":
            where = self.dice.choice(WHERE[:3])
            self.rig.mutate(op="folder-move", folder=self.dice.choice(mine), to=where)
        elif what == "swap":
            paths = {f["id"]: f["displayName"] for f in self.rig.truth()["folders"]}
            one, other = self.dice.sample(mine, 2)
            self.rig.mutate(op="folder-rename", folder=one, name=paths[other])
            self.rig.mutate(op="folder-rename", folder=other, name=paths[one])
        else:
            gone = mine.pop(self.dice.randrange(len(mine)))
            name = next(f["displayName"] for f in self.rig.truth()["folders"] if f["id"] == gone)
            self.rig.mutate(op="folder-delete", folder=gone, hard=what == "erase")
            if what == "delete":  # and Deleted Items is emptied
                self.rig.mutate(op="folder-delete", folder=gone, hard=True)
            if what == "again":
                mine.append(self.rig.mutate(op="folder-create", name=name)["id"])
                self.rig.mutate(op="folder-delete", folder=gone, hard=True)
        self.happened[f"folders: {what}"] += 1

    # -- the runs -------------------------------------------------------------------------------

    async def _evening(self, number: int, *, whole: bool) -> None:
        """Note what is true, back it up, and check what a quiet day wrote."""
        control = self.rig.emulator.control
        truth = control.mailbox_truth(USER, content=whole)
        self.meter.forget()
        result = await self.rig.back_up_user()
        snapshot_id = result.snapshot_id
        if snapshot_id is None:
            assert result.outcome is Outcome.UNCHANGED, result
            lease = lease_prefix(USER)
            written = [key for key in self.meter.puts() if not key.startswith(lease)]
            assert set(written) <= {head_key(USER)}, f"a quiet day wrote {written}"
            snapshot_id = self.evenings[-1].snapshot_id
            self.quiet_days += 1
            self.heads += len(written)
        else:
            assert result.outcome is Outcome.COMPLETE, result
            content = len(self.meter.puts(*CONTENT))
            self.requests[number] = (result.graph_requests, result.store_requests - content)
        lines = zlib.compress("\n".join(_lines_of_truth(truth)).encode())
        now = self.clock.now()
        self.evenings.append(Evening(number, snapshot_id, now, lines, truth if whole else None))

    async def _quiet_run(self) -> Quiet:
        self.clock.jump(60)
        self.meter.forget()
        result = await self.rig.back_up_user()
        assert result.outcome is Outcome.UNCHANGED, result
        return Quiet(
            graph_beyond_folders=result.graph_requests - result.folders,
            store=result.store_requests,
            bucket=self.meter.by_op,
            written=tuple(self.meter.puts()),
        )

    # -- the judgement --------------------------------------------------------------------------

    async def check(self) -> None:
        """Open every day's snapshot and compare it with what was true."""
        before: Evening | None = None
        for evening in self.evenings:
            if before is not None and evening.snapshot_id == before.snapshot_id:
                assert evening.lines == before.lines, f"day {evening.number} is not kept"
                view = None
            else:
                view = await self._check_day(evening)
            if evening.whole is not None:
                view = view or await self.rig.view(evening.snapshot_id)
                await self.rig.assert_exact(view, evening.whole)
            before = evening

    async def _check_day(self, evening: Evening) -> SnapshotView:
        self.meter.forget()
        view = await self.rig.view(evening.snapshot_id)
        opening, bytes_read = self.meter.by_op, self.meter.bytes_read
        self.meter.forget()
        shown = sorted(
            [f"{r['object_id']}\t{r['folder_id']}\t{r['is_read']}" async for r in view.messages()]
            + [f"{f.folder.id}\t{'/'.join(f.folder.path)}" for f in view.folders]
        )
        wanted = zlib.decompress(evening.lines).decode().split("\n")
        differing = sorted(set(shown) ^ set(wanted))
        assert not differing, (
            f"day {evening.number}: {len(differing)} lines differ: {differing[:4]}"
        )
        assert len(shown) == len(wanted)
        assert view.summary.created_at[:10] == f"{evening.at:%Y-%m-%d}"
        assert view.snapshot is not None
        runs = view.snapshot.runs
        self.costs[evening.number] = Cost(
            opening=opening,
            reading=len(self.meter.requests),
            bytes_read=bytes_read + self.meter.bytes_read,
            runs=len(runs),
            segments=sum(len(run.segments) for run in runs),
            rows=sum(run.count for run in runs),
            messages=view.summary.messages,
        )
        return view

    def judge(self) -> None:
        """Assert that neither reading nor quiet runs have grown dearer."""
        snapshots = len({evening.snapshot_id for evening in self.evenings})
        pages = ceil(snapshots / LIST_PAGE)
        for number, cost in self.costs.items():
            assert cost.opening == {"list": pages, "get": 1}, (number, cost)
            assert cost.reading == cost.segments, (number, cost)
            assert cost.runs <= floor(log(cost.messages, RUN_RATIO)) + 1, (number, cost)
            assert cost.rows <= MOST_ROWS * cost.messages, (number, cost)
        early, last = self.compared()
        assert last.bytes_read / last.messages <= MOST_ROWS * early.bytes_read / early.messages
        first, other = self.quiet.values()
        assert first == other, (first, other)
        assert (first.graph_beyond_folders, first.store, first.written) == (1, 1, ()), first
        # Links and the tree are a week old at most twice in a week.
        weeks = (self.evenings[-1].at - self.evenings[0].at).days / 7
        assert self.heads <= 2 * weeks
        for one, next_ in pairwise(self.evenings):
            assert one.at < next_.at

    def compared(self) -> tuple[Cost, Cost]:
        """Return the costs of the fifth day's snapshot and of the last day's."""
        days = [max(n for n in self.costs if n <= day) for day in (EARLY, len(self.evenings))]
        return self.costs[days[0]], self.costs[days[1]]


_CHANGES: Final[dict[str, tuple[int, Callable[[Years, list[str]], None]]]] = {
    "arrived": (22, Years._arrive),
    "deleted": (20, Years._delete),
    "read": (28, Years._read),
    "flagged": (13, Years._flag),
    "moved": (12, Years._move),
    "edited": (5, Years._edit),
}
"""What happens to mail, and how often of a hundred times."""


def _folders_of(truth: dict[str, Any]) -> dict[str, list[str]]:
    """Return the paths of the folders that a snapshot shows."""
    return {f["id"]: f["path"] for f in truth["folders"] if f["belowRoot"] and not f["search"]}


def _lines_of_truth(truth: dict[str, Any]) -> list[str]:
    folders = _folders_of(truth)
    root = truth["rootId"]
    return sorted(
        [
            f"{m['immutableId']}\t{m['folderId']}\t{m['isRead']}"
            for m in truth["messages"]
            if m["folderId"] in folders
        ]
        + [f"{key}\t{'/'.join(path)}" for key, path in folders.items() if key != root]
    )


async def daily_snapshots(
    days: int,
    messages: int,
    changes: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Figures:
    """Live ``days`` days and judge all of it; see the module.

    Args:
        days: How many.
        messages: In the mailbox on the first day; later about as many.
        changes: A day, about.
        seed: Decides what happens, and which days are compared whole.
        tell: Told now and then how far it is.

    Raises:
        AssertionError: A day is not what it was, or something has grown dearer.
    """
    dice = Random(seed)
    clock = FakeClock(BEGIN, autojump=True)
    options = replace(MAIL, messages=messages, seed=seed)
    drawn = {1, EARLY, days, *dice.sample(range(1, days + 1), min(days, 12))}
    figures = Figures(f"{days} daily snapshots of {messages:,} messages, {changes} changes a day")
    async with open_rig(options, clock=clock, service_clock=clock) as rig:
        meter = metered(rig)
        async with steady(rig):
            years = Years(rig, meter, clock, dice, changes)
            await years.live(days, drawn, tell)
            tell("opening every day")
            await years.check()
            years.judge()
            tell("verifying everything")
            async with rig.engine() as atlas:
                verified = await atlas.verify()
            assert verified.exit_code == 0, verified
    _tell(figures, years, len(drawn))
    figures.add("objects verified", verified.checked)
    return figures


def _tell(figures: Figures, years: Years, drawn: int) -> None:
    early, last = years.compared()
    figures.add("changes", years.happened.total())
    figures.add("snapshots", len({evening.snapshot_id for evening in years.evenings}))
    figures.add("days compared: ids, folders, read state", len(years.evenings))
    figures.add("days compared whole, contents included", drawn)
    figures.add("quiet days, and heads rewritten on them", f"{years.quiet_days}, {years.heads}")
    for name, cost in ((f"day {EARLY}", early), (f"day {len(years.evenings)}", last)):
        figures.add(f"{name}: messages, rows, runs", f"{cost.messages}, {cost.rows}, {cost.runs}")
        figures.add(
            f"{name}: requests to open", " ".join(f"{k} {v}" for k, v in cost.opening.items())
        )
        figures.add(f"{name}: requests to read all rows", cost.reading)
        figures.add(f"{name}: bytes read", cost.bytes_read)
    most = max(years.costs.values(), key=lambda cost: cost.rows / cost.messages)
    figures.add("most rows per message, of 1.29 allowed", f"{most.rows / most.messages:.2f}")
    figures.add("most runs of any day", max(cost.runs for cost in years.costs.values()))
    for day, quiet in years.quiet.items():
        store = " ".join(f"{kind} {count}" for kind, count in quiet.bucket.items())
        figures.add(
            f"quiet run of day {day}",
            f"Graph: folders + {quiet.graph_beyond_folders}, mailbox: GET {quiet.store}, "
            f"whole bucket: {store}, objects written: {len(quiet.written)}",
        )
    for name, days in (("first", slice(None, 20)), ("last", slice(-20, None))):
        some = [years.requests[number] for number in sorted(years.requests)[1:][days]]
        graph, store = (mean(part) for part in zip(*some, strict=True))
        figures.add(
            f"requests of a run, mean of the {name} 20",
            f"Graph {graph:.1f}, store without PUTs of content {store:.1f}",
        )
