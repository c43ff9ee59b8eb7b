"""Where messages were last, where rows of one slot straddle a border of blocks."""

from __future__ import annotations

import pytest

from atlas_async.catalog import segment as segments
from atlas_async.catalog.segment import Segment, SegmentBuilder
from atlas_async.model.record import Tombstone
from atlas_async.search.locating import _states
from tests.fakes.engine import message_row
from tests.fakes.vaults import MAILBOX


def test_rows_of_one_slot_in_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose slot others share is found in the block before, too."""
    monkeypatch.setattr(segments, "slot_of", lambda _: 7)
    builder = SegmentBuilder()
    builder.add([message_row(object_id="a"), Tombstone(object_id="b", gone=True)])
    builder.add([message_row(object_id="c")])
    segment = Segment(builder.plaintext(MAILBOX), mailbox_id=MAILBOX, where="k")
    wanted = [(7, "a"), (7, "b"), (7, "c"), (7, "d")]
    assert sorted(_states(segment, wanted)) == [("a", True), ("b", False), ("c", True)]
