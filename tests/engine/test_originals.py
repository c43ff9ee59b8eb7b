"""``--mime`` over a whole engine: what Graph gave is stored, checked, given back and looked after."""

from __future__ import annotations

import email
import email.policy
import hashlib
from dataclasses import replace
from email.message import EmailMessage, Message
from typing import Any

import pytest

from atlas_async.catalog.layout import original_key
from atlas_async.config.secret import Secret
from atlas_async.config.settings import Limits
from atlas_async.emulator.faults import FaultRule
from atlas_async.errors import IntegrityError, PartMissing, SnapshotNotFound
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import Outcome
from atlas_async.operations.verification import VerifyReport
from atlas_async.sdk import Atlas
from tests.fakes.golden import golden_metadata, golden_store
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.fakes.vaults import plant
from tests.torture.cases import open_case

RICH = replace(SMALL, smime_share=0.2, attachment_share=0.4)
BARE = replace(SMALL, messages=10, attachment_share=0.0, inline_share=0.0, smime_share=0.0)
ORIGINALS = f"catalog/{USER}/originals/"
MIME = r"/messages/[^/]+/\$value$"


async def records_of(rig: Rig, snapshot: str | None = None) -> dict[str, MessageRecord]:
    """Return the messages of a snapshot by id."""
    return {r["object_id"]: r async for r in (await rig.view(snapshot)).messages()}


async def original(rig: Rig, object_id: str, **which: str) -> bytes:
    """Read an original through the SDK."""
    async with rig.engine() as atlas, atlas.open_original(object_id, **which) as opened:
        return b"".join([piece async for piece in opened])


async def verified(rig: Rig) -> VerifyReport:
    """Verify everything."""
    async with rig.engine() as atlas:
        return await atlas.verify()


def is_smime(message: dict[str, Any]) -> bool:
    """Tell whether the emulator gives no MIME of a message."""
    return any(part["name"] == "smime.p7m" for part in message["attachments"])


def parsed(data: bytes) -> EmailMessage:
    """Read MIME with the standard library."""
    return email.message_from_bytes(data, policy=email.policy.default)


