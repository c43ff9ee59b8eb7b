"""Restore: killed at seeded instants, run to its end, and taken back, over and over.

``python -m tests.torture restore --kills 200 --seed 1``

A chapter is a fresh tenant and a fresh bucket. It backs a mailbox up once and then restores it in
one way after the other: below a folder, in place with copies, in place with replacements, in place
after some of it was deleted, into another mailbox. Of each way some runs are killed, then one runs
to its end, then some undoings are killed, and one runs to its end. Now and then an answer is lost.
What must hold:

- after the run that was left alone everything is there exactly once, as it was backed up, and the
  program's own comparison agrees;
- one more run creates nothing;
- after the undoing that was left alone the mailbox is what it was before: messages, folders, and
  what was replaced is back in its place.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.emulator import Corpus, CorpusOptions, FaultRule
from tests.fakes.rig import USER
from tests.restore.scene import OTHER, RICH, Essence, held, linkless, mark_of, shape
from tests.torture.bucket_check import Inspector
from tests.torture.observed import Tenant, Watch, open_tenant
from tests.torture.running import Ended, Running, Way
from tests.torture.trapped import NO_TRAP, Trap

PASSPHRASE: Final = "correct-horse-battery-staple"
ROOT: Final = "Back"
PATIENCE: Final = 90.0
LARGE: Final = (3_100_000, 7_900_000)
"""Bytes of files that go through an upload session, of one range and of three."""
LOST_SHARE: Final = 0.01
"""So many writes are carried out and answered with an error."""
TAKEN_BACK: Final = 2
"""How an undoing ends that has nothing left to do: the one before was killed as it ended."""
_ODD: Final = ("Traceback", "Exception ignored", "unexpected error", "never awaited")

Held = Counter[tuple[tuple[str, ...], Essence]]


@dataclass(frozen=True, slots=True)
class Manner:
    """One way to restore: the arguments, and which mailbox it changes."""

    name: str
    arguments: tuple[str, ...]
    mailbox: str = USER
    root: tuple[str, ...] = (ROOT,)
    deletes: bool = False


MANNERS: Final = (
    Manner("below", ("--root", ROOT)),
    Manner("copy", ("--in-place", "--on-conflict", "copy"), root=()),
    Manner("replace", ("--in-place", "--on-conflict", "replace"), root=()),
    Manner("missing", ("--in-place",), root=(), deletes=True),
    Manner("elsewhere", ("--root", ROOT, "--to", OTHER), mailbox=OTHER),
)


@dataclass(slots=True)
class Figures:
    """What is printed at the end."""

    kills: Counter[str] = field(default_factory=Counter)
    undo_kills: int = 0
    missed: int = 0
    runs: int = 0
    compared: int = 0
    most_tries: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """How many runs were ended."""
        return self.kills.total() + self.undo_kills

    def table(self) -> str:
        """Return the figures as lines."""
        rows: list[tuple[str, object]] = [
            *((f"restores killed: {name}", number) for name, number in sorted(self.kills.items())),
            ("undoings killed", self.undo_kills),
            ("ended before they could be killed", self.missed),
            ("runs", self.runs),
            ("messages compared", self.compared),
            ("failures", len(self.failures)),
        ]
        return "\n".join(f"{name:<40}{value}" for name, value in rows)


class Chapter:
    """One tenant and its bucket, restored in every manner.

    Args:
        tenant: The emulated tenant.
        place: A directory for the bucket and what runs write.
        dice: Draws the instants.
        figures: Takes what is seen.
        name: Repeats it.
    """

    def __init__(
        self, tenant: Tenant, place: Path, dice: Random, figures: Figures, name: str
    ) -> None:
        self._tenant = tenant
        self._place = place
        self._dice = dice
        self._figures = figures
        self._name = name
        self._spool = place / "spool"
        self._spool.mkdir()

    def run(self, manners: Sequence[Manner], kills: int) -> None:
        """Restore in every manner, with ``kills`` kills of the restore and half of them undoing."""
        self._make_large_mail()
        self._run(["backup", "-m", USER], NO_TRAP, Watch(), codes={0})
        self._source = linkless(held(self._truth(USER), ()))
        control = self._tenant.emulator.control
        lost = FaultRule(
            method="POST|PUT|PATCH|DELETE",
            status=503,
            commit="before",
            count=-1,
            probability=LOST_SHARE,
            seed=self._dice.randint(1, 1 << 30),
        )
        self._tenant.do(lambda: control.add_fault(lost))
        for manner in manners:
            self._one(manner, kills)

    def _one(self, manner: Manner, kills: int) -> None:
        if manner.deletes:
            self._delete_some()
        before = self._truth(manner.mailbox)
        arguments = ["restore", "-m", USER, *manner.arguments, "--json"]
        for _ in range(kills):
            self._killed(arguments, manner.name)
        ended = self._run(arguments, NO_TRAP, Watch(), codes={0})
        self._compare(manner, before)
        marks = self._marks(manner.mailbox)
        again = self._run(arguments, NO_TRAP, Watch(), codes={0})
        if self._marks(manner.mailbox) != marks:
            self._fail(f"{manner.name}: one more run made more: {_counts(again)}")
        job = _first(ended).get("restore", "")
        undoing = ["restore", "-m", USER, "--undo", str(job), "--json"]
        for _ in range((kills + 1) // 2):
            if self._killed(undoing, "") is not None:
                break  # it was taken back in full before the kill
        else:
            self._run(undoing, NO_TRAP, Watch(), codes={0, TAKEN_BACK})
        after = self._truth(manner.mailbox)
        if shape(after) != shape(before):
            self._fail(f"{manner.name}: undoing left a difference: {_differences(before, after)}")

    def _killed(self, arguments: list[str], manner: str) -> Ended | None:
        """Kill one run; return how it ended when it was faster than the kill."""
        dice = self._dice
        watch = Watch()
        trap = NO_TRAP
        share = dice.random()
        number = dice.choice([dice.randint(1, 24), dice.randint(1, 160)])
        if share < 0.2:
            kind = dice.choice(["put-begin", "put-end"])
            trap = Trap(kind=kind, number=dice.randint(1, 5), signals=Way.KILL.signals)
        ended = self._run(
            arguments,
            trap,
            watch,
            codes={0, *Way.KILL.codes} if manner else {0, TAKEN_BACK, *Way.KILL.codes},
            arriving=number if 0.2 <= share < 0.5 else 0,
            answered=number if share >= 0.5 else 0,
        )
        if ended.code in Way.KILL.codes:
            if manner:
                self._figures.kills[manner] += 1
            else:
                self._figures.undo_kills += 1
            return None
        self._figures.missed += 1
        return ended

    def _run(
        self,
        arguments: list[str],
        trap: Trap,
        watch: Watch,
        *,
        codes: set[int],
        arriving: int = 0,
        answered: int = 0,
    ) -> Ended:
        with Running(
            arguments,
            self._environment(),
            self._place,
            checkpoint_messages=1_000,
            terminal=False,
            trap=trap,
        ) as running:
            (signal_,) = Way.KILL.signals
            if arriving:
                watch.arriving[arriving] = lambda: running.send(signal_)
            if answered:
                watch.answered[answered] = lambda: running.send(signal_)
            self._tenant.begin(watch)
            ended = running.wait(lambda: watch.came, PATIENCE)
        self._figures.runs += 1
        if ended.hung or ended.strays or ended.code not in codes:
            self._fail(f"{arguments} ended with {ended.code}: {ended.said[-3000:]}")
        if odd := [text for text in _ODD if text in ended.said]:
            self._fail(f"{arguments} said {odd}: {ended.said[-3000:]}")
        return ended

    def _compare(self, manner: Manner, before: dict[str, Any]) -> None:
        """Compare what is there now with what was backed up."""
        truth = self._truth(manner.mailbox)
        made = [m for m in self._visible(truth) if mark_of(m)]
        marks = Counter(mark_of(m) for m in made)
        self._figures.compared += len(made)
        if twice := [mark for mark, number in marks.items() if number > 1]:
            self._fail(f"{manner.name}: {len(twice)} messages are there twice")
        known = {m["immutableId"] for m in before["messages"]}
        fresh = {**truth, "messages": [m for m in made if m["immutableId"] not in known]}
        found = linkless(held(fresh, manner.root))
        wanted = self._source
        if manner.deletes:
            wanted = wanted - linkless(held(before, ()))
        if found != wanted:
            less, more = wanted - found, found - wanted
            self._fail(
                f"{manner.name}: {less.total()} are missing, {more.total()} should not be there: "
                f"{list(less)[:2]} {list(more)[:2]}"
            )

    def _marks(self, mailbox: str) -> list[str]:
        return sorted(mark_of(m) for m in self._visible(self._truth(mailbox)) if mark_of(m))

    def _visible(self, truth: dict[str, Any]) -> list[dict[str, Any]]:
        gone = {f["id"] for f in truth["folders"] if f["path"][:1] == ["Recoverable Items"]}
        return [m for m in truth["messages"] if m["folderId"] not in gone]

    def _make_large_mail(self) -> None:
        for number, size in enumerate(LARGE):
            self._mutate(
                {
                    "op": "create",
                    "folder": "inbox",
                    "subject": f"Large {number}",
                    "attachments": [
                        {"name": "large.bin", "size": size, "seed": number},
                        {"name": "small.txt", "size": 900, "seed": number},
                    ],
                }
            )

    def _delete_some(self) -> None:
        truth = self._truth(USER)
        known = {f["id"]: f for f in truth["folders"]}
        mail = [m for m in truth["messages"] if known[m["folderId"]]["belowRoot"]]
        for message in self._dice.sample(mail, len(mail) // 2):
            self._mutate({"op": "delete", "message": message["immutableId"], "hard": True})

    def _mutate(self, change: dict[str, Any]) -> None:
        self._tenant.do(lambda: self._tenant.emulator.control.mutate(USER, change))

    def _truth(self, mailbox: str) -> dict[str, Any]:
        return self._tenant.do(lambda: self._tenant.emulator.control.mailbox_truth(mailbox))

    def _environment(self) -> dict[str, str]:
        return {
            **self._tenant.settings(),
            "ATLAS_STORAGE_URL": (self._place / "store").as_uri(),
            "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE,
            "ATLAS_DEK_VERSION": "0",  # its scrypt costs a quarter
            "ATLAS_SPOOL_DIR": str(self._spool),
        }

    def _fail(self, text: str) -> None:
        self._figures.failures.append(f"{self._name}: {text}")


def _first(ended: Ended) -> dict[str, Any]:
    """Return the document of the one restore that a run wrote."""
    for line in reversed(ended.said.splitlines()):
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict) and document.get("restores"):
            found: dict[str, Any] = document["restores"][0]
            return found
    return {}


def _counts(ended: Ended) -> dict[str, Any]:
    document = _first(ended)
    return {name: document.get(name) for name in ("created", "replaced", "skipped", "already")}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> str:
    one, other = shape(before), shape(after)
    told = []
    for kind in ("folders", "messages"):
        left = [repr(v)[:200] for k, v in other[kind].items() if one[kind].get(k) != v]
        lost = [repr(v)[:200] for k, v in one[kind].items() if other[kind].get(k) != v]
        told.append(f"{kind}: {len(left)} new or changed {left[:2]}, {len(lost)} gone {lost[:2]}")
    return "; ".join(told)


def torture(
    *,
    seed: int,
    chapter: int,
    kills: int,
    place: Path,
    figures: Figures,
    manners: Sequence[Manner] = MANNERS,
    options: CorpusOptions = RICH,
) -> None:
    """Run one chapter and add what is seen to ``figures``."""
    dice = Random(f"{seed}/{chapter}")
    name = f"--seed {seed} --chapter {chapter}"
    corpus = replace(options, seed=dice.randint(1, 1 << 30))
    with tempfile.TemporaryDirectory(dir=place) as directory:
        settings = Settings(
            graph=None,
            storage=DirectorySettings(Path(directory) / "store"),
            tenant_id=str(Corpus(corpus).tenant_id),
            passphrase=Secret(PASSPHRASE),
        )
        with open_tenant(corpus, dice, Inspector(settings).bodies) as tenant:
            Chapter(tenant, Path(directory), dice, figures, name).run(manners, kills)


def main(arguments: list[str]) -> int:
    """Run the long form and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture restore", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="over all chapters")
    parser.add_argument(
        "--each", type=int, default=4, help="of one restore before it is left alone"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chapter", type=int, help="only this one")
    chosen = parser.parse_args(arguments)
    figures = Figures()
    chapter = chosen.chapter or 0
    with tempfile.TemporaryDirectory(prefix="atlas-restore-") as directory:
        while not chapter or figures.killed < chosen.kills:
            known = len(figures.failures)
            torture(
                seed=chosen.seed,
                chapter=chapter,
                kills=chosen.each,
                place=Path(directory),
                figures=figures,
            )
            for failure in figures.failures[known:]:
                sys.stderr.write(f"{failure}\n")
            sys.stderr.write(f"chapter {chapter}: {figures.killed} kills\n")
            if chosen.chapter is not None or figures.killed >= chosen.kills:
                break
            chapter += 1
    sys.stdout.write(f"{figures.table()}\n")
    return 1 if figures.failures else 0
