"""``atlas restore``: mail from snapshots back into Microsoft 365."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import SnapshotNotFound, UsageError

if TYPE_CHECKING:
    from atlas_async.config.settings import GraphSettings
    from atlas_async.model.restoring import RestoreOptions
    from atlas_async.operations.restore import RestoreWish
    from atlas_async.operations.selection import Selection

ENDING: Final = exits.ending(
    (
        "atlas restore -m ann@contoso.com --dry-run           say what would be created",
        "atlas restore -m ann@contoso.com                     all of it, below a new folder",
        "atlas restore -m ann@contoso.com --at 2026-04-20     as it was on that day",
        "atlas restore -m ann@contoso.com -f Inbox --in-place what is missing, back into Inbox",
        "atlas restore -m ann@contoso.com --to bob@contoso.com",
        "atlas find contract --all-snapshots --json | atlas restore --found - --in-place",
        "atlas restore -m ann@contoso.com --undo latest       remove what it created",
    ),
    (0, 1, 2, 3, 10, 11, 12, 13, 14, 16, 130),
)


def restore(
    mailbox: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", "-m", metavar="ADDRESS", help="Of this mailbox. Repeat for several."
        ),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            "-s",
            metavar="ID",
            help="From this snapshot; the start of its id will do.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="DATE", help="From the newest snapshot of this day, or before it."
        ),
    ] = None,
    start_date: Annotated[
        str | None,
        typer.Option(
            "--start-date", metavar="DATE", help="From all snapshots made from this day on."
        ),
    ] = None,
    end_date: Annotated[
        str | None,
        typer.Option(
            "--end-date", metavar="DATE", help="From all snapshots made until this day's end."
        ),
    ] = None,
    folder: Annotated[
        list[str] | None,
        typer.Option(
            "--folder",
            "-f",
            metavar="FOLDER",
            help="Only this folder and those below it: path, well-known name or id. Repeat.",
        ),
    ] = None,
    subtree: Annotated[
        bool,
        typer.Option("--subtree/--no-subtree", help="With the folders below those of -f, or not."),
    ] = True,
    received_from: Annotated[
        str | None,
        typer.Option("--received-from", metavar="DATE", help="Received on this day or later."),
    ] = None,
    received_before: Annotated[
        str | None,
        typer.Option("--received-before", metavar="DATE", help="Received before this day."),
    ] = None,
    message: Annotated[
        list[str] | None,
        typer.Option(
            "--message", metavar="ID", help="Only this message; the start of its id. Repeat."
        ),
    ] = None,
    found: Annotated[
        str | None,
        typer.Option(
            "--found",
            metavar="FILE",
            help="Only what 'atlas find --json' wrote to FILE; - is standard input.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="ADDRESS", help="Into this mailbox, not the one it was in."),
    ] = None,
    target_config: Annotated[
        Path | None,
        typer.Option(
            "--target-config",
            metavar="FILE",
            help="Into another tenant: its tenant_id, client_id and credential stand in FILE.",
        ),
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Into the folders it was in, not below a new folder."),
    ] = False,
    root: Annotated[
        str | None,
        typer.Option(
            "--root", metavar="NAME", help="Name of the folder that everything goes below."
        ),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            "--on-conflict",
            metavar="POLICY",
            help="Where the folder has the message already: skip, copy or replace.",
        ),
    ] = "skip",
    originals: Annotated[
        bool,
        typer.Option(
            "--originals", help="Create from stored MIME. Graph makes drafts of such messages."
        ),
    ] = False,
    compare: Annotated[
        str,
        typer.Option(
            "--compare",
            metavar="WHAT",
            help="Read back and compare: contents, counts or none.",
        ),
    ] = "contents",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be done; change nothing.")
    ] = False,
    undo: Annotated[
        str | None,
        typer.Option(
            "--undo",
            metavar="RESTORE",
            help="Remove what this restore created, and put back what it replaced; an id, or "
            "latest.",
        ),
    ] = None,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="List the restores that were begun, with their ids.")
    ] = False,
    lock_wait: Annotated[
        str | None,
        typer.Option(
            "--lock-wait",
            metavar="TIME",
            help="Wait so long, such as 90s or 2h, for another restore from the mailbox.",
        ),
    ] = None,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Bring mail back into Microsoft 365.

    Without further options everything of the newest snapshot goes below a folder of its own.
    Running the same restore again creates nothing twice and continues one that was stopped. The
    application needs the permission Mail.ReadWrite, which no other command asks for.
    """
    for option, values in (("-m", mailbox), ("-f", folder), ("--message", message)):
        if any(not value.strip() for value in values or []):
            raise UsageError(f"{option} needs a value that is not blank")
    common = Common(tenant, config, json, quiet, log_level, debug)
    if jobs or undo is not None:
        _look_back(common, mailbox, undo, jobs, target_config, dry_run, lock_wait)
        return
    how = _options(in_place, root, on_conflict, originals, compare, dry_run)
    wishes = _wishes(
        mailbox,
        found,
        to,
        _selection(
            snapshot,
            at,
            start_date,
            end_date,
            folder,
            subtree,
            received_from,
            received_before,
            message,
        ),
    )
    loaded = common.load({"lock_wait": lock_wait}, need_graph=True)
    target = _target(common, target_config)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched
        from atlas_async.cli.restore_output import show_restores

        reports = await watched(
            session.engine,
            session.reporter(),
            lambda stop: session.engine.restore(wishes, how, target=target, stop=stop),
            settles=True,
        )
        return show_restores(session.terminal, reports)

    run(common, loaded, work)


