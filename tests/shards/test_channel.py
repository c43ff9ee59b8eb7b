"""Frames between processes: values arrive as they were, secrets pass here and nowhere else."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import uvloop

from atlas_async.config.secret import Secret
from atlas_async.config.settings import (
    ClientCertificate,
    FolderChoice,
    GraphSettings,
    S3Settings,
    Settings,
)
from atlas_async.crypto.envelope import Sealer
from atlas_async.model.events import MailboxProgress, MailboxThrottled
from atlas_async.model.report import MailboxResult, NotStored, Outcome
from atlas_async.model.source import Principal
from atlas_async.pipeline.surroundings import RunOptions
from atlas_async.shards.channel import LENGTH, Channel, FrameError, pack, unpack
from atlas_async.shards.orders import Done, Job, Logged, Ready, Refused, Settle, Take, Told

KEY = bytes(range(32))
SETTINGS = Settings(
    graph=GraphSettings("t", "c", ClientCertificate(Path("/c.pem"), Secret("pfx-s3cret"))),
    storage=S3Settings("http://h:1", access_key="a", secret_key=Secret("s3-s3cret")),
    tenant_id="t",
    passphrase=Secret(""),
    spool_directory=Path("/spool"),
)
LOST = NotStored("message", "M1", "F1", "ErrorCorruptData", "damaged", permanent=True)
VALUES = [
    Take(7, Principal("id", "ann@contoso.com", "Ann \ud83d", account_enabled=True)),
    Settle(),
    Told(
        (
            Ready(),
            Refused("no", "yes"),
            Logged("atlas_async.x", 10, "text"),
            MailboxProgress("a", "Inbox", 1, 2, 3, 4, 5, 6, 7, 8, 9),
            MailboxThrottled("a", 1.5, "mailbox"),
            Done(7, MailboxResult("a", Outcome.PARTIAL, "s", exit_code=3, not_stored=(LOST,))),
        )
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_arrive_as_they_were(value: Take | Settle | Told) -> None:
    """Every kind of order and news survives a frame."""
    frame = pack(value)
    assert LENGTH.unpack(frame[: LENGTH.size]) == (len(frame) - LENGTH.size,)
    assert unpack(frame[LENGTH.size :]) == value


def test_secrets_arrive_and_stay_masked() -> None:
    """A job brings its secrets along; printing it on either side shows none of them (I7)."""
    options = RunOptions(FolderChoice(("Inbox",), frozenset({"drafts"})), full=True)
    job = Job(SETTINGS, Sealer(KEY), options, 2, 30)
    arrived = unpack(pack(job)[LENGTH.size :])
    assert isinstance(arrived, Job)
    assert arrived.settings == SETTINGS
    assert arrived.options == options
    assert arrived.sealer.reveal() == KEY
    assert arrived.sealer.open(job.sealer.seal(b"mail").body) == b"mail"
    for text in (repr(job), repr(arrived)):
        assert "s3cret" not in text
        assert repr(KEY)[2:-1] not in text


@pytest.mark.parametrize("value", [Secret("s3cret"), Sealer(KEY), SETTINGS], ids=type)
def test_nobody_else_pickles_a_secret(value: object) -> None:
    """A plain pickle of a secret, a key, or settings that hold one is refused."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(value)


def test_secrets_are_copied_with_what_holds_them() -> None:
    """Copies of settings keep their secrets, masked."""
    assert copy.deepcopy(SETTINGS) == SETTINGS
    assert copy.copy(Secret("x")) == Secret("x")
    assert "s3cret" not in repr(dataclasses.asdict(SETTINGS))


class Foreign:
    """A class that no frame may name."""


@pytest.mark.parametrize(
    "body",
    [b"", b"nothing", pickle.dumps(Foreign()), pickle.dumps(print), pickle.dumps(socket.socket)],
)
def test_other_frames_are_refused(body: bytes) -> None:
    """What is damaged, or names anything beyond this program's classes, is not loaded."""
    with pytest.raises(FrameError):
        unpack(body)


async def test_large_frames_from_several_tasks_stay_whole() -> None:
    """Frames larger than the socket's buffer, sent at once, arrive one after the other."""
    ours, theirs = socket.socketpair()
    texts = [letter * 1_000_000 for letter in "abc"]
    arrived = []
    async with await Channel.over(theirs) as receiver:
        async with await Channel.over(ours) as sender, anyio.create_task_group() as group:
            for text in texts:
                group.start_soon(sender.send, Told((Refused(text, ""),)))
            for _ in texts:
                told = await receiver.receive()
                assert isinstance(told, Told)
                arrived.append(told.news[0])
        assert await receiver.receive() is None
    assert sorted(news.message for news in arrived if isinstance(news, Refused)) == texts


async def test_an_end_within_a_frame_is_an_end() -> None:
    """A process that dies while it writes leaves no half value behind."""
    ours, theirs = socket.socketpair()
    async with await Channel.over(theirs) as receiver:
        with ours:
            ours.sendall(pack(Settle())[:-3])
        assert [value async for value in receiver] == []
    ours, theirs = socket.socketpair()
    theirs.close()
    async with await Channel.over(ours) as sender:
        with pytest.raises(anyio.BrokenResourceError):
            await sender.send(Settle())


LOOPS = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@LOOPS
def test_sending_to_a_process_that_is_gone(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Is one error, whether its end is noticed by the send or was noticed before."""

    async def send_often(channel: Channel) -> None:
        for _ in range(3):
            await channel.send(Settle())

    async def run() -> None:
        for pause in (0.0, 0.02):
            ours, theirs = socket.socketpair()
            async with await Channel.over(ours) as channel:
                await channel.send(Settle())
                theirs.close()
                await anyio.sleep(pause)
                with pytest.raises(anyio.BrokenResourceError):
                    await send_often(channel)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


@LOOPS
def test_a_frame_that_arrives_as_reading_is_cancelled(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """It is no error of the loop: a stop that meets news leaves no traceback."""
    told: list[str] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["message"]))
        for _ in range(20):
            ours, theirs = socket.socketpair()
            with ours:
                async with (
                    await Channel.over(theirs) as channel,
                    anyio.create_task_group() as tasks,
                ):
                    tasks.start_soon(channel.receive)
                    await anyio.sleep(0.001)
                    ours.sendall(pack(Settle()))
                    tasks.cancel_scope.cancel()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
    assert told == []
