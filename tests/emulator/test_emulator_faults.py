"""Faults, throttling, latency, the journal, and the control interface over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import anyio
import anyio.lowlevel
import orjson
import pytest

from atlas_async.emulator import Behaviour, Corpus, CorpusOptions, Emulator, FaultRule
from atlas_async.emulator.pages import PageCache
from tests.fakes.clock import FakeClock
from tests.fakes.graph_probe import Answer, GraphProbe

ADDRESS = "user0000@contoso.com"
INBOX = f"users/{ADDRESS}/mailFolders/inbox"
MESSAGES = f"{INBOX}/messages?$top=5"


async def test_error_rule_fires_as_often_as_told(emulator: Emulator, probe: GraphProbe) -> None:
    """A rule skips, fires its count, and lets the rest pass."""
    emulator.control.add_fault(
        FaultRule(
            path="/mailFolders/inbox$", status=503, code="serviceNotAvailable", after=1, count=2
        )
    )

    answers = [await probe.get(INBOX) for _ in range(5)]

    assert [answer.status for answer in answers] == [200, 503, 503, 200, 200]
    assert answers[1].code == "serviceNotAvailable"
    assert emulator.control.faults()[0]["fired"] == 2


async def test_empty_error_and_retry_after_forms(emulator: Emulator, probe: GraphProbe) -> None:
    """Without a code the body is empty; Retry-After comes as seconds or as a date."""
    emulator.control.add_fault(FaultRule(status=503))
    emulator.control.add_fault(FaultRule(status=429, code="x", retry_after="7"))
    emulator.control.add_fault(FaultRule(status=429, code="x", retry_after="date"))

    answers = [await probe.get(INBOX) for _ in range(3)]

    assert answers[0].raw == b""
    assert answers[1].headers["Retry-After"] == "7"
    assert parsedate_to_datetime(answers[2].headers["Retry-After"]).tzinfo is not None


async def test_rules_match_mailbox_and_method(emulator: Emulator, probe: GraphProbe) -> None:
    """A rule for one mailbox and one method leaves everything else alone."""
    emulator.control.add_fault(FaultRule(mailbox=ADDRESS, method="GET", code="x", count=-1))

    mine = await probe.get(INBOX)
    other = await probe.get(INBOX.replace("0000", "0001"))
    written = await probe.send("POST", f"users/{ADDRESS}/messages", {"subject": "s"})

    assert (mine.status, other.status, written.status) == (503, 200, 201)
    emulator.control.clear_faults()
    assert (await probe.get(INBOX)).status == 200


@pytest.mark.parametrize("action", ["reset", "reset-mid"])
async def test_connections_are_cut(emulator: Emulator, probe: GraphProbe, action: str) -> None:
    """A cut connection is a client error, before or within the body; the next call works."""
    # aiohttp itself repeats a GET once when a kept connection is closed before the answer.
    emulator.control.add_fault(FaultRule(action=action, count=2 if action == "reset" else 1))

    with pytest.raises(aiohttp.ClientError):
        await probe.get(MESSAGES)

    assert (await probe.get(MESSAGES)).status == 200


@pytest.mark.parametrize("action", ["truncate", "garbage", "control"])
async def test_broken_json(emulator: Emulator, probe: GraphProbe, action: str) -> None:
    """Half a body, something else, and control characters are all no JSON, once."""
    emulator.control.add_fault(FaultRule(action=action))

    broken = await probe.get(MESSAGES)
    whole = await probe.get(MESSAGES)

    assert broken.status == 200
    with pytest.raises(orjson.JSONDecodeError):
        _ = broken.body
    assert len(whole.body["value"]) == 5


async def test_redirect_to_another_host(emulator: Emulator, probe: GraphProbe) -> None:
    """A redirect names the place it was told to."""
    emulator.control.add_fault(FaultRule(action="redirect", location="https://evil.example/x"))

    answer = await probe.get(INBOX)

    assert (answer.status, answer.headers["Location"]) == (302, "https://evil.example/x")


async def test_item_errors_hit_one_message(emulator: Emulator, probe: GraphProbe) -> None:
    """A permanent error can be pinned to one message by its path."""
    items = (await probe.get(MESSAGES)).body["value"]
    bad = items[2]["id"]
    rule = FaultRule(path=f"/messages/{bad}", status=500, code="ErrorCorruptData", count=-1)
    emulator.control.add_fault(rule)

    answers = [await probe.get(f"users/{ADDRESS}/messages/{item['id']}") for item in items]

    assert [answer.status for answer in answers] == [200, 200, 500, 200, 200]
    assert answers[2].code == "ErrorCorruptData"


async def test_nonsense_rules_are_refused(emulator: Emulator) -> None:
    """Unknown actions, fields and expressions are errors of the caller."""
    for values in ({"action": "explode"}, {"path": "("}, {"colour": 1}):
        with pytest.raises(ValueError, match=r"unknown|expression"):
            FaultRule.from_json(values)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
async def limited(clock: FakeClock) -> AsyncIterator[tuple[Emulator, GraphProbe]]:
    """An emulator that throttles, on the fake clock."""
    corpus = Corpus(CorpusOptions.plain(mailboxes=2, messages=5, body_bytes=500))
    behaviour = Behaviour(throttle=True)
    async with (
        Emulator(corpus, behaviour=behaviour, clock=clock) as emulator,
        GraphProbe(emulator) as probe,
    ):
        yield emulator, probe


async def _five(probe: GraphProbe, clock: FakeClock) -> list[Answer]:
    answers: list[Answer] = []

    async def one(path: str) -> None:
        answers.append(await probe.get(path))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one, INBOX)
        while clock.sleepers < 4 or not answers:
            await anyio.lowlevel.checkpoint()
        group.start_soon(one, INBOX.replace("0000", "0001"))
        while clock.sleepers < 5:
            await anyio.lowlevel.checkpoint()
        await clock.advance(1.0)
    return answers


async def test_fifth_concurrent_request_is_throttled(
    limited: tuple[Emulator, GraphProbe], clock: FakeClock
) -> None:
    """Of five requests in flight on one mailbox one is refused; other mailboxes go on."""
    emulator, probe = limited
    emulator.control.configure(latency=1.0)

    answers = await _five(probe, clock)

    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == 1
    assert refused[0].code == "ApplicationThrottled"
    assert "MailboxConcurrency" in refused[0].body["error"]["message"]
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert emulator.log.peaks[ADDRESS] == 5


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
async def test_request_window_slides(
    limited: tuple[Emulator, GraphProbe], clock: FakeClock, form: str
) -> None:
    """The scaled window admits 10,000 requests, then refuses until it has slid on."""
    emulator, _ = limited
    emulator.control.configure(retry_after=form)
    throttle = emulator.throttle
    for _ in range(10_000):
        assert throttle.enter("app", "box") is None
        throttle.leave("app", "box")

    refused = throttle.enter("app", "box")
    throttle.leave("app", "box")

    assert refused is not None
    assert refused.status == 429
    assert ("Retry-After" in refused.headers) == (form != "none")
    assert throttle.enter("app", "other") is None
    await clock.advance(599.0)
    assert throttle.enter("app", "box") is not None
    await clock.advance(1.0)
    assert throttle.enter("app", "box") is None


async def test_a_mailbox_can_be_granted_less(
    limited: tuple[Emulator, GraphProbe], clock: FakeClock
) -> None:
    """What is granted per window and at once is a setting."""
    emulator, _ = limited
    emulator.control.configure(mailbox_requests=3, mailbox_concurrent=1, time_scale=0.01)
    throttle = emulator.throttle

    assert throttle.enter("app", "box") is None
    crowded = throttle.enter("app", "box")
    assert crowded is not None
    assert "MailboxConcurrency" in crowded.message
    throttle.leave("app", "box")
    throttle.leave("app", "box")
    assert throttle.enter("app", "box") is None
    throttle.leave("app", "box")
    full = throttle.enter("app", "box")
    throttle.leave("app", "box")
    assert full is not None
    assert "RequestRate" in full.message
    await clock.advance(6.0)
    assert throttle.enter("app", "box") is None


async def test_upload_bytes_are_limited(
    limited: tuple[Emulator, GraphProbe], clock: FakeClock
) -> None:
    """150 MB of writes per five minutes fit into a mailbox, more is refused for a while."""
    emulator, _ = limited
    throttle = emulator.throttle
    assert throttle.upload("app", "box", 149_000_000) is None

    assert throttle.upload("app", "box", 2_000_000) is not None
    await clock.advance(310.0)
    assert throttle.upload("app", "box", 2_000_000) is None


async def test_latency_and_bandwidth_take_clock_time(
    limited: tuple[Emulator, GraphProbe], clock: FakeClock
) -> None:
    """Latency and drip are spent on the emulator's clock."""
    emulator, probe = limited
    emulator.control.configure(throttle=False, compress=False, latency=2.0, bandwidth=1_000)
    before = clock.monotonic()
    answers: list[Answer] = []

    async def fetch() -> None:
        answers.append(await probe.get(MESSAGES))

    async with anyio.create_task_group() as group:
        group.start_soon(fetch)
        while not answers:
            await clock.advance(0.5)
            await anyio.lowlevel.checkpoint()

    assert len(answers[0].body["value"]) == 2
    assert clock.monotonic() - before >= 2.0 + len(answers[0].raw) / 1_000


