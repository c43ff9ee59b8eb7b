"""The journal of a restore: what was done is known again, whatever ended the run that did it."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from atlas_async.catalog.vault import Vault
from atlas_async.errors import FormatError, IntegrityError, SnapshotNotFound, StoreTransient
from atlas_async.model.restoring import Conflict, RestoreJob
from atlas_async.restore.job import list_jobs, read_job
from atlas_async.restore.journal import (
    FLUSH_ENTRIES,
    PARTS_HELD,
    Journal,
    kept_journal,
    part_prefix,
    read_parts,
)
from atlas_async.restore.marks import slot_of_mark
from atlas_async.restore.progress import Made, Replaced
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op
from atlas_async.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.world import World

JOB = RestoreJob(
    job_id="0123456789abcdef",
    mailbox_id="",
    target_tenant="t",
    target_id="bob@contoso.com",
    target_user="u",
    snapshots=("s1", "s2"),
    root="Back",
    in_place=False,
    conflict=Conflict.SKIP,
    begun_at="2026-01-01T00:00:00.000Z",
    state="open",
    changed_at="2026-01-01T00:00:00.000Z",
)


@pytest.fixture
def vault() -> Vault:
    """An empty mailbox's objects."""
    return World().vault


def journal_of(vault: Vault, clock: FakeClock | None = None) -> Journal:
    """Return a journal that has read nothing yet."""
    return Journal(vault, replace(JOB, mailbox_id=vault.mailbox_id), clock or FakeClock())


def made(number: int, *, target: str = "", folder: str = "f", complete: bool = True) -> Made:
    """Return a message that was created."""
    return Made(f"job/{number}", target or f"id{number}", folder, number << 32 | 7, 5, complete)


async def test_another_run_knows_what_was_done(vault: Vault) -> None:
    """Messages, folders, what was replaced and what was absent: all of it comes back."""
    journal = journal_of(vault)
    await journal.open()
    journal.made(made(1))
    journal.made(made(2, complete=False))
    journal.made_folder("f1", ("Back", "Inbox"))
    journal.replaced("old", "f", mark="m")
    await journal.intend([("Back",), ("Back", "Inbox")])
    await journal.intend([("Back",)])
    await journal.finish("done")
    again = journal_of(vault)
    await again.open()
    progress = again.progress
    assert slot_of_mark("job/1") in progress.complete
    assert progress.incomplete == {slot_of_mark("job/2"): made(2, complete=False)}
    assert progress.folders == {"f1": ("Back", "Inbox")}
    assert progress.replaced == {"old": Replaced("f", "m")}
    assert progress.absent == {("Back",), ("Back", "Inbox")}
    assert (progress.counts, progress.created) == ({"f": 2}, 2)
    assert progress.fingerprint_of("id1") == 1 << 32 | 7
    assert progress.fingerprint_of("elsewhere") is None
    assert progress.enclosed_of("id1") == 5
    assert await again.target_id_of("job/1") == "id1"
    assert await again.target_id_of("job/9") == ""
    assert (progress.knows("job/2"), progress.knows("job/9")) == (True, False)
    assert [job.job_id for job in await list_jobs(vault)] == [JOB.job_id]


async def test_ids_are_read_where_they_are(vault: Vault) -> None:
    """Not all ids are in memory: the part that names one is read again, and few are kept."""
    journal = journal_of(vault)
    await journal.open()
    for number in range(3 * PARTS_HELD):
        journal.made(made(number))
        await journal.flush()
    again = journal_of(vault)
    await again.load()
    for number in range(3 * PARTS_HELD):
        assert await again.target_id_of(f"job/{number}") == f"id{number}"
    assert len(again._ids) == PARTS_HELD
    again.made(made(1, target="anew"))
    assert await again.target_id_of("job/1") == "anew"


async def test_a_message_made_again_counts_once(vault: Vault) -> None:
    """What was deleted and is made anew, in the same folder or another one, replaces what was."""
    journal = journal_of(vault)
    journal.made(made(1))
    journal.made(made(1))
    assert journal.progress.counts == {"f": 1}
    journal.made(made(1, target="anew", folder="g"))
    assert journal.progress.counts == {"f": 0, "g": 1}


async def test_what_was_taken_back_is_forgotten(vault: Vault) -> None:
    """And what comes after counts again."""
    journal = journal_of(vault)
    await journal.open()
    journal.made(made(1))
    await journal.take_back()
    assert (await read_job(vault, JOB.job_id)).state == "undone"
    assert journal.progress.created == 0
    journal.made(made(2))
    await journal.finish("done")
    again = journal_of(vault)
    await again.load()
    assert (again.progress.created, again.progress.undone) == (1, False)
    assert await again.target_id_of("job/1") == ""
    assert await again.target_id_of("job/2") == "id2"


