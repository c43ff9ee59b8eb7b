"""``atlas read``: one message out of a backup, as text or as stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.operations.reading import MessageContent


ENDING: Final = exits.ending(
    (
        "atlas read AAMkAGI2TG93AAA= -m ann@contoso.com",
        "atlas read AAMkAGI2TG93AAA= -s 01a1fa37-cc23",
        "atlas read AAMkAGI2TG93AAA= --raw > message.json",
    ),
    (0, 1, 2, 10, 12, 13, 16, 130),
)


def read(
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE_ID", help="The message's id, or the start of it.")
    ],
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
    if not message.strip():
        raise UsageError("MESSAGE_ID must not be blank", hint="'atlas list -s ID --all' has ids")
    if raw and json:
        raise UsageError("--raw writes the stored bytes and --json a document: use one of them")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import until_interrupted

        address = mailbox.lower() if mailbox else None
        found = await until_interrupted(
            lambda: session.engine.read_message(message, snapshot=snapshot, mailbox=address)
        )
        _write(session, found, raw=raw)
        return 0

    run(common, loaded, work)


def _write(session: Session, found: MessageContent, *, raw: bool) -> None:
    from atlas_async.cli.message_output import message_text, read_document

    terminal = session.terminal
    if raw:
        terminal.bytes(found.plaintext)
    elif terminal.json:
        terminal.document(read_document(found))
    else:
        terminal.raw(message_text(found))
