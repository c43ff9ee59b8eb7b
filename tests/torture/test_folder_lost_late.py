"""A folder that goes while a run verifies removals takes its messages out of the snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from atlas_async.pipeline.reconcile import Reconciler
from tests.fakes.rig import open_rig


async def test_a_folder_that_the_second_listing_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """I3: what the tree listed anew lacks is looked up too, so no message lies in no folder.

    A message that was found outside the tree leads to the second listing. Folders can have gone
    since the first one, after they were read.
    """
    locate = Reconciler._locate
    async with open_rig() as rig:
        made = rig.mutate(op="folder-create", name="short-lived")
        rig.mutate(op="bulk-create", folder=made["id"], count=3)
        rig.mutate(op="create", folder="inbox", subject="thrown away")
        await rig.back_up_user()
        (thrown,) = [m for m in rig.messages_in("inbox") if m["subject"] == "thrown away"]
        rig.mutate(op="delete", message=thrown["immutableId"])

        async def located(self: Reconciler, candidates: Any) -> dict[str, str | None]:
            found = await locate(self, candidates)
            if made["id"] in self.tree.ids:
                rig.mutate(op="folder-delete", folder=made["id"], hard=True)
            return found

        monkeypatch.setattr(Reconciler, "_locate", located)
        result = await rig.back_up_user()
        assert result.removed == 4
        await rig.assert_exact(await rig.view(), rig.truth())
