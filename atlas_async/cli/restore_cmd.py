"""``atlas restore``: mail from snapshots back into Microsoft 365."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import choosing, exits, options, tasks
from atlas_async.cli.choosing import Chosen
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.config.settings import GraphSettings
    from atlas_async.model.restoring import RestoreOptions
    from atlas_async.operations.restore import RestoreWish

_COMMON: Final = frozenset({"tenant", "config", "json", "quiet", "log_level", "debug"})
BESIDE_JOBS: Final = _COMMON | {"jobs", "undo", "mailbox"}
BESIDE_UNDO: Final = BESIDE_JOBS | {"target_config", "dry_run", "lock_wait"}
"""Parameters that say something where no mail is chosen; all others do not."""

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
    context: typer.Context,
    mailbox: choosing.Mailboxes = None,
    snapshot: choosing.Snapshot = None,
    at: choosing.At = None,
    start_date: choosing.StartDate = None,
    end_date: choosing.EndDate = None,
    folder: choosing.Folders = None,
    subtree: choosing.Subtree = True,
    received_from: choosing.ReceivedFrom = None,
    received_before: choosing.ReceivedBefore = None,
    message: choosing.Messages = None,
    found: choosing.Found = None,
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
    chosen = Chosen(
        mailbox,
        snapshot,
        at,
        start_date,
        end_date,
        folder,
        subtree,
        received_from,
        received_before,
        message,
        found,
    )
    common = Common(tenant, config, json, quiet, log_level, debug)
    if jobs or undo is not None:
        _refuse_choosing(context, undo, jobs)
        _look_back(common, chosen.addresses(), undo, target_config, dry_run, lock_wait)
        return
    how = _options(in_place, root, on_conflict, originals, compare, dry_run)
    wishes = _wishes(chosen, to)
    loaded = common.load({"lock_wait": lock_wait}, need_graph=True)
    target = _target(common, target_config)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched
        from atlas_async.cli.restore_output import show_restores

        reports = await watched(
            session.engine,
            session.reporter(tasks.RESTORE),
            lambda stop: session.engine.restore(wishes, how, target=target, stop=stop),
            settles=True,
            task=tasks.RESTORE,
        )
        return show_restores(session.terminal, reports)

    run(common, loaded, work)


def _refuse_choosing(context: typer.Context, undo: str | None, jobs: bool) -> None:
    """Refuse what would be passed over: a restore is listed, or taken back, as a whole.

    Raises:
        UsageError: Something was given that chooses mail or says how to restore it.
    """
    if jobs and undo is not None:
        raise UsageError("--jobs and --undo exclude each other")
    beside = BESIDE_JOBS if jobs else BESIDE_UNDO
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in beside and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"{parameter.opts[0]} does not go with {'--jobs' if jobs else '--undo'}",
                hint="--jobs lists the restores of a mailbox, --undo takes one back as a whole",
            )


def _look_back(
    common: Common,
    mailboxes: list[str],
    undo: str | None,
    target_config: Path | None,
    dry_run: bool,
    lock_wait: str | None,
) -> None:
    if len(mailboxes) != 1:
        raise UsageError("one mailbox must be named with -m: the one that was restored from")
    (address,) = mailboxes
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
            session.reporter(tasks.UNDO),
            lambda stop: session.engine.undo_restore(
                address, undo, target=target, dry_run=dry_run, stop=stop
            ),
            settles=True,
            task=tasks.UNDO,
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


def _wishes(chosen: Chosen, to: str | None) -> list[RestoreWish]:
    from atlas_async.operations.restore import RestoreWish

    target = (to or "").strip()
    if to is not None and not target:
        raise UsageError("--to needs an address")
    if target and len(chosen.addresses()) > 1:
        raise UsageError("--to goes with one mailbox")
    selections = chosen.selections("restore")
    if not all(selection.mailbox or selection.snapshot for selection in selections):
        raise UsageError(
            "what to restore?", hint="name a mailbox with -m, or a snapshot with -s; 'atlas list'"
        )
    return [RestoreWish(selection, target) for selection in selections]


def _target(common: Common, path: Path | None) -> GraphSettings | None:
    if path is None:
        return None
    return common.load_target(path)
