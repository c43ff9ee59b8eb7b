"""Large attachments and size limits: ranges, resuming, losing answers, expiry, another origin."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio
import pytest

from atlas_async.emulator import Behaviour, Corpus, CorpusOptions, Emulator, FaultRule
from tests.fakes.clock import FakeClock
from tests.fakes.graph_probe import Answer, GraphProbe

ADDRESS = "user0000@contoso.com"
USER = f"users/{ADDRESS}"
DATA = bytes(range(256)) * 12_500
HALF = 2_000_000


@dataclass(frozen=True, slots=True)
class Upload:
    """A message and the upload session opened for it."""

    probe: GraphProbe
    message: str
    url: str
    size: int

    async def put(self, start: int, stop: int, **headers: str) -> Answer:
        """Send a range, as a client does that follows the documentation."""
        span = {"Content-Range": f"bytes {start}-{stop - 1}/{self.size}"}
        return await self.probe.raw("PUT", self.url, data=DATA[start:stop], headers=span | headers)

    async def progress(self) -> Answer:
        """Ask what the session expects next."""
        return await self.probe.raw("GET", self.url)

    async def attached(self) -> list[dict[str, Any]]:
        """Return the message's attachments."""
        answer = await self.probe.get(f"{USER}/messages/{self.message}/attachments")
        value: list[dict[str, Any]] = answer.body["value"]
        return value


async def _message(probe: GraphProbe) -> str:
    made = await probe.send("POST", f"{USER}/mailFolders/inbox/messages", {"subject": "large"})
    return str(made.body["id"])


async def _open(probe: GraphProbe, size: int = len(DATA), **item: Any) -> Upload:
    message = await _message(probe)
    wanted = {"attachmentType": "file", "name": "large.bin", "size": size, **item}
    opened = await probe.send(
        "POST",
        f"{USER}/messages/{message}/attachments/createUploadSession",
        {"AttachmentItem": wanted},
    )
    assert opened.status == 201, opened.raw
    return Upload(probe, message, opened.body["uploadUrl"], size)


async def test_an_authorization_header_is_refused(probe: GraphProbe) -> None:
    """The URL is permission enough; a token for Graph is one for another audience."""
    upload = await _open(probe)

    refused = await upload.put(0, HALF, Authorization=f"Bearer {probe.token}")
    taken = await upload.put(0, HALF)

    assert (refused.status, refused.code) == (401, "InvalidAudienceForResource")
    assert (taken.status, taken.body["nextExpectedRanges"]) == (200, [str(HALF)])
    assert taken.body["@odata.context"].endswith("/AttachmentSessions/$entity")


async def test_ranges_go_on_after_the_token_has_ended(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """Graph refuses an ended token; the session's URL goes on working."""
    upload = await _open(probe)
    await upload.put(0, HALF)
    emulator.control.revoke_tokens()

    refused = await probe.get(f"{USER}/messages/{upload.message}")
    last = await upload.put(HALF, len(DATA))

    assert (refused.status, last.status) == (401, 201)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("", 400),
        ("bytes 0-1999999", 400),
        ("bytes 0-1999998/3200000", 400),
        ("bytes 0-1999999/3200001", 400),
        ("bytes 1200001-3200000/3200000", 400),
        ("bytes 1-2000000/3200000", 416),
    ],
)
async def test_wrong_ranges_are_refused(probe: GraphProbe, header: str, status: int) -> None:
    """Headers that are missing, malformed, of another length or out of order store nothing."""
    upload = await _open(probe)

    answer = await probe.raw(
        "PUT", upload.url, data=DATA[:HALF], headers={"Content-Range": header} if header else {}
    )

    assert answer.status == status
    assert (await upload.progress()).body["nextExpectedRanges"] == ["0-"]


async def test_ranges_that_are_there_already(emulator: Emulator, probe: GraphProbe) -> None:
    """A range sent again is refused, or taken without effect where that is switched on."""
    upload = await _open(probe)
    await upload.put(0, HALF)

    refused = await upload.put(0, HALF)
    emulator.control.configure(resent_ranges=True)
    taken = await upload.put(0, HALF)

    assert (refused.status, taken.status) == (416, 200)
    assert taken.body["nextExpectedRanges"] == [str(HALF)]
    assert (await upload.put(HALF, len(DATA))).status == 201
    (part,) = await upload.attached()
    value = await probe.get(f"{USER}/messages/{upload.message}/attachments/{part['id']}/$value")
    assert hashlib.sha256(value.raw).digest() == hashlib.sha256(DATA).digest()


