"""Originals in mailbox files: what was read and flagged is with them, and they stay as they are."""

from __future__ import annotations

import hashlib
import mailbox
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas_async.export.forms import ExportForm
from atlas_async.export.line_ends import MboxLines
from atlas_async.export.marked_head import MarkedHead
from tests.export.exports import contents, exported, manifest_of
from tests.export.test_line_ends import rewritten
from tests.fakes.rig import SMALL, open_rig

MARKS = b"Status: RO\r\nX-Status: F\r\n"
LINES = st.lists(
    st.sampled_from(
        [
            b"Subject: x\r\n",
            b"STATUS : O\r\n",
            b"X-Status: AD\r\n",
            b"X-Mozilla-Status: 0008\r\n",
            b" goes on\r\n",
            b"\tgoes on\n",
            b"\r\n",
            b"no header\r\n",
            b"Statusx: y\r\n",
            b"From me\r\n",
            b"Status: end",
            b"x" * 50,
        ]
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A: b\r\nC: d\r\n\r\nStatus: body\r\n", b"A: b\r\nC: d\r\n%s\r\nStatus: body\r\n"),
        (b"Status: O\r\n\tmore\r\nA: b\r\n c\r\n\r\nx", b"A: b\r\n c\r\n%s\r\nx"),
        (b"A: b\nX-STATUS: D\n\nx", b"A: b\n%s\nx"),
        (b"A: b\r\nX-Mozilla-Status: 0009\r\nX-Mozilla-Status2: 0\r\n\r\n", b"A: b\r\n%s\r\n"),
        (b"A: b\r\nno header\r\nStatus: x\r\n", b"A: b\r\n%sno header\r\nStatus: x\r\n"),
        (b"A: b\r\nC: d", b"A: b\r\nC: d\r\n%s"),
        (b"A: b\r\nStatus: O", b"A: b\r\n%s"),
        (b"A: b\r\nno header", b"A: b\r\n%sno header"),
        (b"\r\nbody", b"%s\r\nbody"),
        (b"", b"%s"),
    ],
)
def test_marks_stand_behind_the_headers(before: bytes, after: bytes) -> None:
    """They replace those of the message; nothing else changes, whatever the message is."""
    assert rewritten(MarkedHead(MARKS), [before]) == after % MARKS
    cut = [before[at : at + 1] for at in range(len(before))]
    assert rewritten(MarkedHead(MARKS), cut) == after % MARKS


@given(LINES, st.integers(1, 40))
@example([b"Status: end", b" goes on\r\n"], 3)
def test_readers_find_the_marks_and_nothing_is_lost(lines: list[bytes], size: int) -> None:
    """The first Status that is read is ours, and no line but a mark of the message's is gone."""
    data = b"".join(lines)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    entry = rewritten(MboxLines(b"From x", MarkedHead(MARKS)), pieces)
    assert entry == rewritten(MboxLines(b"From x", MarkedHead(MARKS)), [data])
    rest = entry.removeprefix(b"From x\n")
    if not data.startswith((b" ", b"\t")):  # no parser makes a header of what goes on with nothing
        message = message_from_bytes(rest)
        assert (message.get_all("status"), message.get_all("x-status")) == (["RO"], ["F"])
        assert message["x-mozilla-status"] is None
    bare = rest.replace(MARKS.replace(b"\r\n", b"\n"), b"", 1).rstrip(b"\n")
    was = rewritten(MboxLines(b"From x"), [data]).removeprefix(b"From x\n").rstrip(b"\n")
    gone = iter(was.split(b"\n"))
    assert all(line in gone for line in bare.split(b"\n") if line)


def test_a_header_of_a_mebibyte_is_passed_on() -> None:
    """Nothing waits for its end; the marks are in front of it."""
    pieces = [b"A: b\r\nTo: ", *[b"x" * 300_000] * 4, b"\r\n\r\nbody"]
    out = rewritten(MarkedHead(MARKS), pieces)
    assert out == b"A: b\r\n" + MARKS + b"".join(pieces).removeprefix(b"A: b\r\n")


async def test_mailbox_files_keep_the_state_of_originals(tmp_path: Path) -> None:
    """Read, flagged and draft, small ones and streamed ones; the rest is the original."""
    options = replace(SMALL, messages=25, huge_attachments=1, huge_bytes=1_500_000)
    async with open_rig(options) as rig:
        draft = rig.mutate(op="create", folder="drafts", subject="draft", isDraft=True)
        changed = rig.messages_in("inbox")[:2]
        rig.mutate(op="update", message=changed[0]["immutableId"], patch={"isRead": True})
        patch = {"isRead": False, "flag": {"flagStatus": "flagged"}}
        rig.mutate(op="update", message=changed[1]["immutableId"], patch=patch)
        await rig.back_up_user(mime=True)
        states = {m["immutableId"]: m for m in rig.truth()["messages"]}
        eml = await exported(rig, tmp_path / "eml")
        report = await exported(rig, tmp_path / "boxes", form=ExportForm.MBOX)
    assert report.originals == eml.originals > 20
    singles = {line["object_id"]: (eml.path / line["path"]) for line in manifest_of(eml)}
    held = contents(report.path)
    found = {"R": 0, "F": 0, "T": 0}
    for line in manifest_of(report):
        entry = held[line["path"]][line["offset"] :][: line["size_bytes"]]
        assert hashlib.sha256(entry).hexdigest() == line["sha256"]
        first, _, rest = entry.partition(b"\n")
        assert first.startswith(b"From ")
        head = message_from_bytes(rest)
        (status,) = head.get_all("status", [])
        more = head["x-status"] or ""
        state = states[line["object_id"]]
        wanted = (state["isRead"], state["flag"]["flagStatus"] == "flagged", state["isDraft"])
        assert ("R" in status, "F" in more, "T" in more) == wanted
        for letter, holds in zip(found, wanted, strict=True):
            found[letter] += holds
        marks = f"Status: {status}\n" + (f"X-Status: {more}\n" if more else "")
        original = singles[line["object_id"]].read_bytes().replace(b"\r\n", b"\n")
        bare = rest.replace(marks.encode(), b"", 1).replace(b"\n>From ", b"\nFrom ")
        assert bare.rstrip(b"\n") == original.rstrip(b"\n")
    assert all(found.values())
    assert draft["immutableId"] in singles
    for path in report.path.rglob("*.mbox"):
        box = mailbox.mbox(path, create=False)
        for message in box:
            assert ("R" in message.get_flags()) == ("R" in message["status"])
        box.close()
