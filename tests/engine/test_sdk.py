"""The engine embedded: events, several instances, cancellation by the caller, uvloop, public names."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

import atlas_async
from atlas_async.config.secret import Secret
from atlas_async.config.settings import FolderChoice
from atlas_async.errors import (
    ConfigError,
    ConsentError,
    KeyMaterialError,
    ReplicaRefused,
    SnapshotNotFound,
)
from atlas_async.model.events import MailboxFinished, MailboxProgress, MailboxStarted, RunStarted
from atlas_async.model.report import Outcome
from atlas_async.sdk import Atlas
from atlas_async.store.memory import MemoryStore
from tests.fakes.rig import SMALL, USER, open_rig


async def test_events_tell_the_run_in_order() -> None:
    """A listener sees the run start, each mailbox start, progress and its outcome."""
    async with open_rig() as rig:
        report = await rig.backup([USER])
        kinds = [type(event) for event in rig.events]
        assert kinds[0] is RunStarted
        assert kinds[1] is MailboxStarted
        assert kinds[-1] is MailboxFinished
        last = [e for e in rig.events if isinstance(e, MailboxProgress)][-1]
        assert last.done == report.mailboxes[0].messages
        finished = rig.events[-1]
        assert isinstance(finished, MailboxFinished)
        assert finished.result == report.mailboxes[0]


async def test_two_tenants_side_by_side() -> None:
    """Two engines in one process do not know of each other."""
    async with open_rig() as one, open_rig(replace(SMALL, seed=9)) as other:
        async with one.engine() as first, other.engine() as second, anyio.create_task_group() as g:
            g.start_soon(first.backup, [USER])
            g.start_soon(second.backup, [USER])
        for rig in (one, other):
            await rig.assert_exact(await rig.view(), rig.truth())


async def test_caller_cancels_with_its_own_scope() -> None:
    """Cancelling the caller's scope ends the verb at once and leaves the store usable."""
    async with open_rig(replace(SMALL, messages=200)) as rig:
        rig.emulator.control.configure(latency=0.05)
        async with rig.engine() as atlas:
            with anyio.move_on_after(0.15) as scope:
                await atlas.backup([USER])
            assert scope.cancelled_caught
        rig.emulator.control.configure(latency=0.0)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


def test_under_uvloop() -> None:
    """The engine runs under uvloop as it does under asyncio."""

    async def play() -> None:
        async with open_rig() as rig:
            result = await rig.back_up_user()
            assert result.outcome is Outcome.COMPLETE
            await rig.assert_exact(await rig.view(), rig.truth())

    anyio.run(play, backend_options={"use_uvloop": True})


async def test_wrong_passphrase_is_refused_before_anything_is_written() -> None:
    """A wrong passphrase raises before Graph is asked or the store is written (exit 12)."""
    async with open_rig() as rig:
        await rig.back_up_user()
        before = dict(rig.bucket.objects)
        rig.emulator.control.clear_log()
        wrong = replace(rig.settings, passphrase=Secret("wrong"))
        async with Atlas(wrong, store=MemoryStore(rig.bucket)) as atlas:
            with pytest.raises(KeyMaterialError) as caught:
                await atlas.backup([USER])
            assert caught.value.exit_code == 12
            with pytest.raises(KeyMaterialError):
                await atlas.list_mailboxes()
        assert rig.bucket.objects == before
        assert rig.emulator.control.log()["requests"] == 0


async def test_replica_is_refused_without_the_flag() -> None:
    """A bucket marked as a replica takes a backup only when asked to."""
    async with open_rig() as rig:
        await rig.back_up_user()
        await rig.store.put(
            "_meta/replica.marker", b"", md5=bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
        )
        with pytest.raises(ReplicaRefused, match="replica"):
            await rig.back_up_user()
        result = await rig.back_up_user(allow_replica=True)
        assert result.outcome is Outcome.UNCHANGED


