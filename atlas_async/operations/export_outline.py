"""What an export has before it: its folders as a tree, its messages counted, its name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from atlas_async.errors import IntegrityError
from atlas_async.export.forms import ExportForm
from atlas_async.export.names import safe_name
from atlas_async.export.report import ExportedFolder, ExportFailure, Tally
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import Folder
from atlas_async.operations.export_sources import Sources

_NAME_BYTES: Final = 120


def folders(sources: Sources, tally: Tally) -> list[ExportedFolder]:
    """Return the counts of every folder, empty ones too, in the order of the trees."""
    found: dict[str, ExportedFolder] = {}
    for taken in sources.taken:
        selected = taken.selected
        for folder in _as_a_tree(taken.folders):
            key = f"{selected.mailbox_id}\0{folder.id}"
            messages, size = tally.folders.get(key, (0, 0))
            names = selected.folder_path(folder.id)
            found[key] = ExportedFolder(selected.mailbox_id, names, messages, size)
    return list(found.values())


def _as_a_tree(folders: Sequence[Folder]) -> list[Folder]:
    """Return folders so that those below each follow it, as people read a tree."""
    ids = {folder.id for folder in folders}
    below: dict[str, list[Folder]] = {}
    for folder in folders:
        below.setdefault(folder.parent_id if folder.parent_id in ids else "", []).append(folder)
    ordered: list[Folder] = []
    left = below.get("", [])[::-1]
    while left:
        folder = left.pop()
        ordered.append(folder)
        left += below.get(folder.id, [])[::-1]
    return ordered


async def counted(sources: Sources, tally: Tally) -> int:
    """Count what there is, as far as the snapshots can be read; what cannot is a failure."""
    rows = 0
    for item in sources.items:
        try:
            async for record in item.records():
                rows += 1
                tally.count(item.folder_key(record), _stored_size(record))
                tally.attachments += len(record.get("attachments", ()))
        except IntegrityError as error:
            tally.fail(
                ExportFailure(
                    item.mailbox_id,
                    "",
                    "snapshot",
                    item.snapshot_id,
                    error.message,
                    is_missing=False,
                )
            )
    return rows


def _stored_size(record: MessageRecord) -> int:
    attachments = record.get("attachments", ())
    return record["size_bytes"] + sum(a["content_bytes"] or a["size_bytes"] for a in attachments)


def default_path(sources: Sources, form: ExportForm) -> Path:
    """Return a name made of the mailbox and the newest snapshot's day, in the working directory."""
    mailboxes = {taken.selected.mailbox_id for taken in sources.taken}
    moments = [taken.selected.snapshot.created_at for taken in sources.taken]
    day = max(moments, default="")[:10] or datetime.fromtimestamp(0, UTC).date().isoformat()
    who = mailboxes.pop() if len(mailboxes) == 1 else f"{len(mailboxes)}-mailboxes"
    ending = ".zip" if form is ExportForm.EML else f"-{form.value}"
    return Path(f"atlas-{safe_name(who, most=_NAME_BYTES)}-{day}{ending}")
