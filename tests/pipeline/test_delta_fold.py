"""Whatever happens to a mailbox between runs, every snapshot equals the mailbox at its moment."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.catalog.reader import MailboxReader
from atlas_async.errors import GraphNotFound, GraphThrottled, GraphTransient
from atlas_async.model.report import MailboxResult, Outcome
from atlas_async.pipeline import journal
from atlas_async.pipeline.stop import StopSignal
from tests.fakes.mailbox import FakeMailbox
from tests.fakes.world import World, nothing

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "add",
                "add many",
                "edit",
                "flip",
                "tag",
                "move",
                "move",
                "there and back",
                "delete",
                "new folder",
                "rename folder",
                "drop folder",
                "expire",
                "run",
                "run",
                "full run",
                "stop",
                "crash",
                "throttle once",
                "fail once",
                "folder 404 once",
                "expire mid-run",
            ]
        ),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
    ),
    max_size=40,
)


def change(mailbox: FakeMailbox, what: str, one: int, other: int) -> None:
    """Apply one step to the mailbox."""
    folders = list(mailbox.folders)
    messages = list(mailbox.messages)
    folder = folders[one % len(folders)]
    message = messages[other % len(messages)] if messages else None
    if what == "add":
        mailbox.add(folder)
    elif what == "add many":
        for _ in range(2 + other % 9):
            mailbox.add(folder)
    elif what == "new folder":
        mailbox.add_folder(f"folder {one}", folder)
    elif what == "rename folder":
        mailbox.rename_folder(folder, f"renamed {other}")
    elif what == "expire":
        mailbox.expire(folder)
    elif what == "drop folder" and len(folders) > 1:
        mailbox.drop_folder(folders[1 + one % (len(folders) - 1)])
    elif message is None:
        return
    elif what == "edit":
        mailbox.update(message, subject=f"edited {one}")
    elif what == "flip":
        mailbox.update(message, isRead=not mailbox.messages[message]["isRead"])
    elif what == "tag":
        mailbox.update(message, categories=[f"tag {one % 3}"])
    elif what == "move":
        mailbox.move(message, folder)
    elif what == "there and back":
        home = mailbox.messages[message]["parentFolderId"]
        mailbox.move(message, folder)
        mailbox.move(message, home)
    elif what == "delete":
        mailbox.delete(message)


class Fault:
    """Something that goes wrong once in one run, at the request or PUT of a given number."""

    def __init__(self, world: World, what: str, number: int) -> None:
        self.world = world
        self.what = what
        self.left = number
        self.stop = StopSignal()
        self.scope = anyio.CancelScope()

    def _due(self) -> bool:
        self.left -= 1
        return self.left == -1

    async def request(self, kind: str, object_id: str) -> None:
        """Strike before a request to the mailbox."""
        anywhere = self.what in {"throttle once", "fail once"}
        if self.what == "crash" or (kind != "page" and not anywhere) or not self._due():
            return
        if self.what == "throttle once":
            raise GraphThrottled("throttled for too long", status=429)
        if self.what == "fail once":
            raise GraphTransient("failed too often", status=500)
        if self.what == "folder 404 once":
            raise GraphNotFound("not found", status=404, code="ErrorItemNotFound")
        if self.what == "expire mid-run":
            self.world.mailbox.expire(object_id)
        elif self.what == "stop":
            self.stop.request()

    async def put(self, _key: str) -> None:
        """Strike before a PUT: the process dies, and the object is not written."""
        if self.what == "crash" and self._due():
            self.scope.cancel()

    async def run(self, *, full: bool) -> MailboxResult | None:
        """Run a backup in which it happens; return None when the run did not live to its end."""
        self.world.mailbox.hook = self.request
        result = None
        with self.scope:
            result = await self.world.back_up(full=full, stop=self.stop, before_put=self.put)
        self.world.mailbox.hook = nothing
        return result


FAULTS = {"stop", "crash", "throttle once", "fail once", "folder 404 once", "expire mid-run"}
DONE = {Outcome.COMPLETE, Outcome.UNCHANGED}


async def play(world: World, steps: list[tuple[str, int, int]]) -> None:
    """Play a history and check every snapshot that claims to be complete."""
    for what, one, other in [*steps, ("run", 0, 0)]:
        if what in {"run", "full run"}:
            result = await world.back_up(full=what == "full run")
            assert result.outcome in DONE, result
        elif what in FAULTS:
            number = one % (16 if what == "crash" else 8)
            ended = await Fault(world, what, number).run(full=other % 4 == 0)
            if ended is None or ended.outcome not in DONE:
                continue
        else:
            change(world.mailbox, what, one, other)
            continue
        assert await world.shown() == world.state()
        assert (await world.view()).summary.complete
    for summary in await MailboxReader(world.vault).snapshots():
        shown = await world.shown(summary.snapshot_id)
        if summary.complete:
            assert shown == world.past[summary.snapshot_id]


SHRUNK = [
    pytest.param(
        [("add many", 0, 5), (fault, number, 1), ("add", 0, 0)],
        fault == "crash",
        id=fault,
    )
    for fault, number in (("stop", 1), ("crash", 12), ("throttle once", 3), ("folder 404 once", 1))
]
SHRUNK += [
    pytest.param(
        [("new folder", 0, 0), ("run", 0, 0), ("add", 0, 0), ("move", 1, 0), ("delete", 0, 0)],
        False,
        id="moved and deleted",
    )
]


@pytest.mark.parametrize(("steps", "often"), SHRUNK)
def test_histories_that_once_went_wrong(
    steps: list[tuple[str, int, int]], often: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories that random play found and shrank keep to the same promise."""
    if often:
        monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 2)
    anyio.run(play, World(), steps)


