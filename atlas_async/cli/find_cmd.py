"""``atlas find``: messages by their words, people, attachments, sizes and times."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import choosing, exits, options, tasks
from atlas_async.cli.choosing import Chosen
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.operations.found import FindReport, IndexMode, Match
    from atlas_async.operations.selection import Selection
    from atlas_async.search.query import Query

ENDING: Final = exits.ending(
    (
        "atlas find invoice 4711                     both, anywhere in a message",
        "atlas find 'purchase order' --from bob      words in a row; the last may be a beginning",
        "atlas find --to ann@contoso.com --subject plan --received-from 2026-04-01",
        "atlas find --attachment pdf --larger 5MB -m ann@contoso.com -S",
        "atlas find contract --all-snapshots         what was deleted since, too",
        "atlas find contract --json | atlas read --found -",
    ),
    (0, 1, 2, 10, 12, 13, 16, 130),
)


def find(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORDS]...",
            help="Each in the subject, a name or address, an attachment's name or the body.",
        ),
    ] = None,
    sender: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="TEXT", help="In the sender's name or address."),
    ] = None,
    recipient: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="TEXT", help="In a name or address of To, Cc or Bcc."),
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option("--subject", metavar="TEXT", help="In the subject.")
    ] = None,
    body: Annotated[
        list[str] | None, typer.Option("--body", metavar="TEXT", help="In the body's text.")
    ] = None,
    attachment: Annotated[
        list[str] | None,
        typer.Option("--attachment", metavar="TEXT", help="In an attachment's name."),
    ] = None,
    folder: choosing.Folders = None,
    received_from: choosing.ReceivedFrom = None,
    received_before: choosing.ReceivedBefore = None,
    larger: Annotated[
        str | None,
        typer.Option("--larger", metavar="SIZE", help="At least so large with attachments: 5MB."),
    ] = None,
    smaller: Annotated[
        str | None, typer.Option("--smaller", metavar="SIZE", help="Smaller than that.")
    ] = None,
    has_attachment: Annotated[
        bool,
        typer.Option("--has-attachment", help="With attachments that are no part of the body."),
    ] = False,
    mailbox: choosing.Mailboxes = None,
    snapshot: choosing.Snapshot = None,
    all_snapshots: Annotated[
        bool, typer.Option("--all-snapshots", help="In all snapshots: also what was deleted since.")
    ] = False,
    start_date: choosing.StartDate = None,
    end_date: choosing.EndDate = None,
    limit: Annotated[
        str | None, typer.Option("--limit", metavar="N", help="The newest N matches only.")
    ] = None,
    subjects: Annotated[
        bool, typer.Option("--subjects", "-S", help="Show subjects. JSON always has them.")
    ] = False,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Open messages instead of using the index of words.")
    ] = False,
    update_index: Annotated[
        bool,
        typer.Option("--update-index", help="Bring the index of words up to date, then search."),
    ] = False,
    rebuild_index: Annotated[
        bool, typer.Option("--rebuild-index", help="Make the index of words anew, then search.")
    ] = False,
    drop_index: Annotated[
        bool, typer.Option("--drop-index", help="Delete the index of words, and do nothing else.")
    ] = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Find messages.

    Newest snapshots are searched. All conditions must hold. Case and accents do not matter, and
    a word that is given finds those that begin with it.
    """
    from atlas_async.search.query import Query

    query = Query(
        words=tuple(words or ()),
        sender=tuple(sender or ()),
        recipient=tuple(recipient or ()),
        subject=tuple(subject or ()),
        body=tuple(body or ()),
        attachment=tuple(attachment or ()),
        larger=_bytes("--larger", larger),
        smaller=_bytes("--smaller", smaller),
        has_attachment=has_attachment,
        limit=_number("--limit", limit),
    )
    chosen = Chosen(
        mailbox,
        snapshot,
        start_date=start_date,
        end_date=end_date,
        folders=folder,
        received_from=received_from,
        received_before=received_before,
        every=all_snapshots,
    )
    selection = chosen.selection()
    mailboxes = chosen.addresses() or None
    index = _index_wish(no_index, update_index, rebuild_index, drop_index)
    asks = query != Query(limit=query.limit) or folder or received_from or received_before
    if not asks and index not in {"update", "rebuild", "drop"}:
        raise UsageError("what to look for?", hint="'atlas find --help' lists what can be asked")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        if index == "drop":
            return await _drop(session, mailboxes)
        if index == "rebuild" or not asks:
            code = await _update(
                session, mailboxes, selection, rebuild=index == "rebuild", ends=not asks
            )
            if code or not asks:
                return code
        return await _find(session, query, mailboxes, selection, index, subjects)

    run(common, loaded, work)


