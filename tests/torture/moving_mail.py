"""Mail that a rule moves again and again, and mail whose state is flipped: nothing is stored again.

Content is stored once. Where a message lies and whether it is read is in its record alone, so
moving or flagging ten thousand times stores no object below ``data/`` or ``attachments/``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from atlas_async.emulator import CorpusOptions
from atlas_async.model.report import Outcome
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, open_rig
from tests.torture.instruments import CONTENT, Figures, Meter, content_keys, metered, steady

PLACES: Final = ("inbox", "archive", "sentitems", "junkemail")
FILE: Final = {"name": "report.bin", "size": 60_000}


@dataclass(frozen=True, slots=True)
class Stored:
    """What a run after changes of state put: objects by kind, and bytes read."""

    content: int
    others: int


def _stored(meter: Meter) -> Stored:
    content = len(meter.puts(*CONTENT))
    return Stored(content, len(meter.puts()) - content)


async def moved_by_a_rule(moves: int, runs: int, seed: int) -> Figures:
    """Move one message, and now and then others, with runs in between; every snapshot is exact.

    Raises:
        AssertionError: Content was stored again, or a snapshot is not the mailbox.
    """
    dice = Random(seed)
    clock = FakeClock(autojump=True)
    figures = Figures(f"One message moved {moves:,} times by a rule, {runs} runs in between")
    async with open_rig(SMALL, clock=clock, service_clock=clock) as rig:
        meter = metered(rig)
        async with steady(rig):
            hot = rig.mutate(op="create", folder="inbox", subject="hot", attachments=[FILE])
            hot_id = hot["immutableId"]
            assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
            content = content_keys(rig)
            meter.forget()
            rows = 0
            for run in range(runs):
                rig.emulator.control.configure(return_quirk=bool(dice.getrandbits(1)))
                for _ in range(moves * (run + 1) // runs - moves * run // runs):
                    rig.mutate(op="move", message=hot_id, folder=dice.choice(PLACES))
                rig.mutate(op="bulk-move", folder="inbox", to=dice.choice(PLACES[1:]), count=1)
                rig.mutate(op="bulk-move", folder="archive", to="inbox", count=2)
                clock.jump(3_600)
                result = await rig.back_up_user()
                assert result.outcome is Outcome.COMPLETE, result
                assert (result.stored, result.attachments_stored, result.removed) == (0, 0, 0)
                rows += result.unchanged
                last = run + 1 == runs
                await rig.assert_exact(await rig.view(), rig.truth(), content=last)
            stored = _stored(meter)
            assert stored.content == 0, meter.puts(*CONTENT)
            assert content_keys(rig) == content
            figures.add("runs, each exact", runs)
            figures.add("changed messages seen by the runs", rows)
            figures.add("PUTs of content", stored.content)
            figures.add("PUTs of catalog, manifests and head", stored.others)
    return figures


async def flipped(messages: int, seed: int) -> Figures:
    """Flip the read state of every message, then flag and categorise every one.

    Raises:
        AssertionError: Content was stored, or a snapshot does not show the new or the old state.
    """
    clock = FakeClock(autojump=True)
    options = CorpusOptions.plain(mailboxes=1, messages=messages, body_bytes=400, seed=seed)
    figures = Figures(f"The state of {messages:,} messages flipped, twice")
    async with open_rig(replace(options, folders=2), clock=clock, service_clock=clock) as rig:
        meter = metered(rig)
        async with steady(rig):
            truths = [rig.truth()]
            assert (await rig.back_up_user()).messages == messages
            figures.add("PUTs of content by the first run", _stored(meter).content)
            for flip in ("read state", "flag and categories"):
                for message in truths[-1]["messages"]:
                    patch = (
                        {"isRead": not message["isRead"]}
                        if flip == "read state"
                        else {"flag": {"flagStatus": "flagged"}, "categories": ["Red", "Größe"]}
                    )
                    rig.mutate(op="update", message=message["immutableId"], patch=patch)
                clock.jump(86_400)
                meter.forget()
                result = await rig.back_up_user()
                assert result.outcome is Outcome.COMPLETE, result
                assert (result.unchanged, result.stored) == (messages, 0)
                truths.append(rig.truth())
                stored = _stored(meter)
                assert stored.content == 0
                figures.add(f"{flip}: PUTs of content", stored.content)
                figures.add(f"{flip}: other PUTs", stored.others)
                figures.add(
                    f"{flip}: bytes uploaded per message", result.bytes_uploaded // messages
                )
            async with rig.engine() as atlas:
                listed = await atlas.list_snapshots(truths[0]["address"])
            for summary, truth in zip(listed, truths, strict=True):
                view = await rig.view(summary.snapshot_id)
                await rig.assert_exact(view, truth, content=False)
            figures.add("snapshots, each exact", len(listed))
    return figures
