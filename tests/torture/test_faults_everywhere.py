"""A share of all requests fails everywhere, answers never end, names vanish, clocks jump.

Up to a fifth of everything may fail and a run is complete and exact. When everything fails it ends,
with a documented exit code and words that help; nothing committed is lost (I6), and the next healthy
run is complete and exact. ``python -m tests.torture faults`` is the long form.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import aiohttp
import anyio
import pytest

from atlas_async.config.settings import Limits
from atlas_async.emulator import FaultRule
from atlas_async.graph import decoding, entra_session, transport
from atlas_async.model.events import Event, MailboxProgress
from atlas_async.model.report import Outcome
from atlas_async.pipeline.rounds import CATCH_UP_SECONDS
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.fakes.world import World
from tests.torture import faults
from tests.torture.faults import (
    FULL,
    GRAPH_FAULTS,
    STORE_FAULTS,
    TOKEN_PATH,
    TOKEN_TROUBLES,
    Case,
    Hang,
    before_graph,
    open_field,
    trial,
)
from tests.torture.front import Front, Trouble

LITTLE = replace(SMALL, messages=16, folders=3)
TINY = replace(SMALL, messages=8, folders=2)
PATIENT = replace(Limits(), retries=12)
"""At a fifth a request fails six times in a row once in 16,000, which a test must not meet."""

WORDS = {
    "429": ("kept throttling", "Run again later"),
    "401": ("refused the token", "same cloud and tenant"),
    "reset": ("The connection to Microsoft Graph failed", "Check the network"),
    "trunc": ("broken JSON", "check the proxy"),
    "garbage": ("broken JSON", "check the proxy"),
    "redirect": ("answered with a redirect", "sign-in page"),
    "5": ("Microsoft Graph could not answer", "Run again later"),
}
"""What a person reads when Graph fails in one way, by the beginning of the kind: message, hint."""
TOKEN_WORDS = {
    "503": ("answered with HTTP 503", "Run again later"),
    "429": ("answered with HTTP 429", "Run again later"),
    "refused": ("the client secret has expired", "Create a new client secret"),
    "garbage": ("something that is not JSON", "check the proxy"),
    "reset": ("Entra ID cannot be reached", "Check the network"),
    "cut": ("Entra ID cannot be reached", "Check the network"),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_fifth_of_everything_fails(seed: int) -> None:
    """At 20 % faults of Graph, Entra ID and the store at once two backups in a row are exact."""
    options = replace(LITTLE, mailboxes=2)
    result = await trial(Case("everywhere", "mixed", 0.2, seed), options, limits=PATIENT)
    assert result.exit_code == 0
    assert result.fired > 30
    assert result.retries > 20
    assert not result.problems


@pytest.mark.parametrize("share", [0.5, 0.8])
async def test_most_of_everything_fails(share: float) -> None:
    """Between a fifth and all, a run ends one way or another, and nothing is lost."""
    result = await trial(Case("everywhere", "mixed", share, 5), LITTLE)
    assert result.exit_code in {0, 1, 3, 13, 14}
    assert not result.problems


def words(kind: str) -> tuple[str, str]:
    """Return what is said where Graph fails in this way."""
    return next(said for begin, said in WORDS.items() if kind.startswith(begin))


@pytest.mark.parametrize(
    ("area", "kind"),
    [
        *(("mail", kind) for kind in GRAPH_FAULTS if kind != "stall"),
        *(("graph", kind) for kind in ("429-date", "401", "503-empty", "garbage")),
    ],
)
async def test_all_of_graph_fails(area: str, kind: str) -> None:
    """At 100 % of any kind the run ends with the documented code, and says what to do.

    Of Graph as a whole, or of the mailboxes alone. An earlier snapshot verifies (I6).
    """
    result = await trial(Case(area, kind, 1.0, 1), TINY)
    assert result.exit_code == (14 if kind.startswith("429") else 13 if kind == "401" else 1)
    message, hint = words(kind)
    assert message in result.said
    assert hint in result.said.partition("hint: ")[2]
    assert result.virtual <= Limits().patience + 60.0
    assert not result.problems


@pytest.mark.parametrize("kind", [*STORE_FAULTS, FULL])
async def test_all_of_the_store_fails(kind: str) -> None:
    """At 100 % of any kind the run ends with 1; I6: nothing that was committed is lost."""
    result = await trial(Case("store", kind, 1.0, 1), TINY)
    assert result.exit_code == (0 if kind == "delayed" else 1)
    assert not result.problems


@pytest.mark.parametrize("kind", list(TOKEN_TROUBLES))
async def test_all_of_the_token_endpoint_fails(kind: str) -> None:
    """Without a token the run ends with 13 where the credential is refused, and with 1 elsewhere.

    What is no answer about the credential is never taken for a wrong tenant.
    """
    result = await trial(Case("token", kind, 1.0, 1), TINY)
    assert result.exit_code == (13 if kind == "refused" else 1)
    message, hint = TOKEN_WORDS[kind]
    assert message in result.said
    assert hint in result.said.partition("hint: ")[2]
    assert not result.problems


@pytest.mark.parametrize("kind", ["429-bare", "503-empty", "reset"])
async def test_graph_dies_in_the_middle(kind: str) -> None:
    """When Graph fails for good once pages flow, the run ends, and the next one completes it."""
    limits = replace(Limits(), page_size=5, retries=2)
    async with open_field(LITTLE, seed=1, limits=limits) as rig:
        code, outcome, said = await rig.run()
        assert code == 0, said
        kept = await rig.newest_ids()
        rig.change_everything(1)
        rule = {"count": -1, "after": 4, **GRAPH_FAULTS[kind]}
        rig.emulator.control.add_fault(FaultRule(**rule))
        code, outcome, said = await rig.run()
        assert code in {1, 3, 14}, (outcome, said)
        rig.heal()
        assert not await rig.check_intact(kept)
        code, outcome, said = await rig.run()
        assert code == 0, (outcome, said)
        assert not await rig.check_exact()


async def test_the_watchdog_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch over a trial ends one that waits for nothing, and one that waits over and over."""
    monkeypatch.setattr(faults, "SILENT_SECONDS", 1.0)
    async with open_field(TINY, seed=1) as rig:

        async def over_and_over() -> None:
            while True:
                await rig.clock.sleep(60.0)

        for work in (anyio.sleep_forever, over_and_over):
            with pytest.raises(Hang):
                await rig.watched(work)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge trickles after a third of a second instead of a minute, and length after a megabyte."""
    monkeypatch.setattr(decoding, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(decoding, "LONGEST_BYTES", 1 << 20)
    monkeypatch.setattr(transport, "HEAD_SECONDS", 2.0)
    monkeypatch.setattr(entra_session, "ANSWER_SECONDS", 0.3)


async def run_before(front: Front, rig: Rig, *troubles: Trouble) -> tuple[int, str]:
    """Back the user up with these troubles in force; return the exit code and what is said."""
    front.troubles[:] = troubles
    report = await rig.backup([USER])
    front.troubles.clear()
    (result,) = report.mailboxes
    notes = " ".join(entry.reason for entry in result.not_stored)
    return report.exit_code, f"{result.error} hint: {result.hint} {notes}"


@pytest.mark.parametrize("kind", ["drip", "flood"])
@pytest.mark.usefixtures("impatient")
async def test_graphs_answers_never_end(kind: str) -> None:
    """A body that comes byte by byte, or goes on for ever, is ended by the client itself.

    Once, it costs a try; always, the run ends with 1 and names it.
    """
    limits = replace(Limits(), retries=1, page_size=2)
    async with (
        open_rig(LITTLE, limits=limits, clock=FakeClock(autojump=True)) as rig,
        before_graph(rig) as front,
    ):
        once = [Trouble(kind, path=path, count=1) for path in ("/delta", "/attachments", "/users/")]
        code, said = await run_before(front, rig, *once)
        assert code == 0, said
        assert [trouble.fired for trouble in once] == [1, 1, 1]
        await rig.assert_exact(await rig.view(), rig.truth())
        rig.mutate(op="create", folder="inbox", subject="new")
        code, said = await run_before(front, rig, Trouble(kind, path="/mailFolders"))
        assert code == 1
        assert ("no answer in time" if kind == "drip" else "the answer did not end") in said
        assert "hint: Check the network" in said
        code, said = await run_before(front, rig)
        assert code == 0, said
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("kind", ["drip", "flood"])
@pytest.mark.usefixtures("impatient")
async def test_an_attachment_never_ends(kind: str) -> None:
    """The stream of a large attachment that never ends costs that attachment, and no more."""
    limits = replace(Limits(), retries=1)
    async with (
        open_rig(LITTLE, limits=limits, clock=FakeClock(autojump=True)) as rig,
        before_graph(rig) as front,
    ):
        large = {"name": "large.bin", "size": 600_000, "seed": 7}
        rig.emulator.control.configure(inline_limit=1_000)
        rig.mutate(op="create", folder="inbox", subject="large", attachments=[large])
        code, said = await run_before(front, rig, Trouble(kind, path=r"/\$value"))
        assert code == 3, said
        assert "no answer in time" in said or "did not end" in said
        code, said = await run_before(front, rig)
        assert code == 0, said
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("kind", ["drip", "flood"])
@pytest.mark.usefixtures("impatient")
async def test_entras_answers_never_end(kind: str) -> None:
    """An answer of Entra ID that never ends is given up and asked for again; then the run ends."""
    limits = replace(Limits(), retries=1)
    async with (
        open_rig(LITTLE, limits=limits, clock=FakeClock(autojump=True)) as rig,
        before_graph(rig) as front,
    ):
        code, said = await run_before(front, rig, Trouble(kind, path=TOKEN_PATH))
        assert code == 1
        assert "Entra ID cannot be reached" in said
        code, said = await run_before(front, rig, Trouble(kind, path=TOKEN_PATH, count=1))
        assert code == 0, said
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("lasting", [False, True], ids=["for a while", "for good"])
async def test_a_name_stops_resolving(lasting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name service that fails in the middle of a run is waited out.

    When it stays away the folders not read by then are in the report with the reason (exit 3), and
    the next run completes it.
    """
    monkeypatch.setattr(aiohttp, "TCPConnector", partial(aiohttp.TCPConnector, use_dns_cache=False))
    resolve: Callable[..., Any] = socket.getaddrinfo
    failing = [0]

    def asked(host: Any, *arguments: Any, **named: Any) -> Any:
        if host in {"localhost", b"localhost"} and failing[0] > 0:
            failing[0] -= 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    limits = replace(Limits(), page_size=4)
    async with (
        open_rig(LITTLE, limits=limits, clock=FakeClock(autojump=True)) as rig,
        before_graph(rig) as front,
    ):
        assert rig.settings.graph is not None
        url = f"http://localhost:{front.port}"
        graph = replace(rig.settings.graph, graph_url=url, authority_url=url)
        rig.settings = replace(rig.settings, graph=graph)
        parts = rig.emulator._parts
        assert parts is not None
        parts.world.origin = parts.entra.origin = url
        monkeypatch.setattr(
            Trouble, "strikes", _and_then(Trouble.strikes, failing, 1_000_000 if lasting else 4)
        )
        code, said = await run_before(
            front, rig, Trouble("reset", path="/messages", after=3, count=-1 if lasting else 1)
        )
        assert code == (3 if lasting else 0), said
        if lasting:
            assert "its name cannot be resolved" in said
        failing[0] = 0
        code, said = await run_before(front, rig)
        assert code == 0, said
        await rig.assert_exact(await rig.view(), rig.truth())


