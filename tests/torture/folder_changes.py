"""What people do to folders, between runs and in the midst of them.

What must hold of a change **between** runs: the next snapshot is exact. Of a change **during** a
run: the snapshot of that run shows every message that was there all the time, each in a folder and
state that it had before or after the change, and nothing that was there at neither moment; its
folders are those of one moment or the other; and the next snapshot is exact, though nothing has
changed since. One thing may be missing until then: mail that moved, during a **first** run, from a
folder not read yet to one read less than half a minute before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from random import Random
from typing import Any, Final

from atlas_async.catalog.reader import SnapshotView
from atlas_async.emulator.calls import Call
from atlas_async.model.report import MailboxResult, Outcome
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, Rig
from tests.torture.instruments import empty_bucket, watching

TINY: Final = replace(SMALL, messages=12, folders=0, attachment_median=1_000)
LENGTH: Final = {True: 62, False: 30}
"""About how many requests a first run and a later one take."""

ENDED: Final = frozenset({Outcome.COMPLETE, Outcome.UNCHANGED})


class Unfair(AssertionError):
    """A snapshot of a run that was meddled with shows what it must not, or lacks what it must."""


@dataclass(frozen=True, slots=True)
class Cabinet:
    """The folders that a change is made to, by id: Alpha and Beta below a parent, Child in Alpha."""

    rig: Rig
    parent: str
    alpha: str
    beta: str
    child: str

    @classmethod
    def build(cls, rig: Rig, number: int) -> Cabinet:
        """Make the folders, with some mail in each."""
        parent = rig.mutate(op="folder-create", name=f"Projects {number}")["id"]
        alpha = rig.mutate(op="folder-create", parent=parent, name="Alpha")["id"]
        beta = rig.mutate(op="folder-create", parent=parent, name="Beta")["id"]
        child = rig.mutate(op="folder-create", parent=alpha, name="Child")["id"]
        for folder in (parent, alpha, beta, child):
            rig.mutate(op="bulk-create", folder=folder, count=2, body=f"in {folder}")
        file = {"name": "a.bin", "size": 900, "seed": number}
        rig.mutate(op="create", folder=alpha, subject="with a file", attachments=[file])
        return cls(rig, parent, alpha, beta, child)

    def rename(self, folder: str, name: str) -> None:
        """Give a folder another name."""
        self.rig.mutate(op="folder-rename", folder=folder, name=name)

    def move(self, folder: str, to: str) -> None:
        """Put a folder below another."""
        self.rig.mutate(op="folder-move", folder=folder, to=to)

    def delete(self, folder: str, *, hard: bool) -> None:
        """Delete a folder: below Deleted Items, or for good."""
        self.rig.mutate(op="folder-delete", folder=folder, hard=hard)

    def make_alpha_again(self) -> None:
        """Make a folder of Alpha's name in Alpha's place, with mail."""
        made = self.rig.mutate(op="folder-create", parent=self.parent, name="Alpha")["id"]
        self.rig.mutate(op="bulk-create", folder=made, count=3, subject="in the second Alpha")


def _renamed(it: Cabinet) -> None:
    it.rename(it.alpha, "Alpha / renamed")


def _moved(it: Cabinet) -> None:
    it.move(it.alpha, "archive")


def _deleted(it: Cabinet) -> None:
    it.delete(it.alpha, hard=False)


def _erased(it: Cabinet) -> None:
    it.delete(it.alpha, hard=True)


def _deleted_and_made_again(it: Cabinet) -> None:
    it.delete(it.alpha, hard=False)
    it.make_alpha_again()


def _erased_and_made_again(it: Cabinet) -> None:
    it.delete(it.alpha, hard=True)
    it.make_alpha_again()


def _swapped(it: Cabinet) -> None:
    it.rename(it.alpha, "between")
    it.rename(it.beta, "Alpha")
    it.rename(it.alpha, "Beta")


def _below_its_child(it: Cabinet) -> None:
    it.move(it.child, it.parent)
    it.move(it.alpha, it.child)


def _in_the_place_of_its_child(it: Cabinet) -> None:
    _below_its_child(it)
    it.rename(it.alpha, "Child")
    it.rename(it.child, "Alpha")


def _mail_moved(it: Cabinet) -> None:
    it.rig.mutate(op="bulk-move", folder=it.beta, to=it.alpha, count=2)


def _mail_moved_back(it: Cabinet) -> None:
    it.rig.mutate(op="bulk-move", folder=it.alpha, to=it.beta, count=2)


def _mail_moved_to_a_new_folder(it: Cabinet) -> None:
    made = it.rig.mutate(op="folder-create", parent=it.parent, name="Gamma")["id"]
    it.rig.mutate(op="bulk-move", folder=it.alpha, to=made, count=2)


CHANGES: Final[dict[str, Callable[[Cabinet], None]]] = {
    "renamed": _renamed,
    "moved": _moved,
    "deleted": _deleted,
    "erased": _erased,
    "deleted and made again": _deleted_and_made_again,
    "erased and made again": _erased_and_made_again,
    "swapped names with a sibling": _swapped,
    "moved below its child": _below_its_child,
    "in the place and name of its child": _in_the_place_of_its_child,
    "given mail of its sibling": _mail_moved,
    "deprived of mail by its sibling": _mail_moved_back,
    "deprived of mail by a new sibling": _mail_moved_to_a_new_folder,
}
"""By what happened to Alpha.

