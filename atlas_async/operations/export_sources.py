"""What an export takes: selections resolved to snapshots that stay the same when it continues."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, cast

from atlas_async.errors import IntegrityError, SnapshotNotFound, UsageError
from atlas_async.export.entries import Shape
from atlas_async.export.forms import ExportForm
from atlas_async.export.layout import Layout, mailbox_tops
from atlas_async.export.reading import MailReader
from atlas_async.export.run import Source
from atlas_async.model.message import dump_json
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import NotStored
from atlas_async.model.source import Folder, JsonObject
from atlas_async.operations.listing import known_mailboxes
from atlas_async.operations.selection import Selected, Selection, select
from atlas_async.operations.tenant import Tenant

_HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Taken:
    """One selection, resolved: with its own words, and what it means.

    Args:
        selection: As it was given.
        selected: What it means.
        folders: Those that are written, parents first: empty ones too where folders were meant,
            and none but those of its messages where it names messages.
    """

    selection: Selection
    selected: Selected
    folders: tuple[Folder, ...]

    @property
    def snapshot_ids(self) -> list[str]:
        """The ids of its snapshots, oldest first."""
        return [summary.snapshot_id for summary in self.selected.snapshots]


@dataclass(slots=True)
class Sources:
    """All that an export takes.

    Args:
        taken: The selections.
        layouts: Of every mailbox, the paths of its folders.
        items: The same, ready to be read.
        notes: Sentences for a person.
        left_out: Mailboxes whose snapshot cannot be read.
        many: Whether every mailbox has a directory of its own.
    """

    taken: list[Taken]
    layouts: dict[str, Layout]
    items: list[Source]
    notes: list[str]
    left_out: list[tuple[str, IntegrityError]]
    many: bool


def fingerprint(
    tenant_id: str, selections: Sequence[Selection], form: ExportForm, *, originals: bool
) -> str:
    """Return what tells one export from another: who continues one must mean the same."""
    every = [to_json(selection) for selection in selections]
    text = dump_json([tenant_id, every, form.value, originals])
    return hashlib.sha256(text).hexdigest()


def to_json(selection: Selection) -> JsonObject:
    """Return a selection for a state file."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(selection).items()
        if value not in (None, ())
    }


def from_json(values: JsonObject) -> Selection:
    """Return what ``to_json`` gave."""
    fields = dict(values)
    for name in ("at", "made_from", "made_before", "received_from", "received_before"):
        if name in fields:
            fields[name] = datetime.fromisoformat(fields[name])
    for name in ("folders", "messages"):
        fields[name] = tuple(fields.get(name, ()))
    return Selection(**fields)


async def expanded(tenant: Tenant, selections: Sequence[Selection]) -> list[Selection]:
    """Return the selections with those of every mailbox made into one for each.

    Raises:
        SnapshotNotFound: There is no mailbox at all.
    """
    await tenant.open_for_reading()
    found: list[Selection] = []
    for selection in selections:
        if selection.mailbox is not None or selection.snapshot is not None:
            found.append(selection)
            continue
        mailbox_ids = await known_mailboxes(tenant)
        if not mailbox_ids:
            msg = "the bucket has no snapshots"
            raise SnapshotNotFound(msg, where=tenant.store.name, hint="run `atlas backup` first")
        found += [replace(selection, mailbox=mailbox_id) for mailbox_id in mailbox_ids]
    return found


