"""Refusals as Graph words them, for one message or one folder: the mailbox goes on (I4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.emulator.faults import FaultRule
from atlas_async.model.report import Outcome
from tests.fakes.rig import SMALL, Rig, open_rig

BARE = replace(SMALL, attachment_share=0.0, inline_share=0.0, smime_share=0.0)
REFUSALS = pytest.mark.parametrize(
    ("status", "code"), [(403, "ErrorAccessDenied"), (404, "ResourceNotFound")]
)


def refuse(rig: Rig, path: str, status: int, code: str) -> None:
    """Refuse every request for a path, always."""
    rule = FaultRule(path=path, status=status, code=code, message="no", count=-1)
    rig.emulator.control.add_fault(rule)


@REFUSALS
async def test_attachments_refused_for_one_message_are_all_that_is_missing(
    status: int, code: str
) -> None:
    """A rights-managed message costs its attachments, in every run until Graph gives them."""
    async with open_rig(BARE) as rig:
        guarded = rig.mutate(
            op="create",
            folder="inbox",
            subject="rights-managed",
            attachments=[{"name": "a.bin", "size": 9000}],
        )["immutableId"]
        refuse(rig, f"messages/{guarded}/attachments", status, code)
        for _ in range(2):
            result = await rig.back_up_user()
            assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
            assert result.messages == len(rig.reachable())
            assert [(e.kind, e.object_id) for e in result.not_stored] == [("attachment", guarded)]
        rig.emulator.control.clear_faults()
        assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


@REFUSALS
async def test_one_refused_folder_is_all_that_is_missing(status: int, code: str) -> None:
    """The other folders of a mailbox are read although one is refused."""
    async with open_rig(BARE) as rig:
        folder = rig.folder_id("sentitems")
        lost = len(rig.messages_in("sentitems"))
        assert lost
        refuse(rig, f"mailFolders/{folder}/messages", status, code)
        result = await rig.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
        assert result.messages == len(rig.reachable()) - lost
        assert [(e.kind, e.object_id) for e in result.not_stored] == [("folder", folder)]
        rig.emulator.control.clear_faults()
        assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())
