"""How near the engine comes to what four requests in flight per mailbox allow, on slow links.

Pages of a folder come one after the other, folders do not wait for each other, and what folders
there are must be known before they are read. So with L seconds per request to Graph, S per request
to the store, and the requests of a mailbox as counted by the server::

    listing = max(CHAIN, requests for the tree / 4) * L
    pages   = max(pages of the longest folder, pages / 4) * L
    bound   = 2 * L + S + listing + pages + TAIL * S

``2 * L`` are the token and the directory, ``S`` is the look for an earlier snapshot. ``CHAIN`` are
requests for the tree that need each other's answers: two of the folder delta, one for each level.
``TAIL`` are writes that need each other: the last message, a segment, the descriptor, the manifest,
the head. Nothing is computed in this bound.

One core computes, and no page is there to be worked on before the tree is known. So there is a
second bound, with the CPU seconds that the floor program takes for the same messages, measured in
the same round without latency, where they are more than the pages take::

    possible = 2 * L + S + listing + max(pages, floor's CPU) + TAIL * S
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import unquote

from atlas_async.emulator import CorpusOptions
from benchmarks.paced_engine import ask_emulator, finish, start
from benchmarks.programs import program
from benchmarks.report import Options, Table, median_spread
from benchmarks.servers import Microsoft, microsoft, store

NAME = "latency"
HELP = "slow links to Graph and the store: time against what four requests in flight allow"

IN_FLIGHT = 4
DEPTH = 3
CHAIN = 2 + 1 + DEPTH
TAIL = 5
COLUMNS = (
    "workload",
    "Graph ms",
    "store ms",
    "longest folder",
    "pages",
    "for the tree",
    "bound s",
    "wall s",
    "ratio",
    "CPU s",
    "floor CPU s",
    "possible s",
    "wall/possible",
)
NOTES = (
    (
        "bound: 2 L + S + max(6, requests for the tree / 4) L + max(longest folder, pages / 4) L "
        "+ 5 S for L and S seconds per request to Graph and to the store; pages and requests as "
        "counted by the server, of the mailbox for which it is greatest. It computes nothing."
    ),
    (
        "CPU s: of the engine's process; floor CPU s: of the floor program for the same messages, "
        "without latency, in the same round."
    ),
    (
        "possible: the bound, where reading and settling take at least the floor's CPU: one core "
        "computes, and no page is there to be worked on before the tree is known."
    ),
    (
        "At five times the latency little is left of computing: what is lost there is lost to "
        "waiting. The last row lets as many uploads and bytes be in flight as such a store needs; "
        "the row before has the defaults, which bound it to 1,920 uploads a second."
    ),
)
_PAGE = re.compile(r"/mailfolders(?:/|\(')(?P<folder>[^/']+)(?:/|'\)/)messages", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is backed up over which links.

    Attributes:
        title: What, in words.
        mailboxes: All in flight at once.
        messages: Per mailbox.
        graph: Seconds that each request to Graph takes.
        store: Seconds that each request to the store takes.
        limits: What else of the engine's limits is not as by default.
    """

    title: str
    mailboxes: int
    messages: int
    graph: float = 0.1
    store: float = 0.02
    limits: Mapping[str, int] = field(default_factory=dict)

    def corpus(self) -> CorpusOptions:
        """Return its mail: 12 KB messages, six folders of the user's beside the usual ones."""
        return CorpusOptions(
            mailboxes=self.mailboxes,
            messages=self.messages,
            body_bytes=11_000,
            folders=6,
            depth=DEPTH,
            shared=0,
            rooms=0,
            guests=0,
            unlicensed=0,
            recoverable_messages=0,
            odd_share=0.0,
            attachment_share=0.0,
            inline_share=0.0,
            item_share=0.0,
            reference_share=0.0,
            smime_share=0.0,
        )


FAR = {"uploads": 600, "byte_budget": 768 << 20}
WORKLOADS = (
    Workload("1 x 5,000", 1, 5_000),
    Workload("20 x 300", 20, 300),
    Workload("1 x 5,000, five times the latency", 1, 5_000, 0.5, 0.1),
    Workload("20 x 300, five times the latency", 20, 300, 0.5, 0.1),
    Workload("the same, 600 uploads and 768 MiB", 20, 300, 0.5, 0.1, FAR),
)