Changing place and name with its child leaves every path as it was, with other ids behind it.
"""


@dataclass(slots=True)
class Meddled:
    """What came of meddling with runs.

    Attributes:
        runs: How many were meddled with.
        ended_before: Of these, how many ended before the change was made.
        late: Messages that moved during a first run and that only the next one's snapshot shows.
        exact: Every snapshot in the bucket that must be exact, with what was true.
    """

    runs: int = 0
    ended_before: int = 0
    late: int = 0
    exact: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


async def _run(rig: Rig) -> MailboxResult:
    """Back the mailbox up, a minute after whatever was before."""
    assert isinstance(rig.clock, FakeClock)
    rig.clock.jump(60)
    return await rig.back_up_user()


async def change_during_run(
    rig: Rig, name: str, at: int, number: int, *, first: bool, meddled: Meddled
) -> None:
    """Change folders while a run's request number ``at`` waits for its answer, and judge.

    Args:
        rig: Where.
        name: Of ``CHANGES``.
        at: Which request.
        number: Names the folders of this attack.
        first: Whether the run is the first one of the mailbox, into an empty bucket.
        meddled: Counts.

    Raises:
        Unfair: Naming the change and the request.
    """
    cabinet = Cabinet.build(rig, number)
    if first:
        empty_bucket(rig)
        meddled.exact.clear()
    else:
        await _run(rig)
    rig.mutate(op="bulk-create", folder=cabinet.beta, count=1, subject="new in Beta")
    rig.mutate(op="bulk-create", folder="inbox", count=1, subject="new in the inbox")
    before = rig.truth()
    changed = False

    def meddle(request: int, _call: Call) -> None:
        nonlocal changed
        if request == at:
            CHANGES[name](cabinet)
            changed = True

    with watching(rig.emulator) as watch:
        watch.before = meddle
        result = await _run(rig)
    meddled.runs += 1
    where = f"{name} at request {at} of a {'first' if first else 'later'} run"
    if not changed:
        meddled.ended_before += 1
        CHANGES[name](cabinet)
    if result.outcome not in ENDED:
        raise Unfair(f"{where}: ended {result.outcome}, {result.error} {result.not_stored}")
    after = rig.truth()
    try:
        view = await rig.view()
        meddled.late += await assert_fair(rig, view, before, after if changed else before, first)
        again = await _run(rig)
        assert again.outcome in ENDED, again
        await rig.assert_exact(await rig.view(), after)
        quiet = await _run(rig)
        assert quiet.outcome is Outcome.UNCHANGED
        assert (quiet.graph_requests, quiet.store_requests) == (quiet.folders + 1, 1), quiet
    except AssertionError as error:
        raise Unfair(f"{where}: {error}") from error
    meddled.exact.append(((await rig.view()).summary.snapshot_id, after))


async def assert_fair(
    rig: Rig, view: SnapshotView, before: dict[str, Any], after: dict[str, Any], first: bool
) -> int:
    """Assert what holds of a run during which a change was made; see the module.

    Returns how many messages that moved are missing, which may be in a first run only.
    """
    shown = {record["object_id"]: record async for record in view.messages()}
    held = [_reachable(truth) for truth in (before, after)]
    throughout = held[0].keys() & held[1].keys()
    late = {i for i in throughout if held[0][i]["folderId"] != held[1][i]["folderId"] and first}
    missing = [held[0][i]["subject"] for i in throughout - shown.keys() - late]
    assert not missing, f"missing though there all the time: {missing}"
    foreign = shown.keys() - held[0].keys() - held[1].keys()
    assert not foreign, f"shown though there at neither moment: {foreign}"
    vault = rig.vault()
    for object_id, record in shown.items():
        moments = [side[object_id] for side in held if object_id in side]
        state = (record["folder_id"], record["is_read"], record["subject"])
        assert state in [(m["folderId"], m["isRead"], m["subject"] or "") for m in moments]
        await rig._assert_content(vault, record, moments[-1])
    places = [{f["id"]: f["path"] for f in truth["folders"]} for truth in (before, after)]
    for folder in view.folders:
        paths = [side[folder.folder.id] for side in places if folder.folder.id in side]
        assert list(folder.folder.path) in paths, f"{folder.folder.path} is of neither moment"
    assert {r["folder_id"] for r in shown.values()} <= {f.folder.id for f in view.folders}
    assert view.summary.messages == len(shown)
    return len(late - shown.keys())


def _reachable(truth: dict[str, Any]) -> dict[str, dict[str, Any]]:
    folders = {f["id"] for f in truth["folders"] if f["belowRoot"] and not f["search"]}
    return {m["immutableId"]: m for m in truth["messages"] if m["folderId"] in folders}


async def meddle_with_runs(rig: Rig, attacks: int, seed: int) -> Meddled:
    """Change folders at seeded requests of first and of later runs, every way in turn.

    Args:
        rig: A small mailbox; its bucket is emptied now and then.
        attacks: How many runs are meddled with.
        seed: Decides at which requests, and in which order.

    Raises:
        Unfair: A snapshot is not what it must be.
    """
    dice = Random(seed)
    meddled = Meddled()
    ways = [(name, first) for name in CHANGES for first in (True, False)]
    dice.shuffle(ways)
    for number, (name, first) in enumerate(islice(cycle(ways), attacks)):
        at = dice.randint(1, LENGTH[first])
        await change_during_run(rig, name, at, number, first=first, meddled=meddled)
        rig.mutate(op="folder-delete", folder=[f"Projects {number}"], hard=True)
    for snapshot_id, truth in meddled.exact:
        await rig.assert_exact(await rig.view(snapshot_id), truth, content=False)
    return meddled
