"""An attachment that is there stays in the snapshot, whatever the message's body says of it."""

from __future__ import annotations

from tests.fakes.rig import open_rig


async def test_an_inline_image_that_the_body_no_longer_names() -> None:
    """I3: an image recorded once is asked for again when the message's content changes.

    ``hasAttachments`` is false for inline images, so a body without ``cid:`` says nothing of them.
    """
    image = {"name": "a.png", "size": 700, "seed": 3, "isInline": True, "contentId": "a@b"}
    async with open_rig() as rig:
        made = rig.mutate(
            op="create", folder="inbox", body='<img src="cid:a@b">', attachments=[image]
        )
        await rig.back_up_user()
        change = {"body": {"contentType": "text", "content": "no image is named here"}}
        rig.mutate(op="update", message=made["immutableId"], patch=change)
        await rig.back_up_user()
        view = await rig.view()
        record = await view.find(made["immutableId"])
        assert record is not None
        assert [part["name"] for part in record["attachments"]] == ["a.png"]
        await rig.assert_exact(view, rig.truth())