@settings(max_examples=400)
@given(steps=STEPS, quirk=st.booleans(), often=st.booleans())
def test_every_snapshot_is_exact_whatever_happened(
    steps: list[tuple[str, int, int]], quirk: bool, often: bool
) -> None:
    """Random histories and faults: a complete snapshot shows what the mailbox held at its moment.

    The first run in which nothing goes wrong makes everything good.
    """
    with pytest.MonkeyPatch.context() as patch:
        if often:
            patch.setattr(journal, "CHECKPOINT_MESSAGES", 2)
            patch.setattr(journal, "SMALL_RUNS", 3)
        anyio.run(play, World(quirk=quirk), steps)


async def test_objects_are_stored_once_per_content() -> None:
    """A thousand moves of one message store one object (its content never changes)."""
    world = World()
    home = world.inbox
    other = world.mailbox.add_folder("Other")
    message = world.mailbox.add(home)
    await world.back_up()
    for number in range(50):
        world.mailbox.move(message, other if number % 2 == 0 else home)
        result = await world.back_up()
        assert result.stored == 0
        assert result.messages == 1
    assert len([key for key in world.bucket.objects if key.startswith("data/")]) == 1


async def test_new_mail_during_a_run_is_not_lost() -> None:
    """Mail that arrives while a folder is read is in that snapshot or in the next."""
    world = World()
    for _ in range(20):
        world.mailbox.add(world.inbox)
    arrived: list[str] = []

    async def busy(kind: str, _folder_id: str) -> None:
        if kind == "page" and len(arrived) < 3:
            arrived.append(world.mailbox.add(world.inbox))

    world.mailbox.hook = busy
    first = await world.back_up()
    assert first.outcome is Outcome.COMPLETE
    await world.back_up()
    assert len(arrived) == 3
    assert await world.shown() == world.state()


async def test_mail_that_moves_behind_a_long_run_is_in_its_snapshot() -> None:
    """A message that moves from an unread folder into one already read is found before the commit."""
    world = World()
    later = [world.mailbox.add_folder(f"Later {n}") for n in range(8)]
    for folder in later:
        for _ in range(4):
            world.mailbox.add(folder)
    wanderer = world.mailbox.in_folder(later[-1])[0]

    async def slow(kind: str, folder_id: str) -> None:
        if kind != "page":
            return
        await world.clock.advance(20)
        if folder_id == later[4]:
            world.mailbox.move(wanderer, world.inbox)

    world.mailbox.hook = slow
    result = await world.back_up()
    assert result.outcome is Outcome.COMPLETE
    assert await world.shown(result.snapshot_id) == world.state()
