"""Stores that fail in passing, for good, or after the fact: I1, I6 and I8 hold over a real server.

What a front server does to a real S3 server stands in ``front``. A full disk under a directory
store and under the spool is in ``tests/badday/test_bad_stores.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from atlas_async.config.settings import Limits, S3Settings
from atlas_async.errors import StoreTransient
from atlas_async.store import s3, s3_http
from tests.fakes import s3_servers
from tests.fakes.canned_s3 import refusal
from tests.fakes.rig import SMALL
from tests.torture import faults
from tests.torture.faults import Case, Field, open_field, trial
from tests.torture.front import S3_TROUBLES, Trouble

LITTLE = replace(SMALL, messages=16, folders=3)
DATA = "/(data|attachments)/"
PATIENT = replace(Limits(), retries=12)
rclone_server = [pytest.mark.real_server, pytest.mark.xdist_group("rclone-torture")]
pytestmark = rclone_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """Run one S3 server for all of these tests; each has a bucket of its own."""
    with s3_servers.rclone(tmp_path_factory.mktemp("rclone")) as settings:
        yield settings


@pytest.fixture
def one_server(server: S3Settings, monkeypatch: pytest.MonkeyPatch) -> S3Settings:
    """Let ``open_field`` use the module's server; a corpus of another seed has another bucket."""
    monkeypatch.setattr(faults, "serving", {"rclone": server})
    return server


def tenant(seed: int) -> Any:
    """Return a tenant with a bucket of its own."""
    return replace(LITTLE, seed=seed)


async def finish(rig: Field) -> None:
    """Assert that without faults all is complete, exact and verified."""
    rig.heal()
    code, outcome, said = await rig.run()
    assert code == 0, (outcome, said)
    assert not await rig.check_exact()
    async with rig.engine() as atlas:
        assert (await atlas.verify()).exit_code == 0


async def strike(rig: Field, *troubles: Trouble) -> tuple[int, str, str]:
    """Run a backup with these troubles in force."""
    assert rig.s3 is not None
    rig.s3.troubles += troubles
    ended = await rig.run()
    assert rig.s3.fired
    return ended


async def test_puts_are_stored_and_their_answers_lost(one_server: S3Settings) -> None:
    """I1, I8: a connection reset after the object was stored costs a try, and no second key."""
    async with open_field(tenant(101), seed=1, store="rclone", limits=PATIENT) as rig:
        key = Trouble("lost", method="PUT", path="dek.enc", count=1)
        code, outcome, said = await strike(rig, key, Trouble("lost", method="PUT", share=0.4))
        assert (code, key.fired) == (0, 1), (outcome, said)
        assert not await rig.check_exact()
        await finish(rig)


async def test_every_put_is_stored_and_no_answer_comes(one_server: S3Settings) -> None:
    """I6: when no PUT is ever acknowledged the run fails and says so; the next one is exact."""
    async with open_field(tenant(102), seed=2, store="rclone") as rig:
        code, _, said = await rig.run()
        assert code == 0, said
        kept = await rig.newest_ids()
        rig.change_everything(1)
        code, _, said = await strike(rig, Trouble("lost", method="PUT", path=DATA))
        assert code == 1
        assert "the connection to the store was lost" in said
        assert "hint: check the store and the network to it" in said
        rig.heal()
        assert not await rig.check_intact(kept)
        await finish(rig)


@pytest.mark.parametrize("op", ["PUT", "GET"])
async def test_a_store_that_fails_for_good(one_server: S3Settings, op: str) -> None:
    """At 100 % of any kind the run ends with 1 and says what to do; nothing is lost (I6).

    However often that happens, the next healthy run is complete and exact.
    """
    async with open_field(tenant(200 + (op == "GET")), seed=3, store="rclone") as rig:
        code, _, said = await rig.run()
        assert code == 0, said
        kept = await rig.newest_ids()
        for number, kind in enumerate(S3_TROUBLES):
            rig.change_everything(number)
            trouble = S3_TROUBLES[kind](1.0)
            trouble.method = op
            code, _, said = await strike(rig, trouble)
            assert code == 1, said
            assert "store could not answer" in said or "connection to the store was lost" in said
            assert "run again: what is stored stays stored" in said
            rig.heal()
            assert not await rig.check_intact(kept)
        await finish(rig)


async def test_a_fifth_of_all_requests_fails(one_server: S3Settings) -> None:
    """At 20 % of every kind, of Graph's requests as well, over a real server, a run is exact."""
    result = await trial(
        Case("everywhere", "mixed", 0.2, 1), tenant(103), store="rclone", limits=PATIENT
    )
    assert result.fired > 30
    assert not result.problems