async def test_rendered_pages_outlive_a_change_of_pace(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept answers are thrown away when what they hold changes, not when only their time does."""
    cleared: list[PageCache] = []

    def clear(cache: PageCache) -> None:
        cleared.append(cache)

    monkeypatch.setattr(PageCache, "clear", clear)
    emulator.control.configure(latency=0.0, throttle=False)
    assert not cleared
    emulator.control.configure(latency=0.0, inline_limit=1_000)
    assert len(cleared) == 1


async def test_the_truth_is_one_moment_while_somebody_writes(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """Messages arrive all the time: the truth has all of those made before some moment."""
    made: list[str] = []
    done = anyio.Event()

    async def write() -> None:
        while not done.is_set():
            change = {"op": "create", "folder": "inbox", "subject": "new"}
            made.append(emulator.control.mutate(ADDRESS, change)["immutableId"])
            await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        for _ in range(5):
            answer = await probe.raw("GET", f"{emulator.url}/_emulator/truth?mailbox={ADDRESS}")
            assert answer.status == 200, answer.raw
            told = {m["immutableId"] for m in answer.body["mailboxes"][0]["messages"]}
            there = [object_id in told for object_id in made]
            assert there == sorted(there, reverse=True)
        done.set()


async def test_control_over_http(emulator: Emulator, probe: GraphProbe) -> None:
    """The same verbs work below /_emulator/ without a token."""

    async def control(method: str, verb: str, body: Any = None) -> Any:
        data = None if body is None else orjson.dumps(body)
        answer = await probe.raw(method, f"{emulator.url}/_emulator/{verb}", data=data)
        assert answer.status == 200, answer.raw
        return answer.body

    made = await control(
        "POST",
        "mutate",
        [{"mailbox": ADDRESS, "op": "bulk-create", "folder": "inbox", "count": 3}],
    )
    truth = await control("GET", f"truth?mailbox={ADDRESS}&content=false")
    ids = {message["immutableId"] for message in truth["mailboxes"][0]["messages"]}
    assert {item["immutableId"] for item in made["results"][0]["messages"]} <= ids

    await control("POST", "faults", {"status": 500, "code": "x"})
    assert (await probe.get(INBOX)).status == 500
    assert (await control("GET", "faults"))["faults"][0]["fired"] == 1
    await control("DELETE", "faults")

    settings = await control("POST", "settings", {"latency": 0, "inline_limit": 10})
    assert settings["inline_limit"] == 10
    _, link = await probe.round(f"{INBOX}/messages/delta")
    await control("POST", "expire-delta", {"mailbox": ADDRESS})
    assert (await probe.get(link)).status == 410
    assert (await control("POST", "revoke-tokens"))["revoked"] == 1
    assert (await probe.get(INBOX)).status == 401

    log = await control("GET", "log")
    assert log["served"][-1]["status"] == 401
    assert log["max_in_flight"][ADDRESS] == 1


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("mutate", {"mailbox": ADDRESS, "op": "explode"}),
        ("mutate", {"mailbox": "nobody", "op": "create"}),
        ("mutate", {"mailbox": ADDRESS, "op": "create"}),
        ("mutate", {"mailbox": ADDRESS, "op": "create", "folder": "nowhere"}),
        ("settings", {"colour": "red"}),
        ("settings", {"latency": "slow"}),
        ("faults", {"action": "explode"}),
    ],
)
async def test_wrong_control_calls_are_400(
    emulator: Emulator, probe: GraphProbe, verb: str, body: dict[str, Any]
) -> None:
    """Mistakes in control calls are explained and change nothing."""
    answer = await probe.raw("POST", f"{emulator.url}/_emulator/{verb}", data=orjson.dumps(body))

    assert answer.status == 400
    assert answer.body["error"]["message"]


async def test_unknown_addresses_are_404(emulator: Emulator, probe: GraphProbe) -> None:
    """What nobody serves is not found, and says so as JSON."""
    for path in ("/", "/elsewhere", "/_emulator/nothing"):
        answer = await probe.raw("GET", emulator.url + path)
        assert (answer.status, answer.code) == (404, "NotFound")
