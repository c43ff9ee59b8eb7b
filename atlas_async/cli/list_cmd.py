"""``atlas list``: mailboxes, a mailbox's snapshots, a snapshot's folders and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.catalog.reader import FolderView


ENDING: Final = exits.ending(
    (
        "atlas list                                mailboxes that have snapshots",
        "atlas list -m ann@contoso.com             snapshots of a mailbox",
        "atlas list -s 01a1fa37-cc23               folders of a snapshot, and what it lacks",
        "atlas list -s 01a1fa37-cc23 -f Inbox -S   messages of a folder, with subjects",
        "atlas list -s 01a1fa37-cc23 --all --json  the whole mailbox as of then, for a program",
    ),
    (0, 1, 2, 10, 12, 13, 16, 130),
)


def list_backups(
    mailbox: Annotated[
        str | None,
        typer.Option("--mailbox", "-m", metavar="ADDRESS", help="List this mailbox's snapshots."),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            "-s",
            metavar="ID",
            help="List this snapshot; the start of its id will do.",
        ),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(
            "--folder",
            "-f",
            metavar="FOLDER",
            help="With -s: the messages of this folder, by path ('Inbox/Projects'), well-known "
            "name or id.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With -s: the messages of all folders.")
    ] = False,
    subjects: Annotated[
        bool, typer.Option("--subjects", "-S", help="Show subjects. JSON always has them.")
    ] = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """List mailboxes, snapshots or messages.

    Only the bucket is read; Microsoft Graph is not asked.
    """
    if snapshot is None and (folder is not None or everything):
        raise UsageError("-f and --all list a snapshot's messages: name it with -s")
    if folder is not None and everything:
        raise UsageError("-f lists one folder and --all lists all: use one of them")
    for name, value in (("-m", mailbox), ("-s", snapshot), ("-f", folder)):
        if value is not None and not value.strip():
            raise UsageError(f"{name} needs a value that is not blank")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import until_interrupted

        async def listing() -> int:
            address = mailbox.lower() if mailbox else None
            if snapshot is not None:
                await _list_snapshot(session, snapshot, address, folder, everything, subjects)
            elif address is not None:
                await _list_snapshots(session, address)
            else:
                await _list_mailboxes(session)
            return 0

        return await until_interrupted(listing)

    run(common, loaded, work)


async def _list_mailboxes(session: Session) -> None:
    from atlas_async.cli.documents import mailboxes_document
    from atlas_async.cli.tables import mailboxes_table

    found = await session.engine.list_mailboxes()
    if session.terminal.json:
        session.terminal.document(mailboxes_document(session.settings.tenant_id, found))
    elif found:
        session.terminal.show(mailboxes_table(found))
    else:
        session.terminal.remark("no mailbox has a snapshot yet: run 'atlas backup'")


async def _list_snapshots(session: Session, mailbox: str) -> None:
    from atlas_async.cli.documents import snapshots_document
    from atlas_async.cli.tables import snapshots_table

    found = await session.engine.list_snapshots(mailbox)
    if session.terminal.json:
        session.terminal.document(snapshots_document(mailbox, found))
    else:
        session.terminal.show(snapshots_table(found))


async def _list_snapshot(
    session: Session,
    snapshot: str,
    mailbox: str | None,
    folder: str | None,
    everything: bool,
    subjects: bool,
) -> None:
    from atlas_async.cli.snapshot_output import write_snapshot_json, write_snapshot_tables
    from atlas_async.operations.selection import folders_named

    view = await session.engine.open_snapshot(snapshot, mailbox)
    chosen: list[FolderView] | None = None
    if folder is not None:
        named = {f.id for f in folders_named([shown.folder for shown in view.folders], folder)}
        chosen = [shown for shown in view.folders if shown.folder.id in named]
        if not chosen:
            raise UsageError(
                f"the snapshot has no folder {folder!r}",
                hint=f"'atlas list -s {view.summary.snapshot_id}' lists its folders",
            )
    if session.terminal.json:
        await write_snapshot_json(session.terminal, view, chosen, everything)
    else:
        await write_snapshot_tables(session.terminal, view, chosen, everything, subjects)