async def test_parts_are_written_after_a_while_and_when_full(vault: Vault) -> None:
    """Five seconds, or so many entries."""
    clock = FakeClock()
    async with kept_journal(journal_of(vault, clock)) as journal:
        for number in range(FLUSH_ENTRIES):
            journal.made(made(number))
        with anyio.fail_after(5):
            while not [n async for n, _ in read_parts(vault, JOB.job_id)]:
                await anyio.sleep(0.001)
        journal.made(made(FLUSH_ENTRIES))
    assert [len(e) async for _, e in read_parts(vault, JOB.job_id)] == [FLUSH_ENTRIES, 1]


async def test_what_the_body_raises_comes_out_as_it_is(vault: Vault) -> None:
    """And what was done until then is written."""
    async with Expecting(SnapshotNotFound), kept_journal(journal_of(vault)) as journal:
        journal.made(made(1))
        raise SnapshotNotFound("none")
    assert [len(e) async for _, e in read_parts(vault, JOB.job_id)] == [1]


async def test_a_body_that_is_cancelled_is_written_down(vault: Vault) -> None:
    """As with a second Ctrl-C."""
    with anyio.CancelScope() as scope:
        async with kept_journal(journal_of(vault)) as journal:
            journal.made(made(1))
            scope.cancel()
            await anyio.sleep_forever()
    assert [len(e) async for _, e in read_parts(vault, JOB.job_id)] == [1]


async def test_a_part_that_cannot_be_written_ends_the_body() -> None:
    """With the store's own error, and not in a group."""
    world = World()
    fault = Fault(Failure.REFUSED, op=Op.PUT, key="/parts/", times=None)
    vault = world.vault_over(FaultyStore(world.store, [fault], clock=FakeClock()))
    async with Expecting(StoreTransient), kept_journal(journal_of(vault)) as journal:
        for number in range(FLUSH_ENTRIES):
            journal.made(made(number))
        await anyio.sleep_forever()


async def test_an_answer_that_is_lost_writes_the_part_again() -> None:
    """The same number, with what came since: nothing is there twice, and nothing is lost."""
    world = World()
    fault = Fault(Failure.ANSWER_LOST, op=Op.PUT, key="/parts/")
    vault = world.vault_over(FaultyStore(world.store, [fault], clock=FakeClock()))
    journal = journal_of(vault)
    journal.made(made(1))
    with pytest.raises(StoreTransient):
        await journal.flush()
    journal.made(made(2))
    await journal.flush()
    assert [(n, len(e)) async for n, e in read_parts(vault, JOB.job_id)] == [(1, 2)]


async def test_parts_that_are_not_ours_or_broken(vault: Vault) -> None:
    """A stranger's key is passed over; a part of another restore, or a broken one, is told."""
    journal = journal_of(vault)
    await journal.open()
    journal.made(made(1))
    await journal.flush()
    prefix = part_prefix(vault.mailbox_id, JOB.job_id)
    store = vault.store
    assert isinstance(store, MemoryStore)
    objects = store.bucket.objects

    def copy(key: str) -> None:
        stored = objects[f"{prefix}00000001"]
        objects[key] = replace(stored, info=replace(stored.info, key=key))

    copy(f"{prefix}notes.txt")
    copy(f"{prefix}1")
    assert [n async for n, _ in read_parts(vault, JOB.job_id)] == [1]
    other = part_prefix(vault.mailbox_id, "fedcba9876543210")
    copy(f"{other}00000001")
    with pytest.raises(FormatError, match="no part of the restore"):
        [n async for n, _ in read_parts(vault, "fedcba9876543210")]
    document = {
        "format": 1,
        "kind": "restore-part",
        "mailbox_id": vault.mailbox_id,
        "job_id": JOB.job_id,
        "entries": [["message", "only a mark"]],
    }
    await vault.put_document(f"{prefix}00000002", document)
    with pytest.raises(FormatError):
        await journal_of(vault).load()
    stored = objects[f"{prefix}00000001"]
    objects[f"{prefix}00000001"] = replace(stored, body=stored.body[:-1] + b"x")
    with pytest.raises(IntegrityError):
        await journal_of(vault).load()


class Expecting:
    """Expect an error to come out of an asynchronous block, as it is."""

    def __init__(self, kind: type[Exception]) -> None:
        self._raises = pytest.raises(kind)

    async def __aenter__(self) -> None:
        self._raises.__enter__()

    async def __aexit__(self, *error: object) -> bool:
        return bool(self._raises.__exit__(*error))  # type: ignore[arg-type]