async def test_everybody_is_visited_and_those_without_mailbox_are_reported_once() -> None:
    """Shared and room mailboxes are backed up; guests and unlicensed users are listed, not retried."""
    options = replace(SMALL, mailboxes=2, shared=1, rooms=1, equipment=1, guests=3, unlicensed=2)
    async with open_rig(options) as rig:
        report = await rig.backup()
        assert report.exit_code == 0
        outcomes = {r.mailbox_id: r.outcome for r in report.mailboxes}
        without = [m for m, outcome in outcomes.items() if outcome is Outcome.NO_MAILBOX]
        assert len(without) == 5
        assert len(outcomes) - len(without) == 5
        for result in report.mailboxes:
            if result.outcome is Outcome.NO_MAILBOX:
                assert result.graph_requests == 1


async def test_unknown_mailbox_is_missing() -> None:
    """A mailbox asked for by name that does not exist ends with 3, the others are backed up."""
    async with open_rig() as rig:
        report = await rig.backup([USER, "nobody@contoso.com"])
        assert report.exit_code == 3
        assert [r.outcome for r in report.mailboxes] == [Outcome.NO_MAILBOX, Outcome.COMPLETE]
        assert (await rig.backup(["nobody@contoso.com"])).exit_code == 3
        async with rig.engine() as atlas:
            with pytest.raises(SnapshotNotFound, match="nobody"):
                await atlas.list_snapshots("nobody@contoso.com")


async def test_mail_read_alone_is_enough_for_named_mailboxes() -> None:
    """Without User.Read.All a mailbox named by its address is backed up; discovery is refused."""
    async with open_rig() as rig:
        rig.emulator.tenant.app.roles = ("Mail.Read",)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())
        with pytest.raises(ConsentError) as caught:
            await rig.backup()
        assert "User.Read.All" in caught.value.hint


async def test_empty_tenant_is_all_done() -> None:
    """A tenant without users is backed up with nothing to do."""
    options = replace(SMALL, mailboxes=0)
    async with open_rig(options) as rig:
        report = await rig.backup()
        assert report.exit_code == 0
        assert report.mailboxes == ()


async def test_folder_choices() -> None:
    """``-f`` reads one subtree, exclusions leave folders out, recoverable items come on request."""
    async with open_rig() as rig:
        result = await rig.back_up_user(folders=FolderChoice(only=("Inbox",)))
        inbox = rig.folder_id("inbox")
        view = await rig.view()
        assert not view.summary.complete
        below = {f.folder.id for f in view.folders if f.folder.path[0] == "Inbox"}
        shown = {r["folder_id"] async for r in view.messages()}
        assert inbox in shown
        assert shown <= below
        assert result.outcome is Outcome.COMPLETE
        excluded = FolderChoice(exclude_well_known=frozenset({"drafts", "junkemail"}))
        await rig.back_up_user(folders=excluded)
        names = {f.folder.well_known_name for f in (await rig.view()).folders}
        assert not names & {"drafts", "junkemail"}
        await rig.back_up_user()
        await rig.assert_exact(await rig.view(), rig.truth())
        await rig.back_up_user(folders=FolderChoice(recoverable=True))
        recoverable = [
            f
            for f in (await rig.view()).folders
            if f.folder.well_known_name == "recoverableitemsdeletions"
        ]
        assert [f.message_count for f in recoverable] == [SMALL.recoverable_messages]


async def test_backup_without_graph_settings_is_explained() -> None:
    """An instance for reading says what is missing when asked to back up."""
    async with open_rig() as rig:
        settings = replace(rig.settings, graph=None)
        async with Atlas(settings, store=rig.store) as atlas:
            with pytest.raises(ConfigError, match="Graph settings"):
                await atlas.backup([USER])


def test_public_names_are_what_is_documented() -> None:
    """Every public name loads, and ``__all__`` is exactly the lazy table plus the version."""
    assert set(atlas_async.__all__) == set(atlas_async._HOMES) | {"__version__"}
    for name in atlas_async.__all__:
        assert getattr(atlas_async, name) is not None
    with pytest.raises(AttributeError):
        _ = atlas_async.nothing