def _bytes(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


async def test_originals_are_what_graph_gave_and_s_mime_is_whole_without() -> None:
    """Every message but the encrypted ones has its MIME; those have body and attachments, exit 0."""
    async with open_rig(RICH) as rig:
        result = await rig.back_up_user(mime=True)
        truth = rig.truth()
        reachable = rig.reachable()
        messages = {m["immutableId"]: m for m in truth["messages"] if m["immutableId"] in reachable}
        secret = {i for i, m in messages.items() if is_smime(m)}
        assert secret
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert (result.originals_stored, result.originals_refused) == (
            len(messages) - len(secret),
            len(secret),
        )
        assert {refused.object_id for refused in result.refused_originals} == secret
        await rig.assert_exact(await rig.view(), truth)
        for object_id, record in (await records_of(rig)).items():
            if object_id in secret:
                assert record["original_refused"] == "ErrorMimeContentConversionFailed"
                continue
            found = parsed(await original(rig, object_id))
            assert found["Message-ID"] == record["internet_message_id"]
            files = {
                hashlib.sha256(_bytes(part)).hexdigest()
                for part in found.walk()
                if part.get_content_disposition() is not None
            }
            told = messages[object_id]["attachments"]
            assert files == {a["sha256"] for a in told if a["type"].endswith("fileAttachment")}
        paths = [served.path for served in rig.emulator.log if served.path.endswith("/$value")]
        for object_id in secret:
            assert sum(f"messages/{object_id}/$value" in path for path in paths) == 1
        report = await verified(rig)
        assert (report.exit_code, report.originals) == (0, len(rig.keys(ORIGINALS)))
        assert report.checked == report.ok


@pytest.mark.parametrize("status", [405, 500])
async def test_a_refusal_is_one_request_whatever_its_status(status: int) -> None:
    """A 500 with the code of a conversion is not waited out like an outage."""
    async with open_rig(BARE) as rig:
        message = rig.messages_in("inbox")[0]["immutableId"]
        code = "ErrorMimeContentConversionFailed" if status == 500 else "ErrorInvalidRequest"
        rule = FaultRule(path=rf"{message}/\$value", status=status, code=code, count=-1)
        rig.emulator.control.add_fault(rule)
        result = await rig.back_up_user(mime=True)
        assert (result.exit_code, result.originals_refused) == (0, 1)
        assert (await records_of(rig))[message]["original_refused"] == code
        (told,) = rig.emulator.control.faults()
        assert told["fired"] == 1


PASSING = [
    FaultRule(path=MIME, action="reset-mid", count=9),
    FaultRule(path=MIME, action="truncate", count=9),
    FaultRule(path=MIME, action="reset", count=9),
    FaultRule(path=MIME, status=503, count=9),
    FaultRule(path=MIME, status=429, code="ApplicationThrottled", retry_after="1", count=3),
    FaultRule(path=MIME, action="error", status=500, code="", probability=0.4, count=-1),
]


@pytest.mark.parametrize("rule", PASSING, ids=lambda rule: f"{rule.action}-{rule.status}")
async def test_faults_on_the_way_leave_no_half_original(rule: FaultRule) -> None:
    """What is stored is whole; what is not is in the ledger, and got by the next run."""
    async with open_case(replace(RICH, smime_share=0.0), limits=Limits(retries=3)) as case:
        case.emulator.control.add_fault(replace(rule))
        result = await case.back_up_user(mime=True)
        left = len(result.not_stored)
        assert result.exit_code == (3 if left else 0)
        assert {entry.kind for entry in result.not_stored} <= {"original"}
        assert result.originals_stored == result.messages - left
        await case.exact()
        case.heal()
        case.next_day()
        healed = await case.back_up_user(mime=True)
        assert (healed.exit_code, healed.originals_stored) == (0, left)
        for object_id, record in (await case.records()).items():
            data = await original(case, object_id)
            found = parsed(data)
            assert found["Message-ID"] == record["internet_message_id"]
            if found.is_multipart():
                assert data.endswith(f"--{found.get_boundary()}--\r\n".encode())


async def test_a_retry_of_the_ledger_and_giving_up_know_originals() -> None:
    """As any other entry: tried by name, or given up, and then nothing is missing."""
    async with open_rig(BARE, limits=Limits(retries=0)) as rig:
        first, second = (m["immutableId"] for m in rig.messages_in("inbox")[:2])
        rule = FaultRule(path=rf"({first}|{second})/\$value", status=500, code="", count=-1)
        rig.emulator.control.add_fault(rule)
        assert (await rig.back_up_user(mime=True)).exit_code == 3
        async with rig.engine() as atlas:
            assert {e.item.kind for e in await atlas.ledger()} == {"original"}
            given_up = await atlas.find_in_ledger([second])
            await atlas.forget([entry.item.id for entry in given_up], USER)
        assert [e.object_id for e in (await rig.back_up_user()).not_stored] == [first]
        rig.emulator.control.clear_faults()
        async with rig.engine() as atlas:
            report = await atlas.retry_ledger()
            assert report.exit_code == 0
            assert report.mailboxes[0].originals_stored == 1
        records = await records_of(rig)
        assert ("original" in records[first], "original" in records[second]) == (True, False)
        assert (await rig.back_up_user()).exit_code == 0


async def test_reading_says_why_there_is_no_original() -> None:
    """Exit 10 in each case, with another hint."""
    async with open_rig(RICH) as rig:
        await rig.back_up_user()
        plain = next(i for i in await records_of(rig))
        with pytest.raises(SnapshotNotFound, match="no original") as absent:
            await original(rig, plain)
        assert (absent.value.exit_code, "--full" in absent.value.hint) == (10, True)
        await rig.back_up_user(mime=True, full=True)
        records = await records_of(rig)
        refused = next(i for i, r in records.items() if "original_refused" in r)
        with pytest.raises(SnapshotNotFound, match="ErrorMimeContentConversionFailed") as told:
            await original(rig, refused)
        assert "--full" not in told.value.hint
        with pytest.raises(SnapshotNotFound, match="no message"):
            await original(rig, "nobody")


@pytest.mark.parametrize("damage", ["flip", "gone", "foreign"])
async def test_damage_to_an_original_is_told_before_a_byte_is_given(damage: str) -> None:
    """By ``verify`` with its kind, and by reading, which gives nothing at all."""
    async with open_rig(BARE) as rig:
        await rig.back_up_user(mime=True)
        (object_id, record), (_, other) = list((await records_of(rig)).items())[:2]
        key = original_key(USER, record["original"]["checksum"])
        body = rig.bucket.objects[key].body
        if damage == "gone":
            del rig.bucket.objects[key]
        elif damage == "flip":
            await plant(rig.store, key, body[:-1] + bytes([body[-1] ^ 1]))
        else:
            away = original_key(USER, other["original"]["checksum"])
            await plant(rig.store, key, rig.bucket.objects[away].body)
        report = await verified(rig)
        kinds = {"flip": report.damaged, "gone": report.missing, "foreign": report.foreign}
        assert [(f.kind, f.key) for f in kinds[damage]] == [("original", key)]
        assert report.exit_code == 16
        given: list[bytes] = []

        async def read() -> None:
            async with rig.engine() as atlas, atlas.open_original(object_id) as opened:
                async for piece in opened:
                    given.append(piece)  # noqa: PERF401 - what came before the error is kept

        with pytest.raises(PartMissing if damage == "gone" else IntegrityError):
            await read()
        assert given == []


async def test_pruning_keeps_originals_that_are_named_and_removes_the_others() -> None:
    """The original of an older content stays for the older snapshot."""
    async with open_rig(BARE) as rig:
        message = rig.messages_in("inbox")[0]["immutableId"]
        await rig.back_up_user(mime=True)
        rig.mutate(op="update", message=message, patch={"subject": "another subject"})
        await rig.back_up_user(mime=True)
        named = set(rig.keys(ORIGINALS))
        orphan = original_key(USER, "ab" * 32)
        await plant(rig.store, orphan, b"left by a run that was killed")
        async with rig.engine() as atlas:
            report = await atlas.prune(older_than=0)
        assert report.mailboxes[0].keys == [orphan]
        assert set(rig.keys(ORIGINALS)) == named
        assert (await verified(rig)).exit_code == 0
        first = (await rig.view()).summary.snapshot_id
        async with rig.engine() as atlas:
            older = next(s.snapshot_id for s in await atlas.list_snapshots(USER))
        assert older != first
        old, new = await original(rig, message, snapshot=older), await original(rig, message)
        assert (b"another subject" in old, b"another subject" in new) == (False, True)


async def test_the_setting_asks_for_originals_and_the_argument_decides() -> None:
    """A run without argument does as the settings say."""
    async with open_rig(BARE) as rig:
        rig.settings = replace(rig.settings, mime=True)
        assert (await rig.back_up_user(mime=False)).originals_stored == 0
        assert (await rig.back_up_user(full=True)).originals_stored == len(rig.reachable())


async def test_mail_that_atlas_backed_up_has_no_original_and_says_so() -> None:
    """A bucket of Atlas is read as before; there is nothing to open."""
    noted = golden_metadata()
    async with open_rig(BARE) as rig:
        settings = replace(
            rig.settings, tenant_id=noted["tenant_id"], passphrase=Secret(noted["passphrase"])
        )
        async with Atlas(settings, store=golden_store()) as atlas:
            (box, *_) = await atlas.list_mailboxes()
            view = await atlas.open_snapshot(None, box.mailbox_id)
            first = await anext(view.messages())
            assert "original" not in first
            with pytest.raises(SnapshotNotFound, match="no original"):
                async with atlas.open_original(first["object_id"], mailbox=box.mailbox_id):
                    pass
