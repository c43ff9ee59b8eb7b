"""Servers that lack an optional part of Graph are read all the same, at a higher price."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.config.settings import Limits
from atlas_async.emulator import FaultRule
from atlas_async.model.report import Outcome
from tests.fakes.clock import FakeClock
from tests.fakes.rig import open_rig

REFUSALS = [
    (404, "ErrorItemNotFound"),
    (404, ""),
    (400, "ErrorInvalidIdMalformed"),
    (400, "BadRequest"),
    (405, "MethodNotAllowed"),
    (405, ""),
    (501, "NotImplemented"),
    (501, ""),
    (500, "InternalServerError"),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
@pytest.mark.parametrize("path", [r"/\$batch$", r"/mailFolders/delta$"])
async def test_missing_optional_parts_do_not_matter(path: str, status: int, code: str) -> None:
    """Without ``$batch``, or without the folder delta, backups are complete and incremental."""
    limits = replace(Limits(), retries=2)
    async with open_rig(limits=limits, clock=FakeClock(autojump=True)) as rig:
        rig.emulator.control.add_fault(FaultRule(path=path, status=status, code=code, count=-1))
        first = await rig.back_up_user()
        assert first.outcome is Outcome.COMPLETE, first
        await rig.assert_exact(await rig.view(), rig.truth())
        rig.mutate(op="folder-create", parent="inbox", name="later")
        rig.mutate(op="create", folder="inbox", subject="later")
        second = await rig.back_up_user()
        assert second.outcome is Outcome.COMPLETE, second
        assert second.stored == 1
        await rig.assert_exact(await rig.view(), rig.truth())