def _look_back(
    common: Common,
    mailboxes: list[str] | None,
    undo: str | None,
    jobs: bool,
    target_config: Path | None,
    dry_run: bool,
    lock_wait: str | None,
) -> None:
    if jobs and undo is not None:
        raise UsageError("--jobs and --undo exclude each other")
    if not mailboxes or len(mailboxes) > 1:
        raise UsageError("one mailbox must be named with -m: the one that was restored from")
    address = mailboxes[0].strip().lower()
    loaded = common.load({"lock_wait": lock_wait}, need_graph=undo is not None)
    target = _target(common, target_config)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import until_interrupted, watched
        from atlas_async.cli.restore_output import show_jobs, show_undo

        if undo is None:
            found = await until_interrupted(lambda: session.engine.restore_jobs(address))
            return show_jobs(session.terminal, address, found)
        report = await watched(
            session.engine,
            session.reporter(),
            lambda stop: session.engine.undo_restore(
                address, undo, target=target, dry_run=dry_run, stop=stop
            ),
            settles=True,
        )
        return show_undo(session.terminal, report)

    run(common, loaded, work)


def _options(
    in_place: bool,
    root: str | None,
    on_conflict: str,
    originals: bool,
    compare: str,
    dry_run: bool,
) -> RestoreOptions:
    from atlas_async.model.restoring import Comparing, Conflict, RestoreOptions

    if in_place and root is not None:
        raise UsageError("--in-place and --root exclude each other")
    if root is not None and not root.strip():
        raise UsageError("--root needs a name that is not blank")
    if on_conflict not in [policy.value for policy in Conflict]:
        raise UsageError(f"--on-conflict {on_conflict[:40]!r} is none of skip, copy, replace")
    if compare not in [what.value for what in Comparing]:
        raise UsageError(f"--compare {compare[:40]!r} is none of contents, counts, none")
    return RestoreOptions(
        in_place=in_place,
        root=(root or "").strip(),
        conflict=Conflict(on_conflict),
        originals=originals,
        comparing=Comparing(compare),
        dry_run=dry_run,
    )


def _selection(
    snapshot: str | None,
    at: str | None,
    start_date: str | None,
    end_date: str | None,
    folders: list[str] | None,
    subtree: bool,
    received_from: str | None,
    received_before: str | None,
    messages: list[str] | None,
) -> Selection:
    from atlas_async.cli.moments import end, last_moment, moment
    from atlas_async.operations.selection import Selection

    ways = [snapshot is not None, at is not None, start_date is not None or end_date is not None]
    if sum(ways) > 1:
        raise UsageError(
            "-s, --at and --start-date or --end-date exclude each other",
            hint="each says which snapshots are restored from",
        )
    return Selection(
        snapshot=snapshot,
        at=last_moment("--at", at),
        made_from=moment("--start-date", start_date),
        made_before=end("--end-date", end_date),
        received_from=moment("--received-from", received_from),
        received_before=moment("--received-before", received_before),
        folders=tuple(folders or ()),
        subtree=subtree,
        messages=tuple(messages or ()),
    )


def _wishes(
    mailboxes: list[str] | None, found: str | None, to: str | None, selection: Selection
) -> list[RestoreWish]:
    from dataclasses import replace

    from atlas_async.cli.found_lines import by_snapshot, read_found
    from atlas_async.operations.restore import RestoreWish

    target = (to or "").strip()
    if to is not None and not target:
        raise UsageError("--to needs an address")
    addresses = list(dict.fromkeys(name.strip().lower() for name in mailboxes or []))
    if found is not None:
        if addresses or selection.snapshot or selection.messages:
            raise UsageError("--found says which messages of which mailboxes: no -m, -s, --message")
        groups = by_snapshot(read_found(found))
        if not groups:
            raise SnapshotNotFound("the search found nothing, so there is nothing to restore")
        return [
            RestoreWish(
                replace(selection, mailbox=mailbox, snapshot=snapshot, messages=tuple(ids)), target
            )
            for (mailbox, snapshot), ids in groups.items()
        ]
    if len(addresses) > 1 and (target or selection.snapshot or selection.messages):
        raise UsageError("--to, -s and --message go with one mailbox")
    if not addresses and selection.snapshot is None:
        raise UsageError(
            "what to restore?", hint="name a mailbox with -m, or a snapshot with -s; 'atlas list'"
        )
    if not addresses:
        return [RestoreWish(selection, target)]
    return [RestoreWish(replace(selection, mailbox=name), target) for name in addresses]


def _target(common: Common, path: Path | None) -> GraphSettings | None:
    if path is None:
        return None
    return common.load_target(path)