def _index_wish(no_index: bool, update: bool, rebuild: bool, drop: bool) -> str:
    wishes = {"none": no_index, "update": update, "rebuild": rebuild, "drop": drop}
    chosen = [name for name, given in wishes.items() if given]
    if len(chosen) > 1:
        raise UsageError(
            "--no-index, --update-index, --rebuild-index and --drop-index exclude each other"
        )
    return chosen[0] if chosen else ""


def _number(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", text.strip()):
        raise UsageError(f"{option} {text[:40]!r} is not a number from 1 on")
    return int(text)


def _bytes(option: str, text: str | None) -> int | None:
    from atlas_async.config.checks import UNITS

    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,15})\s*([a-zA-Z]*)", text.strip())
    unit = UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise UsageError(f"{option} {text[:40]!r} is not a size", hint="give 500KB, 5MB or 5MiB")
    return int(found[1]) * unit


async def _find(
    session: Session,
    query: Query,
    mailboxes: list[str] | None,
    selection: Selection,
    index: str,
    subjects: bool,
) -> int:
    from anyio import to_thread

    from atlas_async.cli.find_output import (
        find_document,
        find_remarks,
        match_document,
        matches_table,
    )
    from atlas_async.cli.interrupt import watched
    from atlas_async.cli.progress_lines import json_line
    from atlas_async.operations.found import newest_first

    terminal = session.terminal
    matches: list[Match] = []

    async def take(match: Match) -> None:
        if terminal.json:
            await to_thread.run_sync(terminal.raw, json_line(match_document(match)) + "\n")
        else:
            matches.append(match)

    report = await watched(
        session.engine,
        session.reporter(tasks.FIND),
        lambda stop: session.engine.find(
            query,
            mailboxes=mailboxes,
            selection=selection,
            index=_mode(index),
            take=take,
            stop=stop,
        ),
        settles=True,
        task=tasks.FIND,
    )
    if terminal.json:
        terminal.document(find_document(report))
        return report.exit_code
    if matches:
        terminal.show(matches_table(newest_first(matches), subjects=subjects))
    _show_unsearched(session, report)
    for remark in find_remarks(report):
        terminal.remark(remark)
    return report.exit_code


def _mode(index: str) -> IndexMode:
    from atlas_async.operations.found import IndexMode

    return {"none": IndexMode.NONE, "update": IndexMode.UPDATE}.get(index, IndexMode.AUTO)


async def _update(
    session: Session,
    mailboxes: list[str] | None,
    selection: Selection,
    *,
    rebuild: bool,
    ends: bool,
) -> int:
    """Bring the index up to date; say what came of it where nothing is searched after."""
    from atlas_async.cli.find_output import find_document
    from atlas_async.cli.interrupt import watched
    from atlas_async.cli.progress_lines import count
    from atlas_async.cli.terminal_text import size, visible

    report = await watched(
        session.engine,
        session.reporter(tasks.FIND),
        lambda stop: session.engine.update_index(
            mailboxes, selection=selection, rebuild=rebuild, stop=stop
        ),
        settles=True,
        task=tasks.FIND,
    )
    if not ends and not report.exit_code:
        return 0
    if session.terminal.json:
        session.terminal.document(find_document(report))
        return report.exit_code
    for notice in report.notices:
        session.terminal.remark(visible(notice))
    _show_unsearched(session, report)
    index = report.index
    session.terminal.show(
        f"{count(index.updated, 'message')} added to the index of words, "
        f"{index.documents} in it, {size(index.size)}"
    )
    return report.exit_code


async def _drop(session: Session, mailboxes: list[str] | None) -> int:
    from atlas_async.cli.interrupt import until_interrupted
    from atlas_async.cli.progress_lines import count
    from atlas_async.cli.terminal_text import size, visible

    dropped = await until_interrupted(lambda: session.engine.drop_index(mailboxes))
    if session.terminal.json:
        boxes = [
            {"mailbox_id": name, "objects": objects, "bytes": removed}
            for name, (objects, removed) in dropped.items()
        ]
        session.terminal.document({"message_type": "summary", "dropped": boxes, "exit_code": 0})
        return 0
    for name, (objects, removed) in dropped.items():
        deleted = f"{count(objects, 'object')} deleted, {size(removed)}"
        session.terminal.show(f"{visible(name)}: {deleted}")
    return 0


def _show_unsearched(session: Session, report: FindReport) -> None:
    from atlas_async.cli.find_output import unsearched_lines

    for line in unsearched_lines(report):
        session.terminal.show(line)
