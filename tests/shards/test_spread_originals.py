"""``--mime`` over several processes: the option goes along, what was refused comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from atlas_async.model.report import MailboxResult
from tests.fakes.yard import FOUR, Watch, open_yard


async def test_several_processes_store_the_originals_that_one_does(
    tmp_path: Path, watch: Watch
) -> None:
    """Mailbox by mailbox the same counts and the same refusals, and each original checked."""
    told: list[list[tuple[Any, ...]]] = []
    for processes in (1, 2):
        async with open_yard(tmp_path / str(processes), replace(FOUR, smime_share=0.3)) as rig:
            report = await rig.spread(processes=processes, mime=True)
            assert report.exit_code == 0
            told.append([_told(result) for result in report.mailboxes])
            async with rig.engine() as atlas:
                checked = await atlas.verify()
            assert checked.exit_code == 0
            assert checked.originals == sum(result.originals_stored for result in report.mailboxes)
    assert len(watch.processes) == 2
    assert told[0] == told[1]
    assert any(refused for *_, refused in told[0])


def _told(result: MailboxResult) -> tuple[Any, ...]:
    refused = sorted((one.object_id, one.code) for one in result.refused_originals)
    assert len(refused) == result.originals_refused
    return result.mailbox_id, result.originals_stored, refused