def _and_then(strikes: Any, failing: list[int], times: int) -> Any:
    """Return ``strikes`` that makes names vanish once a trouble has struck, for so many lookups."""

    def struck(self: Trouble, *arguments: Any) -> bool:
        found: bool = strikes(self, *arguments)
        if found:
            failing[0] = times
        return found

    return struck


class SteppedClock(FakeClock):
    """A machine whose wall clock is set now and then; monotonic time goes on."""

    def __init__(self) -> None:
        super().__init__(autojump=True)
        self.off = timedelta()

    def now(self) -> datetime:
        return super().now() + self.off


STEPS = {"back": -5.0, "forward": 5.0, "far back": -24.0 * 400, "far forward": 24.0 * 400}


@pytest.mark.parametrize("hours", [STEPS["forward"], STEPS["far back"]])
async def test_the_clock_is_set_during_a_run(hours: float) -> None:
    """A wall clock that is set by hours while a run is on changes nothing that is stored."""
    clock = SteppedClock()
    limits = replace(Limits(), page_size=4)
    async with open_rig(LITTLE, limits=limits, clock=clock) as rig:

        def step(event: Event) -> None:
            if isinstance(event, MailboxProgress):
                clock.off = timedelta(hours=hours) - clock.off  # there and back again

        async with rig.engine() as atlas:
            atlas._listeners.append(step)
            (result,) = (await atlas.backup([USER])).mailboxes
            assert result.outcome is Outcome.COMPLETE, result
            await rig.assert_exact(await rig.view(), rig.truth())
            rig.mutate(op="create", folder="inbox", subject="new")
            rig.emulator.control.add_fault(
                FaultRule(status=429, code="ApplicationThrottled", retry_after="60")
            )
            (result,) = (await atlas.backup([USER])).mailboxes
            assert result.outcome is Outcome.COMPLETE, result
            await rig.assert_exact(await rig.view(), rig.truth())
            assert (await atlas.verify()).exit_code == 0
            assert clock.monotonic() < 600.0


