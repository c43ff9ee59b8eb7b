"""``atlas read``: one message out of a backup, as text or as stored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import AtlasError, IntegrityError, SnapshotNotFound, UsageError

if TYPE_CHECKING:
    from atlas_async.cli.found_lines import FoundMessage
    from atlas_async.operations.reading import MessageContent


ENDING: Final = exits.ending(
    (
        "atlas read AAMkAGI2TG93AAA= -m ann@contoso.com",
        "atlas read AAMkAGI2TG93AAA= -s 01a1fa37-cc23",
        "atlas read AAMkAGI2TG93AAA= --raw > message.json",
        "atlas read AAMkAGI2TG93AAA= --mime > message.eml",
        "atlas find invoice --json | atlas read --found -",
    ),
    (0, 1, 2, 10, 12, 13, 16, 130),
)


def read(
    message: Annotated[
        str | None,
        typer.Argument(metavar="[MESSAGE_ID]", help="The message's id, or the start of it."),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot", "-s", metavar="ID", help="Read it as of this snapshot, not the newest."
        ),
    ] = None,
    mailbox: Annotated[
        str | None,
        typer.Option("--mailbox", "-m", metavar="ADDRESS", help="Look in this mailbox only."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the stored JSON, byte by byte, and nothing else.")
    ] = False,
    mime: Annotated[
        bool,
        typer.Option(
            "--mime", help="Write the original MIME that 'atlas backup --mime' stored, alone."
        ),
    ] = False,
    found: Annotated[
        str | None,
        typer.Option(
            "--found",
            metavar="FILE",
            help="Instead: each message that 'atlas find --json' wrote to FILE; - is standard "
            "input.",
        ),
    ] = None,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Show one message.

    It is checked against its checksum before a byte of it is shown.
    """
    if found is not None:
        if message is not None or snapshot is not None or mailbox is not None or raw or mime:
            raise UsageError(
                "--found says which messages are meant: leave MESSAGE_ID, -s, -m, --raw and "
                "--mime out"
            )
        _read_found(Common(tenant, config, json, quiet, log_level, debug), found)
        return
    if message is None:
        raise UsageError(
            "missing argument MESSAGE_ID, or --found", hint="'atlas list -s ID --all' has ids"
        )
    if not message.strip():
        raise UsageError("MESSAGE_ID must not be blank", hint="'atlas list -s ID --all' has ids")
    if raw and json:
        raise UsageError("--raw writes the stored bytes and --json a document: use one of them")
    if mime and (raw or json):
        raise UsageError("--mime writes the original's bytes alone: leave --raw and --json out")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import until_interrupted

        address = mailbox.lower() if mailbox else None
        if mime:
            await until_interrupted(lambda: _write_original(session, message, snapshot, address))
            return 0
        found = await until_interrupted(
            lambda: session.engine.read_message(message, snapshot=snapshot, mailbox=address)
        )
        _write(session, found, raw=raw)
        return 0

    run(common, loaded, work)


def _read_found(common: Common, source: str) -> None:
    """Show the messages that a search has found; name at the end those that cannot be read."""
    from atlas_async.cli.found_lines import read_found

    chosen = read_found(source)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import until_interrupted

        unread = await until_interrupted(lambda: _show_all(session, chosen))
        if not chosen:
            session.terminal.remark("nothing was found")
        return _tell_unread(session, unread)

    run(common, loaded, work)


async def _show_all(
    session: Session, chosen: Sequence[FoundMessage]
) -> list[tuple[FoundMessage, AtlasError]]:
    """Show messages one after the other; return those that are damaged or gone, with the reason."""
    from anyio import to_thread

    unread: list[tuple[FoundMessage, AtlasError]] = []
    for place, one in enumerate(chosen):
        try:
            shown = await session.engine.read_message(
                one.object_id, snapshot=one.snapshot_id, mailbox=one.mailbox_id
            )
        except (IntegrityError, SnapshotNotFound) as error:
            unread.append((one, error))
            continue
        if place > len(unread) and not session.terminal.json:
            session.terminal.show("")
        await to_thread.run_sync(partial(_write, session, shown, raw=False))
    return unread


def _tell_unread(session: Session, unread: Sequence[tuple[FoundMessage, AtlasError]]) -> int:
    """Name what could not be read and return the exit code; damage counts more than absence."""
    from atlas_async.cli.message_output import unread_document, unread_lines

    if session.terminal.json:
        for one, error in unread:
            session.terminal.document(unread_document(one, error))
    elif unread:
        session.terminal.show(*unread_lines(unread))
    return max((error.exit_code for _, error in unread), default=0)


async def _write_original(
    session: Session, message: str, snapshot: str | None, mailbox: str | None
) -> None:
    from anyio import to_thread

    async with session.engine.open_original(
        message, snapshot=snapshot, mailbox=mailbox
    ) as original:
        async for piece in original:
            # Whoever reads the other end of a pipe may be slow.
            await to_thread.run_sync(session.terminal.bytes, piece, abandon_on_cancel=True)


def _write(session: Session, found: MessageContent, *, raw: bool) -> None:
    from atlas_async.cli.message_output import message_text, read_document

    terminal = session.terminal
    if raw:
        terminal.bytes(found.plaintext)
    elif terminal.json:
        terminal.document(read_document(found))
    else:
        terminal.raw(message_text(found))