@dataclass(frozen=True, slots=True)
class Need:
    """What one mailbox asked of Graph: pages of its longest folder, all pages, and the tree."""

    longest: int
    pages: int
    tree: int

    def bound(self, work: Workload, cpu: float = 0.0) -> float:
        """Return the shortest time that latency allows (see the module), in seconds.

        Args:
            work: What is backed up.
            cpu: Seconds that reading and settling take at least.
        """
        listing = max(CHAIN, self.tree / IN_FLIGHT) * work.graph
        pages = max(self.longest, self.pages / IN_FLIGHT) * work.graph
        return 2 * work.graph + work.store + listing + max(pages, cpu) + TAIL * work.store


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run took, and needed."""

    wall: float
    cpu: float
    floor_cpu: float
    need: Need
    bound: float
    possible: float


def count(served: Sequence[Mapping[str, Any]]) -> list[Need]:
    """Return what each mailbox asked for."""
    pages: dict[str, Counter[str]] = {}
    tree: Counter[str] = Counter()
    for request in served:
        mailbox = request["mailbox"]
        if not mailbox:
            continue
        page = _PAGE.search(unquote(request["path"]))
        if page is None:
            tree[mailbox] += 1
        else:
            pages.setdefault(mailbox, Counter())[page["folder"]] += 1
    return [
        Need(max(folders.values()), folders.total(), tree[mailbox])
        for mailbox, folders in pages.items()
    ]


def run(work: Workload, kind: str, repeat: int) -> list[Outcome]:
    """Back up as often as asked for, each time into an empty store, after a warm-up."""
    limits = {**work.limits, "mailboxes": work.mailboxes}
    outcomes = []
    with microsoft(work.corpus(), behaviour={"latency": work.graph}) as served:
        with start(served.settings, limits, own_store=True) as engine:
            finish(engine)  # the server has rendered its pages now
        for _ in range(repeat):
            floor_cpu = compute(served, work, kind)
            ask_emulator(served.settings, "log", "DELETE")
            with (
                store(kind, latency_ms=work.store * 1000) as place,
                start({**served.settings, **place}, limits, own_store=False) as engine,
            ):
                figures = finish(engine)
            if any(box["messages"] != work.messages for box in figures["mailboxes"]):
                raise RuntimeError(f"messages are missing: {figures}")
            needs = count(ask_emulator(served.settings, "log")["served"])
            need = max(needs, key=lambda need: need.bound(work))
            possible = need.bound(work, floor_cpu)
            outcomes.append(
                Outcome(
                    figures["wall"], figures["cpu"], floor_cpu, need, need.bound(work), possible
                )
            )
    return outcomes


def compute(served: Microsoft, work: Workload, kind: str) -> float:
    """Return the CPU seconds that the floor program takes for the same messages."""
    names = [f"user{number:04}@contoso.com" for number in range(work.mailboxes)]
    served.control("settings", {"latency": 0.0})
    try:
        with store(kind) as place:
            settings = {**served.settings, **place, "ATLAS_CONCURRENCY": str(work.mailboxes)}
            with program("floor", settings, names) as floor:
                expected = {"messages": work.mailboxes * work.messages}
                return floor.run("backup", expected=expected).cpu
    finally:
        served.control("settings", {"latency": work.graph})


def measure(options: Options) -> Table:
    """Measure every workload over links of both speeds."""
    works = [Workload("2 x 50", 2, 50)] if options.quick else WORKLOADS
    rows, data = [], []
    for work in works:
        outcomes = run(work, "memory", options.repeat)
        need = outcomes[0].need
        rows.append(
            (
                work.title,
                f"{work.graph * 1000:.0f}",
                f"{work.store * 1000:.0f}",
                str(need.longest),
                str(need.pages),
                str(need.tree),
                f"{statistics.median(one.bound for one in outcomes):.2f}",
                median_spread([one.wall for one in outcomes], 2),
                median_spread([one.wall / one.bound for one in outcomes], 2),
                median_spread([one.cpu for one in outcomes], 2),
                median_spread([one.floor_cpu for one in outcomes], 2),
                f"{statistics.median(one.possible for one in outcomes):.2f}",
                median_spread([one.wall / one.possible for one in outcomes], 2),
            )
        )
        data.append({"workload": asdict(work), "runs": [asdict(one) for one in outcomes]})
    return Table(
        name=NAME,
        title="Slow links: time against what four requests in flight per mailbox allow",
        columns=COLUMNS,
        rows=rows,
        notes=NOTES,
        data={"workloads": data},
    )