@pytest.mark.parametrize("hours", [STEPS["back"], STEPS["far forward"]])
async def test_the_clock_is_set_between_runs(hours: float) -> None:
    """Snapshots stay in the order in which they were made, and a quiet run stays quiet.

    Wherever the clock goes, and though the head is lost on top of it.
    """
    clock = SteppedClock()
    async with open_rig(LITTLE, clock=clock) as rig:
        made = []
        for number in range(3):
            clock.off = timedelta(hours=hours * number)
            rig.mutate(op="create", folder="inbox", subject=f"day {number}")
            result = await rig.back_up_user()
            assert result.outcome is Outcome.COMPLETE, result
            made.append(result.snapshot_id)
            assert (await rig.view()).summary.snapshot_id == result.snapshot_id
            await rig.assert_exact(await rig.view(), rig.truth())
        clock.off = timedelta()
        assert (await rig.back_up_user()).outcome is Outcome.UNCHANGED
        async with rig.engine() as atlas:
            assert [row.snapshot_id for row in await atlas.list_snapshots(USER)] == made
            assert (await atlas.verify()).exit_code == 0
        del rig.bucket.objects[f"catalog/{USER}/head"]
        assert (await rig.back_up_user()).outcome is Outcome.UNCHANGED
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_mail_that_moves_while_the_clock_goes_back() -> None:
    """A message that moves into a folder already read is found though the clock was set back.

    How long ago a folder was read is not asked of the wall clock.
    """
    world = World()
    clock = SteppedClock()
    world.clock = clock
    late = world.mailbox.add_folder("Late")
    for _ in range(4):
        world.mailbox.add(world.inbox)
    moved, *_ = (world.mailbox.add(late) for _ in range(3))

    async def hook(kind: str, folder: str) -> None:
        if (
            kind == "page"
            and folder == late
            and world.mailbox.messages[moved]["parentFolderId"] == late
        ):
            world.mailbox.move(moved, world.inbox)
            clock.off = timedelta(hours=-3)
            clock.jump(CATCH_UP_SECONDS + 5)

    world.mailbox.hook = hook
    result = await world.back_up(requests_at_once=1)
    assert result.outcome is Outcome.COMPLETE, result
    assert await world.shown() == world.state()