async def test_slow_down_is_obeyed(one_server: S3Settings) -> None:
    """A SlowDown's ``Retry-After``, as seconds or as a date, is waited for; nonsense is not."""
    date = {"Date": "Mon, 20 Apr 2026 12:00:00 GMT", "Retry_After": "Mon, 20 Apr 2026 12:00:50 GMT"}
    for number, (headers, least) in enumerate(
        [({"Retry_After": "40"}, 40.0), (date, 50.0), ({"Retry_After": "-5"}, 0.0)]
    ):
        async with open_field(tenant(300 + number), seed=1, store="rclone") as rig:
            reply = refusal(503, "SlowDown", **headers)
            slow = Trouble("answer", method="PUT", path=DATA, count=1, reply=reply)
            code, _, said = await strike(rig, slow)
            assert (code, slow.fired) == (0, 1), said
            assert max(rig.clock.slept, default=0.0) >= least  # type: ignore[attr-defined]
            assert rig.clock.monotonic() < least + 60.0
            assert not await rig.check_exact()


async def test_a_slow_down_beyond_patience_is_not_waited_for(one_server: S3Settings) -> None:
    """A store that asks for a day ends the run with 1 at once; the next one is exact."""
    async with open_field(tenant(310), seed=1, store="rclone") as rig:
        reply = refusal(503, "SlowDown", Retry_After="9" * 400)
        code, _, said = await strike(rig, Trouble("answer", method="PUT", path=DATA, reply=reply))
        assert code == 1
        assert "SlowDown" in said
        assert rig.clock.monotonic() < 60.0
        await finish(rig)


@pytest.mark.parametrize("what", ["listing", "object"])
async def test_answers_are_truncated(one_server: S3Settings, what: str) -> None:
    """An answer cut to half its length, well formed for HTTP, is never taken for whole."""
    async with open_field(tenant(320 + len(what)), seed=1, store="rclone") as rig:
        code, _, said = await rig.run()
        assert code == 0, said
        kept = await rig.newest_ids()
        rig.change_everything(2)
        path = "list-type" if what == "listing" else "/catalog/"
        short = Trouble("short", method="GET", path=path, count=2)
        code, outcome, said = await strike(rig, short)
        assert code == 0, (outcome, said)
        rig.heal()
        assert not await rig.check_exact()
        assert not await rig.check_intact(kept)
        await finish(rig)


@pytest.mark.parametrize("kind", ["drip", "flood"])
async def test_answers_that_never_end(
    one_server: S3Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A body that trickles or goes on for ever is ended by the client itself, and asked for anew.

    Once it costs a try; when every answer does it, the command ends with 1 and says so.
    """
    monkeypatch.setattr(s3_http, "READ_SECONDS", 0.3)
    monkeypatch.setattr(s3, "READ_SECONDS", 0.3)
    monkeypatch.setattr(s3, "STREAM_BYTES", 1 << 22)
    limits = replace(Limits(), retries=1)
    number = 330 + len(kind)
    async with open_field(tenant(number), seed=1, store="rclone", limits=limits) as rig:
        listing = Trouble(kind, method="GET", path="list-type", count=1)
        document = Trouble(kind, method="GET", path="/catalog/.*/head", count=1)
        put = Trouble(kind, method="PUT", path=DATA, count=1)
        code, outcome, said = await strike(rig, listing, document, put)
        assert code == 0, (outcome, said)
        assert (listing.fired, put.fired) == (1, 1)
        rig.heal()
        assert not await rig.check_exact()
        code, outcome, said = await strike(rig, Trouble(kind, method="GET"))
        assert (code, outcome) == (1, "StoreTransient")
        assert "did not answer in time" in said or "does not end" in said
        rig.heal()
        page = await rig.plain.list_page("data/")
        assert rig.s3 is not None
        rig.s3.troubles.append(Trouble(kind, method="GET", path=DATA))

        async def stream() -> None:
            # Large objects are read as streams, by another client.
            async with rig.store.open(page.objects[0].key) as reader:
                async for _ in reader:
                    pass

        with pytest.raises(StoreTransient):
            await rig.watched(stream)
        await finish(rig)


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
async def test_the_clock_is_wrong_for_s3(one_server: S3Settings, told: bool) -> None:
    """RequestTimeTooSkewed in the middle of a run ends it with 1 and says how wrong the clock is.

    Or only that it is, where the store does not tell its own time. I6 holds, and once the clock is
    right the next run is exact.
    """
    async with open_field(tenant(340 + told), seed=1, store="rclone") as rig:
        code, _, said = await rig.run()
        assert code == 0, said
        kept = await rig.newest_ids()
        rig.change_everything(4)
        ahead = (rig.clock.now() + timedelta(hours=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"Date": ahead} if told else {}
        reply = refusal(403, "RequestTimeTooSkewed", **headers)
        skewed = Trouble("answer", method="PUT", path=DATA, after=2, reply=reply)
        code, _, said = await strike(rig, skewed)
        assert code == 1
        assert rig.clock.monotonic() < 60.0
        wrong = r"(7199|7200) seconds behind" if told else "too far from"
        assert re.search(f"this machine's clock is {wrong} the store's", said)
        assert "synchronise the clock (NTP)" in said
        rig.heal()
        assert not await rig.check_intact(kept)
        await finish(rig)