async def resolve(
    tenant: Tenant,
    selections: Sequence[Selection],
    *,
    form: ExportForm,
    originals: bool,
    many: bool,
) -> Sources:
    """Find what every selection means.

    Args:
        tenant: Where.
        selections: One or more for each mailbox.
        form: How messages are written.
        originals: Whether original MIME is taken where there is one.
        many: Whether every mailbox gets a directory of its own, and one that lacks what is asked
            for is left out with a note instead of ending all.

    Raises:
        SnapshotNotFound, UsageError, IntegrityError: As ``select``; of several mailboxes, where
            none has what was asked for, what it came to with the first.
    """
    sources = Sources([], {}, [], [], [], many)
    refused: list[SnapshotNotFound | UsageError] = []
    for selection in selections:
        try:
            selected = await select(tenant, selection)
        except (SnapshotNotFound, UsageError) as error:
            if not many:
                raise
            refused.append(error)
            sources.notes.append(f"{selection.mailbox}: left out: {error}")
        except IntegrityError as error:
            if not many:
                raise
            sources.left_out.append((selection.mailbox or "", error))
        else:
            folders = await _written_folders(selected, selection)
            sources.taken.append(Taken(selection, selected, folders))
            sources.notes += [f"{selected.mailbox_id}: {note}" for note in selected.notes]
    sources.notes = list(dict.fromkeys(sources.notes))
    if not sources.taken and not sources.left_out:
        raise refused[0]
    mailbox_ids = list(dict.fromkeys(taken.selected.mailbox_id for taken in sources.taken))
    tops = mailbox_tops(mailbox_ids) if many or len(mailbox_ids) > 1 else {}
    parts = Counter(taken.selected.mailbox_id for taken in sources.taken)
    owners: dict[str, dict[bytes, int]] = {}
    for number, taken in enumerate(sources.taken):
        mailbox_id = taken.selected.mailbox_id
        layout = sources.layouts.setdefault(mailbox_id, Layout(form, tops.get(mailbox_id, "")))
        every = taken.selected.folders
        named = [taken.selected.folder_path(folder.id) for folder in every]
        layout.add(every, named, made={folder.id for folder in taken.folders})
        rows = partial(_rows, taken.selected)
        if parts[mailbox_id] > 1:  # otherwise nothing is kept of the messages
            of_mailbox = owners.setdefault(mailbox_id, {})
            rows = partial(_own_rows, taken.selected, of_mailbox, number)
        sources.items.append(_source(taken.selected, layout, rows, form, originals=originals))
    return sources


async def _written_folders(selected: Selected, selection: Selection) -> tuple[Folder, ...]:
    if not selection.messages:
        return selected.chosen_folders
    ids = {record["folder_id"] async for record in selected.messages()}
    return tuple(folder for folder in selected.chosen_folders if folder.id in ids)


def _source(
    selected: Selected,
    layout: Layout,
    rows: Callable[[], AsyncGenerator[MessageRecord, None]],
    form: ExportForm,
    *,
    originals: bool,
) -> Source:
    snapshot_id = selected.snapshot.snapshot_id
    return Source(
        mailbox_id=selected.mailbox_id,
        snapshot_id=snapshot_id,
        records=rows,
        names=selected.folder_path,
        reader=MailReader(selected.vault, form, originals=originals),
        shape=Shape(form, layout, selected.mailbox_id, snapshot_id),
        layout=layout,
    )


def _rows(selected: Selected) -> AsyncGenerator[MessageRecord, None]:
    """Return the rows as what they are, a generator, so that it can be closed."""
    return cast("AsyncGenerator[MessageRecord, None]", selected.messages())


async def _own_rows(
    selected: Selected, owners: dict[bytes, int], number: int
) -> AsyncGenerator[MessageRecord, None]:
    """Yield the rows of a selection that no earlier one of the mailbox has.

    Args:
        selected: What the selection means.
        owners: Which selection a message is written for, by a hash of its id. All selections of a
            mailbox share it, and every pass over them keeps to what the first one found.
        number: The selection.
    """
    async with aclosing(_rows(selected)) as rows:
        async for record in rows:
            if owners.setdefault(_hash(record["object_id"]), number) == number:
                yield record


def _hash(object_id: str) -> bytes:
    name = object_id.encode("utf-8", "surrogatepass")
    return hashlib.sha256(name).digest()[:_HASH_BYTES]


def pinned(taken: Taken, now: datetime) -> Selection:
    """Return a selection that will mean the same when snapshots have been added."""
    selection = taken.selection
    if not selection.ranged:
        return replace(
            selection, mailbox=taken.selected.mailbox_id, snapshot=taken.snapshot_ids[-1], at=None
        )
    before = now if selection.made_before is None else min(selection.made_before, now)
    return replace(selection, made_before=before)


async def lacking(taken: Taken) -> list[NotStored]:
    """Return what was never stored of what a selection means.

    Raises:
        IntegrityError: The ledger is damaged, or missing.
    """
    entries = await taken.selected.not_stored()
    named = taken.selection.messages
    if not named:
        return list(entries)
    return [entry for entry in entries if entry.object_id.startswith(named)]