async def test_a_range_above_the_limit_is_413(emulator: Emulator, probe: GraphProbe) -> None:
    """Ranges have a limit of their own, four megabytes unless it is changed."""
    emulator.control.configure(largest_range=HALF)
    upload = await _open(probe)

    taken, refused = await upload.put(0, HALF), await upload.put(HALF, HALF + HALF // 2)
    emulator.control.configure(largest_range=HALF // 4)
    again = await upload.put(HALF, len(DATA))

    assert (taken.status, refused.status) == (200, 200)
    assert again.status == 413


async def test_a_connection_cut_within_a_range_stores_nothing_of_it(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """After a cut the session expects the beginning of the range that was cut."""
    upload = await _open(probe)
    await upload.put(0, HALF)
    host, _, port = emulator.url.removeprefix("http://").partition(":")
    path = upload.url.removeprefix(emulator.url)
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(DATA) - HALF}\r\n"
        f"Content-Range: bytes {HALF}-{len(DATA) - 1}/{len(DATA)}\r\n\r\n"
    )

    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(head.encode() + DATA[HALF : HALF + 500_000])
    progress = await upload.progress()

    assert progress.body["nextExpectedRanges"] == [str(HALF)]
    assert (await upload.put(HALF, len(DATA))).status == 201
    assert len(await upload.attached()) == 1


async def test_a_last_range_whose_answer_is_lost_is_attached(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """The attachment is there and the session has gone, although the client heard nothing."""
    upload = await _open(probe)
    await upload.put(0, HALF)
    # aiohttp itself repeats a PUT once when a kept connection is closed before the answer.
    emulator.control.add_fault(
        FaultRule(
            action="reset", method="PUT", path="/AttachmentSessions", commit="before", count=2
        )
    )

    with pytest.raises(aiohttp.ClientError):
        await upload.put(HALF, len(DATA))
    emulator.control.clear_faults()

    assert (await upload.progress()).status == 404
    assert [part["name"] for part in await upload.attached()] == ["large.bin"]


async def test_a_middle_range_whose_answer_is_lost_was_taken(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """The progress tells that the range has arrived."""
    upload = await _open(probe)
    emulator.control.add_fault(
        FaultRule(method="PUT", path="/AttachmentSessions", status=503, commit="before")
    )

    answer = await upload.put(0, HALF)

    assert answer.status == 503
    assert (await upload.progress()).body["nextExpectedRanges"] == [str(HALF)]


async def test_a_deleted_session_is_gone(probe: GraphProbe) -> None:
    """DELETE drops the bytes; nothing is attached."""
    upload = await _open(probe)
    await upload.put(0, HALF)

    deleted = await probe.raw("DELETE", upload.url)

    assert deleted.status == 204
    assert (await upload.put(HALF, len(DATA))).status == 404
    assert await upload.attached() == []


@pytest.mark.parametrize("status", [404, 410])
async def test_sessions_end_by_themselves(corpus: Corpus, status: int) -> None:
    """A session ends when it was said to, however much was sent in the meantime."""
    clock = FakeClock()
    behaviour = Behaviour(upload_lifetime=600.0, expired_upload=status, token_lifetime=36_000)
    async with (
        Emulator(corpus, behaviour=behaviour, clock=clock) as emulator,
        GraphProbe(emulator) as probe,
    ):
        upload = await _open(probe)
        before = (await upload.progress()).body["ExpirationDateTime"]
        clock.jump(599)
        first = await upload.put(0, HALF)
        clock.jump(2)
        second = await upload.put(HALF, len(DATA))

    assert first.body["ExpirationDateTime"] == before
    assert (first.status, second.status) == (200, status)


async def test_upload_urls_may_live_on_another_origin(corpus: Corpus) -> None:
    """With their own port, upload URLs answer there and nowhere else, and Graph does not."""
    async with (
        Emulator(corpus, tls=True, behaviour=Behaviour(split_uploads=True)) as emulator,
        GraphProbe(emulator) as probe,
    ):
        upload = await _open(probe)
        elsewhere = upload.url.replace(emulator.upload_url, emulator.url)
        crossed = emulator.graph_url.replace(emulator.url, emulator.upload_url)

        wrong = await probe.raw("GET", elsewhere)
        graph = await probe.raw("GET", f"{crossed}/v1.0/{USER}/messages")
        control = await probe.raw("GET", f"{crossed}/_emulator/truth")
        await upload.put(0, HALF)
        last = await upload.put(HALF, len(DATA))

    assert emulator.upload_url != emulator.url
    assert upload.url.startswith(emulator.upload_url)
    assert (wrong.status, graph.status, control.status) == (404, 404, 404)
    assert last.status == 201
    assert last.headers["Location"].startswith(emulator.upload_url)


async def test_a_message_deleted_meanwhile_takes_no_attachment(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """The last range of an upload to a message that is gone is 404."""
    upload = await _open(probe)
    await upload.put(0, HALF)
    emulator.control.mutate(ADDRESS, {"op": "delete", "message": upload.message, "hard": True})

    answer = await upload.put(HALF, len(DATA))

    assert (answer.status, answer.code) == (404, "ErrorItemNotFound")


async def test_a_message_moved_meanwhile_keeps_its_immutable_id_only(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """A session opened by the id that changes with a move ends with the move; the other goes on."""
    statuses = []
    for prefer in ("", 'IdType="ImmutableId"'):
        made = await probe.send(
            "POST", f"{USER}/mailFolders/inbox/messages", {"subject": "x"}, prefer=prefer
        )
        path = f"{USER}/messages/{made.body['id']}"
        opened = await probe.send(
            "POST",
            f"{path}/attachments/createUploadSession",
            {"AttachmentItem": {"attachmentType": "file", "name": "a", "size": len(DATA)}},
            prefer=prefer,
        )
        upload = Upload(probe, made.body["id"], opened.body["uploadUrl"], len(DATA))
        await upload.put(0, HALF)
        emulator.control.mutate(
            ADDRESS, {"op": "move", "message": made.body["id"], "folder": "archive"}
        )
        statuses.append((await upload.put(HALF, len(DATA))).status)

    assert statuses == [404, 201]


async def test_faults_reach_upload_urls(emulator: Emulator, probe: GraphProbe) -> None:
    """A rule can break ranges; one that is not carried out leaves the session as it was."""
    upload = await _open(probe)
    emulator.control.add_fault(
        FaultRule(method="PUT", path="/AttachmentSessions", status=429, code="x", retry_after="3")
    )

    refused = await upload.put(0, HALF)

    assert (refused.status, refused.headers["Retry-After"]) == (429, "3")
    assert (await upload.progress()).body["nextExpectedRanges"] == ["0-"]


async def test_latency_reaches_upload_urls(corpus: Corpus) -> None:
    """A range takes as long as any other request, and the journal counts its bytes."""
    clock = FakeClock(autojump=True)
    async with (
        Emulator(corpus, behaviour=Behaviour(latency=0.25), clock=clock) as emulator,
        GraphProbe(emulator) as probe,
    ):
        upload = await _open(probe)
        before, counted = len(clock.slept), emulator.log.bytes_received
        await upload.put(0, HALF)

        assert clock.slept[before:] == [0.25]
        assert emulator.log.bytes_received == counted + HALF
        assert list(emulator.log)[-1].received == HALF


async def test_sizes_of_sessions(emulator: Emulator, probe: GraphProbe) -> None:
    """Sessions are for files of three to 150 megabytes, announced with name and size."""
    message = await _message(probe)
    path = f"{USER}/messages/{message}/attachments/createUploadSession"

    async def ask(**item: Any) -> Answer:
        wanted = {"attachmentType": "file", "name": "a", **item}
        return await probe.send("POST", path, {"AttachmentItem": wanted})

    small, smallest = await ask(size=2_999_999), await ask(size=3_000_000)
    largest, beyond = await ask(size=150 << 20), await ask(size=(150 << 20) + 1)
    unsaid, item = await ask(), await ask(size=4_000_000, attachmentType="item")
    emulator.control.configure(smallest_upload=2 << 20)
    lower = await ask(size=2 << 20)

    assert small.code == "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"
    assert beyond.code == "ErrorAttachmentSizeLimitExceeded"
    assert (unsaid.status, item.status) == (400, 400)
    assert [answer.status for answer in (smallest, largest, lower)] == [201, 201, 201]


async def test_the_limit_of_a_post_is_that_of_its_body(probe: GraphProbe) -> None:
    """What base64 makes larger than four megabytes is 413; there is no limit of its own."""
    message = await _message(probe)
    path = f"{USER}/messages/{message}/attachments"

    async def post(size: int) -> Answer:
        content = base64.b64encode(bytes(size)).decode()
        part = {
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": "a",
            "contentBytes": content,
        }
        return await probe.send("POST", path, part)

    taken, refused = await post(3_145_600), await post(3_145_728)

    assert taken.status == 201
    assert (refused.status, refused.code) == (413, "BadRequest")
    assert "4MB" in refused.body["error"]["message"]


async def test_messages_above_the_tenants_limit_are_refused(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """With a message size limit, the write that would pass it fails, a range as well as a POST."""
    emulator.control.configure(message_limit=2_500_000)
    upload = await _open(probe)
    first = await upload.put(0, HALF)
    second = await upload.put(HALF, len(DATA))
    body = {"subject": "x", "body": {"content": "y" * 2_500_001}}
    whole = await probe.send("POST", f"{USER}/messages", body)

    assert first.status == 200
    assert (second.status, second.code) == (400, "ErrorMessageSizeExceeded")
    assert (whole.status, whole.code) == (400, "ErrorMessageSizeExceeded")
    assert await upload.attached() == []


def _throttled(**switches: Any) -> Behaviour:
    return Behaviour(throttle=True, upload_bytes=5_000_000, token_lifetime=36_000, **switches)


@pytest.fixture
def small() -> Corpus:
    """A tenant of two mailboxes with little in them."""
    return Corpus(CorpusOptions(mailboxes=2, messages=10))


@pytest.mark.parametrize(("counted", "again"), [(True, 429), (False, 201)])
async def test_bytes_are_granted_per_mailbox_and_window(
    small: Corpus, counted: bool, again: int
) -> None:
    """Bodies and ranges count together; refused ones too, unless that is switched off."""
    clock = FakeClock()
    behaviour = _throttled(throttled_bytes=counted)
    async with (
        Emulator(small, behaviour=behaviour, clock=clock) as emulator,
        GraphProbe(emulator) as probe,
    ):
        upload = await _open(probe)
        first = await upload.put(0, HALF)
        body = {"subject": "x", "body": {"content": "y" * HALF}}
        posted = await probe.send("POST", f"{USER}/messages", body)
        refused = await upload.put(HALF, len(DATA))
        other = await probe.send("POST", f"{USER.replace('0000', '0001')}/messages", body)
        little = await probe.send("POST", f"{USER}/messages", {"subject": "small"})
        clock.jump(301)
        later = await upload.put(HALF, len(DATA))

    assert [first.status, posted.status, other.status] == [200, 201, 201]
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert little.status == again
    assert later.status == 201


async def test_bytes_without_a_told_length_count(small: Corpus) -> None:
    """A body in chunks is measured as it arrives."""
    async with (
        Emulator(small, behaviour=_throttled(), clock=FakeClock()) as emulator,
        GraphProbe(emulator) as probe,
    ):

        async def pieces(size: int) -> Any:
            yield b'{"subject": "'
            for _ in range(size // 1_000):
                yield b"x" * 1_000
            yield b'"}'

        url = f"{emulator.graph_url}/v1.0/{USER}/messages"
        headers = {"Authorization": f"Bearer {probe.token}", "Content-Type": "application/json"}
        answers = [
            await probe.raw("POST", url, data=pieces(2_000_000), headers=headers) for _ in range(3)
        ]

    assert [answer.status for answer in answers] == [201, 201, 429]


@pytest.mark.parametrize(("counted", "status"), [(True, 429), (False, 201)])
async def test_bytes_of_requests_refused_for_other_reasons_count(
    small: Corpus, counted: bool, status: int
) -> None:
    """A write beyond the concurrency has used up bytes as well, unless that is switched off."""
    behaviour = _throttled(throttled_bytes=counted, mailbox_concurrent=0)
    async with (
        Emulator(small, behaviour=behaviour, clock=FakeClock()) as emulator,
        GraphProbe(emulator) as probe,
    ):
        body = {"subject": "x", "body": {"content": "y" * 3_000_000}}
        early = await probe.send("POST", f"{USER}/messages", body)
        emulator.control.configure(mailbox_concurrent=4)
        later = await probe.send("POST", f"{USER}/messages", body)

    assert (early.status, later.status) == (429, status)
