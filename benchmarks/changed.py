"""A night in which one message in a hundred changed."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.comparison import (
    PEAK,
    Figure,
    Round,
    Workload,
    compared,
    in_turns,
    opened_together,
    plain,
    programs_for,
    warmed,
)
from benchmarks.profiles import sampling, store_to_profile
from benchmarks.programs import Program
from benchmarks.report import Options, Table
from benchmarks.servers import Microsoft

NAME = "changed"
HELP = "a run after 1 % of one mailbox changed: read, new, moved and deleted messages"
BODY = "<html><body>" + "what is new " * 900 + "</body></html>"


@dataclass(frozen=True, slots=True)
class Night:
    """How many messages change in what way.

    Attributes:
        read: Marked read or unread.
        new: Arrive.
        moved: Go from the inbox to the archive.
        deleted: Leave the inbox.
    """

    read: int
    new: int
    moved: int
    deleted: int

    @property
    def changes(self) -> int:
        """All of them."""
        return self.read + self.new + self.moved + self.deleted

    @property
    def shown(self) -> int:
        """Messages that Graph shows in full afterwards."""
        return self.read + self.new + self.moved

    def pass_over(self, graph: Microsoft, mailbox: str) -> None:
        """Change the mailbox. The newest messages move and go, so the next ones change state."""
        inbox = {"mailbox": mailbox, "folder": "inbox"}
        gone = self.moved + self.deleted
        graph.control(
            "mutate",
            [
                {**inbox, "op": "bulk-read", "skip": gone, "count": self.read},
                {**inbox, "op": "bulk-move", "to": "archive", "count": self.moved},
                {**inbox, "op": "bulk-delete", "count": self.deleted},
                {**inbox, "op": "bulk-create", "count": self.new, "body": BODY},
            ],
        )


def measure(options: Options) -> Table:
    """Measure runs after changes, in processes that have done a full run before."""
    mail = Workload(NAME, plain(1, 400 if options.quick else 10_000))
    (mailbox,) = mail.mailboxes()
    hundredth = mail.corpus.messages // 100
    night = Night(hundredth // 2, hundredth // 4, hundredth // 8, hundredth // 8)
    rounds: dict[str, list[Round]] = {}
    for kind in options.stores:
        with (
            warmed(mail) as (graph, counts),
            opened_together(kind, graph, mail, programs_for(kind)) as programs,
        ):
            for it in programs.values():
                it.run("backup", expected={"messages": counts[mailbox]})
            rounds[kind] = [
                _round(graph, night, mailbox, programs, number) for number in range(options.repeat)
            ]
            if options.profile and kind == store_to_profile(options.stores):
                night.pass_over(graph, mailbox)
                with sampling(programs["engine"].pid, NAME, options.results):
                    programs["engine"].run("backup")
    count = night.changes
    figures = (
        Figure("CPU us/change", lambda run: run.cpu / count * 1e6),
        Figure("CPU ms/run", lambda run: run.cpu * 1e3, digits=1),
        Figure("wall ms/run", lambda run: run.wall * 1e3, digits=1),
        Figure("Graph requests", lambda run: run.done["graph_requests"], ratios=False),
        Figure("store requests", lambda run: run.done["store_requests"], ratios=False),
        PEAK,
    )
    title = f"A run after {count} of {mail.corpus.messages:,} messages changed"
    notes = [
        (
            f"changes: {night.read} read or unread, {night.new} new of about 12 KB, "
            f"{night.moved} moved, {night.deleted} deleted"
        ),
        (
            "floor and naive store each message Graph shows, and nothing about those that left; "
            "the engine looks those up, and commits a snapshot"
        ),
    ]
    return compared(NAME, title, rounds, figures, notes)


def _round(
    graph: Microsoft, night: Night, mailbox: str, programs: dict[str, Program], number: int
) -> Round:
    night.pass_over(graph, mailbox)
    there = graph.count_messages(mailbox)
    return {
        name: programs[name].run(
            "backup", expected={"messages": there if name == "engine" else night.shown}
        )
        for name in in_turns(list(programs), number)
    }
